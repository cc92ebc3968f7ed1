//! Files from outside: only regular ones are opened.
//!
//! Whoever opens a FIFO waits for its writer, and a device may have no end: so a path is asked what it names before it
//! is opened.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// Opens a regular file; gives its length too.
pub fn open_regular(path: &Path) -> Result<(File, u64)> {
    let unreadable = |source| Error::io(path, "a readable file", source);
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a directory" } else { "a device, pipe or socket" };
        return Err(Error::new(ErrorKind::File, "", "a regular file", found).in_file(path));
    }
    let file = File::open(path).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    Ok((file, len))
}

/// The contents of a regular file. One of more than `max_bytes` is not read: `too_long` makes the error of its length.
pub(crate) fn read_regular(
    path: &Path,
    max_bytes: u64,
    too_long: impl FnOnce(u64) -> Error,
) -> Result<Vec<u8>> {
    let (file, len) = open_regular(path)?;
    if len > max_bytes {
        return Err(too_long(len).in_file(path));
    }
    let mut bytes = Vec::new();
    // Bounded all the same: the file may be growing.
    let bounded = file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes);
    let len = bounded.map_err(|source| Error::io(path, "a readable file", source))? as u64;
    if len > max_bytes { Err(too_long(len).in_file(path)) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_long(bytes: u64) -> Error {
        Error::new(ErrorKind::Input, "", "a short file", format!("{bytes} bytes"))
    }

    #[test]
    fn a_file_may_be_as_long_as_the_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("five");
        std::fs::write(&path, b"12345").expect("a file");
        assert_eq!(open_regular(&path).expect("a file").1, 5);
        for max_bytes in [5, 6, u64::MAX] {
            assert_eq!(read_regular(&path, max_bytes, too_long).expect("a file"), b"12345");
        }
        let error = read_regular(&path, 4, too_long).expect_err("a longer one");
        assert_eq!((error.kind(), error.found()), (ErrorKind::Input, "5 bytes"));
        assert_eq!(error.file(), path.to_str());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_is_longer_than_it_says_is_not_read_to_its_end() {
        // procfs gives a length of 0.
        let path = Path::new("/proc/self/limits");
        assert_eq!(open_regular(path).expect("a file").1, 0);
        let error = read_regular(path, 9, too_long).expect_err("a longer one");
        assert_eq!(error.found(), "10 bytes");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
        assert!(made.success());
        for (path, found) in [
            (folder.path(), "a directory"),
            (&fifo, "a device, pipe or socket"),
            (Path::new("/dev/zero"), "a device, pipe or socket"),
        ] {
            let error = open_regular(path).expect_err("no regular file");
            assert_eq!((error.kind(), error.expected()), (ErrorKind::File, "a regular file"));
            assert_eq!((error.file(), error.found()), (path.to_str(), found));
        }
        let error = open_regular(&folder.path().join("missing")).expect_err("no file");
        assert_eq!((error.kind(), error.expected()), (ErrorKind::File, "a readable file"));
    }
}
