//! What a caller has on the device: images, places for results, a stream.

/// How a caller's pixels lie in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// The address of the first pixel; of f32 a multiple of 4.
    pub pixels: u64,
    /// How they lie.
    pub format: PixelFormat,
    /// The number of images, N.
    pub count: usize,
}

/// Where [`Session::enqueue`](crate::Session::enqueue) writes its results: addresses in device memory of f32
/// [N, labels], multiples of 4, for emotion and au; 0 for what is not wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DevicePredictions {
    /// Before softmax or sigmoid.
    pub logits: [u64; 2],
    /// Emotion: a softmax. AU: a sigmoid each.
    pub probabilities: [u64; 2],
}

/// A stream of the caller's, a `CUstream` of the driver's API or a `cudaStream_t` of the runtime's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(pub *mut std::ffi::c_void);
