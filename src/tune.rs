//! Tiles measured on the GPU at hand, and the files that keep them.
//!
//! A [`Tuning`] takes the place of a plan's own choices ([`PlanOptions::tuning`](crate::PlanOptions::tuning));
//! [`measure`] makes one, [`load`] reads one, and [`from_env`] reads the one that the environment variable `AWSNET_TUNE`
//! names, as the command line and the C interface do. `docs/tuning.md` has the format. A plan for a CPU takes no tuning:
//! its choices are a function of shapes, which [`bench::algorithms`](crate::bench::algorithms) holds against
//! measurements.

use std::path::Path;

use crate::cuda::plan::CudaPlan;
use crate::error::{Error, ErrorKind, Result};
use crate::file::read_regular;
use crate::model::Model;
use crate::plan::{BackendPlan, Plan, PlanOptions, Tuning};

/// The environment variable that names a tuning file.
pub const VARIABLE: &str = "AWSNET_TUNE";

/// The longest tuning file: beyond it, the path is no tuning file's.
const MOST_BYTES: u64 = 16 << 20;

/// Reads a tuning file.
///
/// Errors name the file and, in it, the entry: those of [`Tuning::from_json`], a file that cannot be read, or of more
/// than 16 MiB.
pub fn load(path: impl AsRef<Path>) -> Result<Tuning> {
    let path = path.as_ref();
    let too_long = |bytes| {
        let expected = format!("a tuning file of at most {MOST_BYTES} bytes");
        Error::new(ErrorKind::File, "", expected, format!("{bytes} bytes"))
    };
    let text = read_regular(path, MOST_BYTES, too_long)?;
    Tuning::from_json(&text).map_err(|error| error.in_file(path))
}

/// Reads the tuning file that `AWSNET_TUNE` names; without the variable, or where it is empty, there is no tuning.
///
/// Errors: as [`load`]; those about the file as a whole name the variable too.
pub fn from_env() -> Result<Tuning> {
    match std::env::var_os(VARIABLE) {
        Some(path) if !path.is_empty() => load(path).map_err(|error| error.at(VARIABLE.to_owned())),
        _ => Ok(Tuning::default()),
    }
}

/// How tiles are measured: 12 candidates for each problem, 50 runs for each of them, warm, unless a setter says otherwise.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Measurement {
    candidates: usize,
    runs: usize,
    cold: bool,
}

impl Default for Measurement {
    fn default() -> Self {
        Measurement::new()
    }
}

impl Measurement {
    /// 12 candidates, 50 runs, warm.
    pub fn new() -> Self {
        Measurement { candidates: 12, runs: 50, cold: false }
    }

    /// Candidates for each problem, the best by the plan's estimate.
    pub fn candidates(mut self, candidates: usize) -> Self {
        self.candidates = candidates;
        self
    }

    /// Replays of the network for each candidate, whose median counts.
    pub fn runs(mut self, runs: usize) -> Self {
        self.runs = runs;
        self
    }

    /// Evicts the device's L2 cache before each replay.
    pub fn cold(mut self, cold: bool) -> Self {
        self.cold = cold;
        self
    }
}

/// What [`measure`] found for one kernel and shape; times are of the whole network.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The kernel, as the plan shows it.
    pub kernel: &'static str,
    /// Images of the batch it was measured at.
    pub images: usize,
    /// Positions, channels and length of the reduction.
    pub shape: [usize; 3],
    /// The tile that the plan chooses, and the network's median time with it in microseconds.
    pub before: (String, f32),
    /// The fastest tile, likewise.
    pub after: (String, f32),
    /// Problems measured so far, this one included, and all that there are.
    pub progress: [usize; 2],
}

/// Measures tiles for a model on the GPU of `options`, at every batch size that its plan captures a graph for.
///
/// One kernel and shape after the other, each candidate is put into the whole network, whose graph is replayed; the
/// fastest stays. `told` hears of each outcome, and ends the measurement by returning false. The tuning has an entry for
/// each, measured or not improved upon. Errors: those of [`Plan::build`] and of an engine; a target that is no GPU of
/// this machine; a driver that tells no time; a build without the feature `cuda`.
pub fn measure(
    model: Model,
    options: &PlanOptions,
    how: &Measurement,
    told: impl FnMut(&Outcome) -> bool,
) -> Result<Tuning> {
    let mut plan = Plan::build(model, options)?;
    match plan.take_backend() {
        Some(BackendPlan::Cuda(cuda_plan)) => tiles(*cuda_plan, how, told),
        Some(BackendPlan::Cpu(_) | BackendPlan::Reference(_)) | None => {
            Err(Error::new(ErrorKind::Device, "tuning", "a GPU", plan.target().to_string()))
        }
    }
}

#[cfg(feature = "cuda")]
fn tiles(plan: CudaPlan, how: &Measurement, mut told: impl FnMut(&Outcome) -> bool) -> Result<Tuning> {
    use crate::cuda::Timing;
    use crate::cuda::plan::{Entry, Problem};

    let (capability, multiprocessors) = (plan.gpu.capability, plan.gpu.multiprocessors);
    let timing = Timing { runs: how.runs, cold: how.cold };
    let mut done = 0;
    let measured = crate::cuda::measure(plan, how.candidates, timing, |measured, all| {
        done += 1;
        let Problem { op, positions, channels, reduction, .. } = measured.problem;
        told(&Outcome {
            kernel: op.kernel(),
            images: measured.images,
            shape: [positions, channels, reduction],
            before: (measured.before.0.to_string(), measured.before.1),
            after: (measured.after.0.to_string(), measured.after.1),
            progress: [done, all],
        })
    })?;
    let mut tuning = Tuning::default();
    for measured in measured {
        let (tile, us) = measured.after;
        let problem = measured.problem;
        tuning.push(Entry { capability, multiprocessors, problem, tile, network_us: Some(us) });
    }
    Ok(tuning)
}

#[cfg(not(feature = "cuda"))]
fn tiles(_: CudaPlan, _: &Measurement, _: impl FnMut(&Outcome) -> bool) -> Result<Tuning> {
    Err(Error::new(ErrorKind::Device, "tuning", "awsnet with the feature `cuda`", "a build without it"))
}
