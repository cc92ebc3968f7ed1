//! What only the inside can show: a panic in every export, the layouts of the structs, a session that is busy. Everything
//! else is shown by C programs, in tests/capi.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;
use std::ptr::{null, null_mut};
use std::sync::Mutex;

use super::cut::*;
use super::detector::*;
use super::engine::*;
use super::failure::*;
use super::frame::*;
use super::log::*;
use super::model::*;
use super::pointers::{Versioned, read_struct, write_struct};
use super::pool::*;
use super::session::*;
use super::sink::*;
use super::status::*;
use super::version::*;
use crate::model::init::{Architecture, InitOptions, init};

thread_local! {
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Held by tests that set the callback, which is the process's.
static CALLBACK: Mutex<()> = Mutex::new(());

/// Panics once in the next export that this thread calls, where a test has asked for it.
pub(super) fn panic_if_asked() {
    assert!(!PANICS.replace(false), "a test's own");
}

/// The result of a call that panics inside.
fn panicking<R>(call: impl FnOnce() -> R) -> R {
    PANICS.set(true);
    let result = call();
    assert!(!PANICS.get(), "the call has come by the place where it should panic");
    result
}

fn no_error() -> awsnet_error {
    awsnet_error { struct_size: size_of::<awsnet_error>() as u32, status: 0, message: [0; 504] }
}

fn no_predictions() -> awsnet_predictions {
    let struct_size = size_of::<awsnet_predictions>() as u32;
    awsnet_predictions {
        struct_size,
        reserved: 0,
        logits: [null_mut(); 2],
        probabilities: [null_mut(); 2],
        capacity: [0; 2],
    }
}

fn no_run_options() -> awsnet_run_options {
    let struct_size = size_of::<awsnet_run_options>() as u32;
    awsnet_run_options { struct_size, reserved: 0, timeout_us: 0, cancel: null() }
}

fn no_info() -> awsnet_engine_info {
    // SAFETY: numbers only.
    let mut info: awsnet_engine_info = unsafe { std::mem::zeroed() };
    info.struct_size = size_of::<awsnet_engine_info>() as u32;
    info
}

fn text(message: *const c_char) -> String {
    // SAFETY: the tests pass strings that end with NUL.
    unsafe { CStr::from_ptr(message) }.to_str().expect("UTF-8").to_owned()
}

fn tiny_model() -> Vec<u8> {
    let options = InitOptions::new().architecture(Architecture::Tiny).size(8);
    init(&options).expect("a model")
}

fn on_the_cpu() -> awsnet_engine_options {
    // SAFETY: integers, and pointers that may be NULL.
    let mut options: awsnet_engine_options = unsafe { std::mem::zeroed() };
    options.struct_size = size_of::<awsnet_engine_options>() as u32;
    options.device = AWSNET_DEVICE_CPU;
    options
}

/// A frame of 16 x 16 pixels without a face.
fn grey_frame() -> awsnet_frame {
    static PIXELS: [u8; 256] = [99; 256];
    awsnet_frame {
        struct_size: size_of::<awsnet_frame>() as u32,
        format: AWSNET_FRAME_GREY,
        width: 16,
        height: 16,
        planes: [PIXELS.as_ptr(), null(), null()],
        sizes: [PIXELS.len(), 0, 0],
        row_strides: [0; 3],
    }
}

/// A face in it.
fn a_face() -> awsnet_face {
    // SAFETY: numbers only.
    let mut face: awsnet_face = unsafe { std::mem::zeroed() };
    (face.x, face.y, face.width, face.height) = (3.0, 4.0, 9.0, 8.0);
    face
}

/// A handle of each kind.
struct Handles {
    model: *mut awsnet_model,
    engine: *mut awsnet_engine,
    session: *mut awsnet_session,
    detector: *mut awsnet_detector,
}

impl Handles {
    fn new() -> Self {
        let bytes = tiny_model();
        let (mut model, mut engine, mut session) = (null_mut(), null_mut(), null_mut());
        let mut detector = null_mut();
        // SAFETY: every pointer is NULL where that is allowed, or to a local or a handle just made.
        unsafe {
            let load = awsnet_model_load_bytes(bytes.as_ptr().cast(), bytes.len(), &mut model, null_mut());
            assert_eq!(load, AWSNET_STATUS_OK);
            let options = on_the_cpu();
            assert_eq!(awsnet_engine_create(model, &options, &mut engine, null_mut()), AWSNET_STATUS_OK);
            assert_eq!(awsnet_session_create(engine, &mut session, null_mut()), AWSNET_STATUS_OK);
            let create = awsnet_detector_create(null(), null(), &mut detector, null_mut());
            assert_eq!(create, AWSNET_STATUS_OK);
        }
        Handles { model, engine, session, detector }
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed here only.
        let statuses = unsafe {
            [
                awsnet_detector_destroy(self.detector),
                awsnet_session_destroy(self.session),
                awsnet_engine_destroy(self.engine),
                awsnet_model_destroy(self.model),
            ]
        };
        assert_eq!(statuses, [AWSNET_STATUS_OK; 4], "handles can be destroyed whatever has become of them");
    }
}

/// A call of an export that is otherwise right.
type Call = Box<dyn Fn(&Handles, *mut awsnet_error) -> awsnet_status>;

/// Every export that returns a status and takes an error, and whether it has a handle to poison.
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "of all: handles live, other pointers are to locals or literals"
)]
fn calls() -> BTreeMap<&'static str, (Call, bool)> {
    let bytes = tiny_model();
    let mut calls: BTreeMap<&'static str, (Call, bool)> = BTreeMap::new();
    let mut add = |name, call: Call, on_handle| assert!(calls.insert(name, (call, on_handle)).is_none());
    let image = [0.5; 3 * 8 * 8];
    let pool: Call = Box::new(|_, error| {
        let mut pool = null_mut();
        unsafe {
            let status = awsnet_pool_create(null(), &mut pool, error);
            awsnet_pool_destroy(pool);
            status
        }
    });
    add("awsnet_pool_create", pool, false);
    add("awsnet_log_set", Box::new(|_, error| unsafe { awsnet_log_set(None, null_mut(), error) }), false);
    let load: Call = Box::new(|_, error| {
        let path = c"tests/golden/conv2d.model.safetensors";
        let mut model = null_mut();
        unsafe {
            let status = awsnet_model_load(path.as_ptr(), &mut model, error);
            awsnet_model_destroy(model);
            status
        }
    });
    add("awsnet_model_load", load, false);
    let load_bytes: Call = Box::new(move |_, error| {
        let mut model = null_mut();
        unsafe {
            let status = awsnet_model_load_bytes(bytes.as_ptr().cast(), bytes.len(), &mut model, error);
            awsnet_model_destroy(model);
            status
        }
    });
    add("awsnet_model_load_bytes", load_bytes, false);
    let create: Call = Box::new(|handles, error| {
        let mut engine = null_mut();
        unsafe {
            let status = awsnet_engine_create(handles.model, &on_the_cpu(), &mut engine, error);
            awsnet_engine_destroy(engine);
            status
        }
    });
    add("awsnet_engine_create", create, true);
    let query: Call =
        Box::new(|handles, error| unsafe { awsnet_engine_query(handles.engine, &mut no_info(), error) });
    add("awsnet_engine_query", query, true);
    let label: Call = Box::new(|handles, error| unsafe {
        awsnet_engine_label(handles.engine, AWSNET_BRANCH_AU, 0, &mut null(), error)
    });
    add("awsnet_engine_label", label, true);
    let head: Call = Box::new(|handles, error| unsafe {
        let (struct_size, name) = (size_of::<awsnet_head_info>() as u32, null());
        let mut info = awsnet_head_info { struct_size, kind: 0, count: 0, label_count: 0, name };
        awsnet_engine_head(handles.engine, AWSNET_BRANCH_AU, &mut info, error)
    });
    add("awsnet_engine_head", head, true);
    let find: Call = Box::new(|handles, error| unsafe {
        awsnet_engine_find_head(handles.engine, c"au".as_ptr(), &mut 0, error)
    });
    add("awsnet_engine_find_head", find, true);
    let threshold: Call =
        Box::new(|handles, error| unsafe { awsnet_engine_threshold(handles.engine, 0, &mut 0.0, error) });
    add("awsnet_engine_threshold", threshold, true);
    let of_head: Call = Box::new(|handles, error| unsafe {
        awsnet_engine_head_threshold(handles.engine, AWSNET_BRANCH_AU, 0, &mut 0.0, error)
    });
    add("awsnet_engine_head_threshold", of_head, true);
    let describe: Call =
        Box::new(|handles, error| unsafe { awsnet_engine_describe(handles.engine, &mut null(), error) });
    add("awsnet_engine_describe", describe, true);
    let create: Call = Box::new(|handles, error| {
        let mut session = null_mut();
        unsafe {
            let status = awsnet_session_create(handles.engine, &mut session, error);
            awsnet_session_destroy(session);
            status
        }
    });
    add("awsnet_session_create", create, true);
    let run: Call = Box::new(move |handles, error| unsafe {
        awsnet_session_run(handles.session, image.as_ptr(), image.len(), &no_predictions(), error)
    });
    add("awsnet_session_run", run, true);
    let run_within: Call = Box::new(move |handles, error| unsafe {
        let (images, len) = (image.as_ptr(), image.len());
        awsnet_session_run_within(handles.session, images, len, u64::MAX, &no_predictions(), error)
    });
    add("awsnet_session_run_within", run_within, true);
    let scores: Call = Box::new(|handles, error| unsafe {
        let (head, nowhere) = (AWSNET_BRANCH_EMOTION, null_mut());
        awsnet_session_scores(handles.session, head, nowhere, nowhere, 0, null_mut(), error)
    });
    add("awsnet_session_scores", scores, true);
    let run_with: Call = Box::new(move |handles, error| unsafe {
        let (images, len, options) = (image.as_ptr(), image.len(), no_run_options());
        awsnet_session_run_with(handles.session, images, len, &options, &no_predictions(), error)
    });
    add("awsnet_session_run_with", run_with, true);
    let bytes: &'static [u8] = &[7; 3 * 8 * 8];
    let images = move || awsnet_images_u8 {
        struct_size: size_of::<awsnet_images_u8>() as u32,
        reserved: 0,
        pixels: bytes.as_ptr(),
        size: bytes.len(),
        count: 1,
        row_stride: 0,
        image_stride: 0,
    };
    let run_u8: Call = Box::new(move |handles, error| unsafe {
        awsnet_session_run_u8(handles.session, &images(), &no_predictions(), error)
    });
    add("awsnet_session_run_u8", run_u8, true);
    let run_u8_with: Call = Box::new(move |handles, error| unsafe {
        let options = no_run_options();
        awsnet_session_run_u8_with(handles.session, &images(), &options, &no_predictions(), error)
    });
    add("awsnet_session_run_u8_with", run_u8_with, true);
    let enqueue: Call = Box::new(|handles, error| {
        let images = awsnet_device_images {
            struct_size: size_of::<awsnet_device_images>() as u32,
            format: AWSNET_PIXELS_F32,
            pixels: std::ptr::without_provenance(256),
            count: 1,
            row_stride: 0,
            image_stride: 0,
        };
        unsafe { awsnet_session_enqueue(handles.session, null_mut(), &images, &no_predictions(), error) }
    });
    add("awsnet_session_enqueue", enqueue, true);
    let create: Call = Box::new(|_, error| {
        let mut detector = null_mut();
        unsafe {
            let status = awsnet_detector_create(null(), null(), &mut detector, error);
            awsnet_detector_destroy(detector);
            status
        }
    });
    add("awsnet_detector_create", create, false);
    let detect: Call = Box::new(|handles, error| unsafe {
        awsnet_detector_detect(handles.detector, &grey_frame(), null_mut(), 0, &mut 0, error)
    });
    add("awsnet_detector_detect", detect, true);
    let cut: Call = Box::new(|handles, error| unsafe {
        let mut image = [0.0; 3 * 8 * 8];
        awsnet_engine_cut(handles.engine, &grey_frame(), &a_face(), image.as_mut_ptr(), image.len(), error)
    });
    add("awsnet_engine_cut", cut, true);
    let cut_u8: Call = Box::new(|handles, error| unsafe {
        let mut image = [0; 3 * 8 * 8];
        awsnet_engine_cut_u8(handles.engine, &grey_frame(), &a_face(), image.as_mut_ptr(), image.len(), error)
    });
    add("awsnet_engine_cut_u8", cut_u8, true);
    calls
}

#[test]
fn a_panic_in_any_export_is_a_status_and_poisons_its_handle() {
    let _alone = CALLBACK.lock();
    let calls = calls();
    for (name, (call, on_handle)) in &calls {
        let handles = Handles::new();
        let mut error = no_error();
        // A session on the CPU knows no stream, and one that has not run has no scores; everything else is right.
        let right = match *name {
            "awsnet_session_enqueue" => AWSNET_STATUS_DEVICE,
            "awsnet_session_scores" => AWSNET_STATUS_INVALID_ARGUMENT,
            _ => AWSNET_STATUS_OK,
        };
        assert_eq!(call(&handles, &mut error), right, "{name}");
        assert_eq!(panicking(|| call(&handles, &mut error)), AWSNET_STATUS_INTERNAL, "{name}");
        assert_eq!(error.status, AWSNET_STATUS_INTERNAL, "{name}");
        let message = text(error.message.as_ptr());
        assert_eq!(
            message, "awsnet: expected no fault in the library, found a panic: a test's own",
            "{name}"
        );
        let after = if *on_handle { AWSNET_STATUS_POISONED } else { AWSNET_STATUS_OK };
        assert_eq!(call(&handles, &mut error), after, "{name}, called again");
    }

    // Those without a status have a value that says nothing; that of a destroy says that the handle is not to be trusted.
    assert_eq!(panicking(|| awsnet_abi_version()), 0);
    assert_eq!(text(panicking(|| awsnet_version())), "");
    assert_eq!(text(panicking(|| awsnet_status_name(0))), "unknown status");
    let handles = Handles::new();
    // SAFETY: the handles live on, since nothing is freed before the panic.
    unsafe {
        let last = || awsnet_error_last(null_mut(), 0, null_mut(), null_mut());
        assert_eq!(panicking(last), AWSNET_STATUS_INTERNAL);
        assert_eq!(panicking(|| awsnet_help_run(null_mut())), AWSNET_STATUS_INTERNAL);
        assert_eq!(panicking(|| awsnet_pool_destroy(null_mut())), AWSNET_STATUS_INTERNAL);
        assert_eq!(panicking(|| awsnet_detector_destroy(handles.detector)), AWSNET_STATUS_INTERNAL);
        assert_eq!(panicking(|| awsnet_session_destroy(handles.session)), AWSNET_STATUS_INTERNAL);
        assert_eq!(panicking(|| awsnet_engine_destroy(handles.engine)), AWSNET_STATUS_INTERNAL);
        assert_eq!(panicking(|| awsnet_model_destroy(handles.model)), AWSNET_STATUS_INTERNAL);
    }

    let others = [
        "awsnet_abi_version",
        "awsnet_version",
        "awsnet_status_name",
        "awsnet_error_last",
        "awsnet_help_run",
        "awsnet_pool_destroy",
        "awsnet_detector_destroy",
        "awsnet_session_destroy",
        "awsnet_engine_destroy",
        "awsnet_model_destroy",
    ];
    let mut covered: Vec<&str> = calls.keys().copied().chain(others).collect();
    covered.sort_unstable();
    let exported: Vec<&str> = include_str!("../../tests/capi/symbols.txt").lines().collect();
    assert_eq!(covered, exported, "an export without a panic in it");
}

#[test]
fn a_panic_is_logged() {
    unsafe extern "C" fn keep(user_data: *mut c_void, level: awsnet_log_level, message: *const c_char) {
        // SAFETY: the one below.
        let heard = unsafe { &*user_data.cast::<Mutex<Vec<String>>>() };
        heard.lock().expect("no panic").push(format!("{level} {}", text(message)));
    }
    let _alone = CALLBACK.lock();
    let heard = Mutex::new(Vec::<String>::new());
    // SAFETY: `heard` lives until the callback is taken back.
    unsafe {
        let user_data = (&raw const heard).cast_mut().cast();
        assert_eq!(awsnet_log_set(Some(keep), user_data, null_mut()), AWSNET_STATUS_OK);
        panicking(|| awsnet_abi_version());
        assert_eq!(awsnet_log_set(None, null_mut(), null_mut()), AWSNET_STATUS_OK);
    }
    let heard = heard.into_inner().expect("no panic");
    let told = "1 awsnet: expected no fault in the library, found a panic: a test's own";
    assert!(heard.iter().any(|message| message == told), "{heard:?}");
}

#[test]
fn a_busy_session_is_neither_run_nor_destroyed() {
    let handles = Handles::new();
    let image = [0.5; 3 * 8 * 8];
    // SAFETY: the handles live; the flag is what a run on another thread sets.
    unsafe {
        let run = || {
            awsnet_session_run(handles.session, image.as_ptr(), image.len(), &no_predictions(), null_mut())
        };
        (*handles.session).set_busy(true);
        assert_eq!(run(), AWSNET_STATUS_BUSY);
        assert_eq!(awsnet_session_destroy(handles.session), AWSNET_STATUS_BUSY);
        (*handles.session).set_busy(false);
        assert_eq!(run(), AWSNET_STATUS_OK);
    }
}

#[test]
fn a_busy_detector_is_neither_used_nor_destroyed() {
    let handles = Handles::new();
    // SAFETY: the handles live; the flag is what a look on another thread sets.
    unsafe {
        let mut count = 7;
        let mut detect =
            || awsnet_detector_detect(handles.detector, &grey_frame(), null_mut(), 0, &mut count, null_mut());
        (*handles.detector).set_busy(true);
        assert_eq!(detect(), AWSNET_STATUS_BUSY);
        assert_eq!(awsnet_detector_destroy(handles.detector), AWSNET_STATUS_BUSY);
        (*handles.detector).set_busy(false);
        assert_eq!(detect(), AWSNET_STATUS_OK);
        assert_eq!(count, 0);
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Newer {
    options: awsnet_engine_options,
    added: u32,
}

#[test]
fn a_struct_may_be_newer_but_not_ask_for_what_is_unknown() {
    let (first, known) =
        (awsnet_engine_options::FIRST_SIZE as u32, size_of::<awsnet_engine_options>() as u32);
    let read = |struct_size, added| {
        let options = awsnet_engine_options {
            struct_size,
            device: 1,
            precision: 2,
            batch: 3,
            threads: 4,
            graphs: 5,
            spin_us: 6,
            ..on_the_cpu()
        };
        let newer = Newer { options, added };
        // SAFETY: as many bytes as every size below that is let through.
        unsafe { read_struct((&raw const newer).cast::<awsnet_engine_options>(), "options") }
            .map(|options| {
                (options.device, options.precision, options.batch, options.threads, options.spin_us)
            })
            .map_err(|failure| (failure.status, failure.message))
    };
    assert_eq!(read(first, 9), Ok((1, 2, 3, 4, 0)));
    assert_eq!(read(known, 9), Ok((1, 2, 3, 4, 6)));
    assert_eq!(read(known + 4, 0), Ok((1, 2, 3, 4, 6)));
    // As an older program has it: no pointers in it yet, so aligned to 4 bytes.
    #[repr(C, align(8))]
    struct Older([u32; 8]);
    let older = Older([0, 28, 1, 0, 2, 3, 4, 5]);
    // SAFETY: 28 bytes from the second number on.
    let options = unsafe { read_struct(older.0[1..].as_ptr().cast::<awsnet_engine_options>(), "options") };
    assert_eq!(
        options.map(|options| (options.threads, options.graphs, options.spin_us)).ok(),
        Some((4, 5, 0))
    );
    let refused = |message: &str| Err((AWSNET_STATUS_INVALID_ARGUMENT, message.to_owned()));
    let beyond = format!(
        "options: expected fields up to {known} bytes, all that this version knows, found one set beyond them"
    );
    assert_eq!(read(known + 4, 9), refused(&beyond));
    for size in [0, 1, first - 1, 4097, u32::MAX] {
        let message = format!("options.struct_size: expected its size in bytes, at least 28, found {size}");
        assert_eq!(read(size, 0), refused(&message));
    }
}

#[test]
fn an_older_struct_is_filled_as_far_as_it_goes() {
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Grown {
        struct_size: u32,
        first: u32,
        added: u32,
    }
    // SAFETY: integers only, the size first.
    unsafe impl Versioned for Grown {
        const FIRST_SIZE: usize = 8;
    }
    let mut old = Grown { struct_size: 8, first: 1, added: 2 };
    let value = Grown { struct_size: 0, first: 5, added: 6 };
    // SAFETY: a local.
    unsafe { write_struct(&mut old, "grown", value) }.expect("a size that is known");
    assert_eq!((old.struct_size, old.first, old.added), (8, 5, 2));
    // SAFETY: a local.
    let read = unsafe { read_struct(&old, "grown") }.expect("a size that is known");
    assert_eq!((read.struct_size, read.first, read.added), (8, 5, 0), "what is not there reads as zero");
}

#[test]
fn messages_are_cut_between_characters() {
    let cut = |size: usize| {
        let mut buffer = [b'x' as c_char; 8];
        // SAFETY: the buffer has at least `size` bytes.
        unsafe { write_text("aé€", buffer.as_mut_ptr(), size) };
        assert!(buffer[size..].iter().all(|&byte| byte == b'x' as c_char), "nothing behind {size} bytes");
        if size == 0 { String::new() } else { text(buffer.as_ptr()) }
    };
    let all: Vec<String> = (0..8).map(cut).collect();
    assert_eq!(all, ["", "", "a", "a", "aé", "aé", "aé", "aé€"]);
}

/// Every struct of the header: its size, then its fields with offset and size.
fn layouts() -> String {
    macro_rules! layout {
        ($($type:ident { $($field:ident),* $(,)? })*) => {{
            fn field_size<S, F>(_: fn(&S) -> &F) -> usize {
                size_of::<F>()
            }
            let mut lines = String::new();
            $(
                lines += &format!("{} {} {}\n", stringify!($type), size_of::<$type>(), align_of::<$type>());
                $(
                    // Exhaustive: a field that is missing here does not compile.
                    let size = field_size::<$type, _>(|$type { $field, .. }| $field);
                    let (name, offset) = (stringify!($field), offset_of!($type, $field));
                    lines += &format!("{}.{name} {offset} {size}\n", stringify!($type));
                )*
                let _ = |all: &$type| {
                    let $type { $($field: _),* } = all;
                };
            )*
            lines
        }};
    }
    layout! {
        awsnet_error { struct_size, status, message }
        awsnet_engine_options {
            struct_size, device, device_index, precision, batch, threads, graphs, spin_us, affinity, reserved, processors,
            processor_count, thread_start, thread_start_user_data, pool, executor, executor_user_data,
        }
        awsnet_pool_options {
            struct_size, threads, spin_us, affinity, processors, processor_count, thread_start, thread_start_user_data,
        }
        awsnet_run_options { struct_size, reserved, timeout_us, cancel }
        awsnet_engine_info {
            struct_size, device, device_index, precision, batch, threads, channels, height, width, label_count, mean, std,
            head_count, branch_count,
        }
        awsnet_head_info { struct_size, kind, count, label_count, name }
        awsnet_images_u8 { struct_size, reserved, pixels, size, count, row_stride, image_stride }
        awsnet_device_images { struct_size, format, pixels, count, row_stride, image_stride }
        awsnet_predictions { struct_size, reserved, logits, probabilities, capacity }
        awsnet_frame { struct_size, format, width, height, planes, sizes, row_strides }
        awsnet_face { x, y, width, height, score, point_count, points, reserved }
        awsnet_detector_options {
            struct_size, min_score, min_face, device, device_index, threads, spin_us, reserved, pool,
        }
    }
}

#[test]
fn structs_are_laid_out_alike_in_c_and_rust() {
    let rust = layouts();
    let header = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/awsnet.h"))
        .expect("the header");
    assert_eq!(
        header.matches("typedef struct awsnet_").count() - 6, // the handles
        rust.lines().filter(|line| !line.contains('.')).count(),
        "a struct that is not compared"
    );

    // The same lines, printed by C.
    let mut program = "#include <stdio.h>\n#include \"awsnet.h\"\nint main(void) {\n".to_owned();
    for line in rust.lines() {
        let name = line.split(' ').next().expect("a name");
        program += &match name.split_once('.') {
            None => format!(
                "struct {name}_at {{ char c; {name} s; }};\n\
                 printf(\"{name} %zu %zu\\n\", sizeof({name}), offsetof(struct {name}_at, s));\n"
            ),
            Some((of, field)) => format!(
                "printf(\"{name} %zu %zu\\n\", offsetof({of}, {field}), sizeof((({of} *)0)->{field}));\n"
            ),
        };
    }
    program += "return 0; }\n";
    let folder = tempfile::tempdir().expect("a folder");
    let (source, binary) = (folder.path().join("layout.c"), folder.path().join("layout"));
    std::fs::write(&source, program).expect("to write");
    let include = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include");
    let output = Command::new("gcc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", include, "-o"])
        .args([&binary, &source])
        .output()
        .expect("gcc, a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let c = Command::new(&binary).output().expect("the program");
    assert_eq!(String::from_utf8_lossy(&c.stdout), rust);
}

#[test]
fn the_first_sizes_are_those_of_version_1() {
    assert_eq!(AWSNET_ABI_VERSION, 1);
    // A field added at the end leaves these; a struct without additions is as long as it was.
    assert_eq!(awsnet_engine_info::FIRST_SIZE, 68);
    assert_eq!(size_of::<awsnet_error>(), 512);
    assert_eq!(awsnet_engine_options::FIRST_SIZE, 28);
    assert_eq!(offset_of!(awsnet_engine_options, spin_us), 28);
    assert_eq!(size_of::<awsnet_head_info>(), awsnet_head_info::FIRST_SIZE);
    assert_eq!(size_of::<awsnet_images_u8>(), awsnet_images_u8::FIRST_SIZE);
    assert_eq!(size_of::<awsnet_device_images>(), awsnet_device_images::FIRST_SIZE);
    assert_eq!(size_of::<awsnet_predictions>(), awsnet_predictions::FIRST_SIZE);
    assert_eq!(size_of::<awsnet_pool_options>(), awsnet_pool_options::FIRST_SIZE);
    assert_eq!(size_of::<awsnet_run_options>(), awsnet_run_options::FIRST_SIZE);
    assert_eq!(size_of::<awsnet_frame>(), awsnet_frame::FIRST_SIZE);
    assert_eq!(size_of::<awsnet_detector_options>(), awsnet_detector_options::FIRST_SIZE);
    assert_eq!(size_of::<awsnet_face>(), 96, "which has no size of its own");
}
