//! Every function with every pointer NULL in turn, in a C program written from the header: a parameter that the table
//! below does not know fails the test, so none is forgotten.

use awsnet::model::init::Architecture;

use crate::header::prototypes;
use crate::library::{ModelFile, Program, root};

/// A parameter by function and name; what is passed for it; what NULL in its place comes to.
struct Parameter {
    of: &'static str,
    name: &'static str,
    passed: &'static str,
    null: Null,
}

/// What NULL means to a parameter.
#[derive(Clone, Copy, PartialEq)]
enum Null {
    /// AWSNET_STATUS_INVALID_ARGUMENT, by the parameter's name.
    Refused,
    /// As the header says, something harmless.
    Allowed,
    /// It is no pointer.
    Never,
}

use Null::{Allowed, Never, Refused};

const fn row(of: &'static str, name: &'static str, passed: &'static str, null: Null) -> Parameter {
    Parameter { of, name, passed, null }
}

/// The first row that fits holds; `*` is any function.
const PARAMETERS: &[Parameter] = &[
    row("*", "error", "&error", Allowed),
    row("awsnet_log_set", "callback", "listen", Allowed),
    row("awsnet_log_set", "user_data", "&error", Allowed),
    row("awsnet_error_last", "message", "message", Refused),
    row("awsnet_error_last", "size", "sizeof message", Never),
    row("awsnet_error_last", "length", "&size", Allowed),
    row("awsnet_error_last", "status", "&status", Allowed),
    row("awsnet_status_name", "status", "0", Never),
    row("awsnet_model_load", "path", "argv[1]", Refused),
    row("awsnet_model_load", "model", "&made_model", Refused),
    row("awsnet_model_load_bytes", "bytes", "bytes", Refused),
    row("awsnet_model_load_bytes", "size", "bytes_size", Never),
    row("awsnet_model_load_bytes", "model", "&made_model", Refused),
    row("awsnet_model_destroy", "model", "made_model", Allowed),
    row("awsnet_engine_create", "engine", "&made_engine", Refused),
    row("awsnet_engine_create", "options", "&options", Allowed),
    row("awsnet_engine_destroy", "engine", "made_engine", Allowed),
    row("awsnet_pool_create", "options", "&pool_options", Allowed),
    row("awsnet_pool_create", "pool", "&made_pool", Refused),
    row("awsnet_pool_destroy", "pool", "made_pool", Allowed),
    row("awsnet_help_run", "help", "NULL", Allowed),
    row("awsnet_session_run_with", "options", "&run_options", Allowed),
    row("awsnet_session_run_u8_with", "options", "&run_options", Allowed),
    row("awsnet_session_create", "session", "&made_session", Refused),
    row("awsnet_session_destroy", "session", "made_session", Allowed),
    row("awsnet_session_run_u8", "images", "&images", Refused),
    row("awsnet_session_run_u8_with", "images", "&images", Refused),
    row("awsnet_session_enqueue", "images", "&device_images", Refused),
    row("awsnet_session_enqueue", "stream", "&error", Allowed),
    // The one in the library; the model of the other calls is no detector.
    row("awsnet_detector_create", "model", "NULL", Allowed),
    row("awsnet_detector_create", "options", "&detector_options", Allowed),
    row("awsnet_detector_create", "detector", "&made_detector", Refused),
    row("awsnet_detector_destroy", "detector", "made_detector", Allowed),
    row("awsnet_detector_detect", "faces", "faces", Refused),
    row("awsnet_detector_detect", "capacity", "4", Never),
    row("awsnet_detector_detect", "count", "&size", Refused),
    row("*", "detector", "detector", Refused),
    row("*", "frame", "&frame", Refused),
    row("*", "face", "&face", Refused),
    row("awsnet_engine_cut", "image", "image", Refused),
    row("awsnet_engine_cut_u8", "pixels", "bytes", Refused),
    row("awsnet_engine_cut_u8", "size", "sizeof bytes", Never),
    row("*", "images", "image", Refused),
    row("*", "len", "192", Never),
    row("*", "timeout_us", "1000000", Never),
    row("*", "predictions", "&predictions", Refused),
    row("awsnet_engine_find_head", "head", "&head", Refused),
    row("awsnet_engine_head", "info", "&head_info", Refused),
    row("awsnet_session_scores", "logits", "image", Allowed),
    row("awsnet_session_scores", "probabilities", "image", Allowed),
    row("awsnet_session_scores", "capacity", "192", Never),
    row("awsnet_session_scores", "count", "&size", Allowed),
    row("*", "head", "AWSNET_BRANCH_AU", Never),
    row("*", "name", "\"au\"", Refused),
    row("*", "index", "3", Never),
    row("*", "info", "&info", Refused),
    row("*", "label", "&text", Refused),
    row("*", "text", "&text", Refused),
    row("*", "threshold", "&number", Refused),
    row("*", "model", "model", Refused),
    row("*", "engine", "engine", Refused),
    row("*", "session", "session", Refused),
];

const BEGINNING: &str = r#"
#include "check.h"

static void listen(void *user_data, awsnet_log_level level, const char *message) {
    (void)user_data, (void)level, (void)message;
}

static awsnet_error error = AWSNET_ERROR_INIT;
static char message[512];

/* A call that NULL makes fail, and whose message begins with the parameter's name. */
#define REFUSED(call, begins, told) do { \
    error.message[0] = 0; \
    CHECK((call) == AWSNET_STATUS_INVALID_ARGUMENT); \
    OK(awsnet_error_last(message, sizeof message, NULL, NULL)); \
    if (told) CHECK(strcmp(message, begins ": expected a pointer, found NULL") == 0); \
    if (told) CHECK(strcmp(message, error.message) == 0); \
} while (0)

int main(int argc, char **argv) {
    CHECK(argc == 2);
    static unsigned char bytes[1 << 20];
    FILE *file = fopen(argv[1], "rb");
    CHECK(file != NULL);
    size_t bytes_size = fread(bytes, 1, sizeof bytes, file), size = 0;
    fclose(file);
    awsnet_status status = 0;
    awsnet_engine_options options = AWSNET_ENGINE_OPTIONS_INIT;
    awsnet_pool_options pool_options = AWSNET_POOL_OPTIONS_INIT;
    awsnet_run_options run_options = AWSNET_RUN_OPTIONS_INIT;
    awsnet_engine_info info = AWSNET_ENGINE_INFO_INIT;
    awsnet_head_info head_info = AWSNET_HEAD_INFO_INIT;
    awsnet_head head = 0;
    awsnet_images_u8 images = AWSNET_IMAGES_U8_INIT;
    awsnet_device_images device_images = AWSNET_DEVICE_IMAGES_INIT;
    awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT;
    images.pixels = bytes;
    images.size = sizeof bytes;
    images.count = device_images.count = 1;
    device_images.pixels = bytes;
    options.device = AWSNET_DEVICE_CPU;
    awsnet_detector_options detector_options = AWSNET_DETECTOR_OPTIONS_INIT;
    static const unsigned char grey[16 * 16];
    awsnet_frame frame = AWSNET_FRAME_INIT;
    frame.format = AWSNET_FRAME_GREY;
    frame.width = frame.height = 16;
    frame.planes[0] = grey;
    frame.sizes[0] = sizeof grey;
    awsnet_face faces[4], face = {0};
    face.width = face.height = 9;
    const char *text = NULL;
    float number = 0, image[192] = {0};
    awsnet_model *model = NULL, *made_model = NULL;
    awsnet_engine *engine = NULL, *made_engine = NULL;
    awsnet_session *session = NULL, *made_session = NULL;
    awsnet_pool *made_pool = NULL;
    awsnet_detector *detector = NULL, *made_detector = NULL;
    OK(awsnet_detector_create(NULL, NULL, &detector, NULL));
    OK(awsnet_model_load(argv[1], &model, NULL));
    OK(awsnet_engine_create(model, &options, &engine, NULL));
    OK(awsnet_session_create(engine, &session, NULL));
"#;

const END: &str = r#"
    OK(awsnet_detector_destroy(detector));
    OK(awsnet_session_destroy(session));
    OK(awsnet_engine_destroy(engine));
    OK(awsnet_model_destroy(model));
    (void)status, (void)size, (void)number, (void)text;
    return 0;
}
"#;

#[test]
fn null_is_refused_or_harmless_for_every_pointer() {
    let mut program = BEGINNING.to_owned();
    let mut pointers = 0;
    for function in prototypes() {
        let name = &function.name;
        let rows: Vec<&Parameter> = function
            .parameters
            .iter()
            .map(|(kind, parameter)| {
                let fits = |row: &&Parameter| (row.of == "*" || row.of == name) && row.name == parameter;
                let row =
                    PARAMETERS.iter().find(fits).unwrap_or_else(|| panic!("{name}: what of {parameter}?"));
                let is_pointer = kind.ends_with('*') || kind.ends_with("callback");
                assert_eq!(is_pointer, row.null != Never, "{name}: {kind} {parameter}");
                row
            })
            .collect();
        let call = |null: Option<usize>| {
            let arguments: Vec<&str> = rows
                .iter()
                .enumerate()
                .map(|(i, row)| if null == Some(i) { "NULL" } else { row.passed })
                .collect();
            format!("{name}({})", arguments.join(", "))
        };
        // A session on the CPU knows no stream; everything else about the call is right.
        let right =
            if name == "awsnet_session_enqueue" { "AWSNET_STATUS_DEVICE" } else { "AWSNET_STATUS_OK" };
        // What the call has made is destroyed by the next line; a destroyed handle is forgotten.
        let clean = "    awsnet_session_destroy(made_session), made_session = NULL;\n    \
                     awsnet_engine_destroy(made_engine), made_engine = NULL;\n    \
                     awsnet_detector_destroy(made_detector), made_detector = NULL;\n    \
                     awsnet_pool_destroy(made_pool), made_pool = NULL;\n    \
                     awsnet_model_destroy(made_model), made_model = NULL;\n";
        if function.returns != "awsnet_status" {
            assert!(rows.iter().all(|row| row.null == Never), "{name} has a pointer and no status");
            program += &format!("    (void){};\n", call(None));
            continue;
        }
        program += &match name.ends_with("_destroy") {
            true => String::new(), // there is nothing made to destroy; NULL below
            false => format!("    CHECK({} == {right});\n{clean}", call(None)),
        };
        for (i, row) in rows.iter().enumerate().filter(|(_, row)| row.null != Never) {
            pointers += 1;
            program += &match row.null {
                Allowed => format!("    CHECK({} == {right});\n{clean}", call(Some(i))),
                // awsnet_error_last tells nobody about its own failures.
                _ if name == "awsnet_error_last" => {
                    format!("    CHECK({} == AWSNET_STATUS_INVALID_ARGUMENT);\n", call(Some(i)))
                }
                _ => format!("    REFUSED({}, \"{}\", 1);\n", call(Some(i)), row.name),
            };
        }
    }
    program += END;
    assert!(pointers > 0, "no pointer in the header");

    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("null.c");
    std::fs::write(&source, program).expect("to write");
    let programs = root().join("tests/capi/programs");
    let program = Program::of(&source, &["-I", programs.to_str().expect("a path in UTF-8")]);
    program.run(&[ModelFile::new(Architecture::Tiny, 8).path.as_ref()]);
}
