//! The image files that a list of paths stands for.

use std::path::{Path, PathBuf};

use crate::failure::shown;

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
