//! Lines to stdout and stderr that survive a reader who has gone and a disk that is full, and files that are there
//! whole or not at all.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::common::{Failure, shown};

/// One line to stderr. Where it cannot be written, nobody is there to be told.
pub fn note(message: &str) {
    let _ = writeln!(io::stderr().lock(), "awsnet: {message}");
}

/// Writes results to stdout, a whole line at a time.
pub struct Results {
    out: io::StdoutLock<'static>,
}

impl Results {
    pub fn new() -> Self {
        Results { out: io::stdout().lock() }
    }

    /// A line, or several, without the last newline.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        let write = |out: &mut io::StdoutLock| {
            out.write_all(format!("{text}\n").as_bytes())?;
            out.flush()
        };
        write(&mut self.out)
            .map_err(|e| Failure::failed(format!("stdout: expected to write the results, found {e}")))
    }

    /// A value as one line of JSON.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|e| Failure::failed(format!("stdout: {e}")))?;
        self.line(&text)
    }
}

/// Writes a file beside its place and then moves it there.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |found: String| {
        Failure::failed(format!("{}: expected a file that can be written, found {found}", shown(path)))
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(failed("a directory".into()));
    }
    // A device or pipe (/dev/stdout, /dev/full) is written to; it cannot be replaced.
    if path.exists() && !path.is_file() {
        return std::fs::write(path, bytes).map_err(|e| failed(e.to_string()));
    }
    let write = || -> io::Result<()> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".awsnet-").suffix(".part");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As for any new file: the system takes off what the user's mask forbids.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e| failed(e.to_string()))
}

/// A bar on stderr, where that is a terminal.
pub fn progress(total: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
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
