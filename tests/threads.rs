//! The threads of sessions: how many, whose, where they run; that no run waits for one which has nothing to do; that the
//! host's floating-point environment changes nothing; and what a forked process is told.

#![allow(unsafe_code, reason = "signals, fork, affinity and control registers of the host that a test plays")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use awsnet::model::init::{Architecture, InitOptions, init};
use awsnet::{
    Affinity, Device, Engine, EngineOptions, ErrorKind, Executor, Help, Model, Plan, PlanOptions, Pool,
    PoolOptions, Session,
};

fn model(architecture: Architecture, size: usize) -> Model {
    let options = InitOptions::new().architecture(architecture).size(size);
    Model::from_bytes(&init(&options).expect("a model file")).expect("a valid model")
}

fn engine(model: &Model, options: &EngineOptions) -> awsnet::Result<Engine> {
    let plan = Plan::build(model.clone(), &PlanOptions::new().device(Device::Cpu)).expect("a plan");
    Engine::new(plan, options)
}

fn session(model: &Model, options: &EngineOptions) -> Session {
    engine(model, options).and_then(|engine| engine.session()).expect("a session")
}

fn image(session: &Session) -> Vec<f32> {
    (0..session.plan().input().shape.len()).map(|i| (i * 7919 % 251) as f32 / 125.0 - 1.0).collect()
}

fn bits(session: &mut Session) -> Vec<u32> {
    let image = image(session);
    let predictions = session.run(&image).expect("a run");
    let scores = predictions.heads().flat_map(|head| head.logits.iter().chain(head.probabilities));
    scores.map(|value| value.to_bits()).collect()
}

/// Each help on a thread of its own.
struct Threads;

impl Executor for Threads {
    fn spawn(&self, help: Help) {
        std::thread::spawn(|| help.run());
    }
}

/// Each help within the call.
struct Inline;

impl Executor for Inline {
    fn spawn(&self, help: Help) {
        help.run();
    }
}

#[test]
fn the_results_are_the_same_bits_whosever_threads_there_are_and_however_they_wait() {
    let model = model(Architecture::MobileNet, 32);
    let expected = bits(&mut session(&model, &EngineOptions::new().threads(1)));
    let pool = Pool::new(&PoolOptions::new().threads(2)).expect("a pool");
    let none = Pool::new(&PoolOptions::new().threads(1).spin(Duration::ZERO)).expect("a pool");
    let three = || EngineOptions::new().threads(3);
    let kinds = [
        ("own", three()),
        ("own, never spinning", three().spin(Duration::ZERO)),
        ("own, spinning for ever", EngineOptions::new().threads(2).spin(Duration::MAX)),
        ("a pool", three().pool(&pool)),
        ("the pool, less of it", EngineOptions::new().threads(2).pool(&pool)),
        ("another pool, more than it has", EngineOptions::new().threads(9).pool(&none)),
        ("a thread a help", three().executor(Arc::new(Threads))),
        ("inline", three().executor(Arc::new(Inline))),
    ];
    let mut sessions: Vec<_> =
        kinds.iter().map(|(kind, options)| (*kind, session(&model, options))).collect();
    // The pool's threads live as long as a session has it.
    drop((pool, none));
    for _ in 0..3 {
        for (kind, session) in &mut sessions {
            assert_eq!(bits(session), expected, "{kind}");
        }
    }
    // All at once.
    std::thread::scope(|scope| {
        for (kind, session) in &mut sessions {
            let expected = &expected;
            scope.spawn(move || (0..20).for_each(|_| assert_eq!(bits(session), *expected, "{kind}")));
        }
    });
}

#[test]
fn threads_are_as_many_as_a_network_can_use() {
    let threads =
        |model: &Model, options: EngineOptions| engine(model, &options).expect("an engine").threads();
    let (tiny, large) = (model(Architecture::Tiny, 8), model(Architecture::ResNet18, 112));
    let pool = |threads| Pool::new(&PoolOptions::new().threads(threads)).expect("a pool");
    assert_eq!(threads(&tiny, EngineOptions::new()), 1);
    assert_eq!(threads(&tiny, EngineOptions::new().pool(&pool(7))), 1);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    assert!((1..=processors).contains(&threads(&large, EngineOptions::new())));
    let eight = threads(&large, EngineOptions::new().pool(&pool(7)));
    assert!((3..=8).contains(&eight), "{eight} of 8");
    assert_eq!(threads(&large, EngineOptions::new().pool(&pool(1))), 2);
    // What is asked for is had.
    assert_eq!(threads(&tiny, EngineOptions::new().threads(3)), 3);
    assert_eq!(threads(&tiny, EngineOptions::new().threads(3).pool(&pool(1))), 2);
    assert_eq!(threads(&tiny, EngineOptions::new().threads(3).executor(Arc::new(Threads))), 3);
}

#[test]
fn what_cannot_be_had_of_threads_is_refused() {
    let model = model(Architecture::Tiny, 8);
    let pool = Pool::new(&PoolOptions::new().threads(1)).expect("a pool");
    let two = || EngineOptions::new().threads(2);
    let panics = |_: usize| std::panic::resume_unwind(Box::new("a seeded fault"));
    let cases = [
        (two().threads(1025), "threads", "from 1 to 1024", "1025"),
        (two().pool(&pool).affinity(Affinity::Inherit), "threads", "left to the pool", "beside it"),
        (two().executor(Arc::new(Inline)).thread_start(|_| {}), "threads", "left to the pool", "beside it"),
        (two().affinity(Affinity::Pinned(vec![])), "affinity", "processors to pin to", "none"),
        (two().affinity(Affinity::Pinned(vec![0, 8191])), "affinity", "processor 8191", ""),
        (two().affinity(Affinity::Pinned(vec![8192])), "affinity", "processor 8192", ""),
        (two().thread_start(panics), "thread start", "a function that returns", "a panic"),
    ];
    for (options, place, expected, found) in cases {
        let error = engine(&model, &options).and_then(|engine| engine.session()).expect_err(place);
        assert_eq!((error.kind(), error.place()), (ErrorKind::Input, place), "{error}");
        assert!(error.expected().contains(expected) && error.found().contains(found), "{error}");
    }
    let pools = [
        (PoolOptions::new().threads(1024), "threads"),
        (PoolOptions::new().threads(1).thread_start(panics), "thread start"),
        (PoolOptions::new().threads(1).affinity(Affinity::Pinned(vec![8191])), "affinity"),
    ];
    for (options, place) in pools {
        let error = Pool::new(&options).expect_err(place);
        assert_eq!((error.kind(), error.place()), (ErrorKind::Input, place), "{error}");
    }
}

#[test]
fn every_thread_of_a_session_and_of_a_pool_begins_with_the_callers_function() {
    let model = model(Architecture::Tiny, 8);
    let begun = Arc::new(Mutex::new(Vec::new()));
    let start = || {
        let begun = Arc::clone(&begun);
        move |number| begun.lock().expect("no panic").push(number)
    };
    let begun = || {
        let mut begun = std::mem::take(&mut *begun.lock().expect("no panic"));
        begun.sort_unstable();
        begun
    };
    let _session = session(&model, &EngineOptions::new().threads(4).thread_start(start()));
    assert_eq!(begun(), [0, 1, 2]);
    let pool = Pool::new(&PoolOptions::new().threads(2).thread_start(start())).expect("a pool");
    assert_eq!(begun(), [0, 1]);
    let _sessions = [(); 3].map(|()| session(&model, &EngineOptions::new().threads(3).pool(&pool)));
    assert_eq!(begun(), [0; 0], "sessions share the pool's threads");
}

/// One run more of many: each thread that an executor gives has begun late, or never.
#[test]
fn a_run_waits_for_no_help_that_has_not_begun() {
    #[derive(Default)]
    struct Never(Mutex<Vec<Help>>, AtomicUsize);
    impl Executor for Never {
        fn spawn(&self, help: Help) {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.lock().expect("no panic").push(help);
        }
    }
    let model = model(Architecture::MobileNet, 32);
    let expected = bits(&mut session(&model, &EngineOptions::new().threads(1)));
    let never = Arc::new(Never::default());
    let mut session = session(&model, &EngineOptions::new().threads(4).executor(Arc::clone(&never) as _));
    for _ in 0..10 {
        assert_eq!(bits(&mut session), expected);
    }
    assert_eq!(never.1.load(Ordering::Relaxed), 3, "helps that have not come back are not asked for again");
    let helps = std::mem::take(&mut *never.0.lock().expect("no panic"));
    drop(session);
    // Their session is gone.
    helps.into_iter().for_each(Help::run);
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    /// This thread's processors.
    fn processors() -> Vec<usize> {
        // SAFETY: numbers; the kernel writes as many bytes.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &mut set), 0);
            (0..libc::CPU_SETSIZE as usize).filter(|&at| libc::CPU_ISSET(at, &set)).collect()
        }
    }

    fn pin(to: &[usize]) {
        // SAFETY: as above.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            to.iter().for_each(|&at| libc::CPU_SET(at, &mut set));
            assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
        }
    }

    #[test]
    fn threads_run_where_the_process_may_whatever_the_caller_is_pinned_to() {
        let all = processors();
        let last = *all.last().expect("a processor");
        let model = model(Architecture::Tiny, 8);
        let cases = [
            (Affinity::Process, vec![all.clone(); 3]),
            (Affinity::Inherit, vec![vec![all[0]]; 3]),
            (Affinity::Pinned(vec![last]), vec![vec![last]; 3]),
            (Affinity::Pinned(vec![last, all[0]]), vec![vec![last], vec![all[0]], vec![last]]),
        ];
        pin(&all[..1]);
        for (affinity, expected) in cases {
            for pooled in [false, true] {
                let seen = Arc::new(Mutex::new(vec![Vec::new(); 3]));
                let look = {
                    let seen = Arc::clone(&seen);
                    move |number: usize| seen.lock().expect("no panic")[number] = processors()
                };
                let affinity = affinity.clone();
                let options = EngineOptions::new().threads(4);
                let options = match pooled {
                    false => options.affinity(affinity.clone()).thread_start(look),
                    true => {
                        let pool =
                            PoolOptions::new().threads(3).affinity(affinity.clone()).thread_start(look);
                        options.pool(&Pool::new(&pool).expect("a pool"))
                    }
                };
                bits(&mut session(&model, &options));
                assert_eq!(*seen.lock().expect("no panic"), expected, "{affinity:?}, pooled: {pooled}");
            }
        }
        assert_eq!(processors(), all[..1], "the caller's own thread stays where it is");
        if all.len() > 1 {
            let large = super::model(Architecture::ResNet18, 112);
            let threads = engine(&large, &EngineOptions::new()).expect("an engine").threads();
            assert!(threads > 1, "a network that can use them has threads of a process with processors");
            let inherit = EngineOptions::new().affinity(Affinity::Inherit);
            assert_eq!(engine(&large, &inherit).expect("an engine").threads(), 1);
        } else {
            eprintln!("one processor: that more than one are counted for a pinned caller is not shown here");
        }
        pin(&all);
    }

    static STOPPED: AtomicBool = AtomicBool::new(false);
    const STOP: Duration = Duration::from_secs(2);

    /// Holds the thread that gets the signal, wherever it is.
    extern "C" fn hold(_: libc::c_int) {
        STOPPED.store(true, Ordering::Relaxed);
        let time = libc::timespec { tv_sec: STOP.as_secs() as _, tv_nsec: 0 };
        // SAFETY: may be called in a handler.
        unsafe { libc::nanosleep(&time, std::ptr::null_mut()) };
    }

    #[test]
    fn no_run_waits_for_a_thread_that_is_stopped() {
        // SAFETY: the handler only sleeps, and system calls that it interrupts go on.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = hold as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        }
        let model = model(Architecture::MobileNet, 32);
        for spin in [Duration::ZERO, Duration::from_micros(200), Duration::MAX] {
            let worker = Arc::new(AtomicUsize::new(0));
            let start = {
                let worker = Arc::clone(&worker);
                // SAFETY: asks for this thread's number.
                move |_| worker.store(unsafe { libc::gettid() } as usize, Ordering::Relaxed)
            };
            let options = EngineOptions::new().threads(2).spin(spin).thread_start(start);
            let mut session = session(&model, &options);
            let expected = bits(&mut session);
            // Between two runs the worker has nothing to do.
            std::thread::sleep(Duration::from_millis(20));
            STOPPED.store(false, Ordering::Relaxed);
            let thread = worker.load(Ordering::Relaxed) as libc::pid_t;
            // SAFETY: the worker lives as long as the session.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR1) };
            let stopped = Instant::now();
            while !STOPPED.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            for _ in 0..5 {
                assert_eq!(bits(&mut session), expected);
            }
            let took = stopped.elapsed();
            assert!(took < STOP / 2, "five runs took {took:?} with one of two threads stopped for {STOP:?}");
        }
    }

    /// Runs `child` in a forked process; none where it has not ended after so long.
    fn forked(child: impl FnOnce() -> i32) -> Option<i32> {
        // SAFETY: the child uses what it has, and ends without the parent's tests.
        let process = unsafe { libc::fork() };
        assert!(process >= 0);
        if process == 0 {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(99);
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(code) };
        }
        let begun = Instant::now();
        let mut status = 0;
        // SAFETY: the child's own number.
        while unsafe { libc::waitpid(process, &mut status, libc::WNOHANG) } == 0 {
            if begun.elapsed() > Duration::from_secs(20) {
                // SAFETY: as above.
                unsafe { libc::kill(process, libc::SIGKILL) };
                unsafe { libc::waitpid(process, &mut status, 0) };
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 })
    }

    #[test]
    fn a_forked_process_is_told_that_the_threads_have_stayed_behind() {
        let model = model(Architecture::Tiny, 8);
        let pool = Pool::new(&PoolOptions::new().threads(1)).expect("a pool");
        let two = || EngineOptions::new().threads(2);
        for (kind, options, other) in [
            ("own", two(), true),
            ("a pool", two().pool(&pool), false),
            ("an executor", two().executor(Arc::new(Threads)), true),
            ("alone", EngineOptions::new().threads(1), true),
        ] {
            let engine = engine(&model, &options).expect("an engine");
            let mut session = Some(engine.session().expect("a session"));
            let expected = bits(session.as_mut().expect("a session"));
            let image = image(session.as_ref().expect("a session"));
            let run = |session: &mut Session| match session.run(&image) {
                Ok(_) => 1,
                Err(error) if error.kind() == ErrorKind::Poisoned && error.place() == "session" => 2,
                Err(_) => 3,
            };
            let runs = if kind == "alone" { 1 } else { 2 };
            assert_eq!(forked(|| run(session.as_mut().expect("a session"))), Some(runs), "{kind}");
            let twice = || {
                let session = session.as_mut().expect("a session");
                run(session);
                run(session)
            };
            assert_eq!(forked(twice), Some(runs), "{kind}: again");
            let drops = || {
                drop(session.take());
                0
            };
            assert_eq!(forked(drops), Some(0), "{kind}: dropped in the child");
            let again = || match engine.session() {
                Ok(mut session) => i32::from(bits(&mut session) == expected),
                Err(error) if error.kind() == ErrorKind::Poisoned && error.place() == "pool" => 2,
                Err(_) => 3,
            };
            assert_eq!(forked(again), Some(if other { 1 } else { 2 }), "{kind}: a session of the child's");
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod float_environment {
    use super::*;
    use std::arch::asm;

    fn read() -> u32 {
        let mut control = 0;
        // SAFETY: writes four bytes.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut control) };
        control
    }

    fn write(control: u32) {
        // SAFETY: a value without reserved bits.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const control) };
    }

    /// Everything from the file on, in the host's environment or in the default.
    #[test]
    fn the_hosts_environment_changes_no_result_and_stays() {
        const DEFAULT: u32 = 0x1f80;
        let hosts = [
            ("flush and denormals are zero", 0x9fc0),
            ("upward", 0x5f80),
            ("downward", 0x3f80),
            ("to zero", 0x7f80),
            ("trapping", 0x0000),
        ];
        let before = read();
        let options = InitOptions::new().architecture(Architecture::MobileNet).size(32);
        let all = |threads: usize, load: u32, run: u32| {
            write(load);
            let bytes = init(&options).expect("a model file");
            let model = Model::from_bytes(&bytes).expect("a valid model");
            let mut session = session(&model, &EngineOptions::new().threads(threads));
            write(DEFAULT);
            // Tiny products of the first layer are subnormal.
            let image: Vec<f32> = image(&session).iter().map(|value| value * 1e-38).collect();
            let mut scores = Vec::new();
            for _ in 0..10 {
                write(run);
                let predictions = session.run(&image).expect("a run");
                let kept = read();
                write(DEFAULT);
                assert_eq!(kept & 0xffc0, run & 0xffc0);
                let logits = predictions.head("au").expect("a head").logits;
                scores.push(logits.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>());
                scores.push(bits(&mut session));
            }
            scores
        };
        let expected = all(1, DEFAULT, DEFAULT);
        for threads in 1..=4 {
            for (what, host) in hosts {
                for (load, run) in [(host, DEFAULT), (DEFAULT, host), (host, host)] {
                    assert!(
                        all(threads, load, run) == expected,
                        "{what}, {threads} threads: {load:#x}, {run:#x}"
                    );
                }
            }
        }
        write(before);
    }
}
