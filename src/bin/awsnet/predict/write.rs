//! What is said of each face: a line of text, of JSON, or a row of CSV.

use awsnet::face::{Face, Points};
use awsnet::image::Picture;
use awsnet::model::HeadKind;
use awsnet::{HeadPrediction, Prediction};
use serde::Serialize;

use super::csv::Csv;
use super::draw::{Drawings, Panel};
use crate::failure::{Failure, Outcome, one_line, shown};
use crate::files::Found;
use crate::output::{self, Results};

/// Where a result comes from.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub file: &'a Found,
    /// Of a video: its number, from 0, and its time in seconds where that is known.
    pub frame: Option<(u64, Option<f64>)>,
}

impl Place<'_> {
    pub fn path(&self) -> std::borrow::Cow<'_, str> {
        self.file.path.to_string_lossy()
    }
}

/// The number of a face in its picture or video, and where it is.
#[derive(Clone, Copy)]
pub struct Numbered {
    pub id: u64,
    pub face: Face,
}

/// The form of the results.
pub enum Form {
    /// Files' names in a column of so many characters.
    Text {
        name_width: usize,
    },
    Json,
    Csv(Csv),
}

pub struct Writer<'a> {
    pub results: Results<'a>,
    pub form: Form,
    /// Of --smooth, for the lines of JSON.
    pub smooth: Option<f32>,
    pub failures: usize,
    pub drawings: Option<Drawings>,
    /// Of the picture whose faces are being written.
    pub panels: Vec<Panel>,
}

/// A line of JSON; docs/cli.md describes it.
#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<f64>,
    /// Outer: whether there is such a key at all; inner: null where there is no face.
    #[serde(skip_serializing_if = "Option::is_none")]
    face: Option<Option<JsonFace>>,
    /// The factor by which the scores are smoothed.
    #[serde(skip_serializing_if = "Option::is_none")]
    smooth: Option<f32>,
    #[serde(flatten)]
    prediction: Option<&'a Prediction<'a>>,
}

#[derive(Serialize)]
struct JsonFace {
    id: u64,
    #[serde(rename = "box")]
    bounds: [f32; 4],
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    points: Option<JsonPoints>,
}

#[derive(Serialize)]
struct JsonPoints {
    left_eye: [f32; 2],
    right_eye: [f32; 2],
    nose: [f32; 2],
    mouth: [f32; 2],
    left_ear: [f32; 2],
    right_ear: [f32; 2],
}

impl From<Numbered> for JsonFace {
    fn from(Numbered { id, face }: Numbered) -> Self {
        let bounds = face.bounds;
        let points = face.points.map(|points| {
            let Points { left_eye, right_eye, nose, mouth, left_ear, right_ear, .. } = points;
            JsonPoints { left_eye, right_eye, nose, mouth, left_ear, right_ear }
        });
        JsonFace { id, bounds: [bounds.x, bounds.y, bounds.width, bounds.height], score: face.score, points }
    }
}

/// The number of this form of the lines.
const SCHEMA: u32 = 1;

/// What a head says, in a few words.
pub fn words(head: &HeadPrediction<'_>) -> String {
    if let Some(winner) = head.winner() {
        let width = head.labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        return format!("{:<width$}  {:.2}", one_line(winner.label), winner.probability);
    }
    if head.kind == HeadKind::Units {
        let active: Vec<String> = head.active().map(|unit| one_line(unit.label)).collect();
        let none = if head.name == "au" { "no AU".to_owned() } else { format!("no {}", head.name) };
        return if active.is_empty() { none } else { active.join(" ") };
    }
    let scores = head.scores();
    if head.labels.is_empty() && scores.len() > 8 {
        return format!("{}: {} numbers (--json has them)", head.name, scores.len());
    }
    let number =
        |score: awsnet::Score<'_>| format!("{} {:.3}", one_line(score.label), score.logit).trim().to_owned();
    scores.map(number).collect::<Vec<_>>().join(" ")
}

impl Writer<'_> {
    pub fn prediction(
        &mut self,
        place: Place,
        face: Option<Numbered>,
        prediction: &Prediction,
    ) -> Result<(), Failure> {
        if self.drawings.is_some() {
            self.panels.push(Panel::new(face, prediction));
        }
        let path = place.path();
        match &mut self.form {
            Form::Json => {
                let mut line = line(&path, place, face.map(|face| Some(face.into())), Some(prediction));
                line.smooth = self.smooth.filter(|_| place.frame.is_some());
                self.results.json(&line)
            }
            Form::Csv(csv) => self.results.line(&csv.row(place, face, Some(prediction))),
            Form::Text { name_width } => {
                let heads: Vec<String> = prediction.heads().map(|head| words(&head)).collect();
                let line = format!("{}  {}", start(place, face, *name_width), heads.join("  "));
                self.results.line(line.trim_end())
            }
        }
    }

    /// The picture whose faces have been written.
    pub fn picture(&mut self, place: Place, picture: &Picture) -> Outcome {
        match &mut self.drawings {
            Some(drawings) => drawings.write(place, picture, &std::mem::take(&mut self.panels)),
            None => Ok(()),
        }
    }

    /// A picture in which there is no face.
    pub fn no_face(&mut self, place: Place) -> Outcome {
        let path = place.path();
        match &mut self.form {
            Form::Json => self.results.json(&line(&path, place, Some(None), None)),
            Form::Csv(csv) => self.results.line(&csv.row(place, None, None)),
            Form::Text { name_width } => {
                let line = format!("{}  no face", start(place, None, *name_width));
                self.results.line(&line)
            }
        }
    }

    pub fn error(&mut self, place: Place, error: &str) -> Outcome {
        self.failures += 1;
        if matches!(self.form, Form::Json) {
            let frame = place.frame.map(|(number, _)| number);
            let mut line = serde_json::json!({"schema": SCHEMA, "image": place.path(), "error": error});
            if let Some(frame) = frame {
                line["frame"] = frame.into();
            }
            return self.results.json(&line);
        }
        output::note(error);
        Ok(())
    }
}

fn line<'a>(
    path: &'a str,
    place: Place,
    face: Option<Option<JsonFace>>,
    prediction: Option<&'a Prediction<'a>>,
) -> Line<'a> {
    let frame = place.frame.map(|(number, _)| number);
    let time = place.frame.and_then(|(_, time)| time);
    Line { schema: SCHEMA, image: path, frame, time, face, smooth: None, prediction }
}

/// The file, the frame and the face, as a line of text begins with them.
fn start(place: Place, face: Option<Numbered>, name_width: usize) -> String {
    let mut text = format!("{:<name_width$}", shown(&place.file.path));
    match place.frame {
        Some((_, Some(time))) => text += &format!("  {time:8.3} s"),
        Some((number, None)) => text += &format!("  frame {number:6}"),
        None => {}
    }
    if let Some(Numbered { id, face }) = face {
        let bounds = face.bounds;
        let [x, y, w, h] = [bounds.x, bounds.y, bounds.width, bounds.height].map(f32::round);
        text += &format!("  face {id:<2} {:<21}", format!("{x},{y},{w},{h}"));
    }
    text
}
