//! Frames of a stream: YUV4MPEG2 (Y4M), as `ffmpeg -f yuv4mpegpipe` writes it, or binary PPM pictures one behind the other.
//!
//! A Y4M stream is a line of parameters and then frames, each a line that begins with FRAME and its planes. 8-bit colour of
//! every subsampling is read; that of 4:2:2 and 4:4:4 is averaged to 4:2:0.

use std::io::{self, BufRead, Read};

use awsnet::image::{Frame, PixelFormat};

/// Sides beyond it are no video's, and a header may say anything.
const MOST_SIDE: usize = 1 << 14;
/// Bytes of a header's line.
const MOST_LINE: u64 = 4096;

/// A frame's bytes, and how they lie.
pub struct Raw {
    format: PixelFormat,
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

impl Raw {
    pub fn frame(&self) -> awsnet::Result<Frame<'_>> {
        Frame::new(self.format, &self.bytes, self.width, self.height)
    }
}

/// How many samples of chroma there are for those of luma.
#[derive(Clone, Copy, PartialEq)]
enum Chroma {
    None,
    /// Columns and rows of luma a sample.
    Every(usize, usize),
}

/// Whether what begins so is a stream of frames, not a picture.
pub fn are_frames(start: &[u8]) -> bool {
    start.starts_with(b"P6") || start.starts_with(b"YU")
}

/// A stream of frames. What is wrong with it is a text: what was expected, what was found.
pub struct Stream<R> {
    from: R,
    kind: Kind,
    /// Frames read.
    count: u64,
}

enum Kind {
    Y4m { width: usize, height: usize, chroma: Chroma, rate: Option<f64> },
    Ppm,
}

impl<R: BufRead> Stream<R> {
    /// Reads the header.
    pub fn new(mut from: R) -> Result<Self, String> {
        let start = from.fill_buf().map_err(|e| format!("expected frames, found {e}"))?;
        let kind = match start {
            [b'P', b'6', ..] => Kind::Ppm,
            [b'Y', b'U', ..] => {
                let header = line(&mut from)?.ok_or("expected a Y4M header, found an early end")?;
                y4m(&header)?
            }
            [] => return Err("expected Y4M or PPM frames, found nothing".to_owned()),
            _ => {
                return Err(
                    "expected Y4M or PPM frames (ffmpeg -f yuv4mpegpipe), found something else".to_owned()
                );
            }
        };
        Ok(Stream { from, kind, count: 0 })
    }

    /// Frames a second, where the stream says so.
    pub fn rate(&self) -> Option<f64> {
        match self.kind {
            Kind::Y4m { rate, .. } => rate,
            Kind::Ppm => None,
        }
    }

    /// The next frame; none at the end, which is between two frames.
    pub fn next(&mut self) -> Result<Option<Raw>, String> {
        let count = self.count;
        let of_frame = |e: String| format!("frame {count}: {e}");
        let raw = match self.kind {
            Kind::Y4m { width, height, chroma, .. } => self.y4m_frame(width, height, chroma),
            Kind::Ppm => self.ppm_frame(),
        };
        self.count += 1;
        raw.map_err(of_frame)
    }

    fn y4m_frame(&mut self, width: usize, height: usize, chroma: Chroma) -> Result<Option<Raw>, String> {
        let Some(header) = line(&mut self.from)? else { return Ok(None) };
        if header != "FRAME" && !header.starts_with("FRAME ") {
            return Err("expected a line that begins with FRAME, found another".to_owned());
        }
        let luma = width * height;
        let mut bytes = self.bytes(luma)?;
        let Chroma::Every(columns, rows) = chroma else {
            return Ok(Some(Raw { format: PixelFormat::Grey, width, height, bytes }));
        };
        let (chroma_width, chroma_height) = (width.div_ceil(columns), height.div_ceil(rows));
        for _ in 0..2 {
            let plane = self.bytes(chroma_width * chroma_height)?;
            if (columns, rows) == (2, 2) {
                bytes.extend_from_slice(&plane);
            } else {
                halve(&plane, [chroma_width, chroma_height], [2 / columns, 2 / rows], &mut bytes);
            }
        }
        Ok(Some(Raw { format: PixelFormat::I420, width, height, bytes }))
    }

    fn ppm_frame(&mut self) -> Result<Option<Raw>, String> {
        if self.from.fill_buf().map_err(|e| e.to_string())?.is_empty() {
            return Ok(None);
        }
        let mut fields = Vec::new();
        while fields.len() < 4 {
            let text = line(&mut self.from)?.ok_or("expected a PPM header, found an early end")?;
            let text = text.split('#').next().unwrap_or_default().to_owned();
            fields.extend(text.split_ascii_whitespace().map(str::to_owned));
        }
        let number = |text: &str| text.parse::<usize>().ok().filter(|n| (1..=MOST_SIDE).contains(n));
        let (Some(width), Some(height), 4, "P6", "255") =
            (number(&fields[1]), number(&fields[2]), fields.len(), &*fields[0], &*fields[3])
        else {
            return Err(format!("expected P6, width, height and 255, found {:?}", fields.join(" ")));
        };
        let bytes = self.bytes(3 * width * height)?;
        Ok(Some(Raw { format: PixelFormat::Rgb, width, height, bytes }))
    }

    fn bytes(&mut self, len: usize) -> Result<Vec<u8>, String> {
        // A header may promise anything: memory grows with what comes.
        let mut bytes = Vec::new();
        let read = (&mut self.from).take(len as u64).read_to_end(&mut bytes);
        match read {
            Ok(read) if read == len => Ok(bytes),
            Ok(read) => Err(format!("expected {len} bytes, found {read} and the end of the stream")),
            Err(e) => Err(format!("expected {len} bytes, found {e}")),
        }
    }
}

/// A line without its end; none at the end of the stream.
fn line(from: &mut impl BufRead) -> Result<Option<String>, String> {
    let mut bytes = Vec::new();
    let read: io::Result<usize> = from.take(MOST_LINE).read_until(b'\n', &mut bytes);
    match read {
        Ok(0) => Ok(None),
        Ok(_) if bytes.last() == Some(&b'\n') => {
            bytes.pop();
            let text =
                String::from_utf8(bytes).map_err(|_| "expected a header of text, found other bytes")?;
            Ok(Some(text))
        }
        Ok(_) => Err(format!("expected a header's line of at most {MOST_LINE} bytes, found no end of it")),
        Err(e) => Err(format!("expected a header's line, found {e}")),
    }
}

/// The parameters: W, H, F (rate, a fraction), C (colour); others change nothing here.
fn y4m(header: &str) -> Result<Kind, String> {
    let mut words = header.split_ascii_whitespace();
    if words.next() != Some("YUV4MPEG2") {
        return Err("expected YUV4MPEG2, found another header".to_owned());
    }
    let (mut width, mut height, mut colour, mut rate) = (None, None, "420", None);
    for word in words {
        let (key, value) =
            word.split_at_checked(1).ok_or_else(|| format!("expected parameters, found {word:?}"))?;
        match key {
            "W" => width = value.parse().ok().filter(|n| (1..=MOST_SIDE).contains(n)),
            "H" => height = value.parse().ok().filter(|n| (1..=MOST_SIDE).contains(n)),
            "C" => colour = value,
            "F" => {
                let fraction =
                    value.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                rate =
                    fraction.map(|(a, b): (f64, f64)| a / b).filter(|rate| rate.is_finite() && *rate > 0.0);
            }
            _ => {}
        }
    }
    let (Some(width), Some(height)) = (width, height) else {
        return Err(format!("expected a width and a height from 1 to {MOST_SIDE}, found {header:?}"));
    };
    let chroma = match colour {
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => Chroma::Every(2, 2),
        "422" => Chroma::Every(2, 1),
        "444" => Chroma::Every(1, 1),
        "mono" => Chroma::None,
        other => {
            return Err(format!(
                "expected 8-bit colour of 420, 422, 444 or mono, found {other} (ffmpeg: -pix_fmt yuv420p)"
            ));
        }
    };
    Ok(Kind::Y4m { width, height, chroma, rate })
}

/// Means of so many columns and rows of a plane; at its end, of those that there are.
fn halve(plane: &[u8], [width, height]: [usize; 2], [columns, rows]: [usize; 2], out: &mut Vec<u8>) {
    for y in (0..height).step_by(rows) {
        for x in (0..width).step_by(columns) {
            let (mut sum, mut count) = (0, 0);
            for row in y..(y + rows).min(height) {
                for value in &plane[row * width + x..row * width + (x + columns).min(width)] {
                    sum += u32::from(*value);
                    count += 1;
                }
            }
            out.push(((sum + count / 2) / count) as u8);
        }
    }
}
