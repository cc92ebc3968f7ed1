//! Videos: read by the `ffmpeg` on PATH, through a pipe.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::y4m::Stream;
use crate::failure::{one_line, shown};

/// Endings of files that are taken for videos.
const EXTENSIONS: [&str; 8] = ["mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "y4m"];

pub fn is_video(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// An ffmpeg that decodes a file.
pub struct Ffmpeg {
    child: Child,
    /// What it says of errors; a file, as a pipe that nobody reads would hold it up.
    said: File,
    name: String,
}

impl Ffmpeg {
    /// Starts it at a time of the video, in seconds. Errors: no ffmpeg.
    pub fn start(path: &Path, start: f64) -> Result<(Self, Stream<BufReader<ChildStdout>>), String> {
        let name = shown(path);
        let temporary = |e| format!("{name}: expected a temporary file, found {e}");
        let said = tempfile::tempfile().map_err(temporary)?;
        let stderr = said.try_clone().map_err(temporary)?;
        let mut child = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-ss", &start.to_string(), "-i"])
            // A name that begins with a dash is no option.
            .arg(Path::new(".").join(path))
            .args(["-f", "yuv4mpegpipe", "-pix_fmt", "yuv420p", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|e| {
                format!(
                    "{name}: expected the program ffmpeg, which reads videos, found {e}; \
                     install it, or pipe frames into `awsnet predict MODEL -`"
                )
            })?;
        let out = child.stdout.take().ok_or("expected ffmpeg's output, found none")?;
        let mut ffmpeg = Ffmpeg { child, said, name };
        match Stream::new(BufReader::with_capacity(1 << 20, out)) {
            Ok(stream) => Ok((ffmpeg, stream)),
            Err(error) => Err(ffmpeg.failed(&error)),
        }
    }

    /// What ffmpeg says itself of a failure, or else what was found.
    pub fn failed(&mut self, error: &str) -> String {
        let mut said = String::new();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.said.rewind();
        let _ = (&mut self.said).take(2000).read_to_string(&mut said);
        let said = one_line(said.lines().last().unwrap_or_default());
        let name = &self.name;
        match said.is_empty() {
            true => format!("{name}: {error}"),
            false => format!("{name}: expected a video that ffmpeg can read, found: {said}"),
        }
    }

    /// At the end of the stream: whether ffmpeg is content.
    pub fn finish(&mut self) -> Result<(), String> {
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.failed(&format!("expected ffmpeg to end well, found {status}"))),
            Err(e) => Err(format!("{}: expected ffmpeg to end, found {e}", self.name)),
        }
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
