//! include/awsnet.h: is what cbindgen writes, and every C and C++ compiler takes it.

use crate::library::{C99, CPP17, compiler, root, success};

/// Every file of src/capi that C sees something of, in the header's order.
const SOURCES: &[&str] = &[
    "version", "failure", "status", "sink", "log", "model", "pool", "engine", "session", "frame", "detector",
    "cut",
];

fn generated() -> String {
    let root = root();
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
    let path = root().join("include/awsnet.h");
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

/// Twice included, every initialiser used, every function named.
fn user_of_the_header() -> String {
    let mut text = "#include <awsnet.h>\n#include <awsnet.h>\n".to_owned();
    text += "awsnet_error error = AWSNET_ERROR_INIT;\n";
    text += "awsnet_engine_options options = AWSNET_ENGINE_OPTIONS_INIT;\n";
    text += "awsnet_engine_info info = AWSNET_ENGINE_INFO_INIT;\n";
    text += "awsnet_images_u8 images = AWSNET_IMAGES_U8_INIT;\n";
    text += "awsnet_device_images device_images = AWSNET_DEVICE_IMAGES_INIT;\n";
    text += "awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT;\n";
    text += "awsnet_frame frame = AWSNET_FRAME_INIT;\n";
    text += "awsnet_detector_options detector_options = AWSNET_DETECTOR_OPTIONS_INIT;\n";
    text += "typedef void (*function)(void);\nfunction functions[] = {\n";
    for function in prototypes() {
        text += &format!("    (function){},\n", function.name);
    }
    text + "};\n"
}

#[test]
fn the_header_compiles_as_c99_and_cpp17() {
    let folder = tempfile::tempdir().expect("a folder");
    for (language, name) in [(C99, "user.c"), (CPP17, "user.cpp")] {
        let source = folder.path().join(name);
        std::fs::write(&source, user_of_the_header()).expect("to write");
        let object = folder.path().join("user.o");
        success(compiler(language).args(["-Wshadow", "-Wconversion", "-c", "-o"]).args([&object, &source]));
    }
}

/// A function of the header.
pub struct Prototype {
    pub name: String,
    pub returns: String,
    /// Type and name of each parameter.
    pub parameters: Vec<(String, String)>,
}

/// Every function of the header, in its order.
pub fn prototypes() -> Vec<Prototype> {
    let header = std::fs::read_to_string(root().join("include/awsnet.h")).expect("include/awsnet.h");
    let code: Vec<&str> = header.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join(" ");
    let functions = code.split("extern \"C\" {").nth(1).expect("the functions");
    let mut found = Vec::new();
    for statement in functions.split(';') {
        let Some((before, after)) = statement.split_once('(') else { continue };
        let at = before.rfind("awsnet_").expect("a name");
        let split = |parameter: &str| {
            let parameter = parameter.trim();
            let at = parameter.rfind([' ', '*']).expect("a type and a name") + 1;
            (parameter[..at].trim().to_owned(), parameter[at..].to_owned())
        };
        let parameters = after.trim().trim_end_matches(')');
        found.push(Prototype {
            name: before[at..].to_owned(),
            returns: before[..at].replace("#endif", "").trim().to_owned(),
            parameters: match parameters {
                "void" => Vec::new(),
                some => some.split(',').map(split).collect(),
            },
        });
    }
    found
}
