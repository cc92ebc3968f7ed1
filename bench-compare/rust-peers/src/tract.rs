//! The ONNX graph in tract, optimised for the shape of the images.

use std::path::Path;

use anyhow::Result;
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

use crate::{Images, Network, OUTPUTS};

pub fn load(graph: &Path, shape: [usize; 4], threads: usize) -> Result<Network> {
    if threads > 1 {
        set_default_executor(Executor::multithread(threads));
    }
    let model = tract_onnx::onnx()
        .model_for_path(graph)?
        .with_input_fact(0, f32::fact(shape).into())?
        .into_optimized()?
        .into_runnable()?;
    Ok(Box::new(move |images: &Images| {
        let image = Tensor::from_shape(&images.shape, &images.data)?;
        let outputs = model.run(tvec!(image.into()))?;
        // The graph's outputs are in the order of `OUTPUTS`.
        let mut values = OUTPUTS.map(|_| Vec::new());
        for (to, output) in values.iter_mut().zip(outputs.iter()) {
            to.extend(output.to_plain_array_view::<f32>()?.iter().copied());
        }
        Ok(values)
    }))
}
