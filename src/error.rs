//! The one error type.
//!
//! An [`Error`] answers three questions: *where* (a file, layer, tensor or argument), what was *expected*, and
//! what was *found*. It prints as one line, `PLACE: expected EXPECTED, found FOUND`.

use std::fmt;
use std::path::Path;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an [`Error`] is about; decide on this, print the error itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be opened, read or written.
    File,
    /// The contents of a model file break the format.
    Model,
    /// A valid model for which no plan can be made (sizes that overflow, an unknown precision).
    Plan,
    /// An argument: an input of the wrong length, a batch out of range.
    Input,
    /// An image that cannot be decoded or fitted.
    Image,
    /// The device asked for is missing or refused to work.
    Device,
    /// A fault of the device that it does not recover from: this engine is of no use any more, and every later call of
    /// it says so. Start a new process; engines on other devices are not affected. Or a session, or pool, of the process
    /// that this one was forked from, whose threads have stayed there; make another.
    Poisoned,
    /// A run did not end by its deadline. On a GPU its engine is poisoned; elsewhere the session works on.
    Deadline,
    /// A run was given up because its caller's flag was set; the session works on.
    Cancelled,
    /// More memory would be needed than there is.
    Memory,
    /// A run was broken off by a fault of this library; the session must not be used again.
    Internal,
}

/// What went wrong: where, what was expected, what was found.
#[derive(Debug)]
pub struct Error(Box<Inner>); // boxed: a `Result` in the hot path stays one word wide

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    file: Option<String>,
    place: String,
    expected: String,
    found: String,
    source: Option<std::io::Error>,
}

impl Error {
    pub(crate) fn new(
        kind: ErrorKind,
        place: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Error(Box::new(Inner {
            kind,
            file: None,
            place: place.into(),
            expected: expected.into(),
            found: found.into(),
            source: None,
        }))
    }

    /// A failed file operation; `expected` says what was tried: "a readable file", "to write the results".
    pub(crate) fn io(path: &Path, expected: &str, source: std::io::Error) -> Self {
        let mut error = Error::new(ErrorKind::File, "", expected, source.to_string()).in_file(path);
        error.0.source = Some(source);
        error
    }

    /// Names the file the error is in, unless a file is named already.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        self.0.file.get_or_insert_with(|| escaped(&path.to_string_lossy()));
        self
    }

    /// The same error about something else.
    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Names the place, unless one is named already.
    pub(crate) fn at(mut self, place: String) -> Self {
        if self.0.place.is_empty() {
            self.0.place = place;
        }
        self
    }

    /// What the error is about.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file it was found in, where there is one.
    pub fn file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// The layer, tensor or argument; empty where the file as a whole is meant.
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// What would have been right.
    pub fn expected(&self) -> &str {
        &self.0.expected
    }

    /// What was there instead.
    pub fn found(&self) -> &str {
        &self.0.found
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { file, place, expected, found, .. } = &*self.0;
        if let Some(file) = file {
            write!(f, "{file}: ")?;
        }
        if !place.is_empty() {
            write!(f, "{place}: ")?;
        }
        write!(f, "expected {expected}, found {found}")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

/// A name from outside between backquotes, fit for one line of a message.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", escaped(name))
}

/// Text from outside with control characters escaped, and its middle left out where that is long.
pub(crate) fn escaped(text: &str) -> String {
    const SHOWN_CHARS: usize = 120;
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    // Whole characters, from either end, while they fit.
    let fitting = |most: usize, chars: &mut dyn Iterator<Item = char>| -> Vec<String> {
        let mut len = 0;
        chars
            .map(escape)
            .take_while(|c| {
                len += c.len();
                len <= most
            })
            .collect()
    };
    let whole = fitting(SHOWN_CHARS, &mut text.chars());
    if whole.len() == text.chars().count() {
        return whole.concat();
    }
    let head = fitting(SHOWN_CHARS / 2, &mut text.chars());
    let mut tail = fitting(SHOWN_CHARS / 2, &mut text.chars().rev());
    tail.reverse();
    format!("{}...{} ({} bytes)", head.concat(), tail.concat(), text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_place_expected_and_found() {
        let error = Error::new(ErrorKind::Model, "layer `conv1`", "stride of at least 1", "0")
            .in_file(Path::new("a\nb.safetensors"))
            .in_file(Path::new("ignored"));
        assert_eq!(
            error.to_string(),
            "a\\nb.safetensors: layer `conv1`: expected stride of at least 1, found 0"
        );
    }

    #[test]
    fn names_from_outside_are_escaped_and_cut() {
        assert_eq!(quoted("a\0b\n\u{1b}[31mé"), "`a\\u{0}b\\n\\u{1b}[31mé`");
        assert_eq!(quoted(""), "``");
        let long = quoted(&"x".repeat(1 << 20));
        assert!(long.len() < 200 && long.contains("(1048576 bytes)"), "{long}");
    }
}
