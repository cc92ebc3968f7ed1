//! `awsnet predict`: pictures and videos in, one result a face out.
//!
//! ```text
//! feed --> worker 0 --> consume --> Writer
//!     \--> worker 1 --/
//! ```
//!
//! One thread feeds files, and frames of videos, to workers in turn; each decodes, finds faces and cuts them out; the thread
//! that runs the network visits the workers in the same turn, and so has everything in its order. Every channel is short:
//! only so many pictures wait in memory, however long a video is and however slow one of them is.

mod boxes;
mod canvas;
mod csv;
mod draw;
mod feed;
mod layout;
mod smooth;
mod take;
mod track;
mod video;
mod write;
mod y4m;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use awsnet::face::{self, Detector, DetectorOptions};
use awsnet::image::{FaceBox, Fit, Picture};
use awsnet::model::FaceCrop;
use awsnet::{EngineOptions, Model, Session};

use self::boxes::Boxes;
use self::csv::{Columns, Csv};
use self::draw::Drawings;
use self::feed::{Feed, Item};
use self::smooth::Smoother;
use self::take::{Faces, Taker, Takings};
use self::track::Tracker;
use self::write::{Form, Numbered, Place, Writer};
use crate::failure::{Failure, Outcome, not_finite, shown};
use crate::files::{self, Found};
use crate::options::{ModelPath, RunOptions, parse};
use crate::output::{self, Results};

/// Every face's emotion and action units, in photographs and videos
///
/// With --detect the faces are found first, each is taken out as the model's file says, and is a result of its own.
/// Without it a picture is taken for a face as it is, or the faces are where --box or --boxes say.
///
/// Folders are searched recursively for .jpg, .jpeg, .png, .webp and .bmp; files named here are taken whatever they are
/// called. Videos are read by the program ffmpeg; - reads frames from standard input, Y4M or PPM. What cannot be read is
/// named, and the rest is done.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    awsnet predict model.safetensors --detect photo.jpg\n  \
    awsnet predict model.safetensors --detect --csv photos/ > faces.csv\n  \
    awsnet predict model.safetensors --detect --json --every 5 film.mp4 > film.jsonl\n  \
    ffmpeg -v error -f v4l2 -i /dev/video0 -f yuv4mpegpipe - | awsnet predict model.safetensors --detect -\n  \
    awsnet predict model.safetensors faces/                     pictures that are faces, cut out already")]
pub struct Args {
    #[command(flatten)]
    model: ModelPath,

    /// Pictures, folders of them, videos, or - for frames from standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Find the faces, by the detector in the program, or by --detect=FILE with one of BlazeFace's kind
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, conflicts_with_all = ["face", "boxes"])]
    detect: Option<Option<PathBuf>>,

    /// The smallest faces to look for, in pixels of their width; smaller ones take longer [default: 24, in videos a tenth of
    /// the longer side]
    #[arg(long, value_name = "PIXELS", requires = "detect")]
    min_face: Option<f32>,

    /// How sure the detector must be, from 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.6, requires = "detect")]
    min_score: f32,

    /// Where the faces are: CSV or lines of JSON with image, x, y, w, h
    #[arg(long, value_name = "FILE", conflicts_with = "face")]
    boxes: Option<PathBuf>,

    /// Where the face is in every picture: x,y,w,h in pixels of the upright picture, fitted by --fit
    #[arg(long = "box", value_name = "X,Y,W,H", value_parser = parse::<FaceBox>)]
    face: Option<FaceBox>,

    /// How a picture that is a face becomes the network's input: crop (its centre), letterbox (black bars) or stretch
    #[arg(long, default_value = "crop", value_parser = parse::<Fit>)]
    fit: Fit,

    /// Of a video, every so many frames
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,

    /// Of a video, from this time on, in seconds
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = parse_seconds)]
    start: f64,

    /// Of a video, up to this time, in seconds
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    end: Option<f64>,

    /// Of a video, smooth each face's scores from frame to frame: s becomes s + FACTOR * (p - s), p the frame's score; above
    /// 0, and at 1 nothing is smoothed
    #[arg(long, value_name = "FACTOR", requires = "detect", value_parser = parse_factor)]
    smooth: Option<f32>,

    /// Faces that run together
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,

    /// One JSON object a line
    #[arg(long, conflicts_with = "csv")]
    json: bool,

    /// A row a face: py-feat's columns, or --csv=openface
    #[arg(long, value_name = "COLUMNS", num_args = 0..=1, require_equals = true, default_missing_value = "py-feat")]
    csv: Option<Columns>,

    /// Write the results to this file, which is there whole or not at all; - is stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write the pictures with what is said of each face on them into this folder, as PNG
    #[arg(long, value_name = "DIR")]
    draw: Option<PathBuf>,

    #[command(flatten)]
    options: RunOptions,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    seconds.ok_or_else(|| "expected a number of seconds, 0 or more".to_owned())
}

fn parse_factor(text: &str) -> Result<f32, String> {
    let factor = text.parse::<f32>().ok().filter(|factor| *factor > 0.0 && *factor <= 1.0);
    factor.ok_or_else(|| "expected a number above 0, at most 1".to_owned())
}

/// The smallest face in a picture by default, in pixels.
const MIN_FACE: f32 = 24.0;

/// A picture or frame, and the faces in it or why there are none.
struct Done {
    file: usize,
    frame: Option<(u64, Option<f64>)>,
    taken: Result<Takings, String>,
}

pub fn main(args: &Args) -> Outcome {
    let model = args.model.load()?;
    let found = files::find(&args.paths);
    let piped = found.iter().map(|file| &*file.path).chain([&*args.model.path]);
    if piped.filter(|path| files::is_stdin(path)).count() > 1 {
        return Err(Failure::usage("-: expected standard input once, found it twice"));
    }
    let streams = found.iter().filter(|file| feed::is_stream(file, args.detect.is_some())).count();
    if let (Some(video), None) = (found.iter().find(|file| feed::is_video(file)), &args.detect) {
        let expected = "expected --detect, which videos need, found none";
        return Err(Failure::usage(format!("{}: {expected}", shown(&video.path))));
    }
    let faces = match &args.boxes {
        Some(file) => Faces::Listed(Boxes::load(file)?),
        None if args.detect.is_some() => Faces::Detected,
        None => Faces::Whole(args.face, args.fit),
    };
    let searches = !matches!(faces, Faces::Whole(..));
    let batch = match searches {
        true => args.batch,
        false => args.batch.min(u32::try_from(found.len()).unwrap_or(u32::MAX).max(1)),
    };
    let keys = ["face", "frame", "time", "smooth"];
    let keys = &keys[..if args.smooth.is_some() { 4 } else { 3 }];
    let taken = model.heads().iter().map(|head| head.name()).find(|name| keys.contains(name));
    if let Some(name) = taken.filter(|_| searches && args.json) {
        let expected = "expected no head of the name of another key of these lines";
        return Err(Failure::usage(format!("--json: {expected}, found `{name}`; --csv has it")));
    }
    let (form, header) = form(args, &model, &found);
    if searches {
        tell_of_crop(args, &model)?;
    }
    let mut inputs: Vec<&Path> = found.iter().map(|file| &*file.path).chain([&*args.model.path]).collect();
    inputs.extend(args.boxes.as_deref());
    inputs.extend(args.detect.iter().flatten().map(|path| &**path));
    let mut results = Results::to(args.output.as_deref(), &inputs)?;
    let engine = args.options.engine(model, batch)?;
    let mut session = engine.session()?;
    let input = engine.plan().input().clone();
    output::catch_interrupt();

    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.options.threads.map_or(processors, |threads| threads as usize);
    let workers = if streams > 0 { threads } else { threads.min(found.len()) }.clamp(1, 16);
    // One picture is looked at by all threads, of several each by one.
    let detector = detector(args, streams > 0, (threads / workers).max(1))?;
    let bar = output::progress(found.len() as u64, results.is_stdout());
    // Together the workers may be a batch ahead, and each a picture.
    let room = (batch as usize).div_ceil(workers) + 1;
    if let Some(header) = header {
        results.line(&header)?;
    }
    let drawings = args.draw.as_ref().map(|folder| Drawings::new(folder, &found)).transpose()?;
    let draws = drawings.is_some();
    let writer = Writer { results, form, smooth: args.smooth, failures: 0, drawings, panels: Vec::new() };
    quiet_workers();
    let fed = AtomicUsize::new(0);
    let outcome = std::thread::scope(|scope| {
        let (mut items, mut receivers) = (Vec::new(), Vec::new());
        for number in 0..workers {
            let (item_sender, item_receiver) = sync_channel(2);
            let (sender, receiver) = sync_channel(room);
            let detector = detector.as_ref().map(Detector::session).transpose()?;
            let mut taker = Taker { faces: &faces, input: &input, detector, draws };
            let found = &found;
            // Ends early where the receiver is gone.
            let worker =
                move || item_receiver.iter().try_for_each(|item| sender.send(work(&mut taker, found, item)));
            std::thread::Builder::new()
                .name(format!("{WORKER}{number}"))
                .spawn_scoped(scope, worker)
                .map_err(|e| Failure::failed(format!("threads: expected one to decode images, found {e}")))?;
            items.push(item_sender);
            receivers.push(receiver);
        }
        let feed = Feed {
            found: &found,
            every: args.every,
            start: args.start,
            end: args.end,
            streams: args.detect.is_some(),
            workers: items,
            fed: &fed,
        };
        std::thread::Builder::new()
            .name("feed".to_owned())
            .spawn_scoped(scope, move || feed.run())
            .map_err(|e| Failure::failed(format!("threads: expected one to read files, found {e}")))?;
        consume(writer, receivers, &found, &fed, &mut session, batch as usize, &bar)
    });
    bar.finish_and_clear();
    outcome
}

/// Says how faces are cut out where the model does not, or not quite. Errors where they cannot be.
fn tell_of_crop(args: &Args, model: &Model) -> Outcome {
    let path = shown(&args.model.path);
    let Some(crop) = &model.input().face else {
        output::remark(&format!(
            "{path} does not say how faces are cut out: the square of 1.2 times their box is taken"
        ));
        return Ok(());
    };
    if let (FaceCrop::Points(_), Some(boxes)) = (crop, &args.boxes) {
        let found = "found one that cuts faces out by points, which only --detect finds";
        return Err(Failure::usage(format!("{}: expected a model for boxes, {found}", shown(boxes))));
    }
    let unknown = face::unknown_points(crop).map_err(|e| Failure::failed(format!("{path}: {e}")))?;
    if !unknown.is_empty() {
        let names: Vec<&str> = unknown.iter().map(|point| point.name()).collect();
        output::remark(&format!(
            "{path} cuts faces out by {} among others, which the detector does not find: they are left out",
            names.join(" and ")
        ));
    }
    Ok(())
}

/// The form of the results, and its header.
fn form(args: &Args, model: &Model, found: &[Found]) -> (Form, Option<String>) {
    if let Some(columns) = args.csv {
        let (csv, header) = Csv::new(columns, model);
        return (Form::Csv(csv), Some(header));
    }
    if args.json {
        return (Form::Json, None);
    }
    let name_width = found.iter().map(|file| shown(&file.path).chars().count()).max().unwrap_or(0);
    (Form::Text { name_width: name_width.min(60) }, None)
}

fn detector(args: &Args, streams: bool, threads: usize) -> Result<Option<Detector>, Failure> {
    let Some(file) = &args.detect else { return Ok(None) };
    let by_default = if streams { 0.0 } else { MIN_FACE };
    let options = DetectorOptions::new()
        .min_score(args.min_score)
        .min_face(args.min_face.unwrap_or(by_default))
        .engine(EngineOptions::new().threads(threads));
    Ok(Some(match file {
        Some(file) => Detector::with_model(Model::load(file)?, &options)?,
        None => Detector::new(&options)?,
    }))
}

/// The beginning of the names of the threads that decode.
const WORKER: &str = "decode-";

/// A worker that panics over a hostile file ends that file, which is told like any other fault of it.
fn quiet_workers() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !std::thread::current().name().is_some_and(|name| name.starts_with(WORKER)) {
            default(info);
        }
    }));
}

fn work(taker: &mut Taker, found: &[Found], item: Item) -> Done {
    match item {
        Item::File { file } => Done { file, frame: None, taken: taker.file(&found[file]) },
        Item::Bytes { file, bytes } => Done { file, frame: None, taken: taker.bytes(&found[file], &bytes) },
        Item::Frame { file, number, time, raw } => {
            let taken = raw.frame().and_then(|frame| taker.frame(&frame));
            let taken = taken.map_err(|e| format!("{}: frame {number}: {e}", shown(&found[file].path)));
            Done { file, frame: Some((number, time)), taken }
        }
        Item::Failed { file, error } => Done { file, frame: None, taken: Err(error) },
    }
}

/// What waits to be written, in order.
enum Entry<'a> {
    Face(Place<'a>, Option<Numbered>),
    NoFace(Place<'a>),
    /// Behind its faces.
    Picture(Place<'a>, Picture),
    Error(Place<'a>, String),
}

impl<'a> Entry<'a> {
    fn place(&self) -> Place<'a> {
        match self {
            Entry::Face(place, _)
            | Entry::NoFace(place)
            | Entry::Picture(place, _)
            | Entry::Error(place, _) => *place,
        }
    }
}

/// Takes pictures in their order, runs their faces in batches, writes the results.
fn consume<'a>(
    mut writer: Writer,
    receivers: Vec<Receiver<Done>>,
    found: &'a [Found],
    fed: &AtomicUsize,
    session: &mut Session,
    batch: usize,
    bar: &indicatif::ProgressBar,
) -> Outcome {
    let mut waiting: Vec<Entry<'a>> = Vec::new();
    let mut pixels: Vec<f32> = Vec::new(); // of the faces that wait
    let (mut faces, mut pictures) = (0, 0); // of those that wait; of all, without frames
    let mut tracker = (usize::MAX, Tracker::default());
    let mut smoother = writer.smooth.map(Smoother::new);
    for turn in 0.. {
        let receiver = &receivers[turn % receivers.len()];
        let done = match receiver.try_recv() {
            Ok(done) => Some(done),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                // Whoever watches a camera is not to wait for a batch.
                if waiting.iter().any(|entry| entry.place().frame.is_some()) {
                    run(&mut writer, &mut smoother, session, batch, &mut waiting, &mut pixels)?;
                    faces = 0;
                }
                receiver.recv().ok()
            }
        };
        let last = done.is_none() || output::interrupted();
        if let Some(Done { file, frame, taken }) = done {
            let place = Place { file: &found[file], frame };
            if frame.is_none() {
                bar.inc(1);
                pictures += 1;
            }
            match taken {
                Err(error) => waiting.push(Entry::Error(place, error)),
                Ok(Takings { faces: taken, picture }) => {
                    if taken.is_empty() {
                        waiting.push(Entry::NoFace(place));
                    }
                    let found: Vec<_> = taken.iter().filter_map(|taken| taken.face).collect();
                    if tracker.0 != file {
                        tracker = (file, Tracker::default());
                    }
                    let ids = match frame {
                        Some(_) => tracker.1.ids(&found),
                        None => (0..found.len() as u64).collect(),
                    };
                    let mut ids = ids.into_iter();
                    for taken in taken {
                        let numbered = taken.face.zip(ids.next()).map(|(face, id)| Numbered { id, face });
                        pixels.extend(taken.pixels);
                        faces += 1;
                        waiting.push(Entry::Face(place, numbered));
                    }
                    waiting.extend(picture.map(|picture| Entry::Picture(place, picture)));
                }
            }
        }
        if faces >= batch || last || waiting.len() >= 4 * batch {
            run(&mut writer, &mut smoother, session, batch, &mut waiting, &mut pixels)?;
            faces = 0;
        }
        if output::interrupted() {
            let end = if writer.results.is_stdout() { "" } else { "; nothing is written" };
            let text = format!("interrupted: {} of {} images are done{end}", pictures, found.len());
            return Err(Failure::interrupted(text));
        }
        if last {
            let fed = fed.load(Ordering::Acquire);
            if fed != turn {
                return Err(Failure::failed(format!(
                    "decoding: expected {fed} images, found an end after {turn}"
                )));
            }
            break;
        }
    }
    let failures = writer.failures;
    writer.results.finish()?;
    match failures {
        0 => Ok(()),
        failures if found.len() > 1 => {
            Err(Failure::failed(format!("{failures} of {} images failed; the rest is done", found.len())))
        }
        _ => Err(Failure::reported()),
    }
}

/// Where a face is, as an error begins.
fn of_face(place: Place, face: Option<Numbered>) -> String {
    let mut text = shown(&place.file.path);
    if let Some((number, _)) = place.frame {
        text += &format!(": frame {number}");
    }
    if let Some(face) = face {
        text += &format!(": face {}", face.id);
    }
    text
}

/// Runs the faces that wait, a batch at a time, and writes everything that waits.
fn run<'a>(
    writer: &mut Writer,
    smoother: &mut Option<Smoother<'a>>,
    session: &mut Session,
    batch: usize,
    waiting: &mut Vec<Entry<'a>>,
    pixels: &mut Vec<f32>,
) -> Outcome {
    let len = session.plan().input().shape.len();
    let session_precision = session.plan().precision();
    let mut entries = waiting.drain(..).peekable();
    let mut batches = pixels.chunks(batch * len);
    while entries.peek().is_some() {
        let predictions = batches.next().map(|pixels| session.run(pixels)).transpose()?;
        let mut predicted = predictions.iter().flat_map(|predictions| predictions.iter());
        let mut left = predictions.map_or(0, |predictions| predictions.len());
        while let Some(entry) = entries.next_if(|entry| left > 0 || !matches!(entry, Entry::Face(..))) {
            match entry {
                Entry::Error(place, error) => writer.error(place, &error)?,
                Entry::NoFace(place) => writer.no_face(place)?,
                Entry::Picture(place, picture) => writer.picture(place, &picture)?,
                Entry::Face(place, face) => {
                    left -= 1;
                    if let Some(prediction) = predicted.next() {
                        if let Some(problem) = not_finite(&prediction, session_precision) {
                            writer.error(place, &format!("{}: {problem}", of_face(place, face)))?;
                            continue;
                        }
                        let smoothed = match smoother {
                            Some(smoother) => smoother.next(place, face, &prediction)?,
                            None => None,
                        };
                        writer.prediction(place, face, &smoothed.unwrap_or(prediction))?;
                    }
                }
            }
        }
    }
    drop(entries);
    pixels.clear();
    Ok(())
}
