//! `--draw DIR`: the pictures with what is said of each face on them, for people who would rather look.
//!
//! A small picture is enlarged until text beside a face can be read. Each face has a frame, and beside it a panel: the
//! likeliest classes and units, those that are active in a stronger colour, and the first values, each with a bar as long as
//! it is likely.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use awsnet::face::Bounds;
use awsnet::image::Picture;
use awsnet::model::HeadKind;
use awsnet::{Prediction, Score};

use super::canvas::{Canvas, Colour, Rect, text_width};
use super::layout::place;
use super::write::{Numbered, Place};
use crate::failure::{Failure, one_line, shown};
use crate::files::Found;
use crate::output::OutputFile;

/// A side that is shorter is enlarged.
const LEAST_SIDE: usize = 480;
/// Unless the longer side were longer than this.
const MOST_SIDE: usize = 4096;
/// Of the height of the picture, that of a line of text; and its bounds in pixels.
const TEXT: i64 = 36;
const TEXT_HEIGHTS: (i64, i64) = (16, 48);
/// Lines of a head in a panel.
const CLASSES: usize = 2;
const UNITS: usize = 6;
const VALUES: usize = 4;

const WHITE: Colour = [255; 3];
const GROUND: Colour = [16, 20, 24];
const BAR_CLASSES: Colour = [0, 130, 200];
const BAR_ACTIVE: Colour = [200, 100, 0];
const BAR_UNITS: Colour = [90, 80, 70];
const FRAME: Colour = [255, 220, 0];

/// A line of a panel.
struct Line {
    text: String,
    /// From 0 to 1, how much of the line is filled.
    bar: f32,
    colour: Colour,
}

/// What is said of a face, until its picture is drawn.
pub struct Panel {
    face: Option<Bounds>,
    lines: Vec<Line>,
}

impl Panel {
    pub fn new(face: Option<Numbered>, prediction: &Prediction) -> Self {
        let mut lines = Vec::new();
        for head in prediction.heads() {
            let mut scores: Vec<Score> = head.scores().collect();
            let active: Vec<&str> = match head.kind {
                HeadKind::Units => head.active().map(|unit| unit.label).collect(),
                _ => Vec::new(),
            };
            if head.kind != HeadKind::Values {
                scores.sort_by(|a, b| b.probability.total_cmp(&a.probability));
            }
            let (count, colour) = match head.kind {
                HeadKind::Classes => (CLASSES, BAR_CLASSES),
                HeadKind::Units => (UNITS, BAR_UNITS),
                _ => (VALUES, GROUND),
            };
            let text = |score: &Score| format!("{} {:.2}", one_line(score.label), score.probability);
            let line = |score: &Score| {
                let colour = if active.contains(&score.label) { BAR_ACTIVE } else { colour };
                Line { text: text(score), bar: score.probability, colour }
            };
            lines.extend(scores.iter().take(count).map(line));
        }
        Panel { face: face.map(|numbered| numbered.face.bounds), lines }
    }
}

/// The folder of the drawings, and the names in it that are taken.
pub struct Drawings {
    folder: PathBuf,
    taken: HashSet<PathBuf>,
    inputs: HashSet<PathBuf>,
}

impl Drawings {
    /// Makes the folder, where there is none.
    pub fn new(folder: &Path, found: &[Found]) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder).map_err(|e| {
            Failure::failed(format!("{}: expected a folder that can be written, found {e}", shown(folder)))
        })?;
        let inputs = found.iter().filter_map(|file| file.path.canonicalize().ok()).collect();
        Ok(Drawings { folder: folder.to_owned(), taken: HashSet::new(), inputs })
    }

    /// Draws a picture with the panels of its faces, and writes it.
    pub fn write(&mut self, at: Place, picture: &Picture, panels: &[Panel]) -> Result<(), Failure> {
        let canvas = drawn(picture, panels);
        let path = self.path(at);
        let file = OutputFile::create(&path, &[])?;
        let (width, height) = (canvas.width() as u32, canvas.height() as u32);
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::Fast);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(canvas.pixels())?;
            writer.finish()
        });
        written.map_err(|e| Failure::failed(format!("{}: expected a picture, found {e}", shown(&path))))?;
        file.write(&bytes)
    }

    /// The name of the picture, with the number of the frame, and a number where it is taken.
    fn path(&mut self, at: Place) -> PathBuf {
        let stem = at.file.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let stem = if stem == "-" { "frame".to_owned() } else { stem };
        let stem = at.frame.map_or(stem.clone(), |(number, _)| format!("{stem}-{number:06}"));
        let names = (1..).map(|number| match number {
            1 => format!("{stem}.png"),
            number => format!("{stem}-{number}.png"),
        });
        let free = |path: &PathBuf| {
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            !self.taken.contains(path) && !self.inputs.contains(&real)
        };
        let path = names.map(|name| self.folder.join(name)).find(free).unwrap_or_default();
        self.taken.insert(path.clone());
        path
    }
}

fn drawn(picture: &Picture, panels: &[Panel]) -> Canvas {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let enlarged = LEAST_SIDE.div_ceil(width.min(height)).min(MOST_SIDE / width.max(height)).max(1);
    let mut canvas = Canvas::of(picture, enlarged, 0, 0);
    let (width, height) = (canvas.width() as i64, canvas.height() as i64);
    let text = (width.min(height) / TEXT).clamp(TEXT_HEIGHTS.0, TEXT_HEIGHTS.1);
    let (line, edge) = (text + text / 4, text / 4);
    let scale = enlarged as f32;
    let faces: Vec<Rect> = panels
        .iter()
        .map(|panel| {
            // A box may be anywhere; its frame is drawn on the picture and just beside it.
            let (wide, high) = (2 * width, 2 * height);
            panel.face.map_or(Rect { x: 0, y: 0, width, height }, |b| Rect {
                x: ((b.x * scale) as i64).clamp(-wide, wide),
                y: ((b.y * scale) as i64).clamp(-high, high),
                width: ((b.width * scale) as i64).clamp(0, 2 * wide),
                height: ((b.height * scale) as i64).clamp(0, 2 * high),
            })
        })
        .collect();
    let sizes: Vec<(i64, i64)> = panels
        .iter()
        .map(|panel| {
            let longest = panel.lines.iter().map(|line| line.text.chars().count()).max().unwrap_or(0);
            (text_width(text, longest) + 2 * edge, panel.lines.len() as i64 * line + edge)
        })
        .collect();
    for (panel, face) in panels.iter().zip(&faces) {
        if panel.face.is_some() {
            canvas.outline(*face, (text / 8).max(2), FRAME);
        }
    }
    for (panel, at) in panels.iter().zip(place(&faces, &sizes, width, height)) {
        canvas.fill(at, GROUND, 0.7);
        for (index, of) in panel.lines.iter().enumerate() {
            let y = at.y + edge / 2 + index as i64 * line;
            let bar = (of.bar.clamp(0.0, 1.0) * (at.width - edge) as f32) as i64;
            let rect = Rect { x: at.x + edge / 2, y, width: bar, height: text + edge / 2 };
            canvas.fill(rect, of.colour, 0.8);
            canvas.text(at.x + edge, y, text, &of.text, WHITE);
        }
    }
    canvas
}
