//! What a run gives: logits and probabilities of both heads, and how they are read.
//!
//! ```text
//! softmax    p_i = exp(l_i - max) / sum over j of exp(l_j - max)
//! sigmoid    p_i = 1 / (1 + exp(-l_i))
//! ```
//!
//! A backend writes its results to the session's [`PredictionBuffers`], probabilities too, by [`PredictionBuffers::score`]
//! where it does not compute them itself. All that a user sees are views of these: [`Predictions`] of a run,
//! [`Prediction`] of an image, [`Score`] of a label. [`OwnedPrediction`] is a copy that outlives the next run.

#[cfg(feature = "serde")]
mod serialize;

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::Branch;

/// The scores that a head gives, and how they are read.
#[derive(Clone, Debug)]
pub(crate) struct HeadLabels {
    pub labels: Vec<String>,
    /// Empty for the emotion head.
    pub thresholds: Vec<f32>,
}

/// Where a session keeps its results from one run to the next.
#[derive(Debug)]
pub(crate) struct PredictionBuffers {
    labels: [usize; 2],
    /// [batch, labels] of each branch.
    logits: [Vec<f32>; 2],
    probabilities: [Vec<f32>; 2],
}

impl PredictionBuffers {
    pub(crate) fn new(heads: &[HeadLabels; 2], batch: usize) -> Result<Self> {
        let labels = heads.each_ref().map(|head| head.labels.len());
        let zeros = |labels: usize| -> Result<Vec<f32>> {
            let len = batch.saturating_mul(labels);
            let mut zeros = Vec::new();
            zeros.try_reserve_exact(len).map_err(|_| {
                let expected = format!("{} bytes of memory", len.saturating_mul(size_of::<f32>()));
                Error::new(ErrorKind::Memory, "predictions", expected, "not enough")
            })?;
            zeros.resize(len, 0.0);
            Ok(zeros)
        };
        let [emotion, au] = labels;
        Ok(PredictionBuffers {
            labels,
            logits: [zeros(emotion)?, zeros(au)?],
            probabilities: [zeros(emotion)?, zeros(au)?],
        })
    }

    /// Where an image's scores of a branch stand.
    fn range(&self, branch: Branch, image: usize) -> Range<usize> {
        let labels = self.labels[branch as usize];
        image * labels..(image + 1) * labels
    }

    /// The logits of an image and branch.
    pub(crate) fn logits(&self, branch: Branch, image: usize) -> &[f32] {
        &self.logits[branch as usize][self.range(branch, image)]
    }

    /// The logits of an image and branch, to be written.
    pub(crate) fn logits_mut(&mut self, branch: Branch, image: usize) -> &mut [f32] {
        let range = self.range(branch, image);
        &mut self.logits[branch as usize][range]
    }

    /// The probabilities of an image and branch, to be written by a backend that computes them itself.
    #[cfg(feature = "cuda")]
    pub(crate) fn probabilities_mut(&mut self, branch: Branch, image: usize) -> &mut [f32] {
        let range = self.range(branch, image);
        &mut self.probabilities[branch as usize][range]
    }

    /// Computes the probabilities of the first `len` images from their logits.
    pub(crate) fn score(&mut self, len: usize) {
        for branch in Branch::BOTH {
            let b = branch as usize;
            let logits = self.logits[b].chunks_exact(self.labels[b]);
            for (logits, out) in logits.zip(self.probabilities[b].chunks_exact_mut(self.labels[b])).take(len)
            {
                match branch {
                    Branch::Emotion => softmax(logits, out),
                    Branch::Au => sigmoid(logits, out),
                }
            }
        }
    }

    /// The first `len` images, whose logits and probabilities are there.
    pub(crate) fn first<'a>(&'a self, heads: &'a Arc<[HeadLabels; 2]>, len: usize) -> Predictions<'a> {
        Predictions { heads, len, buffers: self }
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
///     let emotion = prediction.emotion();
///     println!("{} {:.2}", emotion.label, emotion.probability);
///     for au in prediction.active() {
///         println!("{} {:.2}", au.label, au.probability);
///     }
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Predictions<'a> {
    heads: &'a Arc<[HeadLabels; 2]>,
    len: usize,
    buffers: &'a PredictionBuffers,
}

/// A branch's scores for all images of a run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Scores<'a> {
    /// What each column scores.
    pub labels: &'a [String],
    /// Before softmax or sigmoid, [N, labels].
    pub logits: &'a [f32],
    /// Emotion: a softmax. AU: a sigmoid each. [N, labels]
    pub probabilities: &'a [f32],
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

    /// All scores of a branch.
    pub fn scores(&self, branch: Branch) -> Scores<'a> {
        let b = branch as usize;
        let len = self.len * self.buffers.labels[b];
        Scores {
            labels: &self.heads[b].labels,
            logits: &self.buffers.logits[b][..len],
            probabilities: &self.buffers.probabilities[b][..len],
        }
    }

    /// The logits of a branch, [N, labels].
    #[cfg(feature = "ndarray")]
    pub fn logits_array(&self, branch: Branch) -> ndarray::ArrayView2<'a, f32> {
        self.array(branch, self.scores(branch).logits)
    }

    /// The probabilities of a branch, [N, labels].
    #[cfg(feature = "ndarray")]
    pub fn probabilities_array(&self, branch: Branch) -> ndarray::ArrayView2<'a, f32> {
        self.array(branch, self.scores(branch).probabilities)
    }

    #[cfg(feature = "ndarray")]
    fn array(&self, branch: Branch, scores: &'a [f32]) -> ndarray::ArrayView2<'a, f32> {
        let shape = (self.len, self.buffers.labels[branch as usize]);
        ndarray::ArrayView2::from_shape(shape, scores).expect("as many scores as images have labels")
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
        let buffers = self.buffers;
        let of = |all: &'a [Vec<f32>; 2]| {
            Branch::BOTH.map(|branch| &all[branch as usize][buffers.range(branch, image)])
        };
        Prediction {
            heads: self.heads,
            logits: of(&buffers.logits),
            probabilities: of(&buffers.probabilities),
        }
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
    heads: &'a Arc<[HeadLabels; 2]>,
    logits: [&'a [f32]; 2],
    probabilities: [&'a [f32]; 2],
}

/// The score of one label.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Score<'a> {
    /// The label's place in the model's order.
    pub index: usize,
    /// What is scored.
    pub label: &'a str,
    /// Before softmax or sigmoid.
    pub logit: f32,
    /// Emotion: a softmax. AU: a sigmoid.
    pub probability: f32,
}

impl<'a> Prediction<'a> {
    /// The labels of a branch, in the model's order.
    pub fn labels(&self, branch: Branch) -> &'a [String] {
        &self.heads[branch as usize].labels
    }

    /// The logits of a branch, one a label.
    pub fn logits(&self, branch: Branch) -> &'a [f32] {
        self.logits[branch as usize]
    }

    /// The probabilities of a branch, one a label.
    pub fn probabilities(&self, branch: Branch) -> &'a [f32] {
        self.probabilities[branch as usize]
    }

    /// The scores of a branch, one a label, in the model's order.
    pub fn scores(&self, branch: Branch) -> impl ExactSizeIterator<Item = Score<'a>> + use<'a> {
        let prediction = *self;
        (0..self.logits(branch).len()).map(move |index| prediction.score(branch, index))
    }

    fn score(&self, branch: Branch, index: usize) -> Score<'a> {
        Score {
            index,
            label: &self.labels(branch)[index],
            logit: self.logits(branch)[index],
            probability: self.probabilities(branch)[index],
        }
    }

    /// The emotion with the largest logit; of equal ones the first. A NaN is the largest only where there is nothing
    /// else.
    pub fn emotion(&self) -> Score<'a> {
        let logits = self.logits(Branch::Emotion);
        let largest = (1..logits.len()).fold(0, |best, i| {
            let better = logits[i] > logits[best] || (logits[best].is_nan() && !logits[i].is_nan());
            if better { i } else { best }
        });
        self.score(Branch::Emotion, largest)
    }

    /// The action units whose probability reaches their threshold, in the model's order. A NaN reaches none.
    pub fn active(&self) -> impl Iterator<Item = Score<'a>> + use<'a> {
        let thresholds = &self.heads[Branch::Au as usize].thresholds;
        let scores = self.scores(Branch::Au).zip(thresholds);
        scores.filter(|(score, threshold)| score.probability >= **threshold).map(|(score, _)| score)
    }

    /// A copy that outlives the session's next run.
    pub fn into_owned(self) -> OwnedPrediction {
        OwnedPrediction {
            heads: Arc::clone(self.heads),
            logits: self.logits.map(<[f32]>::to_vec),
            probabilities: self.probabilities.map(<[f32]>::to_vec),
        }
    }
}

/// The scores of one image, borrowed from nobody: it can be kept, and sent to another thread.
#[derive(Clone, Debug)]
pub struct OwnedPrediction {
    heads: Arc<[HeadLabels; 2]>,
    logits: [Vec<f32>; 2],
    probabilities: [Vec<f32>; 2],
}

impl OwnedPrediction {
    /// The scores, to be read.
    pub fn view(&self) -> Prediction<'_> {
        Prediction {
            heads: &self.heads,
            logits: self.logits.each_ref().map(Vec::as_slice),
            probabilities: self.probabilities.each_ref().map(Vec::as_slice),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads of three emotions and two action units, of which the second is active from a half on.
    fn heads() -> Arc<[HeadLabels; 2]> {
        let labels = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect();
        Arc::new([
            HeadLabels { labels: labels(&["neutral", "joy", "fear"]), thresholds: Vec::new() },
            HeadLabels { labels: labels(&["AU1", "AU12"]), thresholds: vec![0.75, 0.5] },
        ])
    }

    /// Calls `read` with a run of one image a row of emotion logits, all with the same AU logits.
    fn with<T>(emotions: &[[f32; 3]], au: [f32; 2], read: impl FnOnce(Predictions<'_>) -> T) -> T {
        let heads = heads();
        let mut buffers = PredictionBuffers::new(&heads, emotions.len() + 1).expect("memory");
        for (image, logits) in emotions.iter().enumerate() {
            buffers.logits_mut(Branch::Emotion, image).copy_from_slice(logits);
            buffers.logits_mut(Branch::Au, image).copy_from_slice(&au);
        }
        buffers.score(emotions.len());
        read(buffers.first(&heads, emotions.len()))
    }

    fn emotion(logits: [f32; 3]) -> usize {
        with(&[logits], [0.0; 2], |predictions| predictions.get(0).expect("an image").emotion().index)
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
            let scores: Vec<Score<'_>> = prediction.scores(Branch::Emotion).collect();
            assert_eq!(scores.iter().map(|s| s.index).collect::<Vec<_>>(), [0, 1, 2]);
            assert_eq!(scores.iter().map(|s| s.label).collect::<Vec<_>>(), ["neutral", "joy", "fear"]);
            assert_eq!(scores.iter().map(|s| s.logit).collect::<Vec<_>>(), [1.0, 3.0, 2.0]);
            assert_eq!(scores[1], prediction.emotion());
            let sum: f32 = scores.iter().map(|s| s.probability).sum();
            assert!((sum - 1.0).abs() < 1e-6, "a softmax sums to {sum}");
            let au: Vec<f32> = prediction.scores(Branch::Au).map(|s| s.probability).collect();
            assert!((au[0] + au[1] - 1.0).abs() < 1e-6, "sigmoids of l and -l: {au:?}");
            let columns = predictions.scores(Branch::Emotion);
            assert_eq!(columns.labels.len(), 3);
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
                images.map(|prediction| prediction.emotion().index).collect()
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
        let label =
            std::thread::spawn(move || copy.view().emotion().label.to_owned()).join().expect("a thread");
        assert_eq!(label, "joy");
        assert_eq!(owned.view().logits(Branch::Au), [3.0, -3.0]);
        assert_eq!(owned.view().active().count(), 1);
    }
}
