//! The image files that a list of paths stands for.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::failure::shown;

/// The most that is read of a pipe.
const MOST_PIPED: u64 = 2 << 30;

/// Whether a path stands for standard input.
pub fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// The bytes of what can be read only once: standard input, a pipe. `None` for every other path.
pub fn piped(path: &Path) -> Option<Result<Vec<u8>, String>> {
    let read = match path {
        path if is_stdin(path) => read_bounded(std::io::stdin().lock()),
        path if is_pipe(path) => std::fs::File::open(path).map_err(|e| e.to_string()).and_then(read_bounded),
        _ => return None,
    };
    Some(read.map_err(|error| format!("{}: {error}", shown(path))))
}

pub fn read_bounded(from: impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = from.take(MOST_PIPED + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("expected to read it to its end, found {e}"))?;
    if bytes.len() as u64 > MOST_PIPED {
        return Err(format!("expected at most {MOST_PIPED} bytes, found more"));
    }
    Ok(bytes)
}

/// Whether a path is a pipe that this process has been given: /dev/stdin, or what a shell writes for `<(...)`. Whoever opened
/// a pipe in a folder might wait for its writer for ever.
fn is_pipe(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let given = path.starts_with("/dev") || path.starts_with("/proc");
        given && std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// Endings of the files that are taken from folders; files that are named are taken whatever they are called.
const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];

/// A file to read, or why there is none.
pub struct Found {
    pub path: PathBuf,
    pub error: Option<String>,
}

/// Every image below `paths`, folders in the order of their names.
pub fn find(paths: &[PathBuf]) -> Vec<Found> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            find_below(path, &mut found);
        } else {
            found.push(Found { path: path.clone(), error: None });
        }
    }
    found
}

fn find_below(folder: &Path, found: &mut Vec<Found>) {
    let before = found.len();
    // A link that leads back to a folder above it is an error of the walk, not a circle.
    for entry in walkdir::WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_file() && is_image(entry.path()) => {
                found.push(Found { path: entry.into_path(), error: None });
            }
            Ok(_) => {}
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                let reason = match (error.loop_ancestor(), error.io_error()) {
                    (Some(ancestor), _) => format!("a link back to {}", shown(ancestor)),
                    (None, Some(error)) => error.to_string(),
                    (None, None) => "an unreadable entry".to_owned(),
                };
                let error = format!("{}: expected a readable file or folder, found {reason}", shown(&path));
                found.push(Found { path, error: Some(error) });
            }
        }
    }
    if found.len() == before {
        let endings = EXTENSIONS.join(", ");
        let error = format!("{}: expected images in the folder ({endings}), found none", shown(folder));
        found.push(Found { path: folder.to_owned(), error: Some(error) });
    }
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}
