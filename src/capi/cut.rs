//! A face cut out of a frame as an engine's network wants it.

use super::detector::awsnet_face;
use super::engine::awsnet_engine;
use super::failure::{AWSNET_STATUS_BUFFER_TOO_SMALL, Failure, awsnet_error, awsnet_status};
use super::frame::{awsnet_frame, to_frame};
use super::guard::guard_handle;
use super::pointers::{check, shared};
use crate::face::cut;
use crate::image::{Picture, normalise};

/// Cuts a face out of a frame as the model's file says (`face` in docs/model-format.md), or else as the square of 1.2 times
/// the longer side of the bounds, 0.05 of it higher; normalised, as awsnet_session_run takes it. What lies outside of the
/// frame is black; what shrinks is antialiased.
///
/// face: as awsnet_detector_detect has found it, or all zero but the bounds; models whose file names points need those.
/// image: receives an image, [channels][height][width] as awsnet_engine_info says.
/// len: floats that there is room for.
///
/// AWSNET_STATUS_INVALID_ARGUMENT: bounds without an area, or far from the frame; points that are missing or all one.
/// AWSNET_STATUS_BUFFER_TOO_SMALL: the message says how many floats there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_engine_cut(
    engine: *const awsnet_engine,
    frame: *const awsnet_frame,
    face: *const awsnet_face,
    image: *mut f32,
    len: usize,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |engine: &awsnet_engine| {
        let input = engine.engine.plan().input();
        check_room(image, "image", "len", len, input.shape.len(), "floats")?;
        // SAFETY: by the caller's word.
        let picture = unsafe { picture(engine, frame, face) }?;
        let mut floats = vec![0.0; input.shape.len()];
        normalise(&picture, &input.mean, &input.std, input.order, &mut floats)?;
        // SAFETY: there is room, by the check above and the caller's word; the floats are this call's.
        unsafe { image.copy_from_nonoverlapping(floats.as_ptr(), floats.len()) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(engine, error, body) }
}

/// As awsnet_engine_cut, for awsnet_session_run_u8: bytes, which the run normalises.
///
/// pixels: receives an image, [height][width][channels] as awsnet_engine_info says: red, green and blue, or luma.
/// size: bytes that there is room for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_engine_cut_u8(
    engine: *const awsnet_engine,
    frame: *const awsnet_frame,
    face: *const awsnet_face,
    pixels: *mut u8,
    size: usize,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |engine: &awsnet_engine| {
        let shape = engine.engine.plan().input().shape;
        check_room(pixels, "pixels", "size", size, shape.len(), "bytes")?;
        // SAFETY: by the caller's word.
        let picture = unsafe { picture(engine, frame, face) }?;
        let bytes = if shape.channels == 1 { picture.luma().collect() } else { picture.into_pixels() };
        // SAFETY: there is room, by the check above and the caller's word; the bytes are this call's.
        unsafe { pixels.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(engine, error, body) }
}

/// # Safety
///
/// As for [`to_frame`] and [`shared`].
unsafe fn picture(
    engine: &awsnet_engine,
    frame: *const awsnet_frame,
    face: *const awsnet_face,
) -> Result<Picture, Failure> {
    // SAFETY: passed on.
    let frame = unsafe { to_frame(frame) }?;
    // SAFETY: passed on.
    let face = unsafe { shared(face, "face") }?.to_face()?;
    Ok(cut(&frame, &face, engine.engine.plan().input())?)
}

/// Refuses a buffer without room for an image.
fn check_room<T>(
    buffer: *const T,
    name: &str,
    size_name: &str,
    size: usize,
    needed: usize,
    unit: &str,
) -> Result<(), Failure> {
    check(buffer, name)?;
    if size < needed {
        let (expected, found) = (format!("room for {needed} {unit}"), size.to_string());
        return Err(Failure::new(AWSNET_STATUS_BUFFER_TOO_SMALL, size_name, &expected, &found));
    }
    Ok(())
}
