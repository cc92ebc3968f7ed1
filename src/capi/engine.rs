//! Engines: a model made ready to run, and what can be asked about it.

use std::ffi::{CString, c_char, c_void};
use std::sync::OnceLock;

use super::failure::{Failure, awsnet_error, awsnet_status};
use super::guard::{Handle, Poison, destroy, guard_handle};
use super::model::awsnet_model;
use super::pointers::{Versioned, check, read_struct, shared, string, write_struct};
use super::pool::{
    awsnet_affinity, awsnet_executor_callback, awsnet_pool, awsnet_thread_start_callback, to_affinity,
    to_executor, to_spin, to_start,
};
use super::sink;
use crate::model::{Head, HeadKind};
use crate::{Device, Engine, EngineOptions, Graphs, Plan, PlanOptions, Precision, Target};

/// Where to run: one of AWSNET_DEVICE_*.
pub type awsnet_device = i32;

/// A GPU where one works, else the CPU; the log says which, and why.
pub const AWSNET_DEVICE_AUTO: i32 = 0;
/// This processor.
pub const AWSNET_DEVICE_CPU: i32 = 1;
/// The naive loops that everything is checked against. Slow.
pub const AWSNET_DEVICE_REFERENCE: i32 = 2;
/// The GPU of number device_index.
pub const AWSNET_DEVICE_CUDA: i32 = 3;

/// The type of the feature maps: one of AWSNET_PRECISION_*. Inputs and results are float whatever it is.
pub type awsnet_precision = i32;

/// The device's own: F32 on a CPU, F16 on a GPU.
pub const AWSNET_PRECISION_DEFAULT: i32 = 0;
/// Single precision.
pub const AWSNET_PRECISION_F32: i32 = 1;
/// Half precision, sums in single precision.
pub const AWSNET_PRECISION_F16: i32 = 2;
/// Brain floating point, sums in single precision.
pub const AWSNET_PRECISION_BF16: i32 = 3;

/// When a session on a GPU captures the CUDA graphs that its runs replay: one of AWSNET_GRAPHS_*.
pub type awsnet_graphs = i32;

/// When it is made: for one image, every power of two below the batch, and the batch. A run of a number in between takes
/// as long as the next of them.
pub const AWSNET_GRAPHS_AT_START: i32 = 0;
/// For each number of images when it is first run, which takes longer that once.
pub const AWSNET_GRAPHS_ON_FIRST_USE: i32 = 1;

/// The number of a head, in the order of the model file: awsnet_engine_find_head gives that of a name. The heads of an AWS-Net
/// are numbered as its branches, by AWSNET_BRANCH_*.
pub type awsnet_head = i32;

/// One of the two networks of an AWS-Net, and its head: one of AWSNET_BRANCH_*.
#[allow(dead_code, reason = "C programs use it")]
pub type awsnet_branch = i32;

/// Emotions: exactly one is true. Probabilities are a softmax.
#[allow(dead_code, reason = "C programs use it")]
pub const AWSNET_BRANCH_EMOTION: i32 = 0;
/// Facial action units: any of them may be active. Probabilities are a sigmoid each.
#[allow(dead_code, reason = "C programs use it")]
pub const AWSNET_BRANCH_AU: i32 = 1;

/// What a head's logits stand for: one of AWSNET_HEAD_KIND_*.
pub type awsnet_head_kind = i32;

/// One of several classes: a softmax.
pub const AWSNET_HEAD_KIND_CLASSES: i32 = 0;
/// Units that are active or not, whatever the others are: a sigmoid each.
pub const AWSNET_HEAD_KIND_UNITS: i32 = 1;
/// Numbers as they are: probabilities are the logits.
pub const AWSNET_HEAD_KIND_VALUES: i32 = 2;

/// How to run a model. All zero but struct_size takes every default: awsnet_engine_options options =
/// AWSNET_ENGINE_OPTIONS_INIT;
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awsnet_engine_options {
    /// sizeof(awsnet_engine_options)
    pub struct_size: u32,
    /// Where to run.
    pub device: awsnet_device,
    /// The GPU's number as the driver counts, for AWSNET_DEVICE_CUDA; else 0.
    pub device_index: u32,
    /// The type of the feature maps.
    pub precision: awsnet_precision,
    /// The most images that one run takes; 0 is 1.
    pub batch: u32,
    /// Threads of each session, the caller's included; 0 is as many as the network can use, up to the processors that the
    /// process may use. Results are the same bits with any number. A GPU needs the caller's only, and what follows about
    /// threads is not for it.
    pub threads: u32,
    /// When a session on a GPU captures its graphs.
    pub graphs: awsnet_graphs,
    /// Microseconds that a thread that waits, for more to do or for others, keeps its processor before it sleeps; 0 is the
    /// default, 200. Or AWSNET_SPIN_NONE or AWSNET_SPIN_ALWAYS.
    pub spin_us: i32,
    /// Where the threads of sessions run, besides the caller's.
    pub affinity: awsnet_affinity,
    /// 0
    pub reserved: u32,
    /// For AWSNET_AFFINITY_PINNED, the numbers of processors; else NULL.
    pub processors: *const u32,
    /// How many there are.
    pub processor_count: usize,
    /// What each thread of a session calls first; NULL for nothing. The session is made when all have returned.
    pub thread_start: awsnet_thread_start_callback,
    /// For thread_start.
    pub thread_start_user_data: *mut c_void,
    /// Threads that sessions share, instead of their own; NULL for none. It may be destroyed before the engine.
    pub pool: *const awsnet_pool,
    /// The caller's own threads, instead; NULL for none.
    pub executor: awsnet_executor_callback,
    /// For executor.
    pub executor_user_data: *mut c_void,
}

// SAFETY: `repr(C)`, integers, pointers and functions that NULL is none of, the size first.
unsafe impl Versioned for awsnet_engine_options {
    const FIRST_SIZE: usize = 28;
}

/// What an engine has come to: awsnet_engine_info info = AWSNET_ENGINE_INFO_INIT;
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awsnet_engine_info {
    /// sizeof(awsnet_engine_info)
    pub struct_size: u32,
    /// Where it runs; never AWSNET_DEVICE_AUTO.
    pub device: awsnet_device,
    /// The GPU's number; 0 elsewhere.
    pub device_index: u32,
    /// The type of the feature maps; never AWSNET_PRECISION_DEFAULT.
    pub precision: awsnet_precision,
    /// The most images that one run takes.
    pub batch: u32,
    /// Threads of each session, the caller's included.
    pub threads: u32,
    /// Channels of an image: 3 (red, green, blue) or 1 (luma).
    pub channels: u32,
    /// Rows of an image.
    pub height: u32,
    /// Pixels in a row of an image.
    pub width: u32,
    /// Numbers that each of the first two heads gives; 0 for one that is not there.
    pub label_count: [u32; 2],
    /// A value of channel c that is input to the network is (pixel / 255 - mean[c]) / std[c]; zero beyond channels.
    pub mean: [f32; 3],
    /// See mean.
    pub std: [f32; 3],
    /// Heads of the model.
    pub head_count: u32,
    /// Branches of the model: 1 or 2.
    pub branch_count: u32,
}

// SAFETY: `repr(C)`, numbers only, the size first.
unsafe impl Versioned for awsnet_engine_info {
    const FIRST_SIZE: usize = 68;
}

/// What a head gives: awsnet_head_info info = AWSNET_HEAD_INFO_INIT;
#[repr(C)]
#[derive(Clone, Copy)]
pub struct awsnet_head_info {
    /// sizeof(awsnet_head_info)
    pub struct_size: u32,
    /// What its logits stand for.
    pub kind: awsnet_head_kind,
    /// Numbers that it gives for an image.
    pub count: usize,
    /// Labels: as many as numbers, or none.
    pub label_count: usize,
    /// Its name, UTF-8, which lives as long as the engine.
    pub name: *const c_char,
}

// SAFETY: `repr(C)`, numbers and a pointer only, the size first.
unsafe impl Versioned for awsnet_head_info {
    const FIRST_SIZE: usize = 8 + 3 * size_of::<usize>();
}

/// A model made ready to run: weights, and every choice about how. Immutable: any number of threads may use one at once.
pub struct awsnet_engine {
    poison: Poison,
    pub(super) engine: Engine,
    heads: Vec<HeadTexts>,
    description: OnceLock<CString>,
}

/// What C reads of a head.
struct HeadTexts {
    name: CString,
    kind: awsnet_head_kind,
    count: usize,
    labels: Vec<CString>,
    thresholds: Vec<f32>,
}

impl HeadTexts {
    fn new(head: &Head) -> Self {
        HeadTexts {
            name: c_string(head.name()),
            kind: match head.kind() {
                HeadKind::Classes => AWSNET_HEAD_KIND_CLASSES,
                HeadKind::Units => AWSNET_HEAD_KIND_UNITS,
                HeadKind::Values => AWSNET_HEAD_KIND_VALUES,
            },
            count: head.len(),
            labels: head.labels().iter().map(|label| c_string(label)).collect(),
            thresholds: head.thresholds().to_vec(),
        }
    }
}

impl Handle for awsnet_engine {
    const NAME: &'static str = "engine";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

/// Makes a model ready to run. The engine needs the model no longer: it can be destroyed at once, which frees its weights.
/// options: NULL takes every default.
///
/// AWSNET_STATUS_DEVICE, AWSNET_STATUS_PLAN, AWSNET_STATUS_MEMORY: what the options ask for cannot be had here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_engine_create(
    model: *const awsnet_model,
    options: *const awsnet_engine_options,
    engine: *mut *mut awsnet_engine,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |model: &awsnet_model| {
        let options = match options.is_null() {
            true => Options::default(),
            // SAFETY: by the caller's word.
            false => unsafe { Options::new(read_struct(options, "options")?) }?,
        };
        check(engine, "engine")?;
        let created = Box::new(awsnet_engine::new(model, &options)?);
        // SAFETY: checked above; writable by the caller's word.
        unsafe { engine.write(Box::into_raw(created)) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(model, error, body) }
}

/// What an engine runs on, and the images it reads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_engine_query(
    engine: *const awsnet_engine,
    info: *mut awsnet_engine_info,
    error: *mut awsnet_error,
) -> awsnet_status {
    // SAFETY: by the caller's word.
    unsafe { guard_handle(engine, error, |engine| write_struct(info, "info", engine.info()?)) }
}

/// What a head gives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_engine_head(
    engine: *const awsnet_engine,
    head: awsnet_head,
    info: *mut awsnet_head_info,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |engine: &awsnet_engine| {
        let HeadTexts { name, kind, count, labels, .. } = engine.head(head)?;
        let (label_count, name) = (labels.len(), name.as_ptr());
        let found = awsnet_head_info { struct_size: 0, kind: *kind, count: *count, label_count, name };
        // SAFETY: by the caller's word.
        unsafe { write_struct(info, "info", found) }
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(engine, error, body) }
}

/// The number of the head of a name, UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_engine_find_head(
    engine: *const awsnet_engine,
    name: *const c_char,
    head: *mut awsnet_head,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |engine: &awsnet_engine| {
        // SAFETY: by the caller's word.
        let name = unsafe { string(name, "name") }?;
        let found = engine.heads.iter().position(|head| head.name.as_c_str() == name).ok_or_else(|| {
            let names: Vec<String> =
                engine.heads.iter().map(|head| head.name.to_string_lossy().into()).collect();
            let expected = format!("one of {}", names.join(", "));
            Failure::argument("name", &expected, &name.to_string_lossy())
        })?;
        check(head, "head")?;
        // SAFETY: checked above; writable by the caller's word. There are fewer heads than 2^31.
        unsafe { head.write(found as awsnet_head) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(engine, error, body) }
}

/// The label of a head's number index: UTF-8, which lives as long as the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_engine_label(
    engine: *const awsnet_engine,
    head: awsnet_head,
    index: usize,
    label: *mut *const c_char,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |engine: &awsnet_engine| {
        let found = entry(&engine.head(head)?.labels, index)?.as_ptr();
        check(label, "label")?;
        // SAFETY: checked above; writable by the caller's word.
        unsafe { label.write(found) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(engine, error, body) }
}

/// The probability from which on the action unit of number index counts as active: that of the first head of units.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_engine_threshold(
    engine: *const awsnet_engine,
    index: usize,
    threshold: *mut f32,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |engine: &awsnet_engine| {
        let units = engine.heads.iter().find(|head| head.kind == AWSNET_HEAD_KIND_UNITS);
        let found = *entry(units.map_or(&[][..], |head| &head.thresholds), index)?;
        check(threshold, "threshold")?;
        // SAFETY: checked above; writable by the caller's word.
        unsafe { threshold.write(found) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(engine, error, body) }
}

/// As awsnet_engine_threshold, of any head; heads of other kinds than units have none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_engine_head_threshold(
    engine: *const awsnet_engine,
    head: awsnet_head,
    index: usize,
    threshold: *mut f32,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |engine: &awsnet_engine| {
        let found = *entry(&engine.head(head)?.thresholds, index)?;
        check(threshold, "threshold")?;
        // SAFETY: checked above; writable by the caller's word.
        unsafe { threshold.write(found) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(engine, error, body) }
}

/// Every choice about how the model runs, as a table for people: several lines of UTF-8, which live as long as the engine.
/// The wording is not part of this interface.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_engine_describe(
    engine: *const awsnet_engine,
    text: *mut *const c_char,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = |engine: &awsnet_engine| {
        check(text, "text")?;
        let description = engine.description.get_or_init(|| c_string(&engine.engine.plan().to_string()));
        // SAFETY: checked above; writable by the caller's word.
        unsafe { text.write(description.as_ptr()) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard_handle(engine, error, body) }
}

/// Frees an engine; NULL is none. Sessions made from it go on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_engine_destroy(engine: *mut awsnet_engine) -> awsnet_status {
    // SAFETY: by the caller's word.
    unsafe { destroy(engine) }
}

/// The options in Rust's types.
struct Options {
    device: Device,
    precision: Option<Precision>,
    batch: usize,
    engine: EngineOptions,
}

impl Default for Options {
    fn default() -> Self {
        Options { device: Device::Auto, precision: None, batch: 1, engine: EngineOptions::new() }
    }
}

impl Options {
    /// # Safety
    ///
    /// The array has as many elements as the struct says, the functions can be called on any thread, the pool is one.
    unsafe fn new(options: awsnet_engine_options) -> Result<Self, Failure> {
        let device = match options.device {
            AWSNET_DEVICE_AUTO => Device::Auto,
            AWSNET_DEVICE_CPU => Device::Cpu,
            AWSNET_DEVICE_REFERENCE => Device::Reference,
            AWSNET_DEVICE_CUDA => Device::Cuda { ordinal: options.device_index as usize },
            unknown => {
                return Err(Failure::argument(
                    "options.device",
                    "one of AWSNET_DEVICE_*",
                    &unknown.to_string(),
                ));
            }
        };
        if options.device != AWSNET_DEVICE_CUDA && options.device_index != 0 {
            let found = options.device_index.to_string();
            return Err(Failure::argument("options.device_index", "0 unless for AWSNET_DEVICE_CUDA", &found));
        }
        let precision = match options.precision {
            AWSNET_PRECISION_DEFAULT => None,
            AWSNET_PRECISION_F32 => Some(Precision::F32),
            AWSNET_PRECISION_F16 => Some(Precision::F16),
            AWSNET_PRECISION_BF16 => Some(Precision::BF16),
            unknown => {
                let expected = "one of AWSNET_PRECISION_*";
                return Err(Failure::argument("options.precision", expected, &unknown.to_string()));
            }
        };
        let graphs = match options.graphs {
            AWSNET_GRAPHS_AT_START => Graphs::AtStart,
            AWSNET_GRAPHS_ON_FIRST_USE => Graphs::OnFirstUse,
            unknown => {
                let expected = "one of AWSNET_GRAPHS_*";
                return Err(Failure::argument("options.graphs", expected, &unknown.to_string()));
            }
        };
        if options.reserved != 0 {
            return Err(Failure::argument("options.reserved", "0", &options.reserved.to_string()));
        }
        // SAFETY: passed on.
        let affinity = unsafe { to_affinity(options.affinity, options.processors, options.processor_count) }?;
        let threads = options.threads as usize;
        let mut engine = EngineOptions::new().threads(threads).graphs(graphs).affinity(affinity);
        if let Some(spin) = to_spin(options.spin_us)? {
            engine = engine.spin(spin);
        }
        if let Some(start) = to_start(options.thread_start, options.thread_start_user_data) {
            engine = engine.thread_start(start);
        }
        let executor = to_executor(options.executor, options.executor_user_data);
        if !options.pool.is_null() {
            if executor.is_some() {
                return Err(Failure::argument("options", "a pool or an executor", "both"));
            }
            // SAFETY: passed on.
            let pool = unsafe { shared(options.pool, "options.pool") }?;
            pool.poison().check("options.pool")?;
            engine = engine.pool(&pool.pool);
        }
        if let Some(executor) = executor {
            engine = engine.executor(executor);
        }
        Ok(Options { device, precision, batch: options.batch.max(1) as usize, engine })
    }
}

impl awsnet_engine {
    fn new(model: &awsnet_model, options: &Options) -> Result<Self, Failure> {
        let model = model.model.clone();
        let heads = model.heads().iter().map(HeadTexts::new).collect();
        let plan_options = PlanOptions::new()
            .device(options.device)
            .precision(options.precision)
            .batch(options.batch)
            .tuning(crate::tune::from_env()?);
        let plan = Plan::build(model, &plan_options)?;
        let engine = Engine::new(plan, &options.engine)?;
        let plan = engine.plan();
        if let Some(note) = plan.note() {
            sink::info(&format!("running on {}: {note}", plan.target()));
        }
        Ok(awsnet_engine { poison: Poison::default(), engine, heads, description: OnceLock::new() })
    }

    /// Numbers that each head gives.
    pub(super) fn counts(&self) -> Vec<usize> {
        self.heads.iter().map(|head| head.count).collect()
    }

    fn head(&self, head: awsnet_head) -> Result<&HeadTexts, Failure> {
        let found = usize::try_from(head).ok().and_then(|head| self.heads.get(head));
        found.ok_or_else(|| {
            Failure::argument("head", &format!("from 0 to {}", self.heads.len() - 1), &head.to_string())
        })
    }

    fn info(&self) -> Result<awsnet_engine_info, Failure> {
        let plan = self.engine.plan();
        let input = plan.input();
        let (device, ordinal) = match plan.target() {
            Target::Reference => (AWSNET_DEVICE_REFERENCE, 0),
            Target::Cpu(_) => (AWSNET_DEVICE_CPU, 0),
            Target::Cuda(gpu) => (AWSNET_DEVICE_CUDA, gpu.ordinal.unwrap_or(0)),
        };
        let count = |head: usize| self.heads.get(head).map_or(0, |head| head.count);
        let mut info = awsnet_engine_info {
            struct_size: 0, // the caller's stays
            device,
            device_index: to_u32(ordinal)?,
            precision: match plan.precision() {
                Precision::F32 => AWSNET_PRECISION_F32,
                Precision::F16 => AWSNET_PRECISION_F16,
                Precision::BF16 => AWSNET_PRECISION_BF16,
            },
            batch: to_u32(plan.batch())?,
            threads: to_u32(self.engine.threads())?,
            channels: to_u32(input.shape.channels)?,
            height: to_u32(input.shape.height)?,
            width: to_u32(input.shape.width)?,
            label_count: [to_u32(count(0))?, to_u32(count(1))?],
            mean: [0.0; 3],
            std: [0.0; 3],
            head_count: to_u32(self.heads.len())?,
            branch_count: to_u32(plan.branches())?,
        };
        info.mean.iter_mut().zip(&input.mean).for_each(|(to, from)| *to = *from);
        info.std.iter_mut().zip(&input.std).for_each(|(to, from)| *to = *from);
        Ok(info)
    }
}

fn entry<T>(all: &[T], index: usize) -> Result<&T, Failure> {
    let expected = || format!("below {}", all.len());
    all.get(index).ok_or_else(|| Failure::argument("index", &expected(), &index.to_string()))
}

/// Text for C. A NUL inside, which a label may hold, becomes U+FFFD.
fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default() // no NUL is left
}

fn to_u32(value: usize) -> Result<u32, Failure> {
    u32::try_from(value)
        .map_err(|_| Failure::argument("info", "a value that fits in 32 bits", &value.to_string()))
}
