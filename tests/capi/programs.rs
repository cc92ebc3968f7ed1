//! The programs of tests/capi/programs, run.

use std::ffi::OsStr;
use std::process::Command;

use awsnet::face::{Bounds, Detector, DetectorOptions, Points, cut};
use awsnet::image::{self, Limits, Picture};
use awsnet::model::init::Architecture;
use awsnet::{Device, Engine, EngineOptions, Model, Plan, PlanOptions};
use serde_json::json;

use crate::library::{C99, ModelFile, Program, compiler, library, root, success};

/// What run.c prints, from the Rust interface.
fn from_rust(model: &ModelFile, batch: usize, count: usize) -> String {
    let model = Model::from_bytes(&model.bytes).expect("a model");
    let thresholds = model.head("au").expect("a head").thresholds().to_vec();
    let target = Device::Cpu.resolve().expect("a processor").target;
    let plan = Plan::build(model, &PlanOptions::new().target(target).batch(batch)).expect("a plan");
    let engine = Engine::new(plan, &EngineOptions::new().threads(2)).expect("an engine");
    let input = engine.plan().input();
    let shape = input.shape;
    let mut text = format!("input {} {} {}", shape.channels, shape.height, shape.width);
    for (mean, std) in input.mean.iter().zip(&input.std) {
        text += &format!(" {mean} {std}");
    }
    text += "\n";
    for label in engine.plan().labels("emotion").expect("a head") {
        text += &format!("label {label}\n");
    }
    for (label, threshold) in engine.plan().labels("au").expect("a head").iter().zip(thresholds) {
        text += &format!("label {label} {threshold}\n");
    }
    let images: Vec<f32> = (0..count * shape.len()).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
    let mut session = engine.session().expect("a session");
    let predictions = session.run(&images).expect("predictions");
    for name in ["emotion", "au"] {
        let scores = predictions.head(name).expect("a head");
        for (what, values) in [("logits", scores.logits), ("probabilities", scores.probabilities)] {
            text += &format!("{name}.{what}");
            values.iter().for_each(|value| text += &format!(" {:08x}", value.to_bits()));
            text += "\n";
        }
    }
    text
}

/// `%.9g` shows more digits of a float than Rust does: compared as numbers.
fn same(c: &str, rust: &str) -> bool {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (c, rust) = (words(c), words(rust));
    let alike = |c: &String, rust: &String| {
        c == rust
            || matches!((c.parse::<f32>(), rust.parse::<f32>()), (Ok(a), Ok(b)) if c.contains('.') && a == b)
    };
    c.len() == rust.len() && c.iter().zip(&rust).all(|(c, rust)| alike(c, rust))
}

#[test]
fn c_gets_the_same_bits_as_rust() {
    let program = Program::new("run.c", &[]);
    for (architecture, size, batch, count) in
        [(Architecture::Tiny, 24, 1, 1), (Architecture::Tiny, 24, 5, 3), (Architecture::MobileNet, 32, 2, 2)]
    {
        let model = ModelFile::new(architecture, size);
        let arguments = [batch.to_string(), count.to_string()];
        let c = program.run(&[model.path.as_ref(), arguments[0].as_ref(), arguments[1].as_ref()]);
        let rust = from_rust(&model, batch, count);
        assert!(same(&c, &rust), "{architecture}, batch {batch}, {count} images\n{c}\n{rust}");
    }
}

/// FNV-1a, of 64 bits.
fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// What faces.c prints, from the Rust interface.
fn faces_from_rust(model: &ModelFile, picture: &Picture) -> String {
    let input = Model::from_bytes(&model.bytes).expect("a model").input().clone();
    let options = DetectorOptions::new().engine(EngineOptions::new().threads(1));
    let mut detector = Detector::new(&options).expect("a detector").session().expect("a session");
    let frame = picture.into();
    let mut text = String::new();
    for face in detector.detect(&frame).expect("faces") {
        let Bounds { x, y, width, height } = face.bounds;
        let Points { left_eye, right_eye, nose, mouth, left_ear, right_ear } = face.points.expect("points");
        let points = [left_eye, right_eye, nose, mouth, left_ear, right_ear].concat();
        for number in [x, y, width, height, face.score].iter().chain(&points) {
            text += &format!("{:08x} ", number.to_bits());
        }
        let cut = cut(&frame, &face, &input).expect("a face");
        let mut floats = vec![0.0; input.shape.len()];
        image::normalise(&cut, &input.mean, &input.std, input.order, &mut floats).expect("floats");
        let bytes = if input.shape.channels == 1 { cut.luma().collect() } else { cut.into_pixels() };
        text += &format!("{:016x} ", hash(floats.into_iter().flat_map(f32::to_ne_bytes)));
        text += &format!("{:016x}\n", hash(bytes));
    }
    text
}

#[test]
fn c_finds_and_cuts_out_the_same_faces_as_rust() {
    let folder = tempfile::tempdir().expect("a folder");
    let pixels = folder.path().join("pixels");
    let picture = image::open(root().join("examples/group.png"), &Limits::default()).expect("a picture");
    std::fs::write(&pixels, picture.pixels()).expect("to write");
    let [width, height] = [picture.width(), picture.height()].map(|side| side.to_string());
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
    let programs = [Program::new("faces.c", &[]), Program::new("faces.c", &sanitizers)];
    let golden = |name: &str| ModelFile::of(&format!("tests/golden/{name}.model.safetensors"));
    let points = json!({"points": {"left_eye": [8.0, 9.0], "right_eye": [16.0, 9.0], "nose": [12.0, 14.0]}});
    for (program, model) in [
        (&programs[0], ModelFile::new(Architecture::Tiny, 24)),
        (&programs[1], ModelFile::new(Architecture::Tiny, 24)),
        (&programs[0], golden("everything_2")), // BGR, and a box of its own
        (&programs[0], golden("everything_2").with_face(&points)),
        (&programs[0], golden("luma")),
    ] {
        let c = program.run(&[model.path.as_ref(), pixels.as_ref(), width.as_ref(), height.as_ref()]);
        let rust = faces_from_rust(&model, &picture);
        assert!(rust.lines().count() > 2 && c == rust, "{}:\n{c}\n{rust}", model.path.display());
    }
}

#[test]
fn wrong_calls_end_in_a_status_and_a_message() {
    let model = ModelFile::new(Architecture::Tiny, 8);
    let version = Program::new("faults.c", &[]).run(&[model.path.as_ref()]);
    assert_eq!(version.trim(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn threads_share_an_engine_and_not_a_session() {
    let model = ModelFile::new(Architecture::Tiny, 48);
    Program::new("threads.c", &["-std=c11"]).run(&[model.path.as_ref()]);
}

#[test]
fn a_run_is_given_up_by_its_deadline_and_by_a_flag() {
    let model = ModelFile::new(Architecture::ResNet18, 64);
    Program::new("limits.c", &["-std=c11"]).run(&[model.path.as_ref()]);
}

#[test]
fn engines_share_threads_and_have_the_programs_own() {
    let model = ModelFile::new(Architecture::Tiny, 48);
    Program::new("pool.c", &["-std=c11"]).run(&[model.path.as_ref()]);
}

#[test]
fn ten_thousand_cycles_leave_the_memory_flat() {
    let model = ModelFile::new(Architecture::Tiny, 8);
    Program::new("cycles.c", &[]).run(&[model.path.as_ref(), "10000".as_ref()]);
}

#[test]
fn a_process_may_end_with_handles_alive() {
    let model = ModelFile::new(Architecture::Tiny, 8);
    let program = Program::new("exit.c", &[]);
    for how in ["return", "exit", "thread"] {
        program.run(&[model.path.as_ref(), how.as_ref()]);
    }
}

#[test]
fn the_log_says_where_auto_has_led() {
    let model = ModelFile::new(Architecture::Tiny, 8);
    let program = Program::new("log.c", &[]);
    // Without a GPU to be seen there is something to say.
    success(program.command().arg(&model.path).env("CUDA_VISIBLE_DEVICES", ""));
}

#[test]
fn the_sanitizers_find_nothing_on_the_c_side() {
    let model = ModelFile::new(Architecture::Tiny, 8);
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
    let programs: [(&str, &[&OsStr]); 2] = [("run.c", &["3".as_ref(), "2".as_ref()]), ("faults.c", &[])];
    for (source, arguments) in programs {
        let mut all = vec![model.path.as_ref()];
        all.extend_from_slice(arguments);
        Program::new(source, &sanitizers).run(&all);
    }
}

#[test]
fn the_static_library_links() {
    let model = ModelFile::new(Architecture::Tiny, 8);
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("program");
    success(
        compiler(C99)
            .arg(root().join("tests/capi/programs/run.c"))
            .arg(library().join("libawsnet.a"))
            .args(["-lm", "-ldl", "-o"])
            .arg(&program),
    );
    let run = |command: &mut Command| success(command.arg(&model.path).args(["1", "1"])).stdout;
    let shared = run(&mut Program::new("run.c", &[]).command());
    assert!(
        run(&mut Command::new(&program)) == shared,
        "the archive gives other numbers than the shared library"
    );
}

/// A program on the emulated driver: the library finds it as it would find NVIDIA's.
#[cfg(feature = "cuda")]
#[test]
fn runs_are_queued_on_a_stream_of_the_c_programs_own() {
    let driver = success(&mut Command::new(root().join("tools/emulated-driver"))).stdout;
    let model = ModelFile::new(Architecture::Tiny, 16);
    let program = Program::new("enqueue.c", &["-ldl"]);
    let driver = String::from_utf8(driver).expect("a path");
    success(program.command().arg(&model.path).env("LD_LIBRARY_PATH", driver.trim_end()));
}
