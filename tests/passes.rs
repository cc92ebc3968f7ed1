//! A batch whose maps would not stay in the caches runs in passes of fewer images; nobody can tell from the bits.

#[path = "common/isas.rs"]
mod isas;

use awsnet::model::init::{Architecture, InitOptions, init};
use awsnet::{
    Conv2dAlgorithm, Engine, EngineOptions, Model, Plan, PlanOptions, Prediction, Target, WinogradTile,
};
use isas::isas;

const BATCH: usize = 8;

#[test]
fn a_batch_in_passes_gives_the_bits_of_single_images() {
    let options = InitOptions::new().architecture(Architecture::Tiny).size(449);
    let model = Model::from_bytes(&init(&options).expect("a model file")).expect("a valid model");
    let len = model.input().shape.len();
    let images: Vec<f32> = (0..BATCH * len).map(|i| (i * 7919 % 1000) as f32 / 250.0 - 2.0).collect();
    let f4 = Conv2dAlgorithm::Winograd(WinogradTile::F4);
    let algorithms = [Conv2dAlgorithm::Auto, Conv2dAlgorithm::Direct, f4];
    for (isa, conv2d) in isas().flat_map(|isa| algorithms.map(|algorithm| (isa, algorithm))) {
        let session = |batch: usize| {
            let options = PlanOptions::new().target(Target::Cpu(isa)).batch(batch).conv2d(conv2d);
            let plan = Plan::build(model.clone(), &options).expect("a plan");
            let engine = Engine::new(plan, &EngineOptions::new().threads(2)).expect("an engine");
            engine.session().expect("a session")
        };
        // `Auto` may choose another algorithm for another batch; its plan runs images alone, too.
        let batch_of_single = if conv2d == Conv2dAlgorithm::Auto { BATCH } else { 1 };
        let (mut single, mut batched) = (session(batch_of_single), session(BATCH));
        assert!(batched.plan().to_string().contains("images at a time"), "{isa}: {}", batched.plan());
        assert!(batched.plan().arena_bytes() < BATCH as u64 * single.plan().arena_bytes());

        let bits = |logits: &[f32]| logits.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let of =
            |prediction: Prediction| prediction.heads().map(|head| bits(head.logits)).collect::<Vec<_>>();
        let alone: Vec<Vec<Vec<u32>>> = images
            .chunks_exact(len)
            .map(|image| {
                let predictions = single.run(image).expect("a run");
                of(predictions.get(0).expect("an image"))
            })
            .collect();
        // All of them, some of them, one of them: passes of every fill.
        for count in [BATCH, 5, 3, 1, BATCH] {
            let predictions = batched.run(&images[..count * len]).expect("a run");
            for (prediction, alone) in predictions.iter().zip(&alone) {
                assert_eq!(&of(prediction), alone, "{isa}, {count} images");
            }
        }
    }
}
