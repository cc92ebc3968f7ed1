//! What is no model file to begin with, and files that change while they are read.

use super::*;

fn refused(path: &Path) -> Error {
    let begin = Instant::now();
    let error = Model::load(path).expect_err("no model file");
    assert!(begin.elapsed() < Duration::from_secs(1), "{path:?}: {:?}", begin.elapsed());
    check_message(&error, &format!("{path:?}"));
    assert!(error.file().is_some(), "{error}");
    error
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = refused(folder.path());
    assert!(error.expected().contains("regular file") && error.found().contains("directory"), "{error}");
    let error = refused(&folder.path().join("missing"));
    assert!(error.to_string().contains("missing") && error.kind() == ErrorKind::File, "{error}");
    let error = refused(&folder.path().join("line\nbreak"));
    assert!(error.file().is_some_and(|file| file.ends_with("line\\nbreak")), "{error}");
    refused(&folder.path().join("x".repeat(100_000)));
    refused(Path::new(""));
    refused(Path::new("nul\0byte"));

    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, valid().bytes()).expect("a file");
    Model::load(&file).expect("a model");
    let error = refused(&file.join("below"));
    assert_eq!(error.kind(), ErrorKind::File, "{error}");
}

#[cfg(unix)]
#[test]
fn pipes_devices_and_sockets_are_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    for path in [&fifo, &socket, Path::new("/dev/zero"), Path::new("/dev/null")] {
        let error = refused(path);
        assert!(error.expected().contains("regular file"), "{error}");
        assert_eq!(error.found(), "a device, pipe or socket", "{error}");
    }
    let dangling = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &dangling).expect("a link");
    assert_eq!(refused(&dangling).kind(), ErrorKind::File);
    let circle = folder.path().join("circle");
    std::os::unix::fs::symlink(&circle, &circle).expect("a link");
    assert_eq!(refused(&circle).kind(), ErrorKind::File);
}

#[cfg(unix)]
#[test]
fn a_file_without_permission_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, valid().bytes()).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).expect("permissions");
    if std::fs::File::open(&path).is_ok() {
        // Root may read everything: what a user would see cannot be shown here.
        eprintln!("not tested: this user may read files without permission");
        return;
    }
    let error = refused(&path);
    assert!(error.kind() == ErrorKind::File && error.found().contains("ermission"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_that_is_not_utf8_works_and_is_shown() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe.safetensors"));
    std::fs::write(&path, valid().bytes()).expect("a file");
    Model::load(&path).expect("a model");
    std::fs::write(&path, b"short").expect("a file");
    assert!(refused(&path).to_string().contains("5 bytes"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_shorter_than_its_length_is_refused() {
    // sysfs says 4096 bytes of files that hold a few: the same as a file that shrinks between asking and reading.
    let path = Path::new("/sys/devices/system/cpu/online");
    match std::fs::read(path) {
        Ok(content) if content.len() < 8 && path.metadata().is_ok_and(|m| m.len() == 4096) => {
            let error = refused(path);
            assert!(error.kind() == ErrorKind::File && error.found().contains("early end"), "{error}");
        }
        _ => eprintln!("not tested: no sysfs"),
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_a_model_or_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let whole = valid().bytes();
    std::fs::write(&path, &whole).expect("a file");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut loaded, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = Rng::new(23);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let file = std::fs::File::options().write(true).open(&path).expect("the file");
                file.set_len(rng.below(whole.len()) as u64).expect("a shorter file");
                std::fs::write(&path, [&whole[..], &vec![0; rng.below(3)]].concat()).expect("the file again");
            }
        });
        for _ in 0..2_000 {
            match Model::load(&path) {
                Ok(_) => loaded += 1,
                Err(error) => {
                    check_message(&error, "changing");
                    refused += 1;
                }
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    println!("{loaded} loaded, {refused} refused");
    std::fs::write(&path, &whole).expect("the file again");
    Model::load(&path).expect("a model");
}
