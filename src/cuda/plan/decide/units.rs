//! The launches of AWS-Units that no epilogue computes: dense and gate.

use super::super::Operation;
use super::super::constants::Content;
use super::super::select::TiledOp;
use super::super::variants::{Element, pitch};
use super::Decider;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Step;
use crate::graph::node::{ValueId, Work};
use crate::model::AwsUnit;
use crate::tensor::Shape;

impl Decider<'_> {
    /// A dense or gate unit behind `input`, which is u of both branches.
    pub(super) fn unit(
        &mut self,
        step: &Step,
        layer: usize,
        unit: &AwsUnit,
        input: ValueId,
        shape: Shape,
    ) -> Result<ValueId> {
        match unit {
            AwsUnit::Dense(_) => self.dense(step, layer, input, shape),
            AwsUnit::Gate { .. } => {
                self.gate(&self.model.layers[step.last()].name, layer, unit, input, shape)
            }
            // Fused into the operator before them.
            AwsUnit::Layer(_) | AwsUnit::Channel(_) => Ok(input),
        }
    }

    fn dense(&mut self, step: &Step, layer: usize, input: ValueId, shape: Shape) -> Result<ValueId> {
        let (name, c) = (&self.model.layers[step.last()].name, shape.channels);
        let flop = (8 * shape.len() as u64).saturating_mul(c as u64);
        let emit = self.plain(name, Work::AwsUnit(layer), flop);
        let choices = match self.element {
            Element::F32 => None,
            Element::F16 | Element::Bf16 => {
                let choices = self.gemm(TiledOp::AwsUnitDense, shape, 2 * pitch(c))?;
                Some(choices.ok_or_else(|| {
                    let expected = "a GPU with shared memory for a dense AWS-Unit's tile";
                    let found = format!("{} bytes a block", self.gpu.shared_bytes);
                    Error::new(ErrorKind::Device, "cuda", expected, found)
                })?)
            }
        };
        let mut weights = [0; 2];
        for (to, constant) in weights.iter_mut().enumerate() {
            *constant = self.weights(Content::Dense { layer, to }, 2 * c * pitch(c))?;
        }
        let output = self.result(step, shape)?;
        self.push(emit, Operation::AwsUnitDense { weights, choices }, input, Some(output));
        Ok(output)
    }

    fn gate(
        &mut self,
        name: &str,
        layer: usize,
        unit: &AwsUnit,
        input: ValueId,
        shape: Shape,
    ) -> Result<ValueId> {
        let AwsUnit::Gate { gate, squeeze_weight, squeeze_bias, excite_weight, excite_bias } = unit else {
            return Ok(input);
        };
        let part = || Work::GatePart(layer);
        let (c, one) = (shape.channels, Shape::new(shape.channels, 1, 1));
        let means_name = format!("{name} means");
        let means = self.value(&means_name, 1, one, Element::F32, 2 * pitch(c))?;
        let emit = self.plain(&means_name, part(), 2 * shape.len() as u64);
        self.push(emit, Operation::AwsUnitGateMeans, input, Some(means));

        let coefficients_name = format!("{name} coefficients");
        let flop = 2 * (squeeze_weight.len() + excite_weight.len()) as u64;
        let emit = self.plain(&coefficients_name, part(), flop);
        let operation = Operation::AwsUnitGateCoefficients {
            squeeze_weight: self.f32s(Content::SqueezeWeight(layer), squeeze_weight.len() / c * pitch(c))?,
            squeeze_bias: self.f32s(Content::SqueezeBias(layer), squeeze_bias.len())?,
            excite_weight: self.f32s(Content::ExciteWeight(layer), excite_weight.len())?,
            excite_bias: self.f32s(Content::ExciteBias(layer), excite_bias.len())?,
            squeezed: squeeze_bias.len(),
            gate: *gate,
        };
        let coefficients = self.value(&coefficients_name, 1, one, Element::F32, 4 * pitch(c))?;
        self.push(emit, operation, means, Some(coefficients));

        let output = self.map(name, 2, shape)?;
        let emit = self.plain(name, Work::AwsUnit(layer), 8 * shape.len() as u64);
        self.push(emit, Operation::AwsUnitGateMix { coefficients }, input, Some(output));
        Ok(output)
    }
}
