//! Lines to stdout and stderr that survive a reader who has gone and a disk that is full, and files that are there
//! whole or not at all.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::{Failure, Outcome, shown};

/// One line to stderr. Where it cannot be written, nobody is there to be told.
pub fn note(message: &str) {
    let _ = writeln!(io::stderr().lock(), "awsnet: {message}");
}

static QUIET: AtomicBool = AtomicBool::new(false);

/// From here on only failures are said, and no bar is shown.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// A note on what is no failure, which who wants quiet does not want to hear.
pub fn remark(message: &str) {
    if !QUIET.load(Ordering::Relaxed) {
        note(message);
    }
}

/// Writes results, to stdout or a file, a whole line at a time.
pub struct Results<'a> {
    out: Out<'a>,
}

enum Out<'a> {
    Stdout(io::StdoutLock<'static>),
    File(OutputFile<'a>),
}

impl<'a> Results<'a> {
    pub fn new() -> Self {
        Results { out: Out::Stdout(io::stdout().lock()) }
    }

    /// Results to a file, which must be none of `inputs`; to stdout where there is no path, or -.
    pub fn to(path: Option<&'a Path>, inputs: &[&Path]) -> Result<Self, Failure> {
        match path.filter(|path| *path != Path::new("-")) {
            Some(path) => Ok(Results { out: Out::File(OutputFile::create(path, inputs)?) }),
            None => Ok(Results::new()),
        }
    }

    pub fn is_stdout(&self) -> bool {
        matches!(self.out, Out::Stdout(_))
    }

    /// A line, or several, without the last newline.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        let line = format!("{text}\n");
        let out = match &mut self.out {
            Out::File(file) => return file.append(line.as_bytes()),
            Out::Stdout(out) => out,
        };
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::unread(),
            _ => Failure::failed(format!("stdout: expected to write the results, found {e}")),
        })
    }

    /// All is written: a file comes to its place.
    pub fn finish(self) -> Outcome {
        match self.out {
            Out::Stdout(_) => Ok(()),
            Out::File(file) => file.finish(),
        }
    }

    /// A value as one line of JSON.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|e| Failure::failed(format!("stdout: {e}")))?;
        self.line(&text)
    }
}

/// A file that is written beside its place and then moved there, so that it is there whole or not at all.
///
/// Made before the work whose results it is to hold: a place that cannot be written is found out first.
pub struct OutputFile<'a> {
    path: &'a Path,
    place: Place,
}

enum Place {
    /// Beside the file to replace, whose links are followed.
    Beside(io::BufWriter<tempfile::NamedTempFile>, PathBuf),
    /// A device or pipe (/dev/stdout, /dev/full), which cannot be replaced.
    Device(std::fs::File),
}

impl<'a> OutputFile<'a> {
    /// Prepares to write `path`, which must be none of the files in `inputs`.
    pub fn create(path: &'a Path, inputs: &[&Path]) -> Result<Self, Failure> {
        let real = path.canonicalize();
        let is_input = |input: &&Path| match (&real, input.canonicalize()) {
            (Ok(real), Ok(input)) => *real == input,
            _ => path == *input,
        };
        if inputs.iter().any(is_input) {
            let expected = "expected an output apart from the inputs, found one of them";
            return Err(Failure::usage(format!("{}: {expected}", shown(path))));
        }
        let target = real.unwrap_or_else(|_| path.to_owned());
        let place = Place::open(target).map_err(|found| unwritable(path, &found))?;
        Ok(OutputFile { path, place })
    }

    /// Writes the file.
    pub fn write(mut self, bytes: &[u8]) -> Outcome {
        self.append(bytes)?;
        self.finish()
    }

    /// Writes more of the file.
    pub fn append(&mut self, bytes: &[u8]) -> Outcome {
        let path = self.path;
        self.place.append(bytes).map_err(|found| unwritable(path, &found))
    }

    /// All is written: the file comes to its place.
    pub fn finish(self) -> Outcome {
        self.place.finish().map_err(|found| unwritable(self.path, &found))
    }
}

fn unwritable(path: &Path, found: &io::Error) -> Failure {
    // Some of tempfile's errors name their own path, which is nobody's business.
    let found = found
        .raw_os_error()
        .map_or_else(|| found.to_string(), |code| io::Error::from_raw_os_error(code).to_string());
    Failure::failed(format!("{}: expected a file that can be written, found {found}", shown(path)))
}

impl Place {
    fn open(target: PathBuf) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".awsnet-").suffix(".part");
        let existing = target.metadata().ok();
        if existing.as_ref().is_some_and(std::fs::Metadata::is_dir) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if let Some(existing) = &existing {
            // Opened without harm, to hear whether it may be written.
            let file = std::fs::OpenOptions::new().write(true).open(&target)?;
            if !existing.is_file() {
                return Ok(Place::Device(file));
            }
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As for any new file: the system takes off what the user's mask forbids.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let folder =
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = builder.tempfile_in(folder)?;
        if let Some(existing) = existing {
            file.as_file().set_permissions(existing.permissions())?;
        }
        Ok(Place::Beside(io::BufWriter::new(file), target))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Place::Device(file) => file.write_all(bytes),
            Place::Beside(file, _) => file.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Place::Device(_) => Ok(()),
            Place::Beside(file, target) => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.as_file().sync_all()?;
                file.persist(target).map(|_| ()).map_err(|e| e.error)
            }
        }
    }
}

/// A bar on stderr, where that is a terminal and no results run through it: those to stdout may.
pub fn progress(total: u64, to_stdout: bool) -> ProgressBar {
    let through = to_stdout && io::stdout().is_terminal();
    if QUIET.load(Ordering::Relaxed) || !io::stderr().is_terminal() || through {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} images, {per_sec}, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C asks to stop at the next good place instead of stopping at once; a second one stops at once.
pub fn catch_interrupt() {
    let caught = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    if let Err(error) = caught {
        note(&format!("Ctrl-C will stop at once: {error}"));
    }
}

/// Whether Ctrl-C was pressed.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
