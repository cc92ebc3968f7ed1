//! What the faces in front of a camera show, frame by frame, and how long it takes:
//!
//! ```text
//! ffmpeg -v error -f v4l2 -i /dev/video0 -pix_fmt yuv420p -f yuv4mpegpipe - |
//!     cargo run --release --example live --features face -- models/demo.safetensors --drop
//! ```
//!
//! Any video does, `ffmpeg -i FILE` instead. One thread reads frames; this one finds the faces, cuts them out where they lie in
//! memory, and runs those of a frame as a batch. A line a frame: its number, the time from the frame's last byte to its
//! results, and for each face its place, emotion and action units. With `--drop` a frame that comes while another waits is
//! left out, so that what is said is of now; without it all are looked at, however long it takes.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};
use std::time::Instant;

use awsnet::face::{Detector, DetectorOptions, cut};
use awsnet::image::{Frame, PixelFormat};
use awsnet::{Engine, EngineOptions, ImagesU8, Model, Plan, PlanOptions};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Faces that run together.
const BATCH: usize = 8;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, paths): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with("--"));
    let ([] | ["--drop"], [model]) = (&*options, &*paths) else {
        return Err("usage: live MODEL [--drop] < frames as Y4M".into());
    };
    run(Model::load(model)?, BufReader::new(io::stdin()), !options.is_empty(), &mut io::stdout().lock())
}

/// A frame of I420, and when it was there.
struct Taken {
    number: u64,
    pixels: Vec<u8>,
    at: Instant,
}

/// Looks at every frame of a stream, or at the newest, and writes a line for each.
pub fn run(
    model: Model,
    mut stream: impl BufRead + Send + 'static,
    drops: bool,
    out: &mut impl Write,
) -> Outcome<()> {
    let plan = Plan::build(model, &PlanOptions::new().batch(BATCH))?;
    let input = plan.input().clone();
    let mut session = Engine::new(plan, &EngineOptions::new())?.session()?;
    let mut detector = Detector::new(&DetectorOptions::new())?.session()?;

    let (width, height) = size(&mut stream)?;
    let (frames, reader) = read(stream, width, height, drops);
    let (channels, side) = (input.shape.channels, (input.shape.width, input.shape.height));
    for Taken { number, pixels, at } in frames {
        let frame = Frame::new(PixelFormat::I420, &pixels, width, height)?;
        let faces = detector.detect(&frame)?;
        let found = at.elapsed();
        let mut said = Vec::new();
        for faces in faces.chunks(BATCH) {
            let mut images = Vec::new();
            for face in faces {
                let picture = cut(&frame, face, &input)?;
                match channels {
                    1 => images.extend(picture.luma()),
                    _ => images.extend_from_slice(picture.pixels()),
                }
            }
            let images = ImagesU8::new(&images, side.0, side.1, channels);
            for (face, prediction) in faces.iter().zip(session.run(images)?) {
                let mut words = vec![format!("{:.0},{:.0}", face.bounds.x, face.bounds.y)];
                let emotion = prediction.emotion();
                words.extend(emotion.map(|emotion| format!("{} {:.2}", emotion.label, emotion.probability)));
                words.extend(prediction.active().map(|unit| unit.label.to_owned()));
                said.push(words.join(" "));
            }
        }
        let [found, all] = [found, at.elapsed()].map(|time| time.as_secs_f64() * 1e3);
        let said = if said.is_empty() { "no face".to_owned() } else { said.join(" | ") };
        writeln!(out, "frame {number}  {all:.1} ms ({found:.1} to find)  {said}")?;
        out.flush()?;
    }
    reader.join().map_err(|_| "the thread that reads has panicked")?
}

/// The size of the frames of a Y4M stream, from its first line.
fn size(stream: &mut impl BufRead) -> Outcome<(usize, usize)> {
    let mut header = String::new();
    stream.take(1024).read_line(&mut header)?;
    let value = |key: char| header.split_ascii_whitespace().skip(1).find_map(|word| word.strip_prefix(key));
    let side = |key| value(key).and_then(|side| side.parse().ok()).filter(|side| (1..=16384).contains(side));
    let colour = value('C').unwrap_or("420");
    match (side('W'), side('H')) {
        (Some(width), Some(height))
            if header.starts_with("YUV4MPEG2 ") && ["420", "420jpeg", "420mpeg2"].contains(&colour) =>
        {
            Ok((width, height))
        }
        _ => Err(format!("expected Y4M of 8-bit 420 (ffmpeg -pix_fmt yuv420p), found {header:?}").into()),
    }
}

/// A thread that reads the frames. Two wait at most; of the others it drops the newer, or waits itself.
fn read(
    mut stream: impl BufRead + Send + 'static,
    width: usize,
    height: usize,
    drops: bool,
) -> (Receiver<Taken>, std::thread::JoinHandle<Outcome<()>>) {
    let (sender, receiver) = sync_channel(1);
    let read = move || {
        for number in 0.. {
            let mut line = Vec::new();
            (&mut stream).take(1024).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                break;
            }
            if !line.starts_with(b"FRAME") {
                return Err(format!("frame {number}: expected FRAME, found another line").into());
            }
            let mut pixels = vec![0; width * height + 2 * width.div_ceil(2) * height.div_ceil(2)];
            stream.read_exact(&mut pixels).map_err(|e| format!("frame {number}: {e}"))?;
            let taken = Taken { number, pixels, at: Instant::now() };
            let sent = match drops {
                true => match sender.try_send(taken) {
                    Err(TrySendError::Disconnected(_)) => false,
                    Ok(()) | Err(TrySendError::Full(_)) => true,
                },
                false => sender.send(taken).is_ok(),
            };
            if !sent {
                break; // nobody looks any more, and says why
            }
        }
        Ok(())
    };
    (receiver, std::thread::spawn(read))
}
