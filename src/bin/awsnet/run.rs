//! `awsnet run`: tensors in, tensors out.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use awsnet::Shape;
use awsnet::file::open_regular;
use awsnet::model::HeadKind;
use safetensors::tensor::{Dtype, Metadata, SafeTensorError, TensorView};

use crate::failure::{Failure, Outcome, not_finite, one_line, shown};
use crate::options::{ModelPath, RunOptions};
use crate::output::{self, OutputFile};

/// Run a model on tensors from a safetensors file
///
/// The input holds `image`, F32 [N, C, H, W], already normalised: (value/255 - mean) / std. The output gets `HEAD.logits` and
/// `HEAD.probabilities`, F32 [N, labels], of every head: emotion and au, say. Heads of values have no probabilities.
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
    let output = OutputFile::create(&args.output, &[&args.input, &args.model.path])?;
    let mut images = ImageTensor::open(&args.input, model.input().shape)?;
    let model_heads: Vec<(String, HeadKind, usize)> =
        model.heads().iter().map(|head| (head.name().to_owned(), head.kind(), head.len())).collect();
    let batch = args.batch.min(u32::try_from(images.count).unwrap_or(u32::MAX));
    let engine = args.options.engine(model, batch)?;
    let precision = engine.plan().precision();
    let mut session = engine.session()?;
    let mut first_problem: Option<String> = None;
    output::catch_interrupt();

    let bar = output::progress(images.count as u64, false);
    // Logits and probabilities of each head, as bytes.
    let mut columns: Vec<[Vec<u8>; 2]> = model_heads.iter().map(|_| Default::default()).collect();
    let mut chunk = Vec::new();
    let mut done = 0;
    while done < images.count {
        let count = (images.count - done).min(batch as usize);
        images.read(count, &mut chunk)?;
        let predictions = session.run(&chunk)?;
        for (image, prediction) in predictions.iter().enumerate() {
            let problem = || not_finite(&prediction, precision);
            first_problem = first_problem.or_else(|| Some(format!("image {}: {}", done + image, problem()?)));
        }
        for (columns, scores) in columns.iter_mut().zip(predictions.heads()) {
            for (column, values) in columns.iter_mut().zip([scores.logits, scores.probabilities]) {
                column.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
        done += count;
        bar.inc(count as u64);
        if output::interrupted() {
            return Err(Failure::interrupted("interrupted: nothing is written"));
        }
    }
    bar.finish_and_clear();

    let failed = |e: SafeTensorError| Failure::failed(format!("{}: {e}", shown(&args.output)));
    let mut tensors = Vec::new();
    for ((name, kind, len), columns) in model_heads.iter().zip(&columns) {
        let named = ["logits", "probabilities"].iter().zip(columns);
        for (what, bytes) in named.take(if *kind == HeadKind::Values { 1 } else { 2 }) {
            let view = TensorView::new(Dtype::F32, vec![done, *len], bytes).map_err(failed)?;
            tensors.push((format!("{name}.{what}"), view));
        }
    }
    output.write(&safetensors::serialize(tensors, None).map_err(failed)?)?;
    match first_problem {
        Some(problem) => Err(Failure::failed(format!("{}: {problem}; all is written", shown(&args.input)))),
        None => Ok(()),
    }
}

/// The tensor `image` of a safetensors file, read a batch at a time, so that it may be larger than memory.
struct ImageTensor<'a> {
    path: &'a Path,
    /// Stands at the first image not yet read.
    reader: BufReader<File>,
    /// N
    count: usize,
    image_len: usize,
}

fn wrong(path: &Path, expected: &str, found: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("{}: expected {expected}, found {}", shown(path), one_line(&found.to_string())))
}

impl<'a> ImageTensor<'a> {
    /// Checks the whole header, and the tensor against the model's input.
    fn open(path: &'a Path, input: Shape) -> Result<Self, Failure> {
        const READABLE: &str = "a readable file";
        const SAFETENSORS: &str = "a safetensors file";
        const MAX_HEADER_BYTES: u64 = 16 << 20; // as of models
        let (file, len) = open_regular(path)?;
        let mut reader = BufReader::new(file);
        let mut length = [0; 8];
        reader.read_exact(&mut length).map_err(|_| wrong(path, SAFETENSORS, "less than 8 bytes"))?;
        let header_len = u64::from_le_bytes(length);
        if header_len > MAX_HEADER_BYTES.min(len.saturating_sub(8)) {
            return Err(wrong(path, SAFETENSORS, format!("a header of {header_len} bytes")));
        }
        let mut header = vec![0; header_len as usize];
        reader.read_exact(&mut header).map_err(|e| wrong(path, READABLE, e))?;

        let header: Metadata = serde_json::from_slice(&header).map_err(|e| wrong(path, SAFETENSORS, e))?;
        // Reading the JSON does not compare sizes and places; making a header does.
        let entries = header
            .offset_keys()
            .into_iter()
            .filter_map(|name| Some((name.clone(), header.info(&name)?.clone())));
        let header = Metadata::new(None, entries.collect()).map_err(|e| wrong(path, SAFETENSORS, e))?;
        let data_start = 8 + header_len;
        let file_len = (header.data_len() as u64).saturating_add(data_start);
        if file_len != len {
            return Err(wrong(path, &format!("{file_len} bytes"), len));
        }

        let expected_shape = [input.channels, input.height, input.width];
        let expected = format!(
            "a tensor `image`, F32 [N, {}, {}, {}] with N at least 1",
            input.channels, input.height, input.width
        );
        let image = header.info("image").ok_or_else(|| wrong(path, &expected, "no tensor of this name"))?;
        let count = match image.shape[..] {
            [n, c, h, w] if n > 0 && [c, h, w] == expected_shape && image.dtype == Dtype::F32 => n,
            _ => return Err(wrong(path, &expected, format!("{} {:?}", image.dtype, image.shape))),
        };
        let begin = data_start + image.data_offsets.0 as u64;
        reader.seek(SeekFrom::Start(begin)).map_err(|e| wrong(path, READABLE, e))?;
        Ok(ImageTensor { path, reader, count, image_len: input.len() })
    }

    /// The next `count` images.
    fn read(&mut self, count: usize, images: &mut Vec<f32>) -> Result<(), Failure> {
        images.clear();
        images.resize(count * self.image_len, 0.0);
        let bytes = bytemuck::cast_slice_mut(images);
        self.reader
            .read_exact(bytes)
            .map_err(|e| wrong(self.path, "a file that keeps its length while it is read", e))?;
        if cfg!(target_endian = "big") {
            images.iter_mut().for_each(|value| *value = f32::from_bits(value.to_bits().swap_bytes()));
        }
        Ok(())
    }
}
