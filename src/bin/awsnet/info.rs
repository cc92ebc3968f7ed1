//! `awsnet info`: what a model file holds, and how much each AWS-Unit shares.

use std::path::PathBuf;

use awsnet::Model;
use awsnet::model::{ChannelOrder, FaceCrop, Head, HeadKind, Layer, Source};
use serde_json::{Value, json};

use crate::failure::Outcome;
use crate::figure;
use crate::options::ModelPath;
use crate::output::{OutputFile, Results};
use crate::sharing::UnitShare;

/// Show a model's layers, parameters and FLOP, and how much each AWS-Unit shares
///
/// The share borrowed is |A[t][s]| / (|A[t][t]| + |A[t][s]|), averaged over channels: 0% where a task keeps to
/// itself, 50% where both count the same. A gate computes its weights anew for every image; its shares are those that
/// its bias alone would give.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  awsnet info model.safetensors --svg sharing.svg")]
pub struct Args {
    #[command(flatten)]
    model: ModelPath,

    /// One JSON object
    #[arg(long)]
    json: bool,

    /// Draw where and to what extent each task borrows, over depth
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub fn main(args: &Args) -> Outcome {
    let model = args.model.load()?;
    let shares: Vec<Option<UnitShare>> =
        model.layers().iter().map(UnitShare::of).collect::<Result<_, _>>()?;
    let figure = args.svg.as_deref().map(|path| OutputFile::create(path, &[&args.model.path])).transpose()?;
    let mut results = Results::new();
    match args.json {
        true => results.json(&to_json(&model, &shares))?,
        false => results.line(&to_table(&args.model.title(&model), &model, &shares))?,
    }
    if let Some(file) = figure {
        let units: Vec<UnitShare> = shares.into_iter().flatten().collect();
        let name = |branch: usize| model.branches().get(branch).cloned().unwrap_or_default();
        file.write(figure::svg(&args.model.title(&model), &[name(0), name(1)], &units).as_bytes())?;
    }
    Ok(())
}

/// JSON has no NaN: a share that is not defined is null.
fn number(share: f32) -> Value {
    if share.is_nan() { Value::Null } else { json!(share) }
}

fn to_json(model: &Model, shares: &[Option<UnitShare>]) -> Value {
    let input = model.input();
    let layers: Vec<Value> = model
        .layers()
        .iter()
        .zip(shares)
        .map(|(layer, share)| {
            let shape = layer.output_shape();
            let mut value = json!({
                "name": layer.name(),
                "op": layer.op().name(),
                "shape": [shape.channels, shape.height, shape.width],
                "parameters": layer.parameters(),
                "flop": model.layer_flop(layer),
            });
            if let Some(share) = share {
                let mut aws = json!({"kind": share.kind, "depends_on_image": share.depends_on_image});
                for (to, branch) in model.branches().iter().enumerate() {
                    aws[format!("{branch}_borrows")] = number(share.mean(to));
                }
                value["aws"] = aws;
            }
            value
        })
        .collect();
    let heads: serde_json::Map<String, Value> =
        model.heads().iter().map(|head| (head.name().to_owned(), head_json(model, head))).collect();
    let about: serde_json::Map<String, Value> =
        model.about().iter().map(|(key, text)| (key.clone(), json!(text))).collect();
    json!({
        "name": model.name(),
        "about": about,
        "branches": model.branches(),
        "input": {"channels": input.shape.channels, "height": input.shape.height, "width": input.shape.width,
                  "mean": input.mean, "std": input.std, "order": input.order.name(),
                  "face": input.face.as_ref().map(face_json)},
        "layers": layers,
        "heads": heads,
        "parameters": model.parameters(),
        "flop": model.flop(),
    })
}

fn head_json(model: &Model, head: &Head) -> Value {
    let mut value = json!({
        "kind": head.kind().name(),
        "branch": model.branches()[head.branch()],
        "numbers": head.len(),
        "labels": (!head.labels().is_empty()).then(|| head.labels()),
    });
    if head.kind() == HeadKind::Units {
        value["thresholds"] = json!(head.thresholds());
    }
    value
}

/// As the manifest has it.
fn face_json(face: &FaceCrop) -> Value {
    match face {
        FaceCrop::Box { scale, shift, .. } => json!({"box": {"scale": scale, "shift": shift}}),
        FaceCrop::Points(points) => {
            let points: serde_json::Map<String, Value> =
                points.iter().map(|(point, at)| (point.name().to_owned(), json!(at))).collect();
            json!({"points": points})
        }
        _ => Value::Null,
    }
}

/// How a face is taken out of a picture, in words.
fn face_words(face: &FaceCrop) -> String {
    match face {
        FaceCrop::Box { scale, shift, .. } => {
            format!(
                "faces are cut out as squares of {scale} times the box, shifted by {} and {}",
                shift[0], shift[1]
            )
        }
        FaceCrop::Points(points) => {
            let names: Vec<&str> = points.iter().map(|(point, _)| point.name()).collect();
            format!(
                "faces are turned and scaled so that {} lie where the network expects them",
                names.join(", ")
            )
        }
        _ => "faces are cut out in a way that this command does not know".to_owned(),
    }
}

/// A layer's operator, and what follows it before the AWS-Unit.
fn operator(model: &Model, layer: &Layer) -> String {
    let mut operator = layer.op().to_string();
    if layer.inputs().len() > 1 {
        let names: Vec<&str> = layer.inputs().iter().map(|&source| source_name(model, source)).collect();
        operator.push_str(&format!(" of {}", names.join(", ")));
    }
    if let Some(scale) = layer.scale() {
        operator.push_str(&format!(" * {}", model.layers()[scale].name()));
    }
    if let Some(residual) = layer.residual() {
        operator.push_str(&format!(" + {}", model.layers()[residual].name()));
    }
    if layer.activation() != awsnet::op::Activation::None {
        operator.push_str(&format!(", {}", layer.activation().name()));
    }
    operator
}

fn source_name(model: &Model, source: Source) -> &str {
    match source {
        Source::Image => "image",
        Source::Layer(index) => model.layers()[index].name(),
        _ => "another source",
    }
}

fn to_table(title: &str, model: &Model, shares: &[Option<UnitShare>]) -> String {
    let operators: Vec<String> = model.layers().iter().map(|layer| operator(model, layer)).collect();
    let widest =
        |header: &str, lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0).max(header.len());
    let width = widest("layer", &mut model.layers().iter().map(|layer| layer.name().len()));
    let operator_header = if model.branches().len() == 1 { "operator" } else { "operator, both branches" };
    let operator_width = widest(operator_header, &mut operators.iter().map(String::len));
    let escape = |text: &str| -> String { text.chars().flat_map(char::escape_debug).collect() };
    let borrower = |branch: usize| match model.branches() {
        [_] => String::new(),
        branches => format!("{}<-", branches[branch]),
    };
    let aws = if model.branches().len() == 1 { "" } else { "aws" };
    let order = match model.input().order {
        ChannelOrder::Bgr => " of blue, green and red",
        ChannelOrder::Rgb => "",
    };
    let mut lines = vec![format!("{}: reads {} images{order}", escape(title), model.input().shape)];
    lines.extend(model.about().iter().map(|(key, text)| format!("{}: {}", escape(key), escape(text))));
    lines.extend(model.input().face.as_ref().map(face_words));
    lines.push(format!(
        "{:<width$}  {operator_header:<operator_width$}  {:>12}  {:>10}  {:>9}  {aws:<8} {:>9} {:>9}",
        "layer",
        "gives",
        "parameters",
        "MFLOP",
        borrower(0),
        borrower(1),
    ));
    for ((layer, share), operator) in model.layers().iter().zip(shares).zip(&operators) {
        let (kind, borrowed) = match share {
            None => ("", ["".to_owned(), "".to_owned()]),
            Some(share) => {
                let mark = if share.depends_on_image { "~" } else { "" };
                (share.kind, [0, 1].map(|to| format!("{mark}{:.1}%", 100.0 * share.mean(to))))
            }
        };
        lines.push(format!(
            "{:<width$}  {:<operator_width$}  {:>12}  {:>10}  {:>9.2}  {:<8} {:>9} {:>9}",
            layer.name(),
            operator,
            layer.output_shape().to_string(),
            layer.parameters(),
            model.layer_flop(layer) as f64 / 1e6,
            kind,
            borrowed[0],
            borrowed[1],
        ));
    }
    for head in model.heads() {
        let reads = source_name(model, head.input());
        let labels: Vec<String> =
            head.labels().iter().map(|label| label.escape_debug().to_string()).collect();
        let gives = match labels.is_empty() {
            true => format!("{} numbers", head.len()),
            false => labels.join(", "),
        };
        // What a head is named after, nobody needs to be told.
        let branch = &model.branches()[head.branch()];
        let of = if branch == head.name() { String::new() } else { format!(" of {branch}") };
        let kind = match head.kind() {
            HeadKind::Values => ", as they are",
            _ => "",
        };
        lines.push(format!("{} head, reads {reads}{of}{kind}: {gives}", head.name()));
    }
    if shares.iter().flatten().any(|share| share.depends_on_image) {
        lines.push("~ depends on the image: what the gate's bias alone would give".to_owned());
    }
    let (parameters, flop) = (model.parameters(), model.flop());
    lines.push(format!(
        "{:.3} M parameters, {:.1} MFLOP an image",
        parameters as f64 / 1e6,
        flop as f64 / 1e6
    ));
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}
