//! What the source and the built library say: no export outside a guard, no symbol beside the exports, one version
//! everywhere.

use std::collections::BTreeSet;
use std::process::Command;

use crate::header::prototypes;
use crate::library::{library, root, success};

const SYMBOLS: &str = include_str!("symbols.txt");

/// An export's name and the lines of its body.
fn exports() -> Vec<(String, Vec<String>)> {
    let mut exports = Vec::new();
    for entry in std::fs::read_dir(root().join("src/capi")).expect("src/capi") {
        let path = entry.expect("a file").path();
        if path.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        let marked = text.split("#[unsafe(no_mangle)]\n").skip(1);
        let count = text.matches("extern \"C\" fn awsnet_").count();
        assert_eq!(marked.clone().count(), count, "{}: an export that is not marked as one", path.display());
        assert_eq!(text.matches("no_mangle").count(), count, "{}", path.display());
        for export in marked {
            let name = export.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).expect("a name");
            let body =
                export.split("\n}\n").next().and_then(|body| body.split_once(" {\n")).expect("a body").1;
            exports.push((name.to_owned(), body.lines().map(str::to_owned).collect()));
        }
    }
    exports
}

#[test]
fn no_export_does_anything_outside_a_guard() {
    // The first two statements of a body, by their beginning; rustfmt keeps them at four spaces.
    let guards =
        ["guard_value(", "guard_silently(", "unsafe { guard(", "unsafe { guard_handle(", "unsafe { destroy("];
    let exports = exports();
    for (name, body) in &exports {
        let statements: Vec<&str> = body
            .iter()
            .filter_map(|line| line.strip_prefix("    "))
            .filter(|line| !line.starts_with([' ', '}']) && !line.starts_with("//"))
            .collect();
        let (last, before) = statements.split_last().expect("a statement");
        assert!(guards.iter().any(|guard| last.starts_with(guard)), "{name} ends with `{last}`");
        let closures = [
            "let body = || {",
            "let body = |model: &awsnet_model| {",
            "let body = |engine: &awsnet_engine| {",
            "let body = |session: &awsnet_session| {",
            "let body = |detector: &awsnet_detector| {",
        ];
        assert!(before.len() <= 1, "{name}: {before:?}");
        assert!(before.iter().all(|line| closures.contains(line)), "{name}: {before:?}");
    }

    // Each guard runs the body in `caught`, the only place with a catch_unwind.
    let guard = std::fs::read_to_string(root().join("src/capi/guard.rs")).expect("guard.rs");
    assert_eq!(guard.matches("catch_unwind(").count(), 1);
    let caught =
        guard.split("\nfn caught").nth(1).and_then(|rest| rest.split("\n}\n").next()).expect("caught");
    assert!(caught.contains("catch_unwind("));
    assert_eq!(exports.len(), SYMBOLS.lines().count());
}

#[test]
fn the_header_declares_what_the_library_exports() {
    let exported: BTreeSet<String> = exports().into_iter().map(|(name, _)| name).collect();
    let declared: BTreeSet<String> = prototypes().into_iter().map(|function| function.name).collect();
    let listed: BTreeSet<String> = SYMBOLS.lines().map(str::to_owned).collect();
    assert_eq!(exported, listed);
    assert_eq!(declared, listed);
}

#[test]
fn the_library_exports_the_listed_symbols_and_nothing_else() {
    let nm = success(Command::new("nm").args(["-D", "--defined-only"]).arg(library().join("libawsnet.so")));
    let text = String::from_utf8(nm.stdout).expect("UTF-8");
    let names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(names, SYMBOLS.lines().collect::<Vec<_>>());
}

#[test]
fn what_is_installed_agrees_about_its_versions() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect(path);
    let package = format!("set(PACKAGE_VERSION \"{}\")\n", env!("CARGO_PKG_VERSION"));
    assert!(read("cmake/awsnet-config-version.cmake").contains(&package), "expected {package}");

    let header = read("include/awsnet.h");
    let abi = header.split("#define AWSNET_ABI_VERSION ").nth(1).and_then(|rest| rest.lines().next());
    let library = format!("[package.metadata.capi.library]\nversion = \"{}.", abi.expect("a version"));
    assert!(read("Cargo.toml").contains(&library), "expected {library}");
}

#[test]
fn the_page_of_laws_knows_every_status() {
    let page = std::fs::read_to_string(root().join("docs/c-abi.md")).expect("docs/c-abi.md");
    let header = std::fs::read_to_string(root().join("include/awsnet.h")).expect("include/awsnet.h");
    let statuses = header.lines().filter_map(|line| line.strip_prefix("#define AWSNET_STATUS_"));
    let rows: Vec<String> = statuses
        .map(|status| {
            let (name, number) = status.split_once(' ').expect("a name and a number");
            format!("| {number} | `{name}` |")
        })
        .collect();
    assert!(rows.len() > 1);
    for row in rows {
        assert!(page.contains(&row), "docs/c-abi.md has no row `{row}`");
    }
}
