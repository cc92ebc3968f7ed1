//! How commands fail, and how a message shows what comes from outside.

use std::path::Path;

use awsnet::Error;

/// Why a command ends early, and with which exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: Option<String>,
}

impl Failure {
    /// The call is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { code: 2, message: Some(message.into()) }
    }

    /// Whoever reads the results has gone, with what they wanted.
    pub fn unread() -> Self {
        Failure { code: 0, message: None }
    }

    /// Something failed, and nothing more is to be said.
    pub fn reported() -> Self {
        Failure { code: 1, message: None }
    }

    /// Something failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Failure { code: 1, message: Some(message.into()) }
    }

    /// The user has had enough: the code that shells use for it.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Failure { code: 130, message: Some(message.into()) }
    }

    pub fn code(&self) -> u8 {
        self.code
    }

    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::failed(error.to_string())
    }
}

/// Why the scores of an image mean nothing; none where they are finite.
pub fn not_finite(prediction: &awsnet::Prediction<'_>, precision: awsnet::Precision) -> Option<String> {
    let head = prediction.heads().find(|head| !head.is_finite())?;
    let found = head.logits.iter().find(|logit| !logit.is_finite())?;
    let advice = match precision {
        awsnet::Precision::F16 => "; maps beyond 65504 overflow f16, --precision bf16 or f32 holds them",
        _ => "",
    };
    Some(format!("expected finite logits of the head {}, found {found}{advice}", one_line(head.name)))
}

pub type Outcome = Result<(), Failure>;

/// A path as a message shows it: one line whatever it holds.
pub fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// Text from outside with its control characters escaped.
pub fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
