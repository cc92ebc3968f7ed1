//! Scores over the frames of a video: exponential smoothing.

use super::{OwnedPrediction, Prediction};
use crate::error::{Error, ErrorKind, Result};
use crate::float_environment::FloatEnvironment;
use crate::model::HeadKind;

impl OwnedPrediction {
    /// Moves every score s to s + `factor` * (p - s), p that of the next image: exponential smoothing, over the frames of a
    /// video say. Scores are the probabilities of classes and units, and the numbers of heads of values. Probabilities of classes
    /// still add up to 1. Logits are then those that give the smoothed probabilities: ln s for classes, ln(s / (1 - s)) for
    /// units, infinite at their ends. With a factor of 1 nothing of the past is left.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Input`] where `factor` is not above 0 and at most 1, or `next` has other heads; nothing is changed.
    pub fn smooth(&mut self, next: &Prediction<'_>, factor: f32) -> Result<()> {
        let _environment = FloatEnvironment::enter();
        let wrong = |place, expected, found| Err(Error::new(ErrorKind::Input, place, expected, found));
        if !(factor > 0.0 && factor <= 1.0) {
            return wrong("smoothing factor", "a number above 0, at most 1".to_owned(), factor.to_string());
        }
        let of = |prediction: &Prediction<'_>| {
            let heads = prediction.heads();
            heads
                .map(|head| format!("{} {:?} {}", head.name, head.kind, head.logits.len()))
                .collect::<Vec<_>>()
        };
        let (own, others) = (of(&self.view()), of(next));
        if own != others {
            return wrong("next prediction", format!("the heads {}", own.join(", ")), others.join(", "));
        }
        let factor = f64::from(factor);
        let step =
            |s: &mut f32, p: f32| *s = (f64::from(*s) + factor * (f64::from(p) - f64::from(*s))) as f32;
        for (index, head) in next.heads().enumerate() {
            let (logits, probabilities) = (&mut self.0.logits[index], &mut self.0.probabilities[index]);
            if head.kind == HeadKind::Values {
                logits.iter_mut().zip(head.logits).for_each(|(s, &p)| step(s, p));
                continue;
            }
            for ((logit, s), &p) in logits.iter_mut().zip(probabilities).zip(head.probabilities) {
                step(s, p);
                let s = f64::from(*s);
                *logit = if head.kind == HeadKind::Classes { s.ln() } else { (s / (1.0 - s)).ln() } as f32;
            }
        }
        Ok(())
    }
}
