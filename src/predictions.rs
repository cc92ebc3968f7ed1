//! What a run gives: logits and probabilities of both heads, and how they are read.

use crate::error::Result;
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
    /// [batch, labels] of each branch.
    logits: [Vec<f32>; 2],
    probabilities: [Vec<f32>; 2],
}

impl PredictionBuffers {
    pub(crate) fn new(heads: [&HeadLabels; 2], batch: usize) -> Result<Self> {
        let zeros = || -> Result<[Vec<f32>; 2]> {
            let [emotion, au] = heads.map(|head| {
                let len = batch.saturating_mul(head.labels.len());
                let mut zeros = Vec::new();
                zeros.try_reserve_exact(len).map_err(|_| {
                    let expected = format!("{} bytes of memory", len.saturating_mul(size_of::<f32>()));
                    crate::Error::new(crate::ErrorKind::Memory, "predictions", expected, "not enough")
                })?;
                zeros.resize(len, 0.0);
                Ok(zeros)
            });
            Ok([emotion?, au?])
        };
        Ok(PredictionBuffers { logits: zeros()?, probabilities: zeros()? })
    }

    /// The logits of one image, to be written.
    pub(crate) fn logits_mut(&mut self, branch: Branch, image: usize, labels: usize) -> &mut [f32] {
        &mut self.logits[branch as usize][image * labels..][..labels]
    }

    /// The probabilities of one image, to be written by a backend that computes them itself.
    #[cfg(feature = "cuda")]
    pub(crate) fn probabilities_mut(&mut self, branch: Branch, image: usize, labels: usize) -> &mut [f32] {
        &mut self.probabilities[branch as usize][image * labels..][..labels]
    }

    /// The first `len` images, whose probabilities are there already.
    #[cfg(feature = "cuda")]
    pub(crate) fn finished<'a>(&'a self, heads: [&'a HeadLabels; 2], len: usize) -> Predictions<'a> {
        Predictions { heads, len, buffers: self }
    }

    /// The logits of an image and branch.
    pub(crate) fn logits(&self, branch: Branch, image: usize, labels: usize) -> &[f32] {
        &self.logits[branch as usize][image * labels..][..labels]
    }

    /// Turns the logits of the first `len` images into probabilities.
    pub(crate) fn finish<'a>(&'a mut self, heads: [&'a HeadLabels; 2], len: usize) -> Predictions<'a> {
        for branch in Branch::BOTH {
            let b = branch as usize;
            let labels = heads[b].labels.len();
            let logits = self.logits[b].chunks_exact(labels);
            for (logits, out) in logits.zip(self.probabilities[b].chunks_exact_mut(labels)).take(len) {
                match branch {
                    Branch::Emotion => softmax(logits, out),
                    Branch::Au => sigmoid(logits, out),
                }
            }
        }
        Predictions { heads, len, buffers: self }
    }
}

/// p_i = exp(l_i - max) / sum over j of exp(l_j - max), in f64
fn softmax(logits: &[f32], out: &mut [f32]) {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp = |l: f32| (f64::from(l) - f64::from(top)).exp();
    let sum: f64 = logits.iter().map(|&l| exp(l)).sum();
    out.iter_mut().zip(logits).for_each(|(p, &l)| *p = (exp(l) / sum) as f32);
}

/// p_i = 1 / (1 + exp(-l_i)), in f64
fn sigmoid(logits: &[f32], out: &mut [f32]) {
    out.iter_mut().zip(logits).for_each(|(p, &l)| *p = (1.0 / (1.0 + (-f64::from(l)).exp())) as f32);
}

/// The scores of one run, borrowed from its session.
#[derive(Clone, Copy, Debug)]
pub struct Predictions<'a> {
    heads: [&'a HeadLabels; 2],
    len: usize,
    buffers: &'a PredictionBuffers,
}

/// A branch's scores for all images of a run.
#[derive(Clone, Copy, Debug)]
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
        let labels = &self.heads[b].labels;
        let len = self.len * labels.len();
        Scores {
            labels,
            logits: &self.buffers.logits[b][..len],
            probabilities: &self.buffers.probabilities[b][..len],
        }
    }

    /// The scores of one image.
    ///
    /// # Panics
    ///
    /// If `image` is not below [`len`](Self::len), as an index into a slice does.
    pub fn get(&self, image: usize) -> Prediction<'a> {
        assert!(image < self.len, "image {image} of {}", self.len);
        Prediction { all: *self, image }
    }

    /// The images one by one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Prediction<'a>> + use<'a> {
        let all = *self;
        (0..self.len).map(move |image| Prediction { all, image })
    }
}

/// The scores of one image.
#[derive(Clone, Copy, Debug)]
pub struct Prediction<'a> {
    all: Predictions<'a>,
    image: usize,
}

impl<'a> Prediction<'a> {
    /// The labels of a branch, in the model's order.
    pub fn labels(&self, branch: Branch) -> &'a [String] {
        &self.all.heads[branch as usize].labels
    }

    /// The probabilities of a branch, one a label.
    pub fn probabilities(&self, branch: Branch) -> &'a [f32] {
        let scores = self.all.scores(branch);
        &scores.probabilities[self.image * scores.labels.len()..][..scores.labels.len()]
    }

    /// The logits of a branch, one a label.
    pub fn logits(&self, branch: Branch) -> &'a [f32] {
        let scores = self.all.scores(branch);
        &scores.logits[self.image * scores.labels.len()..][..scores.labels.len()]
    }

    /// The emotion with the largest logit; of equal ones the first. A NaN is never the largest.
    pub fn emotion(&self) -> &'a str {
        let logits = self.logits(Branch::Emotion);
        let largest = (1..logits.len()).fold(0, |best, i| {
            let better = logits[i] > logits[best] || (logits[best].is_nan() && !logits[i].is_nan());
            if better { i } else { best }
        });
        &self.labels(Branch::Emotion)[largest]
    }

    /// The action units whose probability reaches their threshold.
    pub fn active(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let head = self.all.heads[Branch::Au as usize];
        let probabilities = self.probabilities(Branch::Au);
        let reached = probabilities.iter().zip(&head.thresholds).map(|(p, threshold)| p >= threshold);
        head.labels.iter().zip(reached).filter(|(_, reached)| *reached).map(|(label, _)| label.as_str())
    }
}
