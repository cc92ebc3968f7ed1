//! The direction of the arrows between modules.
//!
//! ```text
//! error <- tensor <- op <- model <- graph <- { reference | cpu | cuda } <- plan <- session <- engine <- { capi | bin }
//! ```
//!
//! An arrow reads "is used by". Each module may name the ones listed for it and nothing else of this crate.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A module (file or folder of src/), and what it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("log", &[]),
    ("float_environment", &[]),
    ("limits", &["error"]),
    ("file", &["error"]),
    ("memory", &["error"]),
    ("tensor", &["error"]),
    ("op", &["error", "tensor"]),
    ("model", &["error", "float_environment", "file", "memory", "tensor", "op"]),
    ("parallel", &["error"]),
    ("graph", &["error", "tensor", "op", "model"]),
    ("reference", &["op", "tensor", "model"]),
    ("predictions", &["error", "float_environment", "model"]),
    ("pixels", &["error", "tensor", "model"]),
    (
        "cpu",
        &[
            "error",
            "limits",
            "float_environment",
            "memory",
            "parallel",
            "tensor",
            "op",
            "model",
            "graph",
            "pixels",
            "predictions",
        ],
    ),
    ("cuda", &["error", "log", "parallel", "pixels", "tensor", "op", "model", "graph", "predictions"]),
    ("device", &["error", "graph", "cuda"]),
    (
        "plan",
        &[
            "error",
            "float_environment",
            "log",
            "tensor",
            "memory",
            "model",
            "graph",
            "cpu",
            "cuda",
            "device",
            "predictions",
        ],
    ),
    (
        "session",
        &[
            "error",
            "limits",
            "float_environment",
            "tensor",
            "model",
            "graph",
            "plan",
            "pixels",
            "predictions",
            "reference",
            "cpu",
            "cuda",
        ],
    ),
    ("engine", &["error", "float_environment", "memory", "model", "plan", "cpu", "cuda", "session"]),
    ("bench", &["error", "model", "plan", "engine", "session"]),
    ("tune", &["error", "file", "model", "plan", "cuda"]),
    (
        "verify",
        &[
            "error",
            "float_environment",
            "tensor",
            "op",
            "model",
            "graph",
            "plan",
            "reference",
            "engine",
            "session",
        ],
    ),
    ("image", &["error", "float_environment", "file", "model", "pixels"]),
    (
        "face",
        &["error", "float_environment", "model", "device", "plan", "engine", "session", "pixels", "image"],
    ),
    ("onnx", &["error", "file", "tensor", "model", "device", "plan", "engine"]),
    ("__tests", &["model", "graph", "plan", "reference", "cpu", "cuda"]),
];

fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).expect("a folder of the source");
    entries.flat_map(|entry| rust_files(&entry.expect("a readable folder").path())).collect()
}

/// The text without comments and without what follows a test module's attribute.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("a source file");
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The names that follow `prefix` in a text.
fn names_after<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let name = |at: usize| {
        let rest = &text[at..];
        &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())]
    };
    text.match_indices(prefix).map(|(at, _)| name(at + prefix.len())).collect()
}

#[test]
fn modules_use_only_those_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules: BTreeSet<&str> = ALLOWED.iter().map(|(module, _)| *module).collect();
    for entry in std::fs::read_dir(&src).expect("the folder src") {
        let path = entry.expect("a readable folder").path();
        let module = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if module == "lib" || module == "bin" || module == "capi" {
            continue; // the public interface is theirs; see below
        }
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("src/{module} has no place in the architecture: give it one here"));
        for file in rust_files(&path) {
            let code = code(&file);
            let prefixes = ["crate::", "$crate::"];
            for used in prefixes.iter().flat_map(|prefix| names_after(&code, prefix)) {
                // Types re-exported at the root count as their modules.
                let used = match used {
                    "Error" | "ErrorKind" | "Result" => "error",
                    "DType" | "Shape" | "Tensor" => "tensor",
                    used => used,
                };
                assert!(!used.is_empty(), "{} has a use of crate::{{..}}: one path a line", file.display());
                assert!(
                    modules.contains(used),
                    "{} names crate::{used}: which module is that?",
                    file.display()
                );
                let fine = used == module || allowed.contains(&used);
                assert!(fine, "{} uses {used}, but {module} may use only {allowed:?}", file.display());
            }
        }
    }
}

#[test]
fn the_command_line_uses_the_public_interface_only() {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
    for file in rust_files(&bin) {
        let text = code(&file);
        assert!(!text.contains("#[path"), "{} reaches into the library by path", file.display());
        assert!(!text.contains("__tests"), "{} reaches for what is the tests'", file.display());
    }
}

#[test]
fn the_c_interface_uses_the_public_interface_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = code(&src.join("lib.rs"));
    let statements = lib.split(';').map(str::trim);
    let reexported = statements.filter_map(|statement| statement.strip_prefix("pub use ")?.split_once("::"));
    let mut public: BTreeSet<&str> = names_after(&lib, "pub mod ");
    for (_, names) in reexported {
        let names = names.trim_matches(['{', '}']).split(',');
        public.extend(names.map(str::trim).filter(|name| !name.is_empty()));
    }
    public.remove("__tests");
    assert!(public.contains("Engine") && public.contains("Error") && public.contains("model"), "{public:?}");
    for file in rust_files(&src.join("capi")) {
        let code = code(&file).replace("use crate::{", "");
        assert!(!code.contains("super::super::"), "{} reaches out of its module", file.display());
        let lists = std::fs::read_to_string(&file).expect("a source file");
        let listed = lists
            .split("use crate::{")
            .skip(1)
            .flat_map(|rest| rest.split('}').next().unwrap_or_default().split(','))
            .map(str::trim);
        for used in names_after(&code, "crate::").into_iter().chain(listed).filter(|used| !used.is_empty()) {
            assert!(public.contains(used), "{} uses {used}, which is not public", file.display());
        }
    }
}
