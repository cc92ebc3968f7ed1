//! What a run costs besides arithmetic: after the first, the counting allocator below sees no call from any thread,
//! and a thread that runs alone never goes to sleep, so that it has met no lock that another thread holds.

#![allow(unsafe_code, reason = "an allocator that counts")]

#[path = "common/isas.rs"]
mod isas;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
#[cfg(target_os = "linux")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use awsnet::{Engine, EngineOptions, ImagesU8, Isa, Model, Plan, PlanOptions, Predictions, Target};
use isas::isas;

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const GOLDEN: [&str; 6] =
    ["everything", "aws_dense", "aws_gate_softmax", "conv2d_depthwise", "aws_on_residual", "weights_mixed"];
const BATCH: usize = 3;
const RUNS: usize = 10;

fn engine(case: &str, isa: Isa, threads: usize) -> Engine {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{case}.model.safetensors"));
    let model = Model::load(path).expect("a golden model");
    let options = PlanOptions::new().target(Target::Cpu(isa)).batch(BATCH);
    let plan = Plan::build(model, &options).expect("a plan");
    Engine::new(plan, &EngineOptions::new().threads(threads)).expect("an engine")
}

/// Reads everything that predictions offer.
fn read(predictions: Predictions) -> f32 {
    let scores =
        predictions.iter().flat_map(|p| p.heads().map(|head| head.logits[0] + head.probabilities[0]));
    let label = |p: awsnet::Prediction| p.emotion().map_or(0, |emotion| emotion.label.len());
    let labels: usize = predictions.iter().map(|p| label(p) + p.active().count()).sum();
    scores.sum::<f32>() + labels as f32
}

/// The counter is the process's, and a test that starts allocates: there is one.
#[test]
fn runs_neither_allocate_nor_wait() {
    a_run_allocates_nothing_after_the_first();
    #[cfg(target_os = "linux")]
    sessions_of_one_engine_never_wait_for_one_another();
}

fn a_run_allocates_nothing_after_the_first() {
    for case in GOLDEN {
        for isa in isas() {
            for threads in [1, 2, 3] {
                let engine = engine(case, isa, threads);
                let mut session = engine.session().expect("a session");
                let shape = engine.plan().input().shape;
                let images = vec![0.5; BATCH * shape.len()];
                let pixels = vec![77; BATCH * shape.len()];
                let bytes = |count: usize| {
                    let pixels = &pixels[..count * shape.len()];
                    ImagesU8::new(pixels, shape.width, shape.height, shape.channels)
                };
                session.run(&images).expect("a first run");
                session.run(bytes(BATCH)).expect("a first run");
                let before = CALLS.load(Ordering::SeqCst);
                let mut scores = 0.0;
                for run in 0..RUNS {
                    let count = 1 + run % BATCH;
                    scores += read(session.run(&images[..count * shape.len()]).expect("a run"));
                    scores += read(session.run(bytes(count)).expect("a run"));
                }
                let calls = CALLS.load(Ordering::SeqCst) - before;
                assert_eq!(calls, 0, "{case} on {isa}, {threads} threads: allocator calls (scores {scores})");
            }
        }
    }
}

/// How often this thread has gone to sleep of its own accord: waited for a lock, a file, another thread.
#[cfg(target_os = "linux")]
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("a thread's status");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).expect("a count")
}

#[cfg(target_os = "linux")]
fn sessions_of_one_engine_never_wait_for_one_another() {
    use std::sync::Barrier;
    use std::thread;
    use std::time::Duration;

    const SESSIONS: usize = 4;

    for case in ["everything", "aws_gate_softmax"] {
        let engine = engine(case, Isa::detect(), 1);
        let start = Barrier::new(SESSIONS);
        let slept = || {
            let mut session = engine.session().expect("a session");
            let images = vec![0.5; BATCH * engine.plan().input().shape.len()];
            session.run(&images).expect("a first run");
            start.wait();
            let before = sleeps();
            let scores: f32 = (0..500).map(|_| read(session.run(&images).expect("a run"))).sum();
            assert!(scores.is_finite());
            sleeps() - before
        };
        let total: u64 = thread::scope(|scope| {
            let sessions: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(slept)).collect();
            sessions.into_iter().map(|session| session.join().expect("no panic")).sum()
        });
        assert_eq!(total, 0, "{case}: waits in {SESSIONS} sessions");
    }

    // What the count is worth: a lock that is held shows in it.
    let lock = Mutex::new(());
    let slept = thread::scope(|scope| {
        let held = lock.lock().expect("a free lock");
        let waiter = scope.spawn(|| {
            let before = sleeps();
            drop(lock.lock());
            sleeps() - before
        });
        thread::sleep(Duration::from_millis(50));
        drop(held);
        waiter.join().expect("no panic")
    });
    assert!(slept > 0, "a wait for a lock is not counted");
}
