//! Where to run: what a user asks for, and what a plan is made for in answer.

use std::fmt;
use std::str::FromStr;

use crate::cuda;
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::graph::target::{Gpu, Isa, Target};

/// A device as a user names it: `auto`, `cpu`, `reference`, `cuda`, `cuda:N` or `cuda:sm_NN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// A GPU where one works, else the CPU.
    #[default]
    Auto,
    /// This processor.
    Cpu,
    /// The naive loops that everything is checked against.
    Reference,
    /// A GPU of this machine.
    Cuda {
        /// Its number as the driver counts.
        ordinal: usize,
    },
    /// A GPU architecture that need not be there, to plan for.
    CudaArchitecture {
        /// Compute capability, 90 for sm_90.
        capability: u32,
    },
}

/// What a [`Device`] comes to on this machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Resolved {
    /// What to make a plan for.
    pub target: Target,
    /// Why `auto` did not take a GPU.
    pub note: Option<String>,
}

impl Device {
    /// Looks for the device; the error says what is missing and what to do.
    pub fn resolve(self) -> Result<Resolved> {
        let cpu = || Target::Cpu(Isa::detect());
        match self {
            Device::Auto if !cfg!(feature = "cuda") => Ok(Resolved { target: cpu(), note: None }),
            Device::Auto => Ok(match cuda::probe().and_then(|driver| cuda::usable(&driver, 0)) {
                Ok(gpu) => Resolved { target: Target::Cuda(gpu), note: None },
                Err(error) => {
                    let note = format!("no GPU is used: {error}");
                    Resolved { target: cpu(), note: Some(note) }
                }
            }),
            Device::Cpu => Ok(Resolved { target: cpu(), note: None }),
            Device::Reference => Ok(Resolved { target: Target::Reference, note: None }),
            Device::Cuda { ordinal } => {
                let gpu = cuda::probe().and_then(|driver| cuda::usable(&driver, ordinal))?;
                Ok(Resolved { target: Target::Cuda(gpu), note: None })
            }
            Device::CudaArchitecture { capability } => {
                let gpu = Gpu::typical(capability).ok_or_else(|| {
                    let expected = "one of sm_80, sm_86, sm_89, sm_90, sm_100 and sm_120";
                    Error::new(ErrorKind::Input, "device", expected, format!("sm_{capability}"))
                })?;
                Ok(Resolved { target: Target::Cuda(gpu), note: None })
            }
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Reference => f.write_str("reference"),
            Device::Cuda { ordinal } => write!(f, "cuda:{ordinal}"),
            Device::CudaArchitecture { capability } => write!(f, "cuda:sm_{capability}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            let expected = "auto, cpu, reference, cuda, cuda:N or cuda:sm_NN";
            Error::new(ErrorKind::Input, "device", expected, quoted(text))
        };
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "reference" => Ok(Device::Reference),
            "cuda" => Ok(Device::Cuda { ordinal: 0 }),
            _ => {
                let device = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                let digits = |text: &str| {
                    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
                };
                match device.strip_prefix("sm_") {
                    Some(capability) => {
                        digits(capability).map(|capability| Device::CudaArchitecture { capability })
                    }
                    None => digits(device).map(|ordinal| Device::Cuda { ordinal: ordinal as usize }),
                }
                .ok_or_else(unknown)
            }
        }
    }
}
