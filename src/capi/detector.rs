//! Detectors: where the faces in a frame are.

use super::engine::{
    AWSNET_DEVICE_AUTO, AWSNET_DEVICE_CPU, AWSNET_DEVICE_CUDA, AWSNET_DEVICE_REFERENCE, awsnet_device,
};
use super::exclusive::Exclusive;
use super::failure::{Failure, awsnet_error, awsnet_status};
use super::frame::{awsnet_frame, to_frame};
use super::guard::{Handle, Poison, destroy, guard, guard_handle};
use super::model::awsnet_model;
use super::pointers::{Versioned, check, read_struct, shared};
use super::pool::{awsnet_pool, to_spin};
use crate::face::{Bounds, Detector, DetectorOptions, DetectorSession, Face, Points};
use crate::{Device, EngineOptions};

/// A point of a face, in awsnet_face.points: one of AWSNET_POINT_*. Left is the picture's left where the face stands upright.
pub type awsnet_point = i32;

/// The eye on the left.
pub const AWSNET_POINT_LEFT_EYE: i32 = 0;
/// The eye on the right.
pub const AWSNET_POINT_RIGHT_EYE: i32 = 1;
/// The tip of the nose.
pub const AWSNET_POINT_NOSE: i32 = 2;
/// The middle of the mouth.
pub const AWSNET_POINT_MOUTH: i32 = 3;
/// In front of the ear on the left.
pub const AWSNET_POINT_LEFT_EAR: i32 = 4;
/// In front of the ear on the right.
pub const AWSNET_POINT_RIGHT_EAR: i32 = 5;

/// A face in a frame, in pixels from the frame's upper left corner. Callers keep arrays of it: it has no size, and never changes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awsnet_face {
    /// The left side of its bounds, which reach about from the brows to the chin and from ear to ear, and may cross the
    /// frame's borders.
    pub x: f32,
    /// The upper side.
    pub y: f32,
    /// From the left side to the right.
    pub width: f32,
    /// From the upper side to the lower.
    pub height: f32,
    /// From 0 to 1, how sure the detector is.
    pub score: f32,
    /// 6; 0 for a face whose points are not known, which something else has found.
    pub point_count: u32,
    /// x and y of each point, by AWSNET_POINT_*.
    pub points: [[f32; 2]; 6],
    /// 0; what comes later stands here.
    pub reserved: [u32; 6],
}

impl awsnet_face {
    fn new(face: &Face) -> Self {
        let Bounds { x, y, width, height } = face.bounds;
        let points = face.points.map(|points| {
            let Points { left_eye, right_eye, nose, mouth, left_ear, right_ear } = points;
            let mut all = [[0.0; 2]; 6];
            all[AWSNET_POINT_LEFT_EYE as usize] = left_eye;
            all[AWSNET_POINT_RIGHT_EYE as usize] = right_eye;
            all[AWSNET_POINT_NOSE as usize] = nose;
            all[AWSNET_POINT_MOUTH as usize] = mouth;
            all[AWSNET_POINT_LEFT_EAR as usize] = left_ear;
            all[AWSNET_POINT_RIGHT_EAR as usize] = right_ear;
            all
        });
        awsnet_face {
            x,
            y,
            width,
            height,
            score: face.score,
            point_count: points.map_or(0, |points| points.len() as u32),
            points: points.unwrap_or_default(),
            reserved: [0; 6],
        }
    }

    /// The face in Rust's types.
    pub(super) fn to_face(self) -> Result<Face, Failure> {
        if self.reserved.iter().any(|&reserved| reserved != 0) {
            return Err(Failure::argument("face.reserved", "0", "another"));
        }
        let awsnet_face { x, y, width, height, .. } = self;
        let mut face = Face::new(Bounds { x, y, width, height });
        face.score = self.score;
        let point = |point: awsnet_point| self.points[point as usize];
        face.points = match self.point_count {
            0 => None,
            6 => Some(Points {
                left_eye: point(AWSNET_POINT_LEFT_EYE),
                right_eye: point(AWSNET_POINT_RIGHT_EYE),
                nose: point(AWSNET_POINT_NOSE),
                mouth: point(AWSNET_POINT_MOUTH),
                left_ear: point(AWSNET_POINT_LEFT_EAR),
                right_ear: point(AWSNET_POINT_RIGHT_EAR),
            }),
            other => return Err(Failure::argument("face.point_count", "0 or 6", &other.to_string())),
        };
        Ok(face)
    }
}

/// How to look for faces. All zero but struct_size takes every default: awsnet_detector_options options =
/// AWSNET_DETECTOR_OPTIONS_INIT;
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awsnet_detector_options {
    /// sizeof(awsnet_detector_options)
    pub struct_size: u32,
    /// Faces that the detector is less sure of are left out, from 0 to 1; 0 is 0.6. In closer looks, of which there are many for
    /// a frame, it is at least 0.8.
    pub min_score: f32,
    /// How small a face may be, in pixels of its bounds' width; 0 is a tenth of the frame's longer side, which one look at
    /// the whole frame finds. Smaller faces need closer looks, at four times as many squares each time that it is halved, and 256
    /// at most: the closest are left out where there would be more.
    pub min_face: f32,
    /// Where the detector runs; AWSNET_DEVICE_AUTO is the CPU, where a frame is ready faster than it is on its way to a GPU
    /// and back.
    pub device: awsnet_device,
    /// The GPU's number as the driver counts, for AWSNET_DEVICE_CUDA; else 0.
    pub device_index: u32,
    /// As in awsnet_engine_options.
    pub threads: u32,
    /// As in awsnet_engine_options.
    pub spin_us: i32,
    /// 0
    pub reserved: u32,
    /// Threads to share with sessions and other detectors, instead of its own; NULL for none. It may be destroyed before the
    /// detector.
    pub pool: *const awsnet_pool,
}

// SAFETY: `repr(C)`, numbers and a pointer only, the size first.
unsafe impl Versioned for awsnet_detector_options {
    const FIRST_SIZE: usize = 32 + size_of::<usize>();
}

/// A face detector: its network made ready, and one caller's memory and threads. Any thread may use it, one at a time.
pub struct awsnet_detector {
    poison: Poison,
    session: Exclusive<DetectorSession>,
}

impl Handle for awsnet_detector {
    const NAME: &'static str = "detector";

    fn poison(&self) -> &Poison {
        &self.poison
    }

    fn retire(&self) -> Result<(), Failure> {
        self.session.claim(Self::NAME)
    }
}

#[cfg(test)]
impl awsnet_detector {
    pub(super) fn set_busy(&self, busy: bool) {
        self.session.set_busy(busy);
    }
}

/// Makes a detector.
///
/// model: NULL for the one in the library, BlazeFace for cameras at the back. Or another of its kind: a network that reads RGB
/// squares of a multiple of 32 pixels and has the heads scores16, boxes16, scores8 and boxes8 of plain numbers. It may be
/// destroyed at once.
/// options: NULL takes every default.
///
/// AWSNET_STATUS_MODEL: the model is no such detector.
/// AWSNET_STATUS_DEVICE, AWSNET_STATUS_PLAN, AWSNET_STATUS_MEMORY: as for awsnet_engine_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_detector_create(
    model: *const awsnet_model,
    options: *const awsnet_detector_options,
    detector: *mut *mut awsnet_detector,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = || {
        let options = match options.is_null() {
            true => DetectorOptions::new(),
            // SAFETY: by the caller's word.
            false => unsafe { to_options(read_struct(options, "options")?) }?,
        };
        check(detector, "detector")?;
        let made = if model.is_null() {
            Detector::new(&options)?
        } else {
            // SAFETY: by the caller's word.
            let model = unsafe { shared(model, "model") }?;
            model.poison().check("model")?;
            Detector::with_model(model.model.clone(), &options)?
        };
        let session = Exclusive::new(made.session()?);
        let created = Box::new(awsnet_detector { poison: Poison::default(), session });
        // SAFETY: checked above; writable by the caller's word.
        unsafe { detector.write(Box::into_raw(created)) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard(error, body) }
}

/// Finds the faces in a frame, the surest first. Faces that are turned by more than about 30 degrees in the frame's plane, or
/// look away, may be missed.
///
/// faces: receives as many as there are, and no more than capacity. May be NULL where capacity is 0.
/// count: receives the number of faces that there are, which may be more than capacity.
///
/// AWSNET_STATUS_INVALID_ARGUMENT: a frame whose rows or planes do not fit their bytes.
/// AWSNET_STATUS_BUSY: the detector is at work on another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_detector_detect(
    detector: *mut awsnet_detector,
    frame: *const awsnet_frame,
    faces: *mut awsnet_face,
    capacity: usize,
    count: *mut usize,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |detector: &awsnet_detector| {
        // SAFETY: by the caller's word.
        let frame = unsafe { to_frame(frame) }?;
        if capacity > 0 {
            check(faces, "faces")?;
        }
        check(count, "count")?;
        let found = detector.session.enter(detector)?.detect(&frame)?;
        for (index, face) in found.iter().enumerate().take(capacity) {
            // SAFETY: there is room for `capacity` faces, by the caller's word.
            unsafe { faces.add(index).write(awsnet_face::new(face)) };
        }
        // SAFETY: checked above; writable by the caller's word.
        unsafe { count.write(found.len()) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(detector, error, body) }
}

/// Frees a detector; NULL is none.
///
/// AWSNET_STATUS_BUSY: it is at work on another thread, and goes on; nothing is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_detector_destroy(detector: *mut awsnet_detector) -> awsnet_status {
    // SAFETY: by the caller's word.
    unsafe { destroy(detector) }
}

/// The options in Rust's types.
///
/// # Safety
///
/// The pool is one.
unsafe fn to_options(options: awsnet_detector_options) -> Result<DetectorOptions, Failure> {
    let device = match options.device {
        AWSNET_DEVICE_AUTO | AWSNET_DEVICE_CPU => Device::Cpu,
        AWSNET_DEVICE_REFERENCE => Device::Reference,
        AWSNET_DEVICE_CUDA => Device::Cuda { ordinal: options.device_index as usize },
        unknown => {
            return Err(Failure::argument("options.device", "one of AWSNET_DEVICE_*", &unknown.to_string()));
        }
    };
    if options.device != AWSNET_DEVICE_CUDA && options.device_index != 0 {
        let found = options.device_index.to_string();
        return Err(Failure::argument("options.device_index", "0 unless for AWSNET_DEVICE_CUDA", &found));
    }
    if options.reserved != 0 {
        return Err(Failure::argument("options.reserved", "0", &options.reserved.to_string()));
    }
    let mut engine = EngineOptions::new().threads(options.threads as usize);
    if let Some(spin) = to_spin(options.spin_us)? {
        engine = engine.spin(spin);
    }
    if !options.pool.is_null() {
        // SAFETY: passed on.
        let pool = unsafe { shared(options.pool, "options.pool") }?;
        pool.poison().check("options.pool")?;
        engine = engine.pool(&pool.pool);
    }
    let made = DetectorOptions::new().min_face(options.min_face).device(device).engine(engine);
    Ok(if options.min_score == 0.0 { made } else { made.min_score(options.min_score) })
}
