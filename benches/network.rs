//! Whole networks: architectures, batch sizes and threads, images a second.
//!
//! `cargo bench --bench network`. Each network's output is compared with the reference's decision first, so that
//! nothing fast and wrong is timed.

use awsnet::model::AwsKind;
use awsnet::model::init::{Architecture, InitOptions, Random, init};
use awsnet::{Branch, Engine, EngineOptions, Model, Plan, PlanOptions, reference};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Random pixels, the same every time.
fn image(len: usize) -> Vec<f32> {
    let mut random = Random::new(1);
    (0..len).map(|_| random.between(-1.0, 1.0)).collect()
}

fn networks(criterion: &mut Criterion) {
    let aws = Some(AwsKind::Channel);
    for (architecture, size) in [(Architecture::ResNet18, 112), (Architecture::MobileNet, 112)] {
        let bytes =
            init(&InitOptions { architecture, size, aws, ..InitOptions::default() }).expect("a model");
        let model = Model::from_bytes(&bytes).expect("a valid model");
        let mut group = criterion.benchmark_group(format!("network/{architecture}/{size}"));
        group.sample_size(20);
        for (batch, threads) in [(1, 1), (1, 2), (8, 2)] {
            let options = PlanOptions { batch, ..PlanOptions::default() };
            let plan = Plan::build(model.clone(), &options).expect("a plan");
            let engine =
                Engine::new(plan, &EngineOptions { threads, ..EngineOptions::default() }).expect("an engine");
            let mut session = engine.session().expect("a session");
            let images = image(batch * model.input().shape.len());

            let expected = &reference::evaluate(&model, &images[..model.input().shape.len()]).logits;
            let predictions = session.run(&images).expect("a run");
            for branch in Branch::BOTH {
                let expected = &expected[branch as usize];
                let largest = expected.iter().fold(0.0f64, |largest, v| largest.max(v.abs()));
                for (found, expected) in predictions.get(0).logits(branch).iter().zip(expected) {
                    assert!(
                        (f64::from(*found) - expected).abs() <= 1e-4 * largest,
                        "{architecture}: {branch:?}"
                    );
                }
            }

            group.throughput(Throughput::Elements(batch as u64));
            let id = BenchmarkId::new(format!("{threads} threads"), format!("batch {batch}"));
            group.bench_function(id, |bencher| bencher.iter(|| session.run(&images).expect("a run").len()));
        }
        group.finish();
    }
}

criterion_group!(benches, networks);
criterion_main!(benches);
