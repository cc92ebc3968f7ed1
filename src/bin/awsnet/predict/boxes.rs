//! `--boxes FILE`: where the faces are, as some other detector has found them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use awsnet::face::{Bounds, Face};
use awsnet::image::Picture;
use serde::Deserialize;

use crate::failure::{Failure, shown};

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    image: PathBuf,
    x: f32,
    y: f32,
    w: f32,
    h: f32,
}

/// The faces of each picture, in the file's order.
pub struct Boxes {
    file: PathBuf,
    of: HashMap<PathBuf, Vec<Bounds>>,
}

impl Boxes {
    /// Reads a CSV file with a header that names at least image, x, y, w and h, or lines of JSON with those keys.
    pub fn load(file: &Path) -> Result<Self, Failure> {
        let wrong = |line: usize, found: &dyn std::fmt::Display| {
            let expected = "expected image, x, y, w and h, the last four finite and w and h above 0";
            Failure::failed(format!("{}: line {line}: {expected}, found {found}", shown(file)))
        };
        let text = std::fs::read_to_string(file).map_err(|e| {
            Failure::failed(format!("{}: expected a readable text file, found {e}", shown(file)))
        })?;
        let mut of: HashMap<PathBuf, Vec<Bounds>> = HashMap::new();
        let mut add = |at: usize, line: Line| {
            let Line { image, x, y, w, h } = line;
            if !([x, y, w, h].iter().all(|v| v.is_finite()) && w > 0.0 && h > 0.0) {
                return Err(wrong(at, &format!("{x}, {y}, {w}, {h}")));
            }
            of.entry(image).or_default().push(Bounds { x, y, width: w, height: h });
            Ok(())
        };
        if text.trim_start().starts_with('{') {
            for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                add(index + 1, serde_json::from_str(line).map_err(|e| wrong(index + 1, &e))?)?;
            }
        } else {
            let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
            for (index, line) in reader.deserialize().enumerate() {
                add(index + 2, line.map_err(|e| wrong(index + 2, &e))?)?;
            }
        }
        Ok(Boxes { file: file.to_owned(), of })
    }

    /// The faces of a picture, clipped at its borders: those listed under its path, else under its name.
    pub fn of(&self, path: &Path, picture: &Picture) -> Result<Vec<Face>, String> {
        let name = path.file_name().map(Path::new);
        let named = || name.and_then(|name| self.of.get(name));
        let Some(boxes) = self.of.get(path).or_else(named) else {
            return Ok(Vec::new());
        };
        let (width, height) = (picture.width() as f32, picture.height() as f32);
        let clipped = |bounds: &Bounds| {
            let (left, top) = (bounds.x.max(0.0), bounds.y.max(0.0));
            let (right, lower) = (bounds.x + bounds.width, bounds.y + bounds.height);
            if (left, top) == (bounds.x, bounds.y) && right <= width && lower <= height {
                return Ok(Face::new(*bounds)); // to the bit
            }
            let (right, lower) = (right.min(width), lower.min(height));
            if right <= left || lower <= top {
                let Bounds { x, y, width: w, height: h } = bounds;
                return Err(format!(
                    "{}: a box of {}: expected one that meets the picture, {width}x{height}, found {x},{y},{w},{h}",
                    shown(&self.file),
                    shown(path)
                ));
            }
            Ok(Face::new(Bounds { x: left, y: top, width: right - left, height: lower - top }))
        };
        boxes.iter().map(clipped).collect()
    }
}
