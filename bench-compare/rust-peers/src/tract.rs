//! The ONNX graph in tract, optimised for the shape of the images.

use std::path::Path;

use anyhow::{Context, Result};
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

use crate::{Images, Network, OUTPUTS};

pub fn load(graph: &Path, shape: [usize; 4], threads: usize) -> Result<Network> {
    if threads > 1 {
        set_default_executor(Executor::multithread(threads));
    }
    let model = tract_onnx::onnx()
        .model_for_path(graph)?
        .with_output_names(OUTPUTS)?
        .with_input_fact(0, f32::fact(shape).into())?
        .into_optimized()?
        .into_runnable()?;
    Ok(Box::new(move |images: &Images| {
        let image = tract_onnx::prelude::Tensor::from_shape(&images.shape, &images.data)?;
        let outputs = model.run(tvec!(image.into()))?;
        let mut values = OUTPUTS.map(|_| Vec::new());
        for (to, name) in values.iter_mut().zip(OUTPUTS) {
            let index = OUTPUTS.iter().position(|&other| other == name).context("an output")?;
            to.extend(outputs[index].to_array_view::<f32>()?.iter().copied());
        }
        Ok(values)
    }))
}
