//! What the project's own tests and benchmarks reach beyond the public interface. It belongs to no version: nothing here
//! is for users.

pub use crate::model::init::random::Random;

/// The oracle.
pub mod reference {
    pub use crate::reference::*;
}

/// The border to the CUDA kernels.
#[cfg(feature = "cuda")]
pub mod abi {
    pub use crate::cuda::abi::*;
}

/// The embedded kernels.
#[cfg(feature = "cuda")]
pub mod image {
    pub use crate::cuda::image::*;
}

/// From parameters to a launch.
#[cfg(feature = "cuda")]
pub mod launch {
    pub use crate::cuda::launch::*;
}

/// Weights as the kernels read them.
pub mod pack {
    pub use crate::cuda::plan::pack::*;
}

/// The table of kernel variants.
pub mod variants {
    pub use crate::cuda::plan::variants::*;
}
