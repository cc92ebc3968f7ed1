//! include/awsnet.h: is what cbindgen writes, and every C and C++ compiler takes it.

use std::path::Path;

/// Every file of src/capi that exports something, in the header's order.
const SOURCES: &[&str] = &["version", "status", "log", "model", "engine", "session"];

fn generated() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(root.join(format!("src/capi/{source}.rs")));
    }
    let mut header = Vec::new();
    builder.generate().expect("a header").write(&mut header);
    String::from_utf8(header).expect("UTF-8")
}

#[test]
fn the_header_is_what_cbindgen_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/awsnet.h");
    let generated = generated();
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&path, &generated).expect("to write the header");
    }
    let committed = std::fs::read_to_string(&path).expect("include/awsnet.h");
    assert!(
        committed == generated,
        "include/awsnet.h is not what src/capi says: UPDATE_HEADER=1 rewrites it"
    );
}
