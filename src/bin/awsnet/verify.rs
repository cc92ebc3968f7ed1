//! `awsnet verify`: the chosen backend against the reference.

use awsnet::verify::{self, NodeAgreement};
use awsnet::{Conv2dAlgorithm, Target};
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};
use crate::options::{ModelPath, RunOptions};
use crate::output::Results;

/// Compare a backend with the reference, layer by layer, as error/bound
///
/// Each node reads what the backend itself computed before it; the reference sums the same inputs in f64. An error
/// above its bound is a fault of the backend, not noise, and ends in exit code 1.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelPath,

    /// Images to compare, random ones
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    batch: u32,

    /// Chooses the images
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Check each way to compute convolutions, not only what the plan chooses; CPU only
    #[arg(long)]
    algorithms: bool,

    /// One JSON object, with --algorithms one a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    options: RunOptions,
}

pub fn main(args: &Args) -> Outcome {
    let target = args.options.target()?;
    if args.algorithms && !matches!(target, Target::Cpu(_)) {
        let expected = "--algorithms: expected a CPU, which computes convolutions in several ways";
        return Err(Failure::usage(format!("{expected}, found {target}")));
    }
    let model = args.model.load()?;
    let images = verify::random_images(&model, args.batch as usize, args.seed);
    let auto = [Conv2dAlgorithm::Auto];
    let algorithms = if args.algorithms { Conv2dAlgorithm::ALL } else { &auto };
    let mut results = Results::new();
    let mut failure = None;
    for &algorithm in algorithms {
        let options = args.options.plan_options(args.batch)?.conv2d(algorithm);
        let nodes = verify::layers(model.clone(), &options, args.options.threads(), &images)?;
        if args.json {
            results.json(&json(args, target, algorithm, &nodes))?;
        } else {
            results.line(&table(args, target, algorithm, &nodes))?;
        }
        failure = failure.or(nodes.into_iter().find(|node| !node.holds()));
    }
    match failure {
        None => Ok(()),
        Some(node) => Err(Failure::failed(format!(
            "{}: expected an error of at most {:.3e}, found {:.3e}",
            node.name, node.bound, node.error
        ))),
    }
}

fn json(args: &Args, target: Target, algorithm: Conv2dAlgorithm, nodes: &[NodeAgreement]) -> Value {
    let number = |value: f64| if value.is_finite() { json!(value) } else { Value::Null };
    let row = |node: &NodeAgreement| {
        json!({"name": node.name, "kernel": node.kernel, "error_over_bound": number(node.worst),
               "error": number(node.error), "bound": number(node.bound)})
    };
    let rows: Vec<Value> = nodes.iter().map(row).collect();
    let ok = nodes.iter().all(NodeAgreement::holds);
    let mut told = json!({"device": target.to_string(), "seed": args.seed, "nodes": rows, "ok": ok});
    if args.algorithms {
        told["algorithm"] = json!(algorithm.to_string());
    }
    told
}

fn table(args: &Args, target: Target, algorithm: Conv2dAlgorithm, nodes: &[NodeAgreement]) -> String {
    let width = nodes.iter().map(|node| node.name.len()).max().unwrap_or(0).max("node".len());
    let mut lines = vec![format!(
        "{:<width$}  {:<20}  {:>11}  {:>10}  {:>10}",
        "node", "kernel", "error/bound", "error", "bound"
    )];
    lines.extend(nodes.iter().map(|node| {
        format!(
            "{:<width$}  {:<20}  {:>11.4}  {:>10.3e}  {:>10.3e}",
            node.name, node.kernel, node.worst, node.error, node.bound
        )
    }));
    let way = if args.algorithms { format!(", {algorithm}") } else { String::new() };
    lines.push(format!(
        "{target}{way}, seed {}: {} of {} nodes within their bounds",
        args.seed,
        nodes.iter().filter(|node| node.holds()).count(),
        nodes.len()
    ));
    lines.join("\n")
}
