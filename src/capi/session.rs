//! Sessions: one caller's memory and threads, and the runs.

use std::ffi::c_void;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::engine::{awsnet_engine, awsnet_head};
use super::exclusive::{Entered, Exclusive};
use super::failure::{AWSNET_STATUS_BUFFER_TOO_SMALL, Failure, awsnet_error, awsnet_status};
use super::guard::{Handle, Poison, destroy, guard_handle};
use super::pointers::{Versioned, check, read_struct, slice};
use crate::cuda::{DeviceImages, DevicePredictions, PixelFormat, Stream};
use crate::{ImagesU8, Predictions, RunOptions, Session, Shape};

/// Where the results of a run go: awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT; Each array has one element for
/// each of the first two heads, by AWSNET_BRANCH_* in an AWS-Net; awsnet_session_scores gives the results of any head. A buffer
/// holds the scores of image 0, then those of image 1, and so on: [images][numbers]. It is written only where the run
/// succeeds, and is the caller's.
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
    /// Floats that each buffer of the head has room for.
    pub capacity: [usize; 2],
}

// SAFETY: `repr(C)`, integers and pointers only, the size first.
unsafe impl Versioned for awsnet_predictions {
    const FIRST_SIZE: usize = 8 + 6 * size_of::<usize>();
}

/// 8-bit images as a camera or a decoder gives them, [count][height][width][channels]: awsnet_images_u8 images =
/// AWSNET_IMAGES_U8_INIT;
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awsnet_images_u8 {
    /// sizeof(awsnet_images_u8)
    pub struct_size: u32,
    /// 0
    pub reserved: u32,
    /// The first row of the first image.
    pub pixels: *const u8,
    /// Bytes from there to the end of the last row of the last image, or more.
    pub size: usize,
    /// The number of images, from 1 to the engine's batch.
    pub count: usize,
    /// Bytes from one row to the next; 0 where there is nothing between rows.
    pub row_stride: usize,
    /// Bytes from one image to the next; 0 where there is nothing between images.
    pub image_stride: usize,
}

// SAFETY: `repr(C)`, integers and a pointer only, the size first.
unsafe impl Versioned for awsnet_images_u8 {
    const FIRST_SIZE: usize = 8 + 5 * size_of::<usize>();
}

/// What a run keeps to: awsnet_run_options options = AWSNET_RUN_OPTIONS_INIT;
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awsnet_run_options {
    /// sizeof(awsnet_run_options)
    pub struct_size: u32,
    /// 0
    pub reserved: u32,
    /// Microseconds after the call when the run gives up with AWSNET_STATUS_DEADLINE; 0 for never.
    pub timeout_us: u64,
    /// A flag by which another thread ends the run with AWSNET_STATUS_CANCELLED; NULL for none. It is read atomically, and
    /// stays as it is: the caller clears it for the next run. On a GPU it is read before the work is queued, and not again.
    pub cancel: *const bool,
}

// SAFETY: `repr(C)`, integers and a pointer only, the size first.
unsafe impl Versioned for awsnet_run_options {
    const FIRST_SIZE: usize = 16 + size_of::<usize>();
}

/// How pixels lie in device memory: one of AWSNET_PIXELS_*.
pub type awsnet_pixels = i32;

/// Floats, [count][channels][height][width], normalised as awsnet_engine_info says.
pub const AWSNET_PIXELS_F32: i32 = 0;
/// Bytes, [count][height][width][channels]; the device normalises them.
pub const AWSNET_PIXELS_U8: i32 = 1;

/// Images in device memory: awsnet_device_images images = AWSNET_DEVICE_IMAGES_INIT;
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awsnet_device_images {
    /// sizeof(awsnet_device_images)
    pub struct_size: u32,
    /// How the pixels lie.
    pub format: awsnet_pixels,
    /// The address of the first, in device memory; of floats a multiple of 4.
    pub pixels: *const c_void,
    /// The number of images, from 1 to the engine's batch.
    pub count: usize,
    /// For AWSNET_PIXELS_U8, as in awsnet_images_u8; else 0.
    pub row_stride: usize,
    /// For AWSNET_PIXELS_U8, as in awsnet_images_u8; else 0.
    pub image_stride: usize,
}

// SAFETY: `repr(C)`, integers and a pointer only, the size first.
unsafe impl Versioned for awsnet_device_images {
    const FIRST_SIZE: usize = 8 + 4 * size_of::<usize>();
}

/// One caller's memory and threads. Any thread may use it, one at a time.
pub struct awsnet_session {
    poison: Poison,
    session: Exclusive<Session>,
    input: Shape,
    batch: usize,
    /// Numbers that each head gives.
    counts: Vec<usize>,
}

impl Handle for awsnet_session {
    const NAME: &'static str = "session";

    fn poison(&self) -> &Poison {
        &self.poison
    }

    fn retire(&self) -> Result<(), Failure> {
        self.session.claim(Self::NAME)
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
            input: plan.input().shape,
            batch: plan.batch(),
            counts: engine.counts(),
            session: Exclusive::new(engine.engine.session()?),
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
/// AWSNET_STATUS_INVALID_ARGUMENT: a length that is no whole number of images, or too many.
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
        unsafe { run_floats(session, images, len, RunOptions::new(), predictions) }
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(session, error, body) }
}

/// As awsnet_session_run, and gives up timeout_us microseconds after the call.
///
/// AWSNET_STATUS_DEADLINE: a CPU has looked at the clock between pieces of work of a fraction of a millisecond, and the
/// session works on. Work on a GPU cannot be taken back, so the engine is poisoned, and what the device may still use is
/// never freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_session_run_within(
    session: *mut awsnet_session,
    images: *const f32,
    len: usize,
    timeout_us: u64,
    predictions: *const awsnet_predictions,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |session: &awsnet_session| {
        // SAFETY: by the caller's word.
        unsafe { run_floats(session, images, len, within(timeout_us), predictions) }
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(session, error, body) }
}

/// As awsnet_session_run, with options; NULL for none.
///
/// AWSNET_STATUS_DEADLINE: as for awsnet_session_run_within.
/// AWSNET_STATUS_CANCELLED: the flag was set; the session works on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_session_run_with(
    session: *mut awsnet_session,
    images: *const f32,
    len: usize,
    options: *const awsnet_run_options,
    predictions: *const awsnet_predictions,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |session: &awsnet_session| {
        // SAFETY: by the caller's word.
        unsafe { run_floats(session, images, len, to_run_options(options)?, predictions) }
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(session, error, body) }
}

/// Runs the network on 8-bit images, which it normalises. Returns when the results are there; else as awsnet_session_run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_session_run_u8(
    session: *mut awsnet_session,
    images: *const awsnet_images_u8,
    predictions: *const awsnet_predictions,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |session: &awsnet_session| {
        // SAFETY: by the caller's word.
        unsafe { run_bytes(session, images, RunOptions::new(), predictions) }
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(session, error, body) }
}

/// The results of the last run for one head: logits and probabilities, [images][numbers], as many images as ran.
///
/// head: as in awsnet_engine_head. logits, probabilities: NULL for what is not wanted.
/// capacity: floats that each buffer has room for.
/// count: the number of images, written where it is not NULL.
///
/// AWSNET_STATUS_INVALID_ARGUMENT: nothing has run yet, or the last run failed or was queued on a stream.
/// AWSNET_STATUS_BUFFER_TOO_SMALL: the message says how many floats there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_session_scores(
    session: *mut awsnet_session,
    head: awsnet_head,
    logits: *mut f32,
    probabilities: *mut f32,
    capacity: usize,
    count: *mut usize,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |session: &awsnet_session| {
        let entered = session.enter()?;
        let predictions = entered.predictions().ok_or_else(|| {
            Failure::argument("session", "one whose last run gave results", "none of those")
        })?;
        let scores = usize::try_from(head).ok().and_then(|head| predictions.heads().nth(head));
        let scores = scores.ok_or_else(|| {
            let expected = format!("from 0 to {}", predictions.heads().len() - 1);
            Failure::argument("head", &expected, &head.to_string())
        })?;
        let buffers = [(logits, scores.logits), (probabilities, scores.probabilities)];
        for (to, from) in buffers.into_iter().filter(|(to, _)| !to.is_null()) {
            check(to, "logits, probabilities")?;
            if capacity < from.len() {
                let (expected, found) = (format!("room for {} floats", from.len()), capacity.to_string());
                return Err(Failure::new(AWSNET_STATUS_BUFFER_TOO_SMALL, "capacity", &expected, &found));
            }
        }
        for (to, from) in buffers.into_iter().filter(|(to, _)| !to.is_null()) {
            // SAFETY: there is room by the caller's word and the check above; `from` is the session's own memory.
            unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        }
        if !count.is_null() {
            check(count, "count")?;
            // SAFETY: writable by the caller's word.
            unsafe { count.write(predictions.len()) };
        }
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(session, error, body) }
}

/// As awsnet_session_run_u8, with options, as awsnet_session_run_with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_session_run_u8_with(
    session: *mut awsnet_session,
    images: *const awsnet_images_u8,
    options: *const awsnet_run_options,
    predictions: *const awsnet_predictions,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |session: &awsnet_session| {
        // SAFETY: by the caller's word.
        unsafe { run_bytes(session, images, to_run_options(options)?, predictions) }
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(session, error, body) }
}

/// A run that gives up so long from now.
fn within(timeout_us: u64) -> RunOptions<'static> {
    let deadline = Instant::now().checked_add(Duration::from_micros(timeout_us));
    // One that is none is later than any clock goes.
    deadline.map_or_else(RunOptions::new, |deadline| RunOptions::new().deadline(deadline))
}

/// # Safety
///
/// As for [`read_struct`]; the flag is there until the run ends.
unsafe fn to_run_options<'a>(options: *const awsnet_run_options) -> Result<RunOptions<'a>, Failure> {
    if options.is_null() {
        return Ok(RunOptions::new());
    }
    // SAFETY: passed on.
    let options = unsafe { read_struct(options, "options") }?;
    check_reserved("options.reserved", options.reserved)?;
    let run = if options.timeout_us == 0 { RunOptions::new() } else { within(options.timeout_us) };
    if options.cancel.is_null() {
        return Ok(run);
    }
    // SAFETY: a byte, which the library reads as one; passed on.
    Ok(run.cancel(unsafe { AtomicBool::from_ptr(options.cancel.cast_mut()) }))
}

/// Runs floats.
///
/// # Safety
///
/// Everything is as the caller of the export has promised.
unsafe fn run_floats(
    session: &awsnet_session,
    images: *const f32,
    len: usize,
    options: RunOptions<'_>,
    predictions: *const awsnet_predictions,
) -> Result<(), Failure> {
    // SAFETY: passed on.
    let images = unsafe { slice(images, len, "images") }?;
    // SAFETY: passed on.
    let outputs = unsafe { Outputs::new(predictions, session, len / session.image_len()) }?;
    let mut entered = session.enter()?;
    outputs.write(&entered.run_with(images, options)?);
    Ok(())
}

/// Runs bytes.
///
/// # Safety
///
/// As for [`run_floats`].
unsafe fn run_bytes(
    session: &awsnet_session,
    images: *const awsnet_images_u8,
    options: RunOptions<'_>,
    predictions: *const awsnet_predictions,
) -> Result<(), Failure> {
    // SAFETY: passed on.
    let images = unsafe { read_struct(images, "images") }?;
    check_reserved("images.reserved", images.reserved)?;
    // SAFETY: passed on.
    let pixels = unsafe { slice(images.pixels, images.size, "images.pixels") }?;
    let (row_stride, image_stride) = session.strides(images.row_stride, images.image_stride);
    // SAFETY: passed on.
    let outputs = unsafe { Outputs::new(predictions, session, images.count) }?;
    let mut entered = session.enter()?;
    let Shape { channels, height, width } = session.input;
    let images = ImagesU8::new(pixels, width, height, channels)
        .count(images.count)
        .row_stride(row_stride)
        .image_stride(image_stride);
    outputs.write(&entered.run_with(images, options)?);
    Ok(())
}

/// Queues a run on a CUDA stream and returns at once; for an engine on AWSNET_DEVICE_CUDA. It does not wait for the
/// device. It allocates where format, count and addresses are none of the last 16 that the session has seen, and nothing
/// otherwise: a graph is captured for them. On a stream that is being captured, the kernels join the caller's graph, which
/// must not outlive the session.
///
/// stream: a CUstream or a cudaStream_t of the primary context of the engine's device; NULL is the default stream.
/// images: where the pixels will be when the stream gets there.
/// predictions: addresses in device memory, multiples of 4.
///
/// Until the stream has done the work, the addresses stay valid and the session is not destroyed; the session's next run,
/// of whatever kind, is queued in the same stream or waits for it. What goes wrong on the device shows in a later call of
/// whoever waits for the stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_session_enqueue(
    session: *mut awsnet_session,
    stream: *mut c_void,
    images: *const awsnet_device_images,
    predictions: *const awsnet_predictions,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |session: &awsnet_session| {
        // SAFETY: by the caller's word.
        let images = unsafe { read_struct(images, "images") }?;
        let images = to_device_images(session, images)?;
        // SAFETY: by the caller's word.
        let outputs = unsafe { Outputs::new(predictions, session, images.count) }?;
        let mut entered = session.enter()?;
        // SAFETY: the conditions of Session::enqueue are those that the caller of this function promises.
        unsafe { entered.enqueue(Stream(stream), images, &outputs.addresses()) }?;
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
    fn image_len(&self) -> usize {
        self.input.len()
    }

    /// Bytes from row to row and from image to image; 0 is dense.
    fn strides(&self, row_stride: usize, image_stride: usize) -> (usize, usize) {
        let row_stride = if row_stride == 0 { self.input.width * self.input.channels } else { row_stride };
        let dense = row_stride.saturating_mul(self.input.height);
        (row_stride, if image_stride == 0 { dense } else { image_stride })
    }

    #[cfg(test)]
    pub(super) fn set_busy(&self, busy: bool) {
        self.session.set_busy(busy);
    }

    fn enter(&self) -> Result<Entered<'_, Session, Self>, Failure> {
        self.session.enter(self)
    }
}

fn check_reserved(place: &str, reserved: u32) -> Result<(), Failure> {
    match reserved {
        0 => Ok(()),
        other => Err(Failure::argument(place, "0", &other.to_string())),
    }
}

fn to_device_images(session: &awsnet_session, images: awsnet_device_images) -> Result<DeviceImages, Failure> {
    let format = match images.format {
        AWSNET_PIXELS_F32 if images.row_stride != 0 || images.image_stride != 0 => {
            return Err(Failure::argument("images", "strides of 0 with AWSNET_PIXELS_F32", "others"));
        }
        AWSNET_PIXELS_F32 => PixelFormat::F32,
        AWSNET_PIXELS_U8 => {
            let (row_stride, image_stride) = session.strides(images.row_stride, images.image_stride);
            PixelFormat::U8 { row_stride, image_stride }
        }
        unknown => {
            let expected = "one of AWSNET_PIXELS_*";
            return Err(Failure::argument("images.format", expected, &unknown.to_string()));
        }
    };
    Ok(DeviceImages::new(images.pixels.addr() as u64, format, images.count))
}

/// The caller's buffers, on the host or on a device.
struct Outputs(awsnet_predictions);

impl Outputs {
    /// The buffers, aligned and with room for `count` images of the session, as far as a run could take as many.
    ///
    /// # Safety
    ///
    /// As for [`read_struct`]; the buffers have the room that the struct says.
    unsafe fn new(
        predictions: *const awsnet_predictions,
        session: &awsnet_session,
        count: usize,
    ) -> Result<Self, Failure> {
        // SAFETY: passed on.
        let outputs = unsafe { read_struct(predictions, "predictions") }?;
        check_reserved("predictions.reserved", outputs.reserved)?;
        for head in 0..2 {
            for buffer in [outputs.logits[head], outputs.probabilities[head]] {
                if buffer.is_null() {
                    continue;
                }
                check(buffer, "predictions")?;
                let Some(numbers) = session.counts.get(head) else {
                    let expected = format!("NULL, as the model has {} head", session.counts.len());
                    return Err(Failure::argument("predictions", &expected, "a buffer for another"));
                };
                let needed = count.min(session.batch).saturating_mul(*numbers);
                if outputs.capacity[head] < needed {
                    let place = format!("predictions.capacity[{head}]");
                    let expected = format!("room for {needed} floats");
                    let found = outputs.capacity[head].to_string();
                    return Err(Failure::new(AWSNET_STATUS_BUFFER_TOO_SMALL, &place, &expected, &found));
                }
            }
        }
        Ok(Outputs(outputs))
    }

    /// Copies the results of as many images into the buffers, which are on the host.
    fn write(&self, predictions: &Predictions<'_>) {
        for (head, scores) in predictions.heads().enumerate().take(2) {
            let buffers = [self.0.logits[head], self.0.probabilities[head]];
            for (to, from) in buffers.into_iter().zip([scores.logits, scores.probabilities]) {
                if !to.is_null() {
                    // SAFETY: `new` has found room for all images; `from` is the session's own memory.
                    unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
                }
            }
        }
    }

    /// The buffers, which are on a device.
    fn addresses(&self) -> DevicePredictions {
        (0..2).fold(DevicePredictions::new(), |predictions, head| {
            let address = |buffers: [*mut f32; 2]| buffers[head].addr() as u64;
            predictions
                .logits(head, address(self.0.logits))
                .probabilities(head, address(self.0.probabilities))
        })
    }
}

// Handles go from thread to thread, and engines are used by several at once.
const _: fn() = || {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Session>();
    is_sync::<awsnet_engine>();
};
