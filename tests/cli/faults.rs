//! Bad calls, bad inputs and bad luck, by the numbers of the project's list of faults.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use safetensors::Dtype;
use serde_json::json;
use tempfile::tempdir;

use crate::call;
use crate::harness::{Call, INPUT, MODEL, SIZE, awsnet, image, names, onnx, parse, write_tensor};

#[test]
fn a_wrong_call_is_one_line_and_exit_code_2() {
    let m = MODEL.as_os_str();
    for (args, named) in [
        (vec!["predict".into()], "MODEL"),
        (vec!["predict".into(), m.into()], "PATH"),
        (vec!["frobnicate".into()], "frobnicate"),
        (vec!["predict".into(), m.into(), "x.png".into(), "--fit".into(), "squeeze".into()], "squeeze"),
        (vec!["predict".into(), m.into(), "x.png".into(), "--box".into(), "1,2,3".into()], "1,2,3"),
        (vec!["predict".into(), m.into(), "x.png".into(), "--jsn".into()], "--jsn"),
        (vec!["predict".into(), m.into(), "x.png".into(), "--batch".into(), "0".into()], "batch"),
        (vec!["predict".into(), m.into(), "x.png".into(), "--batch".into(), "-1".into()], "-1"),
        (vec!["predict".into(), m.into(), "x.png".into(), "--threads".into(), "0".into()], "threads"),
        (
            vec!["predict".into(), m.into(), "x.png".into(), "--threads".into(), "99999999999".into()],
            "threads",
        ),
        (vec!["plan".into(), m.into(), "--device".into(), "tpu".into()], "tpu"),
        (vec!["plan".into(), m.into(), "--precision".into(), "f8".into()], "f8"),
        (vec!["bench".into(), m.into(), "--batch".into(), "1,x".into()], "x"),
        (vec!["bench".into(), m.into(), "--runs".into(), "0".into()], "runs"),
        (vec!["init".into(), "--arch".into(), "alexnet".into(), "-o".into(), "x".into()], "alexnet"),
        (
            vec![
                "init".into(),
                "--arch".into(),
                "vgg11".into(),
                "--size".into(),
                "31".into(),
                "-o".into(),
                "x".into(),
            ],
            "size",
        ),
        (vec!["init".into(), "--arch".into(), "tiny\nx".into(), "-o".into(), "x".into()], "arch"),
    ] {
        let args: Vec<std::ffi::OsString> = args;
        let call = Call::new(args.clone());
        assert!(call.fails(2).contains(named), "{args:?}: {}", call.stderr);
        assert!(call.stdout.is_empty());
    }
}

/// What people have who have no model yet.
#[test]
fn a_file_of_another_kind_is_named() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("model");
    for (bytes, named) in [
        (
            &b"PK\x03\x04\x14\0\0\0\x08\0 archive/data.pkl"[..],
            "a zip archive, as torch.save writes; docs/training.md",
        ),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a pickle of Python's"),
        (b"\x80\x02}q\0.", "a pickle of Python's"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:", "an ONNX file, which `awsnet import`"),
        (b"\x08\x07:\xc4\x01\n\x1f\n\x05input", "an ONNX file"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a git-lfs pointer in place of the file; `git lfs pull`",
        ),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", "an HDF5 file, as Keras writes"),
        (b"\x1c\0\0\0TFL3\x14\0 \0", "a TensorFlow Lite file"),
        (b"GGUF\x03\0\0\0\x01\0\0\0", "a GGUF file"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a picture; a model comes before it"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "a picture"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "a picture"),
        (b"\0\0\0\x18ftypmp42\0\0", "a picture or a video"),
        (b"\n<!DOCTYPE html><html><head>", "a web page, perhaps in place of a download"),
        (b"{\"version\": 1, \"name\": \"x\"}", "JSON text"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "a gzip archive"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "a program"),
    ] {
        std::fs::write(&path, bytes).expect("a file");
        for command in ["info", "predict"] {
            let call = if command == "info" { call!(command, &path) } else { call!(command, &path, image()) };
            let line = call.fails(1).to_owned();
            assert!(line.contains("expected a safetensors file") && line.contains(named), "{line}");
        }
    }
}

/// A header that is short, and its values many: refused before they are there.
#[test]
fn a_header_of_too_many_values_is_refused() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("bomb");
    let values = "{\"\":0},".repeat((15 << 20) / 7);
    let header = format!("{{\"a\":[{values}0]}}");
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat())
        .expect("a file");
    let call = call!("info", &path);
    assert!(call.fails(1).contains("more than 500000 values"), "{}", call.stderr);
    let long = [&(17u64 << 20).to_le_bytes()[..], &vec![b' '; 17 << 20]].concat();
    std::fs::write(&path, long).expect("a file");
    assert!(call!("info", &path).fails(1).contains("header: expected a length of at most 16777216 bytes"));
}

/// Runs awsnet with bytes on its standard input.
#[cfg(unix)]
fn fed(args: &[&std::ffi::OsStr], bytes: &[u8]) -> Call {
    use std::io::Write;
    let mut child = awsnet(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let bytes = bytes.to_vec();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
    let output = child.wait_with_output().expect("an end");
    feeder.join().expect("a feeder");
    Call::of(output)
}

#[cfg(unix)]
#[test]
fn models_and_pictures_come_through_pipes() {
    let (model, picture) =
        (std::fs::read(&*MODEL).expect("a model"), std::fs::read(image()).expect("a picture"));
    let path = |path: &str| std::ffi::OsString::from(path);
    let (model_path, image) = (MODEL.as_os_str().to_owned(), image().into_os_string());
    let predict = path("predict");
    let expected = {
        let call = call!("predict", &*MODEL, &image, "--device", "cpu", "--quiet");
        call.stdout.split_once("  ").expect("a name and scores").1.trim_start().to_owned()
    };
    let device = [path("--device"), path("cpu"), path("--quiet")];
    for pipe in ["-", "/dev/stdin", "/dev/fd/0"] {
        for (from, picture, bytes) in [(&path(pipe), &image, &model), (&model_path, &path(pipe), &picture)] {
            let args: Vec<_> = [&predict, from, picture]
                .into_iter()
                .chain(&device)
                .map(std::ffi::OsString::as_os_str)
                .collect();
            let call = fed(&args, bytes);
            assert_eq!((call.code, &*call.stderr), (0, ""), "{args:?}");
            assert!(call.stdout.trim_end().ends_with(expected.trim_end()), "{args:?}: {}", call.stdout);
        }
    }
    let twice = path("-");
    let call = fed(&[&predict, &twice, &twice], &model);
    assert!(call.fails(2).contains("expected standard input once"), "{}", call.stderr);
    let call = fed(&[&predict, &model_path, &twice], b"no picture at all");
    assert!(call.fails(1).contains("-: expected a JPEG, PNG, WebP or BMP image"), "{}", call.stderr);
}

/// A value that is not finite is an error that names the image and the head, and the others are told.
#[test]
fn scores_that_are_not_finite_are_an_error() {
    let folder = tempdir().expect("a folder");
    let (input, output) = (folder.path().join("x.safetensors"), folder.path().join("y.safetensors"));
    write_tensor(&input, "image", Dtype::F32, &[3, 3, SIZE, SIZE]);
    let mut bytes = std::fs::read(&input).expect("the input");
    let at = bytes.len() - 4 * 3 * SIZE * SIZE * 2; // of the second image
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&input, bytes).expect("a file");
    let call = call!("run", &*MODEL, "--input", &input, "--output", &output, "--device", "cpu", "--quiet");
    let line = call.fails(1);
    assert!(line.contains("image 1: expected finite logits of the head emotion, found NaN"), "{line}");
    assert!(line.contains("all is written") && output.is_file(), "{line}");
}

#[test]
fn a_model_that_is_no_regular_file() {
    let folder = tempdir().expect("a folder");
    let mut cases =
        vec![folder.path().to_owned(), folder.path().join("missing"), "/dev/zero".into(), "/dev/null".into()];
    #[cfg(unix)]
    {
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        if made.is_ok_and(|status| status.success()) {
            cases.push(fifo);
        }
    }
    for path in cases {
        for command in ["info", "plan", "verify", "bench"] {
            let call = call!(command, &path);
            assert!(call.fails(1).contains(path.to_str().expect("UTF-8")), "{}", call.stderr);
        }
        let output = folder.path().join("y.safetensors");
        let call = call!("run", &*MODEL, "--input", &path, "--output", &output);
        assert!(call.fails(1).contains(path.to_str().expect("UTF-8")), "{}", call.stderr);
    }
}

#[test]
fn a_tuning_that_is_no_regular_file() {
    let folder = tempdir().expect("a folder");
    let planned = awsnet(["plan"]).arg(&*MODEL).env("AWSNET_TUNE", folder.path()).output();
    let planned = Call::of(planned.expect("the binary starts"));
    let expected = "AWSNET_TUNE: expected a regular file, found a directory";
    assert!(planned.fails(1).contains(expected), "{}", planned.stderr);
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_work() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempdir().expect("a folder");
    let name = |bytes: &[u8]| folder.path().join(std::ffi::OsStr::from_bytes(bytes));
    let (model, picture) = (name(b"m\xff.safetensors"), name(b"\xe4\xf6.png"));
    std::fs::copy(&*MODEL, &model).expect("a copy");
    std::fs::copy(image(), &picture).expect("a copy");
    std::fs::copy(image(), name("ä ö\n.png".as_bytes())).expect("a copy");

    for locale in ["C", "C.UTF-8"] {
        let output =
            awsnet(["predict"]).arg(&model).arg(folder.path()).arg("--json").env("LC_ALL", locale).output();
        let call = Call::of(output.expect("the binary starts"));
        let lines = call.json();
        assert_eq!(lines.len(), 2);
        assert!(
            lines.iter().any(|line| line["image"].as_str().is_some_and(|path| path.ends_with("ä ö\n.png")))
        );
    }
    // For people a name is one line, whatever is in it.
    assert_eq!(call!("predict", &model, folder.path()).lines().len(), 2);
    let missing = name(b"\xff\xfe.safetensors");
    call!("info", &missing).fails(1);

    let (input, output) = (name(b"x\xff"), name(b"y\xff"));
    write_tensor(&input, "image", Dtype::F32, &[1, 3, SIZE, SIZE]);
    call!("run", &model, "--input", &input, "--output", &output).lines();
    assert!(output.is_file());
}

/// Bad images among good ones.
fn mixed_folder(folder: &Path) -> [PathBuf; 4] {
    let paths = ["1-good.png", "2-empty.png", "3-broken.jpg", "4-good.png"].map(|name| folder.join(name));
    std::fs::copy(image(), &paths[0]).expect("a copy");
    std::fs::write(&paths[1], b"").expect("a file");
    std::fs::write(&paths[2], b"\xff\xd8\xff\xe0 no picture").expect("a file");
    std::fs::copy(image(), &paths[3]).expect("a copy");
    paths
}

#[test]
fn bad_images_are_named_and_the_rest_is_done() {
    let folder = tempdir().expect("a folder");
    let paths = mixed_folder(folder.path());
    let missing = folder.path().join("none.png");
    for batch in ["1", "2", "8"] {
        let call = call!("predict", &*MODEL, folder.path(), &missing, "--json", "--batch", batch);
        let lines = call.fails_with_results(1);
        assert_eq!(lines.len(), 5);
        for (line, path) in lines.iter().zip(paths.iter().chain([&missing])) {
            assert_eq!(line["image"], json!(path.to_str().expect("UTF-8")));
            let good = path.to_string_lossy().contains("good");
            assert_eq!((line.get("error").is_none(), line.get("emotion").is_some()), (good, good), "{line}");
        }
    }
    // For people the results stand on stdout and each error on a line of stderr.
    let call = call!("predict", &*MODEL, folder.path(), "--device", "cpu");
    assert_eq!((call.code, call.stdout.lines().count()), (1, 2));
    for name in ["2-empty.png", "3-broken.jpg"] {
        assert!(
            call.stderr.lines().any(|line| line.starts_with("awsnet: ") && line.contains(name)),
            "{}",
            call.stderr
        );
    }
}

#[test]
fn a_folder_without_images_is_an_error_of_its_path() {
    let folder = tempdir().expect("a folder");
    let call = call!("predict", &*MODEL, folder.path(), image(), "--json");
    let lines = call.fails_with_results(1);
    assert!(lines[0]["error"].is_string() && lines[1]["emotion"].is_object(), "{}", call.stdout);
}

#[cfg(unix)]
#[test]
fn links_that_lead_in_circles_end() {
    let folder = tempdir().expect("a folder");
    std::fs::copy(image(), folder.path().join("a.png")).expect("a copy");
    std::os::unix::fs::symlink(folder.path(), folder.path().join("circle")).expect("a link");
    let call = call!("predict", &*MODEL, folder.path(), "--json");
    assert_eq!(
        parse(&call.stdout.lines().collect::<Vec<_>>())
            .iter()
            .filter(|line| line.get("emotion").is_some())
            .count(),
        1
    );
}

#[test]
fn run_refuses_inputs_that_do_not_fit_and_writes_nothing() {
    let folder = tempdir().expect("a folder");
    let (input, output) = (folder.path().join("x"), folder.path().join("y"));
    for (name, dtype, shape) in [
        ("picture", Dtype::F32, vec![1, 3, SIZE, SIZE]),
        ("image", Dtype::F16, vec![1, 3, SIZE, SIZE]),
        ("image", Dtype::F32, vec![1, 3, SIZE, SIZE + 1]),
        ("image", Dtype::F32, vec![1, 1, SIZE, SIZE]),
        ("image", Dtype::F32, vec![3, SIZE, SIZE]),
        ("image", Dtype::F32, vec![0, 3, SIZE, SIZE]),
        ("image", Dtype::F32, vec![]),
    ] {
        write_tensor(&input, name, dtype, &shape);
        let call = call!("run", &*MODEL, "--input", &input, "--output", &output);
        assert!(call.fails(1).contains("image"), "{}", call.stderr);
    }
    write_tensor(&input, "image", Dtype::F32, &[2, 3, SIZE, SIZE]);
    let whole = std::fs::read(&input).expect("the input");
    let header_to_the_moon = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    for broken in [
        &whole[..0],
        &whole[..7],
        &whole[..100],
        &whole[..whole.len() - 1],
        b"no tensors at all",
        &header_to_the_moon,
    ] {
        std::fs::write(&input, broken).expect("a file");
        call!("run", &*MODEL, "--input", &input, "--output", &output).fails(1);
    }
    for odd in [folder.path().to_owned(), folder.path().join("missing"), "/dev/zero".into()] {
        call!("run", &*MODEL, "--input", &odd, "--output", &output).fails(1);
    }
    assert_eq!(names(folder.path()), ["x"]);
}

/// Every command that writes a file, with its output at `path`.
fn writers(path: &Path) -> Vec<Vec<std::ffi::OsString>> {
    let (model, input) = (MODEL.as_os_str(), INPUT.as_os_str());
    vec![
        vec!["run".into(), model.into(), "--input".into(), input.into(), "--output".into(), path.into()],
        vec!["info".into(), model.into(), "--svg".into(), path.into()],
        vec!["init".into(), "--arch".into(), "tiny".into(), "-o".into(), path.into()],
        vec!["import".into(), onnx("pair_a.onnx").into(), "-o".into(), path.into()],
    ]
}

#[test]
fn an_output_that_cannot_be_written_is_named_and_leaves_nothing() {
    let folder = tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").expect("a file");
    for path in
        [folder.path().join("no/such/folder/y"), folder.path().to_owned(), file.join("below"), "".into()]
    {
        for args in writers(&path) {
            let call = Call::new(args);
            assert!(matches!(call.code, 1 | 2), "{}", call.code);
            call.fails(call.code);
        }
    }
    if cfg!(target_os = "linux") {
        for args in writers(Path::new("/dev/full")) {
            assert!(Call::new(args).fails(1).contains("/dev/full"));
        }
    }
    assert_eq!(names(folder.path()), ["file"]);
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "mine");
}

#[cfg(unix)]
#[test]
fn an_output_keeps_links_and_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir().expect("a folder");
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    std::fs::write(&file, "old").expect("a file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("permissions");
    std::os::unix::fs::symlink("file", &link).expect("a link");
    call!("info", &*MODEL, "--svg", &link).lines();
    assert!(link.is_symlink());
    assert!(std::fs::read_to_string(&file).expect("the file").starts_with("<svg"));
    assert_eq!(file.metadata().expect("the file").permissions().mode() & 0o777, 0o640);
}

#[test]
fn an_output_that_is_also_an_input_is_refused() {
    let folder = tempdir().expect("a folder");
    let (model, input) = (folder.path().join("model"), folder.path().join("input"));
    std::fs::copy(&*MODEL, &model).expect("a copy");
    write_tensor(&input, "image", Dtype::F32, &[1, 3, SIZE, SIZE]);
    let before = (std::fs::read(&model).expect("the model"), std::fs::read(&input).expect("the input"));
    call!("run", &model, "--input", &input, "--output", &input).fails(2);
    call!("run", &model, "--input", &input, "--output", &model).fails(2);
    call!("run", &model, "--input", &input, "--output", folder.path().join("./model")).fails(2);
    call!("info", &model, "--svg", &model).fails(2);
    assert_eq!(
        before,
        (std::fs::read(&model).expect("the model"), std::fs::read(&input).expect("the input"))
    );
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_written_are_an_error() {
    let model = MODEL.to_str().expect("UTF-8");
    let image = image();
    let image = image.to_str().expect("UTF-8");
    for args in [
        vec!["predict", model, image],
        vec!["predict", model, image, "--json"],
        vec!["info", model],
        vec!["plan", model],
        vec!["verify", model],
        vec!["bench", model, "--runs", "1"],
        vec!["doctor"],
        vec!["--help"],
        vec!["--version"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let output = awsnet(&args).stdout(full).stderr(Stdio::piped()).output().expect("the binary starts");
        assert!(Call::of(output).fails(1).contains("stdout"), "{args:?}");

        // A pipe whose reader has gone.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = awsnet(&args).stdout(writer).stderr(Stdio::piped()).output().expect("the binary starts");
        let call = Call::of(output);
        assert_eq!((call.code, call.stderr.contains("stdout")), (0, false), "{args:?}: {}", call.stderr);
    }
    // Nobody reads the errors: still no panic.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let status = awsnet(["info", "missing"]).stderr(full).status().expect("the binary starts");
    assert_eq!(status.code(), Some(1));
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_long_run_with_what_is_done() {
    use std::io::{BufRead, BufReader, Read};
    let folder = tempdir().expect("a folder");
    const IMAGES: usize = 3000;
    for index in 0..IMAGES {
        std::os::unix::fs::symlink(image(), folder.path().join(format!("{index:05}.png"))).expect("a link");
    }
    let mut child = awsnet(["predict"])
        .arg(&*MODEL)
        .arg(folder.path())
        .args(["--json", "--device", "cpu", "--batch", "4"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // The pipe holds some hundred lines; whoever reads one and waits holds the others up.
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut first = String::new();
    stdout.read_line(&mut first).expect("a line");
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("the rest");
    let output = child.wait_with_output().expect("an end");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let lines: Vec<&str> = first.lines().chain(rest.lines()).collect();
    assert_eq!(parse(&lines).len(), lines.len());
    assert!(lines.len() < IMAGES, "interrupted too late to tell");
    assert!(
        stderr.contains("interrupted") && stderr.contains(&format!("{} of {IMAGES}", lines.len())),
        "{stderr}"
    );
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_no_file_of_results() {
    let (folder, out) = (tempdir().expect("a folder"), tempdir().expect("a folder"));
    for index in 0..20_000 {
        std::os::unix::fs::symlink(image(), folder.path().join(format!("{index:05}.png"))).expect("a link");
    }
    let mut child = awsnet(["predict"])
        .arg(&*MODEL)
        .arg(folder.path())
        .args(["--json", "--device", "cpu", "--quiet", "-o"])
        .arg(out.path().join("results.jsonl"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // What is written so far lies beside its place.
    let begun = || {
        let mut files = std::fs::read_dir(out.path()).expect("a folder");
        files.any(|file| file.and_then(|file| file.metadata()).is_ok_and(|file| file.len() > 0))
    };
    while !begun() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended before it wrote anything");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
    let call = Call::of(child.wait_with_output().expect("an end"));
    assert!(call.fails(130).contains("nothing is written"), "{}", call.stderr);
    assert_eq!(std::fs::read_dir(out.path()).expect("a folder").count(), 0);
}

#[test]
fn without_a_gpu_cuda_says_what_to_do_and_auto_falls_back_once() {
    if (awsnet::Device::Cuda { ordinal: 0 }).resolve().is_ok() {
        return;
    }
    // A plan for an architecture needs no GPU, running it does.
    call!("plan", &*MODEL, "--device", "cuda:sm_90").lines();
    let needed = [
        ("cuda", "plan"),
        ("cuda:0", "plan"),
        ("cuda:99", "plan"),
        ("cuda:sm_90", "verify"),
        ("cuda:sm_70", "plan"),
    ];
    for (device, command) in needed {
        for command in [command, "verify", "bench"] {
            let call = call!(command, &*MODEL, "--device", device);
            assert!(call.fails(1).contains("expected"), "{}", call.stderr);
            assert!(call.stdout.is_empty(), "{}", call.stdout);
        }
    }
    let call = call!("bench", &*MODEL, "--batch", "1,2", "--runs", "1");
    call.lines();
    assert_eq!(call.stderr.lines().count(), 1, "{}", call.stderr);
    assert!(call!("verify", &*MODEL, "--device", "cpu").stderr.is_empty());
}

#[test]
fn a_precision_that_the_device_lacks_is_refused() {
    for precision in ["f16", "bf16"] {
        assert!(
            call!("plan", &*MODEL, "--device", "cpu", "--precision", precision).fails(1).contains(precision)
        );
    }
    call!("plan", &*MODEL, "--device", "cpu", "--precision", "f32").lines();
}

impl Call {
    /// Checks the exit code of a call that did a part, and gives the lines of JSON.
    #[track_caller]
    pub fn fails_with_results(&self, code: i32) -> Vec<serde_json::Value> {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        parse(&self.stdout.lines().collect::<Vec<_>>())
    }
}

#[test]
fn an_import_that_fails_is_one_line_and_writes_nothing() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("m.safetensors");
    let (a, other) = (onnx("pair_a.onnx"), onnx("pair_of_another_kernel.onnx"));
    let (mish, missing) = (onnx("refused/mish.onnx"), folder.path().join("missing.onnx"));
    for (call, code, part) in [
        (call!("import", &mish, "-o", &path), 1, "node `Mul_m` (Mul)"),
        (call!("import", &a, &other, "-o", &path), 1, "kernel 5"),
        (call!("import", &missing, "-o", &path), 1, "missing.onnx"),
        (call!("import", &*MODEL, "-o", &path), 1, "an ONNX file"),
        (call!("import", &a, "--labels", "x,y", "-o", &path), 1, "expected 3"),
        (call!("import", onnx("any_size.onnx"), "-o", &path), 1, "--size"),
        (call!("import", &a, "--au-labels", "x", "-o", &path), 2, "AU.onnx"),
        (call!("import", &a, "--size", "0", "-o", &path), 2, "N or HxW"),
        (call!("import", &a, &a, "--names", "x", "-o", &path), 2, "--names"),
        (call!("import", &a, "-o", &a), 2, "apart from the inputs"),
    ] {
        assert!(call.fails(code).contains(part), "{}", call.stderr);
    }
    assert!(names(folder.path()).is_empty());
}
