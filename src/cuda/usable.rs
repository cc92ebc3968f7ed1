//! Which of the driver's devices this build can run on.

#[cfg(feature = "cuda")]
use super::driver::{Context, Module};
#[cfg(feature = "cuda")]
use super::image;
#[cfg(feature = "cuda")]
use super::launch::Launch;
use super::probe::Driver;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::target::Gpu;

/// A device of the driver's that this build has an engine for.
///
/// Errors: a number beyond the last device, an architecture older than sm_80, a build without the feature `cuda` or
/// without kernels for the device.
pub fn usable(driver: &Driver, ordinal: usize) -> Result<Gpu> {
    let place = || format!("cuda:{ordinal}");
    let Some(device) = driver.devices.get(ordinal) else {
        let expected = format!("a device number below {}", driver.devices.len());
        return Err(Error::new(ErrorKind::Device, place(), expected, ordinal.to_string()));
    };
    let (major, minor) = device.capability;
    if major < 8 {
        let found = format!("{}, of compute capability {major}.{minor}", device.name);
        return Err(Error::new(
            ErrorKind::Device,
            place(),
            "a GPU of compute capability 8.0 or newer",
            found,
        ));
    }
    #[cfg(feature = "cuda")]
    {
        let capability = major * 10 + minor;
        check_kernels(ordinal, capability)?;
        let (multiprocessors, shared_bytes) = (device.multiprocessors, device.shared_bytes);
        Ok(Gpu { ordinal: Some(ordinal), capability, multiprocessors, shared_bytes })
    }
    #[cfg(not(feature = "cuda"))]
    Err(Error::new(ErrorKind::Device, place(), "awsnet with the feature `cuda`", "a build without it"))
}

/// Errors unless the device has kernels to load.
///
/// A build that embedded none can still run on a driver that brings its own, the emulated one: it is asked for one.
#[cfg(feature = "cuda")]
fn check_kernels(ordinal: usize, capability: u32) -> Result<()> {
    if image::architectures().next().is_some() {
        return Ok(()); // PTX of the oldest is among them
    }
    let context = Context::retain(ordinal)?;
    context.scope(|| {
        let any = Launch { kernel: "identity_f32".to_owned(), grid: [1, 1, 1], threads: 1, shared_bytes: 0 };
        Module::load(&context, capability)?.function(&any).map(drop)
    })
}
