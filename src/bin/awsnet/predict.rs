//! `awsnet predict`: image files in, one result an image out.
//!
//! Threads decode ahead while the network runs. Of D decoders, number d takes the files d, d + D, d + 2D, ... and
//! hands them over through a channel of its own, so that to visit the channels in turn is to see the files in the
//! order in which they were found. A full channel holds its decoder up: only so many images wait in memory, however
//! many there are and however slow one of them is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};

use awsnet::image::{self, FaceBox, Fit, Limits};
use awsnet::model::{HeadKind, Input};
use awsnet::{HeadPrediction, Prediction, Session};
use serde::Serialize;

use crate::failure::{Failure, Outcome, one_line, shown};
use crate::files::{self, Found};
use crate::options::{ModelPath, RunOptions, parse};
use crate::output::{self, Results};

/// Classify the faces in image files
///
/// Folders are searched recursively for .jpg, .jpeg, .png, .webp and .bmp; files named here are taken whatever they
/// are called. An image that cannot be read is named, and the others are done.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    awsnet predict model.safetensors photo.jpg\n  \
    awsnet predict model.safetensors --box 165,60,120,140 --fit letterbox photo.jpg\n  \
    awsnet predict model.safetensors --json faces/ > results.jsonl")]
pub struct Args {
    #[command(flatten)]
    model: ModelPath,

    /// Image files and folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// How a picture becomes the network's input: crop (its centre), letterbox (black bars) or stretch
    #[arg(long, default_value = "crop", value_parser = parse::<Fit>)]
    fit: Fit,

    /// Take a face out first: x,y,w,h in pixels of the upright picture
    #[arg(long = "box", value_name = "X,Y,W,H", value_parser = parse::<FaceBox>)]
    face: Option<FaceBox>,

    /// Images that run together
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    options: RunOptions,
}

/// A file's pixels, normalised, or why there are none.
type Decoded = Result<Vec<f32>, String>;

pub fn main(args: &Args) -> Outcome {
    let model = args.model.load()?;
    let found = files::find(&args.paths);
    let batch = args.batch.min(u32::try_from(found.len()).unwrap_or(u32::MAX).max(1));
    let engine = args.options.engine(model, batch)?;
    let mut session = engine.session()?;
    let input = engine.plan().input().clone();
    output::catch_interrupt();

    let bar = output::progress(found.len() as u64);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let decoders =
        args.options.threads.map_or(processors, |threads| threads as usize).min(found.len()).min(16);
    // Together the decoders may be a batch ahead, and each an image.
    let room = (batch as usize).div_ceil(decoders.max(1)) + 1;
    quiet_decoders();
    let outcome = std::thread::scope(|scope| {
        let mut receivers = Vec::with_capacity(decoders);
        for first in 0..decoders {
            let (sender, receiver) = sync_channel(room);
            let (found, input) = (&found, &input);
            // Ends early where the receiver is gone.
            let decoder = move || {
                found
                    .iter()
                    .skip(first)
                    .step_by(decoders)
                    .try_for_each(|file| sender.send(decode(file, args, input)))
            };
            std::thread::Builder::new()
                .name(format!("{DECODER}{first}"))
                .spawn_scoped(scope, decoder)
                .map_err(|e| Failure::failed(format!("threads: expected one to decode images, found {e}")))?;
            receivers.push(receiver);
        }
        let name_width = found.iter().map(|file| shown(&file.path).chars().count()).max().unwrap_or(0);
        let name_width = name_width.min(60);
        let writer = Writer { results: Results::new(), json: args.json, name_width, failures: 0, done: 0 };
        consume(writer, receivers, &found, &mut session, batch as usize, &bar)
    });
    bar.finish_and_clear();
    outcome
}

/// The beginning of the names of the threads that decode.
const DECODER: &str = "decode-";

/// A decoder that panics over a hostile file ends that file, which is told like any other fault of it.
fn quiet_decoders() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !std::thread::current().name().is_some_and(|name| name.starts_with(DECODER)) {
            default(info);
        }
    }));
}

fn decode(file: &Found, args: &Args, input: &Input) -> Decoded {
    if let Some(error) = &file.error {
        return Err(error.clone());
    }
    let decode = || -> awsnet::Result<Vec<f32>> {
        let picture = image::open(&file.path, &Limits::default())?;
        // The format holds a side to 32 bits.
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        let fitted =
            image::prepare(&picture, args.face, args.fit, side(input.shape.width), side(input.shape.height))?;
        let mut pixels = vec![0.0; input.shape.len()];
        image::normalise(&fitted, &input.mean, &input.std, input.order, &mut pixels)?;
        Ok(pixels)
    };
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(|e| match e.file() {
            Some(_) => e.to_string(),
            None => format!("{}: {e}", shown(&file.path)),
        }),
        Err(_) => Err(format!(
            "{}: expected an image that can be decoded, found one that breaks the decoder",
            shown(&file.path)
        )),
    }
}

/// Takes images in their order, runs them in batches, writes the results.
fn consume(
    mut writer: Writer,
    receivers: Vec<Receiver<Decoded>>,
    found: &[Found],
    session: &mut Session,
    batch: usize,
    bar: &indicatif::ProgressBar,
) -> Outcome {
    let mut waiting: Vec<(usize, Option<String>)> = Vec::new(); // decoded or failed, not yet written
    let mut pixels: Vec<f32> = Vec::new(); // of those that wait and did not fail
    let mut images = 0;
    for turn in 0..found.len() {
        let decoded = receivers[turn % receivers.len()]
            .recv()
            .map_err(|_| Failure::failed("decoding: expected every image, found an early end"))?;
        match decoded {
            Ok(image) => {
                pixels.extend(image);
                images += 1;
                waiting.push((turn, None));
            }
            Err(error) => waiting.push((turn, Some(error))),
        }
        let last = turn + 1 == found.len() || output::interrupted();
        if images == batch || (last && !waiting.is_empty()) || waiting.len() >= 4 * batch {
            let predictions = if images > 0 { Some(session.run(&pixels)?) } else { None };
            let mut predicted = predictions.iter().flat_map(|predictions| predictions.iter());
            for (index, error) in waiting.drain(..) {
                match error {
                    Some(error) => writer.error(&found[index], &error)?,
                    None => {
                        if let Some(prediction) = predicted.next() {
                            writer.prediction(&found[index], &prediction)?;
                        }
                    }
                }
                bar.inc(1);
            }
            pixels.clear();
            images = 0;
        }
        if output::interrupted() {
            let text = format!("interrupted: {} of {} images are done", writer.done, found.len());
            return Err(Failure::interrupted(text));
        }
    }
    match writer.failures {
        0 => Ok(()),
        failures if found.len() > 1 => Err(Failure::failed(format!(
            "{failures} of {} images could not be read; the rest is done",
            found.len()
        ))),
        _ => Err(Failure::reported()),
    }
}

struct Writer {
    results: Results,
    json: bool,
    /// Characters of the column for the path.
    name_width: usize,
    failures: usize,
    done: usize,
}

/// An image's line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    image: &'a str,
    #[serde(flatten)]
    prediction: &'a Prediction<'a>,
}

/// What a head says, in a few words.
fn words(head: &HeadPrediction<'_>) -> String {
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

impl Writer {
    fn prediction(&mut self, file: &Found, prediction: &Prediction) -> Outcome {
        self.done += 1;
        let path = file.path.to_string_lossy();
        if self.json {
            return self.results.json(&Line { image: &path, prediction });
        }
        let name_width = self.name_width;
        let name = shown(&file.path);
        let heads: Vec<String> = prediction.heads().map(|head| words(&head)).collect();
        let line = format!("{name:<name_width$}  {}", heads.join("  "));
        self.results.line(&line)
    }

    fn error(&mut self, file: &Found, error: &str) -> Outcome {
        self.done += 1;
        self.failures += 1;
        if self.json {
            return self
                .results
                .json(&serde_json::json!({"image": file.path.to_string_lossy(), "error": error}));
        }
        output::note(error);
        Ok(())
    }
}
