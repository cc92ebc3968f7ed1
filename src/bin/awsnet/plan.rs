//! `awsnet plan`: every choice made before a model runs.

use awsnet::{Plan, Precision, Target};
use serde_json::{Value, json};

use crate::failure::Outcome;
use crate::options::{ModelPath, RunOptions};
use crate::output::{self, Results};

/// Show the plan for a model: node by node, kernel, tile, what is fused, bytes and FLOP; arena and weights
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelPath,

    /// Images that run together
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    batch: u32,

    /// One JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    options: RunOptions,
}

pub fn main(args: &Args) -> Outcome {
    let plan = Plan::outline(&args.model.load()?, &args.options.plan_options(args.batch)?)?;
    if matches!(plan.target(), Target::Cuda(_)) && plan.precision() == Precision::F32 {
        output::remark("in f32 a GPU's tensor cores are not used; f16 and bf16 are many times faster");
    }
    let mut results = Results::new();
    if !args.json {
        return results.line(&plan.to_string());
    }
    let nodes: Vec<Value> = plan
        .nodes()
        .iter()
        .map(|node| {
            let mut row = json!({
                "name": node.name(),
                "kernel": node.kernel(),
                "tile": node.tile(),
                "launches": node.launches(),
                "bytes": node.bytes(),
                "flop": node.flop(),
            });
            if node.tuned() {
                row["tuned"] = json!(true);
            }
            row
        })
        .collect();
    results.json(&json!({
        "nodes": nodes,
        "launches": plan.launches(),
        "arena_bytes": plan.arena_bytes(),
        "weight_bytes": plan.weight_bytes(),
    }))
}
