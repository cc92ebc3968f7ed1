//! The model file against the graphs it is made of: both run on one random image.

use super::Source;
use super::array::{Array, fault};
use super::evaluate::{run, transpose};
use crate::device::Device;
use crate::engine::{Engine, EngineOptions};
use crate::error::Result;
use crate::model::Model;
use crate::model::init::Random;
use crate::plan::{Conv2dAlgorithm, Plan, PlanOptions};

/// The largest difference of two logits that rounding makes, in parts of the largest logit.
const TOLERANCE: f64 = 2e-4;

/// The largest difference between the logits of the model file and those of the graphs.
pub(super) fn check(bytes: &[u8], sources: &mut [Source]) -> Result<f64> {
    let model = Model::from_bytes(bytes)?;
    let options = PlanOptions::new().device(Device::Cpu).conv2d(Conv2dAlgorithm::Direct);
    let engine = Engine::new(Plan::build(model, &options)?, &EngineOptions::new())?;
    let mut session = engine.session()?;
    let [channels, height, width] = sources[0].image;
    let mut random = Random::new(1);
    let normalised: Vec<f32> = (0..channels * height * width).map(|_| random.normal()).collect();
    let predictions = session.run(&normalised)?;

    let mut worst: f64 = 0.0;
    for (source, scores) in sources.iter_mut().zip(predictions.heads()) {
        let found = scores.logits;
        // What the graph makes into the image that its network reads.
        let mut raw = normalised.clone();
        if let Some([factor, term]) = &source.branch.normalisation {
            for (channel, plane) in raw.chunks_exact_mut(height * width).enumerate() {
                plane
                    .iter_mut()
                    .for_each(|v| *v = ((f64::from(*v) - term[channel]) / factor[channel]) as f32);
            }
        }
        let mut raw = Array::floats(vec![1, channels, height, width], raw);
        if source.channels_last {
            raw = transpose(&raw, &[0, 2, 3, 1]);
        }
        source.graph.end_at_logits(source.strips_sigmoid);
        let expected = run(&source.graph, raw)?;
        let expected = expected.as_floats()?;
        let largest = expected.iter().fold(0.0, |most: f64, &v| most.max(f64::from(v).abs()));
        if expected.len() != found.len() || !largest.is_finite() {
            return Err(fault("finite scores, as many as the model's", format!("{} scores", expected.len())));
        }
        for (row, (&expected, &found)) in expected.iter().zip(found).enumerate() {
            let difference = (f64::from(expected) - f64::from(found)).abs() / largest.max(f64::MIN_POSITIVE);
            if difference.is_nan() || difference > TOLERANCE {
                return Err(fault(
                    format!("the graph's score {row} on a random image, {expected}"),
                    format!("{found} from the model made of it, which is not written"),
                )
                .at("check".to_owned()));
            }
            worst = worst.max(difference);
        }
    }
    Ok(worst)
}
