//! Model files from ONNX files: one network, or two of one shape that become the branches of a model.
//!
//! ```text
//! file --graph--> nodes, constants --lower--> operations on maps --layers--> layers --file--> model file
//!                        \------------------------- evaluate ------------------------------> check
//! ```
//!
//! What exporters write differently for one network comes to the same layers: transposes are followed through arrays of
//! indices ([`view`]), activations are known by what they compute ([`pointwise`]), a batch norm goes into the weights before it
//! ([`layers`]). What a model file cannot hold is an error that names the node, its operator and why.
//!
//! In the end the graph is run as it stands on a random image, in naive loops, and compared with the CPU backend's run of the
//! model file: what differs is not handed out.
//!
//! ```no_run
//! use awsnet::onnx::{ImportOptions, import};
//!
//! let options = ImportOptions::new().mean(&[0.485, 0.456, 0.406]).std(&[0.229, 0.224, 0.225]);
//! let imported = import(&["emotion.onnx", "au.onnx"], &options)?;
//! std::fs::write("model.safetensors", imported.bytes()).expect("a file");
//! # Ok::<(), awsnet::Error>(())
//! ```

mod array;
mod check;
mod evaluate;
mod file;
mod graph;
mod layers;
mod lower;
mod network;
mod pair;
mod pointwise;
mod view;
mod wire;

use std::path::Path;

use crate::error::{Error, ErrorKind, Result, quoted};
use crate::model::{ChannelOrder, HeadKind};
use array::fault;
use file::{HeadChoice, Normalisation};
use graph::Graph;
use layers::Branch;
use pointwise::{Activation, Function};

/// What an ONNX file does not say of its network.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct ImportOptions {
    name: Option<String>,
    names: [String; 2],
    size: Option<[usize; 2]>,
    mean: Option<Vec<f32>>,
    std: Option<Vec<f32>>,
    order: ChannelOrder,
    kinds: [Option<HeadKind>; 2],
    labels: [Option<Vec<String>>; 2],
    thresholds: [Option<Vec<f32>>; 2],
    check: bool,
}

impl Default for ImportOptions {
    fn default() -> Self {
        ImportOptions::new()
    }
}

impl ImportOptions {
    /// The branches `emotion` and `au`; everything else as the files say, or unsaid.
    pub fn new() -> Self {
        ImportOptions {
            name: None,
            names: ["emotion".to_owned(), "au".to_owned()],
            size: None,
            mean: None,
            std: None,
            order: ChannelOrder::Rgb,
            kinds: [None; 2],
            labels: [None, None],
            thresholds: [None, None],
            check: true,
        }
    }

    /// The model's name: by default that of the first file.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The names of the branches, which are their heads' too.
    pub fn branches(mut self, names: [&str; 2]) -> Self {
        self.names = names.map(str::to_owned);
        self
    }

    /// Height and width of the image, where a file leaves them open.
    pub fn size(mut self, height: usize, width: usize) -> Self {
        self.size = Some([height, width]);
        self
    }

    /// What was subtracted from pixels from 0 to 1 before the network saw them: one number, or one a channel in the order of
    /// the network's channels.
    pub fn mean(mut self, mean: &[f32]) -> Self {
        self.mean = Some(mean.to_vec());
        self
    }

    /// What they were divided by then.
    pub fn std(mut self, std: &[f32]) -> Self {
        self.std = Some(std.to_vec());
        self
    }

    /// The order of the channels that the network reads.
    pub fn order(mut self, order: ChannelOrder) -> Self {
        self.order = order;
        self
    }

    /// What the scores of file `index` are, 0 or 1. By default a last sigmoid makes units and a last softmax classes; without
    /// either the first file's are classes and the second's units.
    pub fn kind(mut self, index: usize, kind: HeadKind) -> Self {
        self.kinds[index] = Some(kind);
        self
    }

    /// The labels of file `index`, in the order of its scores: by default `class0` and so on, or `unit0`.
    pub fn labels(mut self, index: usize, labels: Vec<String>) -> Self {
        self.labels[index] = Some(labels);
        self
    }

    /// From which probability on each unit of file `index` is active: one for all, or one each.
    pub fn thresholds(mut self, index: usize, thresholds: Vec<f32>) -> Self {
        self.thresholds[index] = Some(thresholds);
        self
    }

    /// Whether the model file is compared with the graphs, run on a random image: it is, unless this says otherwise.
    pub fn check(mut self, check: bool) -> Self {
        self.check = check;
        self
    }
}

/// A model file made of ONNX files.
#[derive(Clone, Debug)]
pub struct Imported {
    bytes: Vec<u8>,
    notes: Vec<String>,
    error: Option<f64>,
}

impl Imported {
    /// The model file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was taken for granted, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The largest difference between the model's logits and the graphs', in parts of the largest logit; `None` where they
    /// were not compared.
    pub fn error(&self) -> Option<f64> {
        self.error
    }
}

/// A file on its way.
struct Source {
    graph: Graph,
    image: [usize; 3],
    channels_last: bool,
    branch: Branch,
    head: HeadChoice,
    /// Whether the graph's last sigmoid is the head's.
    strips_sigmoid: bool,
}

/// Makes a model file of one network, or of two of one shape.
///
/// Errors: a file that cannot be read or is no ONNX file; a node that no model file can hold; two networks that differ in
/// shape; options that do not fit; a model whose logits differ from the graphs'.
pub fn import(files: &[impl AsRef<Path>], options: &ImportOptions) -> Result<Imported> {
    if files.is_empty() || files.len() > 2 {
        return Err(Error::new(ErrorKind::Input, "files", "one or two", files.len().to_string()));
    }
    let mut sources = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let path = file.as_ref();
        sources.push(read(path, index, options).map_err(|e| e.in_file(path))?);
    }
    let image = sources[0].image;
    if let Some(other) = sources.iter().find(|source| source.image != image) {
        let found = format!("{:?} in the second", other.image);
        return Err(fault(format!("two images of one shape, {image:?} as in the first file"), found));
    }
    pair::make_alike(&mut sources, &options.names)?;

    let mut notes = Vec::new();
    let of_graph = sources[0].branch.normalisation.as_ref();
    let normalisation =
        normalisation(of_graph, sources[0].graph.input_is_bytes, image[0], options, &mut notes)?;
    let stem = files[0].as_ref().file_stem().unwrap_or_default().to_string_lossy();
    let title = options.name.as_deref().unwrap_or(&stem);
    let bytes = file::write(&sources, &normalisation, options, title)?;
    let error = if options.check { Some(check::check(&bytes, &mut sources)?) } else { None };
    Ok(Imported { bytes, notes, error })
}

/// One file as a branch.
fn read(path: &Path, index: usize, options: &ImportOptions) -> Result<Source> {
    let graph = Graph::load(path)?;
    let (image, channels_last) = image_shape(&graph, options.size)?;
    let mut lowered = lower::lower(&graph, image, channels_last)?;
    let (kind, function, strips_sigmoid) = head_kind(&lowered, options.kinds[index], index)?;
    let output = lowered.finish(&function)?;
    if kind != HeadKind::Values
        && matches!(
            lowered.network.operations[output].kind,
            network::Kind::Activation(Activation::HardSigmoid | Activation::Tanh)
        )
    {
        let expected = format!(
            "logits of {}, or a softmax or sigmoid of them (--kind values takes numbers as they are)",
            kind.name()
        );
        return Err(fault(expected, "another activation at the end").at("output".to_owned()));
    }
    let branch = layers::layers(lowered.network, output).map_err(|e| e.at("output".to_owned()))?;
    let head = HeadChoice {
        kind,
        labels: options.labels[index].clone(),
        thresholds: options.thresholds[index].clone(),
    };
    Ok(Source { graph, image, channels_last, branch, head, strips_sigmoid })
}

/// The image's [c, h, w], and whether the graph reads it with the channels last.
fn image_shape(graph: &Graph, size: Option<[usize; 2]>) -> Result<([usize; 3], bool)> {
    let place = || format!("input {}", quoted(&graph.input));
    let is_colour = |dim: Option<usize>| matches!(dim, Some(1 | 3));
    let [_, a, b, c] = graph.input_dims;
    let (channels, sides, channels_last) = match (is_colour(a), is_colour(c)) {
        (true, _) => (a, [b, c], false),
        (false, true) => (c, [a, b], true),
        _ => {
            let shown = |dim: Option<usize>| dim.map_or("?".to_owned(), |dim| dim.to_string());
            let found = format!("[?, {}, {}, {}]", shown(a), shown(b), shown(c));
            return Err(fault("an image of 1 or 3 channels", found).at(place()));
        }
    };
    let mut image = [channels.unwrap_or(3), 0, 0];
    for (axis, (stated, wanted)) in
        sides.into_iter().zip(size.map_or([None; 2], |size| size.map(Some))).enumerate()
    {
        image[1 + axis] = match (stated, wanted) {
            (Some(stated), Some(wanted)) if stated != wanted => {
                return Err(
                    fault(format!("the file's size, {stated}"), format!("{wanted} (--size)")).at(place())
                );
            }
            (Some(size), _) | (None, Some(size)) => size,
            (None, None) => {
                return Err(
                    fault("a height and a width (--size says one)", "an image of any size").at(place())
                );
            }
        };
    }
    array::elements(&image)?;
    Ok((image, channels_last))
}

/// What the scores are, the function of the last map that gives the logits, and whether that leaves out a sigmoid.
fn head_kind(
    lowered: &lower::Lowered,
    wanted: Option<HeadKind>,
    index: usize,
) -> Result<(HeadKind, Function, bool)> {
    let function = &lowered.output.function;
    let default = if index == 0 { HeadKind::Classes } else { HeadKind::Units };
    let wrong = |expected: &str, found: &str| {
        Err(fault(format!("{expected} for {}", wanted.unwrap_or(default).name()), found)
            .at("output".to_owned()))
    };
    match (lowered.softmax, function.of_sigmoid(), wanted) {
        (true, _, None | Some(HeadKind::Classes)) => Ok((HeadKind::Classes, function.clone(), false)),
        (true, ..) => wrong("no softmax at the end", "one"),
        (false, Some(inner), None | Some(HeadKind::Units)) => Ok((HeadKind::Units, inner, true)),
        (false, Some(_), Some(HeadKind::Classes)) => wrong("no sigmoid at the end", "one"),
        (false, _, wanted) => Ok((wanted.unwrap_or(default), function.clone(), false)),
    }
}

/// How pixels from 0 to 1 become what the first layer reads: what the options say of the graph's input, then what the graph
/// itself does with it first.
fn normalisation(
    of_graph: Option<&[Vec<f64>; 2]>,
    is_bytes: bool,
    channels: usize,
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<Normalisation> {
    let spread = |values: &Option<Vec<f32>>, place: &str, default: f64| -> Result<Vec<f64>> {
        match values.as_deref() {
            None => Ok(vec![default; channels]),
            Some(&[value]) => Ok(vec![f64::from(value); channels]),
            Some(values) if values.len() == channels => Ok(values.iter().map(|&v| f64::from(v)).collect()),
            Some(values) => {
                let expected = format!("one number, or {channels}, one a channel");
                Err(Error::new(ErrorKind::Input, place, expected, values.len().to_string()))
            }
        }
    };
    // The graph's own: (x - mean) / std.
    let own = of_graph.map(|[factor, term]| {
        let std: Vec<f64> = factor.iter().map(|factor| 1.0 / factor).collect();
        let mean: Vec<f64> = term.iter().zip(&std).map(|(term, std)| -term * std).collect();
        (mean, std)
    });
    let is_said = options.mean.is_some() || options.std.is_some();
    // A mean or a deviation beyond 4 is none of numbers from 0 to 1.
    const MOST: f64 = 4.0;
    let reads_bytes = |(mean, std): &(Vec<f64>, Vec<f64>)| mean.iter().chain(std).any(|&v| v.abs() > MOST);
    let to_255 = !is_said && (is_bytes || own.as_ref().is_some_and(reads_bytes));
    let mean = spread(&options.mean, "mean", 0.0)?;
    let std = spread(&options.std, "std", if to_255 { 1.0 / 255.0 } else { 1.0 })?;
    let (own_mean, own_std) = own.clone().unwrap_or((vec![0.0; channels], vec![1.0; channels]));
    // ((v - mean) / std - own mean) / own std
    let whole = Normalisation {
        mean: (0..channels).map(|c| (mean[c] + own_mean[c] * std[c]) as f32).collect(),
        std: (0..channels).map(|c| (std[c] * own_std[c]) as f32).collect(),
    };
    let range = if to_255 { 255 } else { 1 };
    match (is_said, own.is_some()) {
        (true, false) => {}
        (true, true) => notes.push("the graph normalises its image too; both are in the model".to_owned()),
        (false, true) => notes.push(format!(
            "the graph normalises its image, taken to be pixels from 0 to {range}: mean {:?}, std {:?} of pixels from 0 to 1",
            whole.mean, whole.std
        )),
        (false, false) => notes.push(format!(
            "neither mean nor std is given: the network is taken to read pixels from 0 to {range} as they are"
        )),
    }
    Ok(whole)
}
