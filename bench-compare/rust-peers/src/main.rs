//! tract and candle as peers of `bench-compare`: one network in one process, and one line of JSON.
//!
//! ```text
//! awsnet-rust-peers tract|candle --model M --graph G --input X --output Y --threads N --runs R
//! ```
//!
//! The arguments and the line are those of `peers.py`. tract reads the ONNX graph; candle, which has no reader of
//! ONNX that would run at full speed, gets its own operators called in the order of the model file.

mod candle;
mod tract;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// The outputs of a network, in this order.
pub const OUTPUTS: [&str; 4] = ["emotion.logits", "emotion.probabilities", "au.logits", "au.probabilities"];

/// Images, [N, C, H, W].
pub struct Images {
    pub shape: [usize; 4],
    pub data: Vec<f32>,
}

/// A network that is ready to run: from images to the values of [`OUTPUTS`].
pub type Network = Box<dyn FnMut(&Images) -> Result<[Vec<f32>; 4]>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let peer = arguments.next().context("expected a peer: tract or candle")?;
    let mut options = HashMap::new();
    while let Some(name) = arguments.next() {
        options.insert(name.clone(), arguments.next().with_context(|| format!("{name} has no value"))?);
    }
    let option = |name: &str| options.get(name).with_context(|| format!("{name} is missing"));
    let images = read_images(&option("--input")?.into())?;
    let threads: usize = option("--threads")?.parse()?;
    let runs: usize = option("--runs")?.parse()?;
    let import_mib = peak_mib()?;

    let started = Instant::now();
    let mut network = match peer.as_str() {
        "tract" => tract::load(option("--graph")?.as_ref(), images.shape, threads)?,
        "candle" => candle::load(option("--model")?.as_ref())?,
        other => bail!("expected tract or candle, found {other}"),
    };
    let outputs = network(&images)?;
    let start_ms = started.elapsed().as_secs_f64() * 1e3;
    write_outputs(&option("--output")?.into(), &outputs, images.shape[0])?;

    let started = Instant::now();
    let mut warm_up = 0;
    while warm_up < 3 || (started.elapsed() < Duration::from_millis(300) && warm_up < 1000) {
        network(&images)?;
        warm_up += 1;
    }
    let mut times_ms = Vec::with_capacity(runs);
    for _ in 0..runs {
        let started = Instant::now();
        network(&images)?;
        times_ms.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times_ms.sort_by(f64::total_cmp);
    let median_ms = times_ms.get(times_ms.len() / 2);
    println!(
        "{}",
        serde_json::json!({"start_ms": start_ms, "median_ms": median_ms, "import_mib": import_mib})
    );
    Ok(())
}

/// The most memory that this process has had.
fn peak_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn read_images(path: &PathBuf) -> Result<Images> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let file = SafeTensors::deserialize(&bytes)?;
    let tensor = file.tensor("image")?;
    let data = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(Images { shape: tensor.shape().try_into()?, data })
}

fn write_outputs(path: &PathBuf, outputs: &[Vec<f32>; 4], count: usize) -> Result<()> {
    let bytes = outputs.each_ref().map(|v| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    let mut views = Vec::new();
    for ((name, values), bytes) in OUTPUTS.into_iter().zip(outputs).zip(&bytes) {
        views.push((name, TensorView::new(Dtype::F32, vec![count, values.len() / count], bytes)?));
    }
    Ok(safetensors::serialize_to_file(views, None, path)?)
}
