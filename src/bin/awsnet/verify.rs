//! `awsnet verify`: the chosen backend against the reference.

use awsnet::verify;
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

    /// One JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    options: RunOptions,
}

pub fn main(args: &Args) -> Outcome {
    let model = args.model.load()?;
    let images = verify::random_images(&model, args.batch as usize, args.seed);
    let options = args.options.plan_options(args.batch)?;
    let target = args.options.target()?;
    let nodes = verify::layers(model, &options, args.options.threads(), &images)?;
    let failed: Vec<&verify::NodeAgreement> = nodes.iter().filter(|node| !node.holds()).collect();
    let mut results = Results::new();
    if args.json {
        let rows: Vec<Value> = nodes
            .iter()
            .map(|node| {
                let number = |value: f64| if value.is_finite() { json!(value) } else { Value::Null };
                json!({"name": node.name, "kernel": node.kernel, "error_over_bound": number(node.worst),
                       "error": number(node.error), "bound": number(node.bound)})
            })
            .collect();
        results.json(
            &json!({"device": target.to_string(), "seed": args.seed, "nodes": rows, "ok": failed.is_empty()}),
        )?;
    } else {
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
        lines.push(format!(
            "{target}, seed {}: {} of {} nodes within their bounds",
            args.seed,
            nodes.len() - failed.len(),
            nodes.len()
        ));
        results.line(&lines.join("\n"))?;
    }
    match failed.first() {
        None => Ok(()),
        Some(node) => Err(Failure::failed(format!(
            "{}: expected an error of at most {:.3e}, found {:.3e}",
            node.name, node.bound, node.error
        ))),
    }
}
