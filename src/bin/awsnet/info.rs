//! `awsnet info`: what a model file holds, and how much each AWS-Unit shares.

use std::path::PathBuf;

use awsnet::model::{Layer, Source};
use awsnet::{Branch, Model};
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
        file.write(figure::svg(&args.model.title(&model), &units).as_bytes())?;
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
                "flop": layer.flop(),
            });
            if let Some(share) = share {
                value["aws"] = json!({
                    "kind": share.kind,
                    "emotion_borrows": number(share.mean(0)),
                    "au_borrows": number(share.mean(1)),
                    "depends_on_image": share.depends_on_image,
                });
            }
            value
        })
        .collect();
    let head = |branch| json!({"labels": model.head(branch).labels(), "thresholds": model.head(branch).thresholds()});
    json!({
        "name": model.name(),
        "input": {"channels": input.shape.channels, "height": input.shape.height, "width": input.shape.width,
                  "mean": input.mean, "std": input.std},
        "layers": layers,
        "heads": {"emotion": {"labels": model.head(Branch::Emotion).labels()}, "au": head(Branch::Au)},
        "parameters": model.parameters(),
        "flop": model.flop(),
    })
}

/// A layer's operator, and what follows it before the AWS-Unit.
fn operator(model: &Model, layer: &Layer) -> String {
    let mut operator = layer.op().to_string();
    if let Some(residual) = layer.residual() {
        operator.push_str(&format!(" + {}", model.layers()[residual].name()));
    }
    if layer.activation() != awsnet::op::Activation::None {
        operator.push_str(&format!(", {}", layer.activation().name()));
    }
    operator
}

fn to_table(title: &str, model: &Model, shares: &[Option<UnitShare>]) -> String {
    let operators: Vec<String> = model.layers().iter().map(|layer| operator(model, layer)).collect();
    let widest =
        |header: &str, lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0).max(header.len());
    let width = widest("layer", &mut model.layers().iter().map(|layer| layer.name().len()));
    let operator_width = widest("operator, both branches", &mut operators.iter().map(String::len));
    let escaped: String = title.chars().flat_map(char::escape_debug).collect();
    let mut lines = vec![
        format!("{escaped}: reads {} images", model.input().shape),
        format!(
            "{:<width$}  {:<operator_width$}  {:>12}  {:>10}  {:>9}  {:<8} {:>9} {:>9}",
            "layer", "operator, both branches", "gives", "parameters", "MFLOP", "aws", "emotion<-", "au<-"
        ),
    ];
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
            layer.flop() as f64 / 1e6,
            kind,
            borrowed[0],
            borrowed[1],
        ));
    }
    for branch in Branch::BOTH {
        let head = model.head(branch);
        let reads = match head.input() {
            Source::Image => "image",
            Source::Layer(index) => model.layers()[index].name(),
            _ => "another source",
        };
        let labels: Vec<String> =
            head.labels().iter().map(|label| label.escape_debug().to_string()).collect();
        lines.push(format!("{} head, reads {reads}: {}", branch.name(), labels.join(", ")));
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
