//! Every kernel against its definition, on the emulated driver (or on the driver `AWSNET_TEST_DRIVER` names, with the
//! kernels that this build embeds).
//!
//! `cases` is the table: operator, variant, shape, epilogue, data. A new kernel or variant gets its rows there; a test
//! below fails for a kernel without one. Each case runs under several schedules, and the results must be the same bits.
//!
//! `AWSNET_TEST_CASES=part` runs the cases whose description holds `part`; `AWSNET_TEST_SMALL=n` about n of an operator
//! under one schedule, spread evenly over those of few threads (for the race detector, which is slow); `AWSNET_TEST_SEEDS=n` adds schedules.

#![allow(unsafe_code, reason = "calls of the CUDA driver")]

mod cases;
mod data;
mod driver;
mod fused;
mod launches;
#[path = "../common/machine.rs"]
mod machine;
mod reference;
mod run;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cases::Case;
use driver::Stream;

/// The driver and the module. The emulated driver looks at a module's form only: it holds the kernels itself.
fn under_test() -> (&'static Path, Cow<'static, [u8]>) {
    (machine::driver(), Cow::Borrowed(awsnet::__tests::image::image()))
}

/// Failed cases after which an operator's test gives up.
const ENOUGH_FAILURES: usize = 5;

/// Runs all cases of an operator on as many threads as there are cores; panics with the failures.
fn run(op: &str) {
    let part = std::env::var("AWSNET_TEST_CASES").unwrap_or_default();
    let mut all: Vec<Case> =
        cases::all().into_iter().filter(|case| case.op() == op && case.to_string().contains(&part)).collect();
    if let Ok(most) = std::env::var("AWSNET_TEST_SMALL") {
        let most: usize = most.parse().expect("AWSNET_TEST_SMALL is a number");
        all.retain(Case::is_small);
        // Half of them with split-K, where blocks meet.
        let (split, whole): (Vec<Case>, Vec<Case>) = all.into_iter().partition(Case::is_split);
        let spread = |cases: Vec<Case>| {
            let step = cases.len().div_ceil(most.div_ceil(2)).max(1);
            cases.into_iter().step_by(step)
        };
        all = spread(split).chain(spread(whole)).collect();
    }
    let next = AtomicUsize::new(0);
    let worst = Mutex::new((0.0, String::new()));
    let failures = Mutex::new(Vec::new());
    let work = || {
        let stream = Stream::new();
        while let Some(case) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            match catch_unwind(AssertUnwindSafe(|| run::run(&stream, case))) {
                Ok(share) => {
                    let mut worst = worst.lock().unwrap();
                    if share > worst.0 {
                        *worst = (share, case.to_string());
                    }
                }
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
                    let mut failures = failures.lock().unwrap();
                    failures.push(format!("{case}: {}", text.unwrap_or_default()));
                    if failures.len() >= ENOUGH_FAILURES {
                        next.store(all.len(), Ordering::Relaxed);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n{}",
        failures.len(),
        all.len(),
        failures.join("\n")
    );
    let (share, case) = worst.into_inner().unwrap();
    println!("{op}: {} cases; the largest error is {share:.3} of its bound, in {case}", all.len());
}

/// One test an operator, named like it.
macro_rules! operators {
    ($($op:ident)*) => {
        const OPERATORS: &[&str] = &[$(stringify!($op)),*];
        $(#[test] fn $op() { run(stringify!($op)); })*
    };
}
operators! {
    conv2d_implicit_gemm conv2d_direct conv2d_depthwise conv2d_stem pool2d upsample2d concat squeeze_excite identity
    aws_unit_dense aws_unit_gate head head_score image_to_nhwc
}

#[test]
fn every_case_belongs_to_a_test() {
    for case in cases::all() {
        assert!(OPERATORS.contains(&case.op()), "{case}");
    }
}

#[test]
fn every_kernel_has_cases() {
    let tested: BTreeSet<String> = cases::all().iter().flat_map(Case::kernels).collect();
    let there: BTreeSet<String> = driver::emulated_kernels().into_iter().map(|(name, ..)| name).collect();
    if !there.is_empty() {
        assert_eq!(there, tested);
    }
}
