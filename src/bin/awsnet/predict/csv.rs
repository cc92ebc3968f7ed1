//! `--csv`: a row a face, in the columns that people's scripts read.
//!
//! py-feat's: FaceRectX, FaceRectY, FaceRectWidth, FaceRectHeight, FaceScore, then AUs as AU01 ..., emotions by their
//! labels, other heads by theirs, then input and frame; a picture without a face is a row without numbers. OpenFace 2's: frame, face_id,
//! timestamp, confidence, success, and AU01_c ..., 0 or 1, between commas and spaces; a frame without a face has success
//! 0. It has no AU01_r: an intensity is no probability. input comes last, since there may be several.

use awsnet::model::{Head, HeadKind, Model};
use awsnet::{HeadPrediction, Prediction};

use super::write::{Numbered, Place};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Columns {
    /// py-feat's
    #[default]
    PyFeat,
    /// OpenFace 2's
    Openface,
}

pub struct Csv {
    columns: Columns,
    /// Columns of all heads.
    numbers: usize,
}

impl Csv {
    /// The form of the rows, and the header.
    pub fn new(columns: Columns, model: &Model) -> (Self, String) {
        let mut header: Vec<String> = match columns {
            Columns::PyFeat => {
                ["FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore"].as_slice()
            }
            Columns::Openface => &["frame", "face_id", "timestamp", "confidence", "success"],
        }
        .iter()
        .map(|&name| name.to_owned())
        .collect();
        let before = header.len();
        for head in heads(columns, model.heads()) {
            let only_unnamed = head.labels().is_empty();
            let unnamed = (0..head.len()).filter(|_| only_unnamed).map(|i| format!("{}_{i}", head.name()));
            let named = head.labels().iter().map(|label| column(columns, head.kind(), label));
            header.extend(named.chain(unnamed));
        }
        let numbers = header.len() - before;
        header.push("input".to_owned());
        if columns == Columns::PyFeat {
            header.push("frame".to_owned());
        }
        (Csv { columns, numbers }, joined(columns, &header))
    }

    /// The row of a face, or of a picture that has none.
    pub fn row(&self, place: Place, face: Option<Numbered>, prediction: Option<&Prediction>) -> String {
        let (frame, time) = place.frame.map_or((0, None), |(frame, time)| (frame, time));
        let mut row: Vec<String> = match self.columns {
            Columns::PyFeat => {
                let bounds = face.map(|Numbered { face, .. }| face.bounds);
                let bounds = bounds.map(|b| [b.x, b.y, b.width, b.height].map(|v| v.to_string()));
                let score = face.map(|Numbered { face, .. }| face.score.to_string());
                bounds.unwrap_or_default().into_iter().chain([score.unwrap_or_default()]).collect()
            }
            Columns::Openface => vec![
                // It counts from 1.
                (frame + 1).to_string(),
                face.map_or(0, |face| face.id).to_string(),
                time.unwrap_or(0.0).to_string(),
                face.map_or(f32::from(u8::from(prediction.is_some())), |face| face.face.score).to_string(),
                u8::from(prediction.is_some()).to_string(),
            ],
        };
        let before = row.len();
        if let Some(prediction) = prediction {
            let heads: Vec<HeadPrediction> = prediction.heads().collect();
            for head in heads_of(self.columns, &heads) {
                match self.columns {
                    Columns::PyFeat if head.kind == HeadKind::Values => {
                        row.extend(head.logits.iter().map(f32::to_string))
                    }
                    Columns::PyFeat => row.extend(head.probabilities.iter().map(f32::to_string)),
                    Columns::Openface => {
                        let active: Vec<&str> = head.active().map(|unit| unit.label).collect();
                        let flags = head.labels.iter().map(|label| active.contains(&&**label));
                        row.extend(flags.map(|flag| u8::from(flag).to_string()));
                    }
                }
            }
        }
        let nothing = if self.columns == Columns::Openface { "0" } else { "" };
        row.resize(before + self.numbers, nothing.to_owned());
        row.push(place.path().into_owned());
        if self.columns == Columns::PyFeat {
            row.push(frame.to_string());
        }
        joined(self.columns, &row)
    }
}

/// The heads that have columns: AUs first, as py-feat has them. OpenFace has AUs alone.
fn heads(columns: Columns, heads: &[Head]) -> Vec<&Head> {
    ordered(columns, heads, Head::kind)
}

fn heads_of<'a, 'b>(columns: Columns, heads: &'a [HeadPrediction<'b>]) -> Vec<&'a HeadPrediction<'b>> {
    ordered(columns, heads, |head| head.kind)
}

fn ordered<T>(columns: Columns, heads: &[T], kind: impl Fn(&T) -> HeadKind) -> Vec<&T> {
    let (units, others): (Vec<&T>, Vec<&T>) = heads.iter().partition(|head| kind(head) == HeadKind::Units);
    match columns {
        Columns::PyFeat => units.into_iter().chain(others).collect(),
        Columns::Openface => units,
    }
}

/// A label as a column: AU1 is AU01 there.
fn column(columns: Columns, kind: HeadKind, label: &str) -> String {
    let number = label.strip_prefix("AU").and_then(|number| number.parse::<u32>().ok());
    let name = match number {
        Some(number) if kind == HeadKind::Units => format!("AU{number:02}"),
        _ => label.to_owned(),
    };
    if columns == Columns::Openface { name + "_c" } else { name }
}

/// A row, each field quoted where it must be.
fn joined(columns: Columns, fields: &[String]) -> String {
    let quoted = |field: &String| match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.clone(),
    };
    let separator = if columns == Columns::Openface { ", " } else { "," };
    fields.iter().map(quoted).collect::<Vec<_>>().join(separator)
}
