//! What an ONNX graph computes, as operations on maps of one image: one step finer than a model file's layers.
//!
//! `lower` makes it, `layers` joins operations to layers.

use super::array::{elements, fault};
use super::evaluate::Window;
use super::pointwise::{Activation, Part};
use crate::error::Result;

/// The place of an operation in its network.
pub(super) type Id = usize;

/// A weight, row-major, and what is added to each output channel.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    pub dims: Vec<usize>,
    pub weight: Vec<f32>,
    pub bias: Option<Vec<f32>>,
}

/// What an operation computes from its inputs.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Image,
    /// Weights [out, in / groups, h, w].
    Conv2d {
        window: Window,
        groups: usize,
        weights: Weights,
    },
    /// Weights [out, in], of the input flattened in (C, H, W) order.
    Linear(Weights),
    MaxPool2d(Window),
    AvgPool2d {
        window: Window,
        count_include_pad: bool,
    },
    GlobalAvgPool2d,
    /// The nearest element, [h, w] times.
    Upsample2d([usize; 2]),
    /// Channels one after another.
    Concat,
    /// A factor and a term a channel.
    Affine {
        factor: Vec<f64>,
        term: Vec<f64>,
    },
    Activation(Activation),
    Prelu(Vec<f32>),
    /// A product of two maps, of which the second may have one number a channel.
    Scale,
    /// A sum of two maps.
    Add,
}

/// An operation, and the map that it gives.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub kind: Kind,
    pub inputs: Vec<Id>,
    /// [C, H, W]
    pub shape: [usize; 3],
    /// Whether no element is below 0, whatever the image.
    pub is_non_negative: bool,
    /// A name that is the exporter's, for the layer.
    pub name: String,
    /// The node that it comes from, for errors.
    pub place: String,
}

/// Operations in order; each reads earlier ones. The first is the image.
pub(super) struct Network {
    pub operations: Vec<Operation>,
}

impl Network {
    /// A network of an image alone.
    pub fn new(image: [usize; 3]) -> Self {
        let image = Operation {
            kind: Kind::Image,
            inputs: Vec::new(),
            shape: image,
            is_non_negative: false,
            name: "image".to_owned(),
            place: "input".to_owned(),
        };
        Network { operations: vec![image] }
    }

    pub fn shape(&self, id: Id) -> [usize; 3] {
        self.operations[id].shape
    }

    pub fn is_non_negative(&self, id: Id) -> bool {
        self.operations[id].is_non_negative
    }

    /// Adds an operation whose inputs fit it.
    pub fn add(&mut self, kind: Kind, inputs: Vec<Id>, name: &str, place: &str) -> Result<Id> {
        let [channels, height, width] = self.shape(inputs[0]);
        let windows = |window: &Window| -> Result<[usize; 2]> {
            Ok([window.count(0, height)?, window.count(1, width)?])
        };
        let shape = match &kind {
            Kind::Conv2d { window, weights, .. } => {
                let [height, width] = windows(window)?;
                [weights.dims[0], height, width]
            }
            Kind::Linear(weights) => [weights.dims[0], 1, 1],
            Kind::MaxPool2d(window) | Kind::AvgPool2d { window, .. } => {
                for (pads, kernel) in window.pads.iter().zip(window.kernel) {
                    if pads.iter().any(|&pad| pad >= kernel) {
                        return Err(fault("pads smaller than the window", format!("{pads:?} for {kernel}")));
                    }
                }
                let [height, width] = windows(window)?;
                [channels, height, width]
            }
            Kind::GlobalAvgPool2d => [channels, 1, 1],
            Kind::Upsample2d([h, w]) => [channels, height * h, width * w],
            Kind::Concat => [inputs.iter().map(|&id| self.shape(id)[0]).sum(), height, width],
            Kind::Image
            | Kind::Affine { .. }
            | Kind::Activation(_)
            | Kind::Prelu(_)
            | Kind::Scale
            | Kind::Add => [channels, height, width],
        };
        elements(&shape)?;
        let all = || inputs.iter().all(|&id| self.is_non_negative(id));
        let is_non_negative = match &kind {
            Kind::Activation(activation) => activation.is_non_negative(),
            Kind::MaxPool2d(_)
            | Kind::AvgPool2d { .. }
            | Kind::GlobalAvgPool2d
            | Kind::Upsample2d(_)
            | Kind::Concat
            | Kind::Scale
            | Kind::Add => all(),
            Kind::Image | Kind::Conv2d { .. } | Kind::Linear(_) | Kind::Affine { .. } | Kind::Prelu(_) => {
                false
            }
        };
        let (name, place) = (name.to_owned(), place.to_owned());
        self.operations.push(Operation { kind, inputs, shape, is_non_negative, name, place });
        Ok(self.operations.len() - 1)
    }

    /// Adds what a part of a function is.
    pub fn add_part(&mut self, part: Part, input: Id, name: &str, place: &str) -> Result<Id> {
        let channels = self.shape(input)[0];
        let all = |values: Vec<f64>| if values.len() == 1 { vec![values[0]; channels] } else { values };
        let kind = match part {
            Part::Affine { factor, term } => Kind::Affine { factor: all(factor), term: all(term) },
            Part::Activation(activation) => Kind::Activation(activation),
            Part::Prelu(slope) => Kind::Prelu(slope),
        };
        self.add(kind, vec![input], name, place)
    }

    /// Whether `output` depends on each operation.
    pub fn is_read(&self, output: Id) -> Vec<bool> {
        let mut read = vec![false; self.operations.len()];
        read[output] = true;
        for id in (0..self.operations.len()).rev().filter(|&id| id <= output) {
            if read[id] {
                for &input in &self.operations[id].inputs {
                    read[input] = true;
                }
            }
        }
        read
    }

    /// How often each operation is read by those that `read` says are, and `output` once more.
    pub fn readers(&self, output: Id, read: &[bool]) -> Vec<usize> {
        let mut readers = vec![0; self.operations.len()];
        readers[output] = 1;
        let operations = self.operations.iter().zip(read).filter(|(_, read)| **read);
        for &input in operations.flat_map(|(operation, _)| &operation.inputs) {
            readers[input] += 1;
        }
        readers
    }
}
