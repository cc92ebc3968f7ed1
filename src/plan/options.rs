//! How a model is to run: what a caller asks of [`Plan::build`](super::Plan::build).

use super::Tuning;
use crate::device::{Device, Resolved};
use crate::error::Result;
use crate::graph::target::{Conv2dAlgorithm, Precision, Target};

/// How a model is to run: one image at a time, on a GPU where one works, else on the CPU, unless a setter says otherwise.
///
/// ```
/// use awsnet::{Device, PlanOptions};
///
/// let options = PlanOptions::new().device(Device::Cpu).batch(4);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct PlanOptions {
    place: Place,
    pub(crate) precision: Option<Precision>,
    pub(crate) batch: usize,
    pub(crate) keep_values: bool,
    pub(crate) tuning: Tuning,
    pub(crate) conv2d: Conv2dAlgorithm,
}

/// Where to run: what a user asks for, or what somebody has made of it.
#[derive(Clone, Copy, Debug)]
enum Place {
    Device(Device),
    Target(Target),
}

impl Default for PlanOptions {
    fn default() -> Self {
        PlanOptions::new()
    }
}

impl PlanOptions {
    /// One image at a time on [`Device::Auto`].
    pub fn new() -> Self {
        PlanOptions {
            place: Place::Device(Device::Auto),
            precision: None,
            batch: 1,
            keep_values: false,
            tuning: Tuning::default(),
            conv2d: Conv2dAlgorithm::Auto,
        }
    }

    /// Where to run; [`Plan::build`](super::Plan::build) looks for it. Takes the place of a [`target`](Self::target).
    pub fn device(mut self, device: Device) -> Self {
        self.place = Place::Device(device);
        self
    }

    /// The backend, named outright: nothing is looked for, and it need not be there. Takes the place of a
    /// [`device`](Self::device).
    pub fn target(mut self, target: Target) -> Self {
        self.place = Place::Target(target);
        self
    }

    /// The type of the feature maps; `None`, the default, takes the backend's own: f32 on a CPU, f16 on a GPU.
    pub fn precision(mut self, precision: impl Into<Option<Precision>>) -> Self {
        self.precision = precision.into();
        self
    }

    /// The most images that one run takes, 1 by default. Plans of different batch may use different algorithms, and
    /// differ in the last bits; a plan gives an image the same bits with any other images.
    pub fn batch(mut self, images: usize) -> Self {
        self.batch = images;
        self
    }

    /// Keeps every node's output until the run ends, for [`Session::value`](crate::Session::value).
    pub fn keep_values(mut self, keep: bool) -> Self {
        self.keep_values = keep;
        self
    }

    /// For a GPU: measured tiles, which take the place of the plan's own choices.
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }

    /// How the CPU backend computes convolutions that it can compute in several ways.
    pub fn conv2d(mut self, algorithm: Conv2dAlgorithm) -> Self {
        self.conv2d = algorithm;
        self
    }

    /// What to plan for on this machine.
    pub(crate) fn resolve(&self) -> Result<Resolved> {
        match self.place {
            Place::Device(device) => device.resolve(),
            Place::Target(target) => Ok(Resolved { target, note: None }),
        }
    }
}
