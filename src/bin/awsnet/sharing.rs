//! How much the two tasks borrow from one another.

use awsnet::model::{AwsUnit, Gate, Layer};

use crate::failure::Failure;

/// The shares borrowed at one AWS-Unit.
pub struct UnitShare {
    /// The layer behind which the unit stands.
    pub layer: String,
    /// The unit's kind as in the manifest.
    pub kind: &'static str,
    /// For each direction, one share a channel, |A[t][s]| / (|A[t][t]| + |A[t][s]|), from 0 to 1:
    /// what emotion borrows from au, then what au borrows from emotion. NaN where both weights are 0.
    pub borrowed: [Vec<f32>; 2],
    /// A gate: its weights are computed for every image, and the shares are those at g = 0.
    pub depends_on_image: bool,
}

impl UnitShare {
    /// The shares of a layer's unit, if it has one.
    ///
    /// A dense unit's |A| is averaged over all of its entries for an output channel. Errors: a unit that this command does
    /// not know.
    pub fn of(layer: &Layer) -> Result<Option<Self>, Failure> {
        let Some(unit) = layer.aws() else { return Ok(None) };
        let unknown = || {
            let (layer, kind) = (layer.name(), unit.kind().name());
            let known = "a layer, channel, dense or gate unit";
            Failure::failed(format!("layer `{layer}`: expected {known}, found one of kind {kind}"))
        };
        // |A[t][s]| of an output channel
        let magnitude: Box<dyn Fn(usize, usize, usize) -> f32> = match unit {
            AwsUnit::Layer(a) => Box::new(|t, s, _| a[t * 2 + s].abs()),
            AwsUnit::Channel(a) => {
                let c = a.len() / 4;
                Box::new(move |t, s, i| a[(t * 2 + s) * c + i].abs())
            }
            AwsUnit::Dense(a) => {
                let c = layer.output_shape().channels;
                Box::new(move |t, s, o| {
                    let row = &a[((t * 2 + s) * c + o) * c..][..c];
                    row.iter().map(|v| v.abs()).sum::<f32>() / c as f32
                })
            }
            AwsUnit::Gate { gate, excite_bias, .. } => {
                let c = excite_bias.len() / 4;
                let logit = move |t: usize, s: usize, i: usize| excite_bias[(t * 2 + s) * c + i];
                let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
                match gate {
                    Gate::Softmax => Box::new(move |t, s, i| sigmoid(logit(t, s, i) - logit(t, 1 - s, i))),
                    Gate::Sigmoid => Box::new(move |t, s, i| sigmoid(logit(t, s, i))),
                    _ => return Err(unknown()),
                }
            }
            _ => return Err(unknown()),
        };
        let channels = match unit {
            AwsUnit::Layer(_) => 1,
            _ => layer.output_shape().channels,
        };
        let share = |t: usize, i: usize| {
            let (own, borrowed) = (magnitude(t, t, i), magnitude(t, 1 - t, i));
            borrowed / (own + borrowed)
        };
        Ok(Some(UnitShare {
            layer: layer.name().to_owned(),
            kind: unit.kind().name(),
            borrowed: [0, 1].map(|t| (0..channels).map(|i| share(t, i)).collect()),
            depends_on_image: matches!(unit, AwsUnit::Gate { .. }),
        }))
    }

    /// The mean over the channels that have a share; NaN where none has.
    pub fn mean(&self, to: usize) -> f32 {
        let shares = self.borrowed[to].iter().copied().filter(|share| !share.is_nan());
        let (sum, count) = shares.fold((0.0, 0), |(sum, count), share| (sum + share, count + 1));
        sum / count as f32
    }
}
