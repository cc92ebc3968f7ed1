//! Sessions: one caller's memory and threads, and the runs.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

use super::engine::awsnet_engine;
use super::guard::{Handle, Poison, destroy, guard_handle};
use super::pointers::{Versioned, check, read_struct, slice};
use super::status::{
    AWSNET_STATUS_BUFFER_TOO_SMALL, AWSNET_STATUS_BUSY, Failure, awsnet_error, awsnet_status,
};
use crate::{Branch, Predictions, Session};

/// Where the results of a run go: awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT; Each array has one element a
/// branch, by AWSNET_BRANCH_*. A buffer holds the scores of image 0, then those of image 1, and so on: [images][labels].
/// It is written only where the run succeeds, and is the caller's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awsnet_predictions {
    /// sizeof(awsnet_predictions)
    pub struct_size: u32,
    /// 0
    pub reserved: u32,
    /// Scores before softmax or sigmoid; NULL for none.
    pub logits: [*mut f32; 2],
    /// Scores from 0 to 1; NULL for none.
    pub probabilities: [*mut f32; 2],
    /// Floats that each buffer of the branch has room for.
    pub capacity: [usize; 2],
}

// SAFETY: `repr(C)`, integers and pointers only, the size first.
unsafe impl Versioned for awsnet_predictions {
    const FIRST_SIZE: usize = 8 + 6 * size_of::<usize>();
}

/// One caller's memory and threads. Any thread may use it, one at a time.
pub struct awsnet_session {
    poison: Poison,
    /// Set while a call uses `session`, and for ever by the call that destroys it.
    busy: AtomicBool,
    session: UnsafeCell<Session>,
    image_len: usize,
    batch: usize,
    label_count: [usize; 2],
}

impl Handle for awsnet_session {
    const NAME: &'static str = "session";

    fn poison(&self) -> &Poison {
        &self.poison
    }

    fn retire(&self) -> Result<(), Failure> {
        self.claim()
    }
}

/// Makes a session: the memory and the threads of one run at a time. The engine may be destroyed before it.
///
/// AWSNET_STATUS_MEMORY: not enough for the feature maps.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_session_create(
    engine: *const awsnet_engine,
    session: *mut *mut awsnet_session,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |engine: &awsnet_engine| {
        check(session, "session")?;
        let plan = engine.engine.plan();
        let created = Box::new(awsnet_session {
            poison: Poison::default(),
            busy: AtomicBool::new(false),
            image_len: plan.input().shape.len(),
            batch: plan.batch(),
            label_count: Branch::BOTH.map(|branch| plan.labels(branch).len()),
            session: UnsafeCell::new(engine.engine.session()?),
        });
        // SAFETY: checked above; writable by the caller's word.
        unsafe { session.write(Box::into_raw(created)) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(engine, error, body) }
}

/// Runs the network on images of floats, [N][channels][height][width], normalised as awsnet_engine_info says. Returns when
/// the results are there.
///
/// images: len floats, which is N images; N from 1 to the engine's batch.
/// predictions: where the results go.
///
/// AWSNET_STATUS_BUFFER_TOO_SMALL: the message says how many floats there are.
/// AWSNET_STATUS_BUSY: the session is running on another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_session_run(
    session: *mut awsnet_session,
    images: *const f32,
    len: usize,
    predictions: *const awsnet_predictions,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |session: &awsnet_session| {
        // SAFETY: by the caller's word.
        let images = unsafe { slice(images, len, "images") }?;
        // SAFETY: by the caller's word.
        let outputs = unsafe { Outputs::new(predictions) }?;
        outputs.check(session, images.len() / session.image_len)?;
        let mut entered = session.enter()?;
        let predictions = entered.session().run(images)?;
        // SAFETY: `check` has found room for all images; the buffers are the caller's.
        unsafe { outputs.write(&predictions) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(session, error, body) }
}

/// Frees a session; NULL is none.
///
/// AWSNET_STATUS_BUSY: it is running on another thread, and goes on; nothing is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_session_destroy(session: *mut awsnet_session) -> awsnet_status {
    // SAFETY: by the caller's word.
    unsafe { destroy(session) }
}

impl awsnet_session {
    fn claim(&self) -> Result<(), Failure> {
        if self.busy.swap(true, Ordering::Acquire) {
            let found = "one that is running on another thread";
            return Err(Failure::new(AWSNET_STATUS_BUSY, "session", "an idle session", found));
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Release);
    }

    fn enter(&self) -> Result<Entered<'_>, Failure> {
        self.claim()?;
        let entered = Entered(self);
        // Whoever held it before may have panicked after this call looked.
        self.poison.check(Self::NAME)?;
        Ok(entered)
    }
}

/// A session that this thread has to itself.
struct Entered<'a>(&'a awsnet_session);

impl Entered<'_> {
    fn session(&mut self) -> &mut Session {
        // SAFETY: `busy` was clear and is set; nobody else gets here until it is cleared on drop.
        unsafe { &mut *self.0.session.get() }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison.set();
        }
        self.0.busy.store(false, Ordering::Release);
    }
}

/// The caller's buffers.
struct Outputs(awsnet_predictions);

impl Outputs {
    /// # Safety
    ///
    /// As for [`read_struct`].
    unsafe fn new(predictions: *const awsnet_predictions) -> Result<Self, Failure> {
        // SAFETY: passed on.
        let predictions = unsafe { read_struct(predictions, "predictions") }?;
        if predictions.reserved != 0 {
            let found = predictions.reserved.to_string();
            return Err(Failure::argument("predictions.reserved", "0", &found));
        }
        Ok(Outputs(predictions))
    }

    /// Whether the buffers are aligned and have room for `count` images, as far as a run could take as many.
    fn check(&self, session: &awsnet_session, count: usize) -> Result<(), Failure> {
        for branch in Branch::BOTH.map(|branch| branch as usize) {
            let needed = count.min(session.batch) * session.label_count[branch];
            for buffer in [self.0.logits[branch], self.0.probabilities[branch]] {
                if buffer.is_null() {
                    continue;
                }
                check(buffer, "predictions")?;
                if self.0.capacity[branch] < needed {
                    let place = format!("predictions.capacity[{branch}]");
                    let expected = format!("room for {needed} floats");
                    let found = self.0.capacity[branch].to_string();
                    return Err(Failure::new(AWSNET_STATUS_BUFFER_TOO_SMALL, &place, &expected, &found));
                }
            }
        }
        Ok(())
    }

    /// # Safety
    ///
    /// [`check`](Self::check) has been passed for as many images.
    unsafe fn write(&self, predictions: &Predictions<'_>) {
        for branch in Branch::BOTH {
            let scores = predictions.scores(branch);
            let buffers = [self.0.logits[branch as usize], self.0.probabilities[branch as usize]];
            for (to, from) in buffers.into_iter().zip([scores.logits, scores.probabilities]) {
                if !to.is_null() {
                    // SAFETY: room by the function's contract; `from` is the session's own memory.
                    unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
                }
            }
        }
    }
}

// Handles go from thread to thread, and engines are used by several at once.
const _: fn() = || {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Session>();
    is_sync::<awsnet_engine>();
};
