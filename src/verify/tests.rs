//! Faults that the comparison must refuse, seeded into what a layer gives.

use super::*;
use crate::model::init::{Architecture, InitOptions, Random, init};

/// What goes wrong in a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// The first pixel, at the edge, misses the kernel's tap to its right.
    TapDropped,
    ResidualTwice,
    /// A[t][s] in place of A[s][t].
    UnitTransposed,
}

/// The layer of a ResNet that has it all: 3x3 convolution, residual, activation and AWS-Unit.
fn layer() -> Layer {
    let options = InitOptions::new().architecture(Architecture::ResNet18).size(32).seed(3);
    let model = Model::from_bytes(&init(&options).expect("a model file")).expect("a valid model");
    let layer = model.layers().iter().find(|layer| {
        let all = layer.residual().is_some() && matches!(layer.aws(), Some(AwsUnit::Channel(_)));
        all && matches!(layer.op(), Op::Conv2d(conv) if conv.kernel == [3, 3] && conv.stride == [1, 1])
    });
    layer.expect("the end of a residual block").clone()
}

/// Random numbers as an f32 holds them.
fn maps(shape: Shape, seed: u64) -> Maps {
    let mut random = Random::new(seed);
    let mut map = || {
        let data: Vec<f32> = (0..shape.len()).map(|_| random.between(-1.0, 1.0)).collect();
        Map::from_f32(shape, &data)
    };
    vec![map(), map()]
}

/// What the layer gives with a fault in it, rounded to f32.
fn found(layer: &Layer, x: &Maps, residual: &Maps, fault: Fault) -> Maps {
    let of_branch = |branch: usize| {
        let (x, residual) = (&x[branch], &residual[branch]);
        let mut z = reference::operator_map(layer.op(), &[x], layer.weights(branch));
        if fault == Fault::TapDropped {
            let mut hidden = x.clone();
            (0..x.shape.channels).for_each(|channel| hidden.channel_mut(channel)[1] = 0.0);
            let without = reference::operator_map(layer.op(), &[&hidden], layer.weights(branch));
            (0..z.shape.channels).for_each(|channel| z.channel_mut(channel)[0] = without.channel(channel)[0]);
        }
        let times = if fault == Fault::ResidualTwice { 2.0 } else { 1.0 };
        reference::activate_map(layer, branch, &z.zip(residual, |z, r| z + times * r))
    };
    let u: Maps = (0..2).map(of_branch).collect();
    let unit = match layer.aws().expect("an AWS-Unit") {
        AwsUnit::Channel(a) if fault == Fault::UnitTransposed => {
            let (mut transposed, c) = (a.to_vec(), u[0].shape.channels);
            (0..c).for_each(|channel| transposed.swap(c + channel, 2 * c + channel));
            AwsUnit::Channel(transposed.into())
        }
        unit @ (AwsUnit::Layer(_) | AwsUnit::Channel(_) | AwsUnit::Dense(_) | AwsUnit::Gate { .. }) => {
            unit.clone()
        }
    };
    reference::aws_unit(&unit, &u).iter().map(|map| map.map(|v| f64::from(v as f32))).collect()
}

/// The layer with a fault against its bounds, as a backend that stores it so computes it.
fn compared(layer: &Layer, fault: Fault, tile: Option<WinogradTile>, stored: Precision) -> NodeAgreement {
    let (x, residual) = (maps(layer.input_shape(), 1), maps(layer.output_shape(), 2));
    let expected =
        layer_bounds(&[layer], std::slice::from_ref(&x), None, Some(Added::map(residual.clone())), tile);
    let found = found(layer, &x, &residual, fault);
    let name = format!("{fault:?}, {tile:?}, {stored}");
    let mut agreement = NodeAgreement { name, kernel: String::new(), worst: 0.0, error: 0.0, bound: 0.0 };
    for (branch, found) in found.iter().enumerate() {
        agreement.compare(found, &expected, branch, stored);
    }
    agreement
}

#[test]
fn a_seeded_fault_is_refused_and_the_layer_without_one_is_not() {
    let layer = layer();
    for tile in [None, Some(WinogradTile::F2), Some(WinogradTile::F4)] {
        for stored in [Precision::F32, Precision::F16, Precision::BF16] {
            let right = compared(&layer, Fault::None, tile, stored);
            assert!(right.holds() && right.worst > 0.0, "{right:?}");
            for fault in [Fault::TapDropped, Fault::ResidualTwice, Fault::UnitTransposed] {
                let wrong = compared(&layer, fault, tile, stored);
                assert!(!wrong.holds(), "{wrong:?}");
            }
        }
    }
}

#[test]
fn a_value_that_is_no_number_is_refused() {
    let shape = Shape::new(1, 1, 3);
    let expected = Bounded::exact(vec![Map::from_f32(shape, &[0.0; 3]); 2]);
    for found in [[f32::NAN, 0.0, 0.0], [0.0, f32::NAN, 9.0], [9.0, 0.0, f32::NAN]] {
        let mut agreement =
            NodeAgreement { name: String::new(), kernel: String::new(), worst: 0.0, error: 0.0, bound: 0.0 };
        agreement.compare(&Map::from_f32(shape, &found), &expected, 1, Precision::F32);
        assert!(!agreement.holds(), "{found:?}: {agreement:?}");
    }
}
