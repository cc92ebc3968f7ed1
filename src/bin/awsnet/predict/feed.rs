//! Files and frames to the workers, in turn.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;

use super::video::{self, Ffmpeg};
use super::y4m::{self, Raw, Stream};
use crate::files::{self, Found, is_stdin};

/// What a worker is to do.
pub enum Item {
    File {
        file: usize,
    },
    /// A picture that came through standard input.
    Bytes {
        file: usize,
        bytes: Vec<u8>,
    },
    Frame {
        file: usize,
        number: u64,
        time: Option<f64>,
        raw: Raw,
    },
    /// A video that could not be read, or not to its end.
    Failed {
        file: usize,
        error: String,
    },
}

/// Whether a file may have frames: a video, or standard input where faces are looked for.
pub fn is_stream(file: &Found, detects: bool) -> bool {
    is_video(file) || (detects && file.error.is_none() && is_stdin(&file.path))
}

/// Whether a file is a video by its name.
pub fn is_video(file: &Found) -> bool {
    file.error.is_none() && video::is_video(&file.path)
}

pub struct Feed<'a> {
    pub found: &'a [Found],
    /// Of the frames of a video, every so many.
    pub every: u64,
    /// Of the time of a video, in seconds.
    pub start: f64,
    pub end: Option<f64>,
    /// Whether there may be frames: faces are looked for.
    pub streams: bool,
    pub workers: Vec<SyncSender<Item>>,
    /// Items fed, for whoever counts what comes back.
    pub fed: &'a AtomicUsize,
}

/// The workers have gone: nobody wants more.
struct Gone;

impl Feed<'_> {
    pub fn run(self) {
        for (index, file) in self.found.iter().enumerate() {
            let fed = match file {
                file if !is_stream(file, self.streams) => self.send(Item::File { file: index }),
                file if is_stdin(&file.path) => self.stdin(index),
                file => self.video(index, &file.path),
            };
            if fed.is_err() {
                return;
            }
        }
    }

    fn send(&self, item: Item) -> Result<(), Gone> {
        let turn = self.fed.fetch_add(1, Ordering::AcqRel);
        self.workers[turn % self.workers.len()].send(item).map_err(|_| Gone)
    }

    fn stdin(&self, file: usize) -> Result<(), Gone> {
        let mut from = BufReader::with_capacity(1 << 20, std::io::stdin().lock());
        // A picture, unless it begins as frames do; where nothing comes, frames say so.
        if from.fill_buf().is_ok_and(|start| !start.is_empty() && !y4m::are_frames(start)) {
            return match files::read_bounded(from) {
                Ok(bytes) => self.send(Item::Bytes { file, bytes }),
                Err(error) => self.send(Item::Failed { file, error: format!("standard input: {error}") }),
            };
        }
        let outcome = match Stream::new(from) {
            Ok(mut stream) => self.frames(file, &mut stream, 0.0)?,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => self.send(Item::Failed { file, error: format!("standard input: {error}") }),
        }
    }

    fn video(&self, file: usize, path: &Path) -> Result<(), Gone> {
        let error = match Ffmpeg::start(path, self.start) {
            Err(error) => error,
            Ok((mut ffmpeg, mut stream)) => match self.frames(file, &mut stream, self.start)? {
                Err(error) => ffmpeg.failed(&error),
                Ok(()) if self.end.is_some() => return Ok(()), // it may have been left in the middle
                Ok(()) => match ffmpeg.finish() {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
            },
        };
        self.send(Item::Failed { file, error })
    }

    /// Frames up to the end, or the error that ends them. `begins` is the time of the first frame.
    fn frames<R: BufRead>(
        &self,
        file: usize,
        stream: &mut Stream<R>,
        begins: f64,
    ) -> Result<Result<(), String>, Gone> {
        let mut number = 0;
        loop {
            let raw = match stream.next() {
                Ok(Some(raw)) => raw,
                Ok(None) if number == 0 => {
                    return Ok(Err("expected at least one frame, found none".to_owned()));
                }
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            };
            let time = stream.rate().map(|rate| begins + number as f64 / rate);
            if time.zip(self.end).is_some_and(|(time, end)| time >= end) {
                return Ok(Ok(()));
            }
            let wanted = number % self.every == 0 && time.is_none_or(|time| time >= self.start);
            if wanted {
                self.send(Item::Frame { file, number, time, raw })?;
            }
            number += 1;
        }
    }
}
