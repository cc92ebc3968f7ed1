//! A run whose stream and addresses are fixed, so that nothing is left to do but to launch it.

use std::sync::Arc;

use cudarc::driver::sys::CUstream;

use super::driver::DeviceMemory;
use super::engine::CudaEngine;
use super::stream::Graph;
use crate::error::Result;

/// A run between fixed addresses on a fixed stream, made by [`Session::bind`](crate::Session::bind): to launch it is one
/// driver call.
///
/// It holds the session's memory and the engine, which may both be dropped before it. A ring of buffers takes one of
/// these for each of them. Fields are dropped in order: the graph before the memory it uses.
#[derive(Debug)]
pub struct Bound {
    graph: Graph,
    stream: CUstream,
    _memory: Arc<DeviceMemory>,
    engine: Arc<CudaEngine>,
}

// SAFETY: the stream's handle is only passed to the driver, which takes it from any thread.
unsafe impl Send for Bound {}

impl Bound {
    pub(super) fn new(
        graph: Graph,
        stream: CUstream,
        memory: &Arc<DeviceMemory>,
        engine: &Arc<CudaEngine>,
    ) -> Bound {
        Bound { graph, stream, _memory: Arc::clone(memory), engine: Arc::clone(engine) }
    }

    /// Queues the run and returns at once: `cuGraphLaunch` and nothing else, no allocation, no lock, no look at the
    /// stream.
    ///
    /// The device's primary context must be current in the calling thread, as it is where the CUDA runtime is in use;
    /// where it is not, or another's is, a driver may return an error (580 takes the stream's). A fault of a run is asynchronous: it shows to
    /// whoever waits for the stream, and from then on in every call. A launch that returns
    /// [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned) tells of a fault of work queued earlier.
    ///
    /// # Safety
    ///
    /// What [`Session::bind`](crate::Session::bind) asks for still holds: the stream is alive and not being captured, and
    /// all runs of the session and of what is bound to it are queued in this one stream, or the last has ended.
    pub unsafe fn launch(&mut self) -> Result<()> {
        self.engine.context.check_poisoned()?;
        // SAFETY: the stream is one of the context, by `bind`, and alive, by the caller; the graph's memory is held.
        unsafe { self.graph.launch(self.stream) }
    }
}
