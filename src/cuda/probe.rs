//! What this machine has of GPUs.

#[cfg(feature = "cuda")]
use super::library;
use crate::error::Result;
#[cfg(not(feature = "cuda"))]
use crate::error::{Error, ErrorKind};

/// The NVIDIA driver and the devices it offers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Driver {
    /// The newest CUDA version that the driver supports, major and minor.
    pub version: (u32, u32),
    /// The devices, by ordinal; never empty.
    pub devices: Vec<DeviceInfo>,
}

/// A GPU.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Its number in `cuda:N`.
    pub ordinal: usize,
    /// Its name as the driver gives it.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Bytes of shared memory that a block may take where it asks for them.
    pub shared_bytes: usize,
}

/// Asks the driver what there is.
///
/// Errors: no driver library, a stub in its place, a driver that does not start, no device; a build without the feature
/// `cuda`, which does not look.
pub fn probe() -> Result<Driver> {
    #[cfg(feature = "cuda")]
    return library::ask();
    #[cfg(not(feature = "cuda"))]
    Err(Error::new(ErrorKind::Device, "cuda", "awsnet with the feature `cuda`", "a build without it"))
}
