//! A run allocates nothing: after the first, the counting allocator below sees no call from any thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use awsnet::{Engine, EngineOptions, Isa, Model, Plan, PlanOptions, Target};

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_run_allocates_nothing_after_the_first() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for case in ["everything", "aws_dense", "aws_gate_softmax", "conv2d_depthwise"] {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let model =
                Model::load(folder.join(format!("{case}.model.safetensors"))).expect("a golden model");
            let options = PlanOptions { target: Target::Cpu(isa), batch: 3, ..PlanOptions::default() };
            let plan = Plan::build(model, &options).expect("a plan");
            let engine = Engine::new(plan, &EngineOptions { threads: 3, ..EngineOptions::default() })
                .expect("an engine");
            let mut session = engine.session().expect("a session");
            let images = vec![0.5; 3 * engine.plan().input().shape.len()];
            session.run(&images).expect("a first run");
            let before = CALLS.load(Ordering::SeqCst);
            let mut score = 0.0;
            for _ in 0..20 {
                let predictions = session.run(&images).expect("a run");
                score += predictions.get(2).probabilities(awsnet::Branch::Au)[0];
                score += predictions.get(0).emotion().len() as f32;
            }
            let calls = CALLS.load(Ordering::SeqCst) - before;
            assert_eq!(calls, 0, "{case} on {isa}: allocator calls in 20 runs (score {score})");
        }
    }
}
