//! Single operators: the cases of `tests/ops.rs`, each checked against the reference and then timed.
//!
//! `cargo bench --bench ops`; a part of them with `cargo bench --bench ops -- conv2d`. An operator's time is that of a
//! network with it less that of the same network without it, so that a column of criterion's shows FLOP a second as
//! elements a second. The line behind each says what that is, and the bytes of weights and maps, beside what the same
//! threads reach on this machine in registers and in memory.

#[path = "../tests/ops/cases.rs"]
mod cases;
#[path = "device/ceilings.rs"]
mod ceilings;
#[path = "../tests/common/mod.rs"]
mod common;
mod device;

use std::collections::HashMap;
use std::time::Duration;

use awsnet::{Plan, Target};
use cases::OpCase;
use ceilings::Ceilings;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use device::Timed;

/// What an operator costs by the plan's account: FLOP and bytes of the network with it less those without.
fn costs([with, without]: [&Plan; 2]) -> [u64; 2] {
    let sums = |plan: &Plan| plan.nodes().iter().fold([0, 0], |[f, b], n| [f + n.flop(), b + n.bytes()]);
    let (with, without) = (sums(with), sums(without));
    [0, 1].map(|i: usize| with[i].saturating_sub(without[i]))
}

/// The kernels that run it, and their tiles.
fn kernels(plan: &Plan) -> String {
    let nodes = plan.nodes().iter().filter(|node| node.name().starts_with("operator"));
    nodes.map(|node| format!("{} {}", node.kernel(), node.tile())).collect::<Vec<_>>().join(", ")
}

fn pair(case: &OpCase, target: Target, threads: usize) -> [Timed; 2] {
    for node in case.agreements(target) {
        assert!(node.holds(), "{} {}: {node:?}", case.op, case.what);
    }
    [true, false].map(|with| Timed::new(&case.model(with), target, 1, threads))
}

fn operators(criterion: &mut Criterion) {
    let mut ceilings: HashMap<usize, Ceilings> = HashMap::new();
    for (device, target) in device::targets() {
        for case in cases::all() {
            for threads in device::threads(target) {
                let mut group = criterion.benchmark_group(case.op);
                group.sample_size(20);
                group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
                let plans = [true, false].map(|with| {
                    let options = awsnet::PlanOptions::new().target(target);
                    Plan::build(case.model(with), &options).expect("a plan")
                });
                let [flop, bytes] = costs(plans.each_ref());
                group.throughput(Throughput::Elements(flop));
                let mut timed: Option<[Timed; 2]> = None;
                let (mut runs, mut time) = (0, Duration::ZERO);
                let id = BenchmarkId::new(&case.what, format!("{device}, {threads} threads"));
                group.bench_function(id, |bencher| {
                    let [with, without] = timed.get_or_insert_with(|| pair(&case, target, threads));
                    bencher.iter_custom(|count| {
                        let difference = with.time(count).saturating_sub(without.time(count));
                        (runs, time) = (runs + count, time + difference);
                        difference.max(Duration::from_nanos(count))
                    });
                });
                group.finish();
                if runs <= 1 {
                    continue; // not asked for, or `--test`
                }
                let seconds = time.as_secs_f64() / runs as f64;
                let shares = [("GFLOP/s", flop), ("GB/s", bytes)].map(|(unit, amount)| {
                    let rate = amount as f64 / seconds;
                    let most = (device == "cpu").then(|| {
                        let most = ceilings.entry(threads).or_insert_with(|| Ceilings::measure(threads));
                        if unit == "GB/s" { most.bytes_per_s } else { most.flop_per_s }
                    });
                    let share = |most: f64| format!(" ({:.0}% of {:.0})", 100.0 * rate / most, most / 1e9);
                    format!("{:.1} {unit}{}", rate / 1e9, most.map_or(String::new(), share))
                });
                println!("    {}: {}\n", kernels(&plans[0]), shares.join(", "));
            }
        }
    }
}

criterion_group!(benches, operators);
criterion_main!(benches);
