//! What a run gives: the numbers of every head, and how they are read.
//!
//! ```text
//! classes    a softmax          p_i = exp(l_i - max) / sum over j of exp(l_j - max)
//! units      a sigmoid each     p_i = 1 / (1 + exp(-l_i))
//! values     as they are
//! ```
//!
//! A backend writes its results to the session's [`PredictionBuffers`], probabilities too, by [`PredictionBuffers::score`]
//! where it does not compute them itself. All that a user sees are views of these: [`Predictions`] of a run,
//! [`Prediction`] of an image, [`HeadPrediction`] of a head, [`Score`] of a label. [`OwnedPrediction`] is a copy that outlives
//! the next run.

#[cfg(feature = "serde")]
mod serialize;
mod smooth;

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{HeadKind, Model};

/// What is known of a head without its weights.
#[derive(Clone, Debug)]
pub(crate) struct HeadLabels {
    pub name: String,
    pub kind: HeadKind,
    /// How many numbers it gives.
    pub len: usize,
    /// As many, or none.
    pub labels: Vec<String>,
    /// As many for units, else none.
    pub thresholds: Vec<f32>,
}

impl HeadLabels {
    /// Those of a model's heads.
    pub fn of(model: &Model) -> Arc<[HeadLabels]> {
        let head = |head: &crate::model::Head| HeadLabels {
            name: head.name().to_owned(),
            kind: head.kind(),
            len: head.len(),
            labels: head.labels().to_vec(),
            thresholds: head.thresholds().to_vec(),
        };
        model.heads().iter().map(head).collect()
    }
}

/// Where a session keeps its results from one run to the next.
#[derive(Clone, Debug)]
pub(crate) struct PredictionBuffers {
    heads: Arc<[HeadLabels]>,
    /// [batch, numbers] of each head.
    logits: Vec<Vec<f32>>,
    /// The same; empty for values, which are their logits.
    probabilities: Vec<Vec<f32>>,
}

impl PredictionBuffers {
    pub(crate) fn new(heads: &Arc<[HeadLabels]>, batch: usize) -> Result<Self> {
        let zeros = |len: usize| -> Result<Vec<f32>> {
            let len = batch.saturating_mul(len);
            let mut zeros = Vec::new();
            zeros.try_reserve_exact(len).map_err(|_| {
                let expected = format!("{} bytes of memory", len.saturating_mul(size_of::<f32>()));
                Error::new(ErrorKind::Memory, "predictions", expected, "not enough")
            })?;
            zeros.resize(len, 0.0);
            Ok(zeros)
        };
        let scored = |head: &HeadLabels| if head.kind == HeadKind::Values { 0 } else { head.len };
        Ok(PredictionBuffers {
            heads: Arc::clone(heads),
            logits: heads.iter().map(|head| zeros(head.len)).collect::<Result<_>>()?,
            probabilities: heads.iter().map(|head| zeros(scored(head))).collect::<Result<_>>()?,
        })
    }

    /// Where an image's numbers of a head stand.
    fn range(&self, head: usize, image: usize) -> Range<usize> {
        let len = self.heads[head].len;
        image * len..(image + 1) * len
    }

    /// The logits of an image and head.
    pub(crate) fn logits(&self, head: usize, image: usize) -> &[f32] {
        &self.logits[head][self.range(head, image)]
    }

    /// The logits of an image and head, to be written.
    pub(crate) fn logits_mut(&mut self, head: usize, image: usize) -> &mut [f32] {
        let range = self.range(head, image);
        &mut self.logits[head][range]
    }

    /// The probabilities of an image and head, to be written by a backend that computes them itself; none of values.
    #[cfg(feature = "cuda")]
    pub(crate) fn probabilities_mut(&mut self, head: usize, image: usize) -> Option<&mut [f32]> {
        let range = self.range(head, image);
        self.probabilities[head].get_mut(range)
    }

    /// Computes the probabilities of the first `len` images from their logits.
    pub(crate) fn score(&mut self, len: usize) {
        for ((head, logits), probabilities) in
            self.heads.iter().zip(&self.logits).zip(&mut self.probabilities)
        {
            let logits = logits.chunks_exact(head.len);
            let images = logits.zip(probabilities.chunks_exact_mut(head.len)).take(len);
            match head.kind {
                HeadKind::Classes => images.for_each(|(logits, out)| softmax(logits, out)),
                HeadKind::Units => images.for_each(|(logits, out)| sigmoid(logits, out)),
                HeadKind::Values => {}
            }
        }
    }

    /// The first `len` images, whose logits and probabilities are there.
    pub(crate) fn first(&self, len: usize) -> Predictions<'_> {
        Predictions { len, buffers: self }
    }

    /// What a head gives in some images.
    fn scores(&self, head: usize, images: Range<usize>) -> (&HeadLabels, &[f32], &[f32]) {
        let labels = &self.heads[head];
        let range = images.start * labels.len..images.end * labels.len;
        let logits = &self.logits[head][range.clone()];
        let probabilities = match labels.kind {
            HeadKind::Classes | HeadKind::Units => &self.probabilities[head][range],
            HeadKind::Values => logits,
        };
        (labels, logits, probabilities)
    }

    /// The index of the head of a name.
    fn named(&self, name: &str) -> Option<usize> {
        self.heads.iter().position(|head| head.name == name)
    }

    /// The index of the first head of a kind.
    fn first_of(&self, kind: HeadKind) -> Option<usize> {
        self.heads.iter().position(|head| head.kind == kind)
    }
}

fn softmax(logits: &[f32], out: &mut [f32]) {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp = |l: f32| (f64::from(l) - f64::from(top)).exp();
    let sum: f64 = logits.iter().map(|&l| exp(l)).sum();
    out.iter_mut().zip(logits).for_each(|(p, &l)| *p = (exp(l) / sum) as f32);
}

fn sigmoid(logits: &[f32], out: &mut [f32]) {
    out.iter_mut().zip(logits).for_each(|(p, &l)| *p = (1.0 / (1.0 + (-f64::from(l)).exp())) as f32);
}

/// The scores of one run, borrowed from its session.
///
/// ```
/// # fn show(predictions: awsnet::Predictions<'_>) {
/// for prediction in predictions {
///     if let Some(emotion) = prediction.emotion() {
///         println!("{} {:.2}", emotion.label, emotion.probability);
///     }
///     for au in prediction.active() {
///         println!("{} {:.2}", au.label, au.probability);
///     }
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Predictions<'a> {
    len: usize,
    buffers: &'a PredictionBuffers,
}

/// A head's scores for all images of a run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Scores<'a> {
    /// The head's name.
    pub name: &'a str,
    /// What its logits stand for.
    pub kind: HeadKind,
    /// What each column scores; none where the columns have no names.
    pub labels: &'a [String],
    /// Before softmax or sigmoid, [N, columns].
    pub logits: &'a [f32],
    /// Classes: a softmax. Units: a sigmoid each. Values: the logits. [N, columns]
    pub probabilities: &'a [f32],
    columns: usize,
}

impl<'a> Scores<'a> {
    /// How many numbers the head gives for an image.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The logits, [N, columns].
    #[cfg(feature = "ndarray")]
    pub fn logits_array(&self) -> ndarray::ArrayView2<'a, f32> {
        self.array(self.logits)
    }

    /// The probabilities, [N, columns].
    #[cfg(feature = "ndarray")]
    pub fn probabilities_array(&self) -> ndarray::ArrayView2<'a, f32> {
        self.array(self.probabilities)
    }

    #[cfg(feature = "ndarray")]
    fn array(&self, scores: &'a [f32]) -> ndarray::ArrayView2<'a, f32> {
        let shape = (scores.len() / self.columns, self.columns);
        ndarray::ArrayView2::from_shape(shape, scores).expect("as many scores as images have columns")
    }
}

impl<'a> Predictions<'a> {
    /// The number of images, N.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no image; never so after a run.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All scores of every head, in the model's order.
    pub fn heads(&self) -> impl ExactSizeIterator<Item = Scores<'a>> + use<'a> {
        let all = *self;
        (0..all.buffers.heads.len()).map(move |head| all.scores(head))
    }

    /// All scores of the head of a name; `None` where the model has none.
    pub fn head(&self, name: &str) -> Option<Scores<'a>> {
        self.buffers.named(name).map(|head| self.scores(head))
    }

    fn scores(&self, head: usize) -> Scores<'a> {
        let (head, logits, probabilities) = self.buffers.scores(head, 0..self.len);
        let HeadLabels { name, kind, len, labels, .. } = head;
        Scores { name, kind: *kind, labels, logits, probabilities, columns: *len }
    }

    /// The scores of one image; `None` unless `image` is below [`len`](Self::len).
    pub fn get(&self, image: usize) -> Option<Prediction<'a>> {
        (image < self.len).then(|| self.image(image))
    }

    /// The images one by one.
    pub fn iter(&self) -> PredictionsIter<'a> {
        PredictionsIter { all: *self, images: 0..self.len }
    }

    fn image(&self, image: usize) -> Prediction<'a> {
        Prediction { buffers: self.buffers, image }
    }
}

impl<'a> IntoIterator for Predictions<'a> {
    type Item = Prediction<'a>;
    type IntoIter = PredictionsIter<'a>;

    fn into_iter(self) -> PredictionsIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Predictions<'a> {
    type Item = Prediction<'a>;
    type IntoIter = PredictionsIter<'a>;

    fn into_iter(self) -> PredictionsIter<'a> {
        self.iter()
    }
}

/// The images of a run, one by one.
#[derive(Clone, Debug)]
pub struct PredictionsIter<'a> {
    all: Predictions<'a>,
    images: Range<usize>,
}

impl<'a> Iterator for PredictionsIter<'a> {
    type Item = Prediction<'a>;

    fn next(&mut self) -> Option<Prediction<'a>> {
        self.images.next().map(|image| self.all.image(image))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.images.size_hint()
    }
}

impl DoubleEndedIterator for PredictionsIter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.images.next_back().map(|image| self.all.image(image))
    }
}

impl ExactSizeIterator for PredictionsIter<'_> {}

/// The scores of one image.
#[derive(Clone, Copy, Debug)]
pub struct Prediction<'a> {
    buffers: &'a PredictionBuffers,
    image: usize,
}

/// What one head says of one image.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HeadPrediction<'a> {
    /// The head's name.
    pub name: &'a str,
    /// What its logits stand for.
    pub kind: HeadKind,
    /// What each number scores; none where they have no names.
    pub labels: &'a [String],
    /// The probability from which on a unit is active; empty for heads of other kinds.
    pub thresholds: &'a [f32],
    /// Before softmax or sigmoid.
    pub logits: &'a [f32],
    /// Classes: a softmax. Units: a sigmoid each. Values: the logits.
    pub probabilities: &'a [f32],
}

/// The score of one label.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Score<'a> {
    /// The label's place in the model's order.
    pub index: usize,
    /// What is scored; empty where the head's numbers have no names.
    pub label: &'a str,
    /// Before softmax or sigmoid.
    pub logit: f32,
    /// Classes: a softmax. Units: a sigmoid. Values: the logit.
    pub probability: f32,
}

impl<'a> HeadPrediction<'a> {
    /// Whether all its logits are finite. Where they are not, the input or a map has left the range of its type, and the
    /// scores mean nothing: f16 holds up to 65504, bf16 as much as f32.
    pub fn is_finite(&self) -> bool {
        self.logits.iter().all(|logit| logit.is_finite())
    }

    /// The scores one by one, in the model's order.
    pub fn scores(&self) -> impl ExactSizeIterator<Item = Score<'a>> + use<'a> {
        let head = *self;
        (0..head.logits.len()).map(move |index| head.score(index))
    }

    fn score(&self, index: usize) -> Score<'a> {
        Score {
            index,
            label: self.labels.get(index).map_or("", String::as_str),
            logit: self.logits[index],
            probability: self.probabilities[index],
        }
    }

    /// The class with the largest logit; of equal ones the first. A NaN is the largest only where there is nothing else.
    /// `None` for heads of other kinds.
    pub fn winner(&self) -> Option<Score<'a>> {
        if self.kind != HeadKind::Classes {
            return None;
        }
        let logits = self.logits;
        let largest = (1..logits.len()).fold(0, |best, i| {
            let better = logits[i] > logits[best] || (logits[best].is_nan() && !logits[i].is_nan());
            if better { i } else { best }
        });
        Some(self.score(largest))
    }

    /// The units whose probability reaches their threshold, in the model's order. A NaN reaches none; of other kinds there
    /// is none.
    pub fn active(&self) -> impl Iterator<Item = Score<'a>> + use<'a> {
        let scores = self.scores().zip(self.thresholds);
        scores.filter(|(score, threshold)| score.probability >= **threshold).map(|(score, _)| score)
    }
}

impl<'a> Prediction<'a> {
    /// Whether the logits of all heads are finite; see [`HeadPrediction::is_finite`].
    pub fn is_finite(&self) -> bool {
        self.heads().all(|head| head.is_finite())
    }

    /// What every head says, in the model's order.
    pub fn heads(&self) -> impl ExactSizeIterator<Item = HeadPrediction<'a>> + use<'a> {
        let prediction = *self;
        (0..prediction.buffers.heads.len()).map(move |head| prediction.of(head))
    }

    /// What the head of a name says; `None` where the model has none.
    pub fn head(&self, name: &str) -> Option<HeadPrediction<'a>> {
        self.buffers.named(name).map(|head| self.of(head))
    }

    fn of(&self, head: usize) -> HeadPrediction<'a> {
        let (head, logits, probabilities) = self.buffers.scores(head, self.image..self.image + 1);
        let HeadLabels { name, kind, labels, thresholds, .. } = head;
        HeadPrediction { name, kind: *kind, labels, thresholds, logits, probabilities }
    }

    /// The winner of the first head of classes: in an AWS-Net the emotion. `None` where the model has none.
    pub fn emotion(&self) -> Option<Score<'a>> {
        self.of(self.buffers.first_of(HeadKind::Classes)?).winner()
    }

    /// What is active of the first head of units: in an AWS-Net the action units. Nothing where the model has none.
    pub fn active(&self) -> impl Iterator<Item = Score<'a>> + use<'a> {
        let units = self.buffers.first_of(HeadKind::Units).map(|head| self.of(head));
        units.into_iter().flat_map(|units| units.active())
    }

    /// A copy that outlives the session's next run.
    pub fn into_owned(self) -> OwnedPrediction {
        let heads = 0..self.buffers.heads.len();
        let copy = |all: &[Vec<f32>]| {
            let of_image = |head: usize| all[head].get(self.buffers.range(head, self.image));
            heads.clone().map(|head| of_image(head).unwrap_or_default().to_vec()).collect()
        };
        OwnedPrediction(PredictionBuffers {
            heads: Arc::clone(&self.buffers.heads),
            logits: copy(&self.buffers.logits),
            probabilities: copy(&self.buffers.probabilities),
        })
    }
}

/// The scores of one image, borrowed from nobody: it can be kept, and sent to another thread.
#[derive(Clone, Debug)]
pub struct OwnedPrediction(PredictionBuffers);

impl OwnedPrediction {
    /// The scores, to be read.
    pub fn view(&self) -> Prediction<'_> {
        Prediction { buffers: &self.0, image: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three emotions; two action units, of which the second is active from a half on; two numbers, one head with names.
    fn heads() -> Arc<[HeadLabels]> {
        let head = |name: &str, kind, labels: &[&str], thresholds: &[f32]| HeadLabels {
            name: name.to_owned(),
            kind,
            len: 2.max(labels.len()),
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            thresholds: thresholds.to_vec(),
        };
        Arc::new([
            head("mood", HeadKind::Values, &["valence", "arousal"], &[]),
            head("emotion", HeadKind::Classes, &["neutral", "joy", "fear"], &[]),
            head("au", HeadKind::Units, &["AU1", "AU12"], &[0.75, 0.5]),
            head("raw", HeadKind::Values, &[], &[]),
        ])
    }

    #[test]
    fn what_is_not_finite_is_told_by_image_and_head() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            with(&[[0.0, 1.0, 2.0], [0.0, bad, 2.0]], [0.5, -0.5], |predictions| {
                let finite: Vec<bool> = predictions.iter().map(|prediction| prediction.is_finite()).collect();
                assert_eq!(finite, [true, false]);
                let of = |name| predictions.get(1).unwrap().head(name).unwrap().is_finite();
                assert_eq!((of("emotion"), of("au"), of("mood")), (false, true, true));
            });
        }
    }

    /// Calls `read` with a run of one image a row of emotion logits, all with the same AU logits.
    fn with<T>(emotions: &[[f32; 3]], au: [f32; 2], read: impl FnOnce(Predictions<'_>) -> T) -> T {
        let mut buffers = PredictionBuffers::new(&heads(), emotions.len() + 1).expect("memory");
        for (image, logits) in emotions.iter().enumerate() {
            buffers.logits_mut(0, image).copy_from_slice(&[0.25, -3.0]);
            buffers.logits_mut(1, image).copy_from_slice(logits);
            buffers.logits_mut(2, image).copy_from_slice(&au);
            buffers.logits_mut(3, image).copy_from_slice(&[image as f32, 7.0]);
        }
        buffers.score(emotions.len());
        read(buffers.first(emotions.len()))
    }

    fn emotion(logits: [f32; 3]) -> usize {
        with(&[logits], [0.0; 2], |predictions| {
            predictions.get(0).expect("an image").emotion().expect("a head of classes").index
        })
    }

    fn active(au: [f32; 2]) -> Vec<String> {
        with(&[[0.0; 3]], au, |predictions| {
            let prediction = predictions.get(0).expect("an image");
            prediction.active().map(|score| score.label.to_owned()).collect()
        })
    }

    #[test]
    fn the_emotion_is_the_largest_logit_and_of_equal_ones_the_first() {
        assert_eq!(emotion([0.0, 2.0, 1.0]), 1);
        assert_eq!(emotion([0.0, 1.0, 2.0]), 2);
        assert_eq!(emotion([1.0, 3.0, 3.0]), 1);
        assert_eq!(emotion([3.0, 3.0, 3.0]), 0);
        assert_eq!(emotion([f32::NEG_INFINITY; 3]), 0);
    }

    #[test]
    fn a_nan_is_the_emotion_only_where_there_is_nothing_else() {
        const NAN: f32 = f32::NAN;
        assert_eq!(emotion([NAN, -5.0, -4.0]), 2);
        assert_eq!(emotion([NAN, f32::NEG_INFINITY, NAN]), 1);
        assert_eq!(emotion([1.0, NAN, 0.0]), 0);
        assert_eq!(emotion([NAN; 3]), 0);
    }

    #[test]
    fn an_action_unit_is_active_where_its_probability_reaches_its_threshold() {
        assert_eq!(active([5.0, 5.0]), ["AU1", "AU12"]);
        // The sigmoid of 0 is a half to the bit: AU12's threshold, met exactly.
        assert_eq!(active([0.0, 0.0]), ["AU12"]);
        assert_eq!(active([0.0, -1e-6]), [""; 0]);
        assert_eq!(active([f32::NAN, f32::NAN]), [""; 0]);
    }

    #[test]
    fn scores_come_in_the_models_order_with_their_labels() {
        with(&[[1.0, 3.0, 2.0], [0.0, 0.0, 0.0]], [4.0, -4.0], |predictions| {
            let prediction = predictions.get(0).expect("an image");
            let emotion = prediction.head("emotion").expect("a head");
            let scores: Vec<Score<'_>> = emotion.scores().collect();
            assert_eq!(scores.iter().map(|s| s.index).collect::<Vec<_>>(), [0, 1, 2]);
            assert_eq!(scores.iter().map(|s| s.label).collect::<Vec<_>>(), ["neutral", "joy", "fear"]);
            assert_eq!(scores.iter().map(|s| s.logit).collect::<Vec<_>>(), [1.0, 3.0, 2.0]);
            assert_eq!(Some(scores[1]), prediction.emotion());
            let sum: f32 = scores.iter().map(|s| s.probability).sum();
            assert!((sum - 1.0).abs() < 1e-6, "a softmax sums to {sum}");
            let au: Vec<f32> =
                prediction.head("au").expect("a head").scores().map(|s| s.probability).collect();
            assert!((au[0] + au[1] - 1.0).abs() < 1e-6, "sigmoids of l and -l: {au:?}");
            let columns = predictions.head("emotion").expect("a head");
            assert_eq!((columns.labels.len(), columns.columns()), (3, 3));
            assert_eq!(columns.logits, [1.0, 3.0, 2.0, 0.0, 0.0, 0.0]);
        });
    }

    #[test]
    fn the_images_of_a_run_are_those_that_ran() {
        with(&[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.0; 2], |predictions| {
            assert_eq!(predictions.len(), 3); // the buffers have room for more
            assert!(predictions.get(3).is_none());
            assert_eq!(predictions.iter().len(), 3);
            let emotions = |images: &mut dyn Iterator<Item = Prediction<'_>>| -> Vec<usize> {
                images.filter_map(|prediction| Some(prediction.emotion()?.index)).collect()
            };
            assert_eq!(emotions(&mut predictions.into_iter()), [0, 1, 2]);
            assert_eq!(emotions(&mut (&predictions).into_iter().rev()), [2, 1, 0]);
        });
    }

    #[test]
    fn an_owned_prediction_outlives_its_run_and_its_thread() {
        let owned = with(&[[0.0, 2.0, 1.0]], [3.0, -3.0], |predictions| {
            predictions.get(0).expect("an image").into_owned()
        });
        let copy = owned.clone();
        let label = std::thread::spawn(move || copy.view().emotion().map(|emotion| emotion.label.to_owned()))
            .join()
            .expect("a thread");
        assert_eq!(label.as_deref(), Some("joy"));
        assert_eq!(owned.view().head("au").expect("a head").logits, [3.0, -3.0]);
        assert_eq!(owned.view().active().count(), 1);
    }

    #[test]
    fn heads_come_by_name_and_in_their_order_and_values_are_as_they_are() {
        with(&[[0.0; 3], [0.0; 3]], [0.0; 2], |predictions| {
            let names: Vec<&str> = predictions.heads().map(|head| head.name).collect();
            assert_eq!(names, ["mood", "emotion", "au", "raw"]);
            let raw = predictions.head("raw").expect("a head");
            assert_eq!(
                (raw.logits, raw.probabilities),
                (&[0.0, 7.0, 1.0, 7.0][..], &[0.0, 7.0, 1.0, 7.0][..])
            );
            assert!(raw.labels.is_empty() && predictions.head("none").is_none());
            let prediction = predictions.get(1).expect("an image");
            let mood = prediction.head("mood").expect("a head");
            let named: Vec<(&str, f32)> = mood.scores().map(|s| (s.label, s.probability)).collect();
            assert_eq!(named, [("valence", 0.25), ("arousal", -3.0)]);
            assert!(mood.winner().is_none() && mood.active().next().is_none());
            let unnamed: Vec<&str> =
                prediction.head("raw").expect("a head").scores().map(|score| score.label).collect();
            assert_eq!(unnamed, ["", ""]);
            assert_eq!(prediction.into_owned().view().head("raw").expect("a head").logits, [1.0, 7.0]);
        });
    }

    #[test]
    fn smoothed_scores_follow_the_formula_and_stay_scores() {
        let of = |emotions: [f32; 3], au| with(&[emotions], au, |all| all.image(0).into_owned());
        let (first, next) = (of([2.0, 1.0, 0.0], [1.0, -1.0]), of([-1.0, 3.0, 0.5], [4.0, -9.0]));
        let mut smoothed = first.clone();
        smoothed.smooth(&next.view(), 0.25).expect("the same heads");
        for (head, name) in ["mood", "emotion", "au", "raw"].into_iter().enumerate() {
            let numbers = |of: &OwnedPrediction| of.view().of(head).probabilities.to_vec();
            let steps = numbers(&first).into_iter().zip(numbers(&next)).map(|(s, p)| s + 0.25 * (p - s));
            for (found, expected) in numbers(&smoothed).into_iter().zip(steps) {
                assert!((found - expected).abs() < 1e-6, "{name}: {found}, not {expected}");
            }
        }
        let emotion = smoothed.view().of(1);
        assert!((emotion.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        // What reads logits agrees with what reads probabilities.
        for (logits, probabilities, score) in [
            (emotion.logits, emotion.probabilities, softmax as fn(&[f32], &mut [f32])),
            (smoothed.view().of(2).logits, smoothed.view().of(2).probabilities, sigmoid),
        ] {
            let mut again = vec![0.0; logits.len()];
            score(logits, &mut again);
            assert!(again.iter().zip(probabilities).all(|(a, b)| (a - b).abs() < 1e-6), "{again:?}");
        }
        smoothed.smooth(&next.view(), 1.0).expect("the same heads");
        assert_eq!(smoothed.view().of(2).probabilities, next.view().of(2).probabilities);

        for factor in [0.0, -0.5, 1.5, f32::NAN, f32::INFINITY] {
            let error = smoothed.smooth(&next.view(), factor).expect_err("a wrong factor");
            assert_eq!((error.kind(), error.place()), (ErrorKind::Input, "smoothing factor"), "{factor}");
        }
        let other: Arc<[HeadLabels]> = Arc::new([heads()[1].clone()]);
        let other = PredictionBuffers::new(&other, 1).expect("memory");
        let error = smoothed.smooth(&other.first(1).image(0), 0.5).expect_err("other heads");
        assert_eq!(error.place(), "next prediction");
    }
}
