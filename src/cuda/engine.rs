//! A plan on a device, the part that all its sessions share: launches, loaded kernels and weights.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::driver::{Context, DeviceMemory, Function, Module, PinnedMemory};
use super::launch::Launch;
use super::node::{Addresses, prepare};
use super::stream::Stream;
use crate::cuda::plan::CudaPlan;
use crate::error::{Error, ErrorKind, Result};

/// The immutable part: the plan, the loaded kernels and the weights. Sessions share it.
#[derive(Debug)]
pub(crate) struct CudaEngine {
    /// Without its weights, which are on the device.
    pub(super) plan: CudaPlan,
    functions: HashMap<String, Function>,
    pub(super) constants: Arc<DeviceMemory>,
    module: Arc<Module>,
    pub(super) context: Arc<Context>,
}

/// Bytes of weights that go to the device at a time.
const UPLOAD_BYTES: usize = 4 << 20;

impl CudaEngine {
    /// Loads the kernels that the plan launches and uploads its weights.
    pub(crate) fn new(mut plan: CudaPlan) -> Result<CudaEngine> {
        let Some(ordinal) = plan.gpu.ordinal else {
            let expected = "a plan for a GPU of this machine";
            let found = format!("one for any sm_{}", plan.gpu.capability);
            return Err(Error::new(ErrorKind::Device, "cuda", expected, found));
        };
        let context = Context::retain(ordinal)?;
        let constants = std::mem::take(&mut plan.constants);
        context.scope(|| {
            let module = Arc::new(Module::load(&context, plan.gpu.capability)?);
            let functions = functions(&plan, &module)?;
            let memory = Arc::new(DeviceMemory::new(&context, constants.len(), "weights")?);
            let stream = Stream::new(&context)?;
            let mut staging =
                PinnedMemory::new(&context, constants.len().min(UPLOAD_BYTES), "weights on their way")?;
            for (index, part) in constants.chunks(UPLOAD_BYTES).enumerate() {
                staging.bytes_mut()[..part.len()].copy_from_slice(part);
                // SAFETY: both sides live beyond the wait below.
                unsafe {
                    stream.upload(
                        memory.address() + (index * UPLOAD_BYTES) as u64,
                        &staging.bytes()[..part.len()],
                    )?;
                }
                stream.synchronize()?;
            }
            let (kernels, bytes) = (functions.len(), constants.len());
            crate::log::log!(debug, "cuda:{ordinal}: loaded {kernels} kernels and {bytes} bytes of weights");
            Ok(CudaEngine { plan, functions, constants: memory, module, context: Arc::clone(&context) })
        })
    }

    /// An engine for a plan that differs from this one's in tiles only: it shares the weights.
    pub(super) fn with_tiles_of(&self, plan: CudaPlan) -> Result<CudaEngine> {
        Ok(CudaEngine {
            functions: self.context.scope(|| functions(&plan, &self.module))?,
            plan,
            constants: Arc::clone(&self.constants),
            module: Arc::clone(&self.module),
            context: Arc::clone(&self.context),
        })
    }

    pub(super) fn function(&self, launch: &Launch) -> Result<Function> {
        self.functions.get(&launch.kernel).copied().ok_or_else(|| {
            let expected = "a kernel that was looked up";
            Error::new(ErrorKind::Internal, "session", expected, launch.kernel.clone())
        })
    }
}

/// Every kernel that a plan launches, each allowed the most shared memory that a launch of it takes.
///
/// The driver loads a kernel when it is looked up (CUDA_MODULE_LOADING is LAZY by default), and loading may wait for the
/// device, which a capture forbids: so all of them are looked up here, before anything is captured.
fn functions(plan: &CudaPlan, module: &Module) -> Result<HashMap<String, Function>> {
    let mut launches = BTreeMap::<String, Launch>::new(); // in an order: every run makes the same calls
    for node in &plan.nodes {
        for &images in &plan.sizes {
            let (launch, _) = prepare(plan, node, images, &Addresses::nowhere(plan));
            check_launch(plan, &launch)?;
            let most = launches.entry(launch.kernel.clone()).or_insert_with(|| launch.clone());
            most.shared_bytes = most.shared_bytes.max(launch.shared_bytes);
        }
    }
    launches.into_iter().map(|(name, launch)| Ok((name, module.function(&launch)?))).collect()
}

/// What a device's grids can count, and the shared memory it grants.
fn check_launch(plan: &CudaPlan, launch: &Launch) -> Result<()> {
    let [x, y, z] = launch.grid;
    if x <= i32::MAX as usize && y <= 65_535 && z <= 65_535 && launch.shared_bytes <= plan.gpu.shared_bytes {
        return Ok(());
    }
    let expected =
        format!("a grid of 2^31 x 65535 x 65535 blocks and {} bytes of shared memory", plan.gpu.shared_bytes);
    let found = format!("{x} x {y} x {z} blocks of {} bytes", launch.shared_bytes);
    Err(Error::new(ErrorKind::Plan, format!("kernel {}", launch.kernel), expected, found))
}
