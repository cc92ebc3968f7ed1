//! What a caller has on the device: images, places for results, a stream.

/// How a caller's pixels lie in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PixelFormat {
    /// [N, C, H, W] of f32, already normalised.
    F32,
    /// [N, H, W, C] of bytes, normalised on the device as [`Input`](crate::model::Input) says.
    U8 {
        /// Bytes from one row to the next, at least W * C.
        row_stride: usize,
        /// Bytes from one image to the next, at least H rows.
        image_stride: usize,
    },
}

/// Images in device memory, for [`Session::enqueue`](crate::Session::enqueue).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceImages {
    pub(crate) pixels: u64,
    pub(crate) format: PixelFormat,
    pub(crate) count: usize,
}

impl DeviceImages {
    /// So many images from the address of the first pixel on, which is a multiple of 4 where the format is f32.
    pub fn new(pixels: u64, format: PixelFormat, count: usize) -> Self {
        DeviceImages { pixels, format, count }
    }
}

/// Where [`Session::enqueue`](crate::Session::enqueue) writes its results: addresses in device memory of f32
/// [N, labels], multiples of 4; 0, as at first, for what is not wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[must_use]
pub struct DevicePredictions {
    /// Of emotion and au.
    pub(crate) logits: [u64; 2],
    pub(crate) probabilities: [u64; 2],
}

impl DevicePredictions {
    /// Nothing is wanted.
    pub fn new() -> Self {
        DevicePredictions::default()
    }

    /// Where the logits of a branch go.
    pub fn logits(mut self, branch: usize, address: u64) -> Self {
        self.logits[branch] = address;
        self
    }

    /// Where the probabilities of a branch go. Emotion: a softmax. AU: a sigmoid each.
    pub fn probabilities(mut self, branch: usize, address: u64) -> Self {
        self.probabilities[branch] = address;
        self
    }
}

/// A stream of the caller's, a `CUstream` of the driver's API or a `cudaStream_t` of the runtime's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(pub *mut std::ffi::c_void);
