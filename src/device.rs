//! Where to run: what a user asks for, and what a plan is made for in answer.

use std::fmt;
use std::str::FromStr;

use crate::cuda;
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::plan::{Isa, Target};

/// A device as a user names it: `auto`, `cpu`, `reference`, `cuda`, `cuda:N` or `cuda:sm_NN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
            Device::Auto => {
                let note = match cuda::probe() {
                    Ok(driver) => format!("{} is not used: {NO_ENGINE}", driver.devices[0].name),
                    Err(error) => format!("no GPU is used: {}", error.found()),
                };
                Ok(Resolved { target: cpu(), note: Some(note) })
            }
            Device::Cpu => Ok(Resolved { target: cpu(), note: None }),
            Device::Reference => Ok(Resolved { target: Target::Reference, note: None }),
            Device::Cuda { ordinal } => {
                let driver = cuda::probe()?;
                if ordinal >= driver.devices.len() {
                    let expected = format!("a device number below {}", driver.devices.len());
                    return Err(Error::new(
                        ErrorKind::Device,
                        self.to_string(),
                        expected,
                        ordinal.to_string(),
                    ));
                }
                Err(no_engine(self))
            }
            Device::CudaArchitecture { .. } => Err(no_engine(self)),
        }
    }
}

const NO_ENGINE: &str = "this version of awsnet does not run networks on GPUs yet";

fn no_engine(device: Device) -> Error {
    let expected = "a version with a CUDA engine (until there is one, run with --device cpu)";
    Error::new(ErrorKind::Device, device.to_string(), expected, NO_ENGINE)
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
