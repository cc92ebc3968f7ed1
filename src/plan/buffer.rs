//! Memory aligned for the widest vectors.

use super::arena::ALIGNMENT;
use crate::error::{Error, ErrorKind, Result};

/// 64 bytes that begin at a multiple of 64.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; ALIGNMENT]);

/// Elements of f32 that begin at a multiple of 64 bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct AlignedBuffer {
    lines: Vec<Line>,
}

impl AlignedBuffer {
    /// `len` zeros; `what` names them where there is not enough memory.
    pub(crate) fn zeros(len: usize, what: &str) -> Result<Self> {
        let line_count = len.div_ceil(ALIGNMENT);
        let mut lines = Vec::new();
        lines.try_reserve_exact(line_count).map_err(|_| {
            let bytes = len.saturating_mul(size_of::<f32>());
            Error::new(ErrorKind::Memory, what, format!("{bytes} bytes of memory"), "not enough")
        })?;
        lines.resize(line_count, Line([0.0; ALIGNMENT]));
        Ok(AlignedBuffer { lines })
    }

    pub(crate) fn bytes(&self) -> u64 {
        size_of_val(&self.lines[..]) as u64
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        bytemuck::cast_slice(&self.lines)
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}
