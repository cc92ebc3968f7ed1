//! Tiles measured on the GPU at hand, and the files that keep them.
//!
//! A [`Tuning`] takes the place of a plan's own choices ([`PlanOptions::tuning`]); [`measure`] makes one, [`load`] reads
//! one, and [`from_env`] reads the one that the environment variable `AWSNET_TUNE` names, as the command line and the C
//! interface do. `docs/tuning.md` has the format.

use std::path::Path;

#[cfg(feature = "cuda")]
pub use crate::cuda::Measurement;
use crate::error::{Error, Result};
use crate::plan::Tuning;
#[cfg(feature = "cuda")]
use crate::plan::{BackendPlan, Plan, PlanOptions};

/// The environment variable that names a tuning file.
pub const VARIABLE: &str = "AWSNET_TUNE";

/// The longest tuning file: beyond it, the path is no tuning file's.
const MOST_BYTES: u64 = 16 << 20;

/// Reads a tuning file.
///
/// Errors name the file and, in it, the entry: those of [`Tuning::from_json`], a file that cannot be read, or of more
/// than 16 MiB.
pub fn load(path: impl AsRef<Path>) -> Result<Tuning> {
    use std::io::Read;
    let path = path.as_ref();
    let unreadable = |error| Error::io(path, "a readable tuning file", error);
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(std::io::Error::other("no regular file")));
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(unreadable(std::io::Error::other(format!("more than {MOST_BYTES} bytes"))));
    }
    Tuning::from_json(&text).map_err(|error| error.in_file(path))
}

/// Reads the tuning file that `AWSNET_TUNE` names; without the variable, or where it is empty, there is no tuning.
///
/// Errors: as [`load`].
pub fn from_env() -> Result<Tuning> {
    match std::env::var_os(VARIABLE) {
        Some(path) if !path.is_empty() => load(path),
        _ => Ok(Tuning::default()),
    }
}

/// What [`measure`] found for one kernel and shape; times are of the whole network.
#[cfg(feature = "cuda")]
#[derive(Clone, Debug)]
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
/// this machine; a driver that tells no time.
#[cfg(feature = "cuda")]
pub fn measure(
    model: crate::model::Model,
    options: &PlanOptions,
    how: &Measurement,
    mut told: impl FnMut(&Outcome) -> bool,
) -> Result<Tuning> {
    use crate::error::ErrorKind;
    use crate::plan::cuda::{Entry, Problem};

    let target = options.target;
    let BackendPlan::Cuda(plan) = Plan::build(model, options)?.backend else {
        return Err(Error::new(ErrorKind::Device, "tuning", "a GPU", target.to_string()));
    };
    let (capability, multiprocessors) = (plan.gpu.capability, plan.gpu.multiprocessors);
    let mut done = 0;
    let measured = crate::cuda::measure(*plan, how, |measured, all| {
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
