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
