//! `awsnet run`: tensors in, tensors out.

use std::path::PathBuf;

use awsnet::Branch;
use safetensors::{Dtype, SafeTensors};

use crate::common::{Failure, ModelPath, Outcome, RunOptions, shown};
use crate::output;

/// Run a model on tensors from a safetensors file
///
/// The input holds `image`, F32 [N, C, H, W], already normalised: (value/255 - mean) / std. The output gets
/// `emotion.logits`, `emotion.probabilities`, `au.logits` and `au.probabilities`, F32 [N, labels].
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelPath,

    /// The file with the images
    #[arg(long, value_name = "X.safetensors")]
    input: PathBuf,

    /// The file for the scores; replaced if it is there
    #[arg(long, value_name = "Y.safetensors")]
    output: PathBuf,

    /// Images that run together; there may be any number
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,

    #[command(flatten)]
    options: RunOptions,
}

pub fn main(args: &Args) -> Outcome {
    let model = args.model.load()?;
    let shape = model.input().shape;
    let same = |path: &PathBuf| match (path.canonicalize(), args.output.canonicalize()) {
        (Ok(path), Ok(output)) => path == output,
        _ => *path == args.output,
    };
    if same(&args.input) || same(&args.model.path) {
        let place = shown(&args.output);
        return Err(Failure::usage(format!(
            "{place}: expected an output apart from the inputs, found one of them"
        )));
    }
    let images = read_images(args, [shape.channels, shape.height, shape.width])?;
    let count = images.len() / shape.len();

    let batch = args.batch.min(u32::try_from(count).unwrap_or(u32::MAX));
    let engine = args.options.engine(model, batch)?;
    let mut session = engine.session()?;
    output::catch_interrupt();
    let bar = output::progress(count as u64);
    // Logits and probabilities of both branches, as bytes.
    let mut columns: [[Vec<u8>; 2]; 2] = Default::default();
    for chunk in images.chunks(batch as usize * shape.len()) {
        let predictions = session.run(chunk)?;
        for branch in Branch::BOTH {
            let scores = predictions.scores(branch);
            for (column, values) in
                columns[branch as usize].iter_mut().zip([scores.logits, scores.probabilities])
            {
                column.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
        bar.inc((chunk.len() / shape.len()) as u64);
        if output::interrupted() {
            return Err(Failure::interrupted("interrupted: nothing is written"));
        }
    }
    bar.finish_and_clear();

    let mut tensors = Vec::new();
    for branch in Branch::BOTH {
        let labels = engine.plan().labels(branch).len();
        for (kind, bytes) in ["logits", "probabilities"].iter().zip(&columns[branch as usize]) {
            let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![count, labels], bytes)
                .map_err(|e| Failure::failed(format!("{}: {e}", shown(&args.output))))?;
            tensors.push((format!("{}.{kind}", branch.name()), view));
        }
    }
    let bytes = safetensors::serialize(tensors, None)
        .map_err(|e| Failure::failed(format!("{}: {e}", shown(&args.output))))?;
    output::write_file(&args.output, &bytes)
}

/// The images of the input file, checked against the model's input.
fn read_images(args: &Args, shape: [usize; 3]) -> Result<Vec<f32>, Failure> {
    let place = shown(&args.input);
    let failed = |expected: &str, found: String| {
        Failure::failed(format!("{place}: expected {expected}, found {found}"))
    };
    let metadata = std::fs::metadata(&args.input).map_err(|e| failed("a readable file", e.to_string()))?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a directory" } else { "a device, pipe or socket" };
        return Err(failed("a regular file", found.into()));
    }
    let bytes = std::fs::read(&args.input).map_err(|e| failed("a readable file", e.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| failed("a safetensors file", e.to_string()))?;
    let [c, h, w] = shape;
    let expected = format!("a tensor `image`, F32 [N, {c}, {h}, {w}] with N at least 1");
    let image = file.tensor("image").map_err(|_| failed(&expected, "no tensor of this name".into()))?;
    let fits = matches!(image.shape(), &[n, ic, ih, iw] if n > 0 && [ic, ih, iw] == shape);
    if image.dtype() != Dtype::F32 || !fits {
        return Err(failed(&expected, format!("{} {:?}", image.dtype(), image.shape())));
    }
    Ok(image.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}
