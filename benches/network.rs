//! Whole networks: architectures, sizes, batches, AWS-Units and threads, images a second.
//!
//! `cargo bench --bench network`; a part of them with `cargo bench --bench network -- resnet18/112`. From one network
//! in the middle each of the table's lines varies one thing. Logits are compared with the reference's first, so that
//! nothing fast and wrong is timed. On a GPU the times are of its own events.

mod device;

use awsnet::__tests::reference;
use awsnet::model::init::{Architecture, InitOptions, init};
use awsnet::model::{AwsKind, Gate};
use awsnet::{Model, Precision, Target};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use device::Timed;

struct Case {
    architecture: Architecture,
    size: usize,
    aws: Option<AwsKind>,
    batch: usize,
}

fn cases() -> Vec<Case> {
    let middle =
        || Case { architecture: Architecture::ResNet18, size: 112, aws: Some(AwsKind::Channel), batch: 1 };
    let others = [Architecture::MobileNet, Architecture::ResNet50, Architecture::Vgg11];
    let units = [None, Some(AwsKind::Layer), Some(AwsKind::Dense), Some(AwsKind::Gate(Gate::Softmax))];
    let mut cases = vec![middle()];
    cases.extend(others.map(|architecture| Case { architecture, ..middle() }));
    cases.extend([64, 224].map(|size| Case { size, ..middle() }));
    cases.extend(units.map(|aws| Case { aws, ..middle() }));
    cases.extend([8, 64].map(|batch| Case { batch, ..middle() }));
    cases
}

impl Case {
    fn name(&self) -> String {
        let aws = self.aws.map_or("none", |kind| kind.name());
        format!("{}/{}/aws {aws}", self.architecture, self.size)
    }

    fn timed(&self, target: Target, threads: usize) -> Timed {
        let Case { architecture, size, aws, batch } = *self;
        let bytes = init(&InitOptions::new().architecture(architecture).size(size).aws(aws)).expect("a file");
        let model = Model::from_bytes(&bytes).expect("a valid model");
        let mut timed = Timed::new(&model, target, batch, threads);
        check(&model, &mut timed);
        timed
    }
}

/// The logits of one image against the reference's.
fn check(model: &Model, timed: &mut Timed) {
    let tolerance = match timed.session.plan().precision() {
        Precision::F32 => 1e-4,
        Precision::F16 => 2e-2,
        Precision::BF16 => 1e-1,
        other => panic!("no tolerance for {other}"),
    };
    let image = device::images(model, 1);
    let expected = reference::evaluate(model, &image).logits;
    let predictions = timed.session.run(&image).expect("a run");
    for (head, expected) in predictions.heads().zip(&expected) {
        let largest = expected.iter().fold(0.0f64, |largest, v| largest.max(v.abs()));
        for (found, expected) in head.logits.iter().zip(expected) {
            let error = (f64::from(*found) - expected).abs();
            assert!(error <= tolerance * largest, "{}: {found}, not {expected}", head.name);
        }
    }
}

fn networks(criterion: &mut Criterion) {
    for (device, target) in device::targets() {
        for case in cases() {
            let mut group = criterion.benchmark_group(case.name());
            group.sample_size(20).throughput(Throughput::Elements(case.batch as u64));
            for threads in device::threads(target) {
                let mut timed: Option<Timed> = None;
                let id =
                    BenchmarkId::new(format!("batch {}", case.batch), format!("{device}, {threads} threads"));
                group.bench_function(id, |bencher| {
                    let timed = timed.get_or_insert_with(|| case.timed(target, threads));
                    bencher.iter_custom(|runs| timed.time(runs));
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, networks);
criterion_main!(benches);
