//! Numbers in memory: element types, the shape of a feature map, tensors as a model file stores them.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::error::{Error, ErrorKind, Result};

/// The element types a model file may store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
}

impl DType {
    /// Bytes an element.
    pub fn size_bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
        })
    }
}

/// The shape of one image's feature map in one branch: channels x height x width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Shape {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Shape {
    /// A feature map of `channels` x `height` x `width`.
    pub fn new(channels: usize, height: usize, width: usize) -> Self {
        Shape { channels, height, width }
    }

    /// The number of elements, where it fits the address space.
    pub(crate) fn checked_len(&self) -> Option<usize> {
        let len = self.channels.checked_mul(self.height)?.checked_mul(self.width)?;
        (len <= isize::MAX as usize / size_of::<f64>()).then_some(len)
    }

    /// The number of elements, which fits the address space for every map of a model.
    pub fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether the map has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of positions, height x width.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

/// The elements of a [`Tensor`], in the type they are stored in.
#[derive(Clone, Debug, PartialEq)]
enum Elements {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

/// A dense row-major tensor of finite or unchecked numbers, in the type it is stored in.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dims: Vec<usize>,
    elements: Elements,
}

impl Tensor {
    /// Bytes of its elements.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = match &self.elements {
            Elements::F32(elements) => size_of_val(&elements[..]),
            Elements::F16(elements) => size_of_val(&elements[..]),
            Elements::BF16(elements) => size_of_val(&elements[..]),
        };
        bytes as u64
    }

    /// A tensor of F32 elements; the product of `dims` must be the number of `elements`.
    pub fn from_f32(dims: &[usize], elements: Vec<f32>) -> Result<Self> {
        let len = dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        if len != Some(elements.len()) {
            let found = format!("{} elements", elements.len());
            return Err(Error::new(
                ErrorKind::Input,
                "tensor",
                format!("the elements of shape {dims:?}"),
                found,
            ));
        }
        Ok(Tensor { dims: dims.to_vec(), elements: Elements::F32(elements) })
    }

    /// A tensor of elements whose number is known to be the product of `dims`.
    pub(crate) fn with_dims(dims: &[usize], elements: Vec<f32>) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), elements.len());
        Tensor { dims: dims.to_vec(), elements: Elements::F32(elements) }
    }

    /// The same numbers, rounded to nearest even where `dtype` is narrower.
    pub(crate) fn to_dtype(&self, dtype: DType) -> Self {
        let values = self.to_f32();
        let elements = match dtype {
            DType::F32 => Elements::F32(values.into_owned()),
            DType::F16 => Elements::F16(values.iter().map(|&v| f16::from_f32(v)).collect()),
            DType::BF16 => Elements::BF16(values.iter().map(|&v| bf16::from_f32(v)).collect()),
        };
        Tensor { dims: self.dims.clone(), elements }
    }

    /// A tensor of `len` elements, read by `read` from their little-endian bytes.
    ///
    /// `len` must be the product of `dims`. Memory that cannot be had is an error, and so is what `read` returns.
    pub(crate) fn read(
        dims: &[usize],
        dtype: DType,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Self> {
        fn fill<T: bytemuck::Pod>(len: usize, read: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<Vec<T>> {
            let mut elements = Vec::new();
            elements.try_reserve_exact(len).map_err(|_| {
                let bytes = len.saturating_mul(size_of::<T>());
                Error::new(
                    ErrorKind::Memory,
                    "",
                    format!("{bytes} bytes of memory for a tensor"),
                    "not enough",
                )
            })?;
            elements.resize(len, T::zeroed());
            let bytes = bytemuck::cast_slice_mut(&mut elements);
            read(bytes)?;
            if cfg!(target_endian = "big") {
                bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
            }
            Ok(elements)
        }
        debug_assert_eq!(dims.iter().product::<usize>(), len);
        let elements = match dtype {
            DType::F32 => Elements::F32(fill(len, read)?),
            DType::F16 => Elements::F16(fill(len, read)?),
            DType::BF16 => Elements::BF16(fill(len, read)?),
        };
        Ok(Tensor { dims: dims.to_vec(), elements })
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The type the elements are stored in.
    pub fn dtype(&self) -> DType {
        match self.elements {
            Elements::F32(_) => DType::F32,
            Elements::F16(_) => DType::F16,
            Elements::BF16(_) => DType::BF16,
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match &self.elements {
            Elements::F32(v) => v.len(),
            Elements::F16(v) => v.len(),
            Elements::BF16(v) => v.len(),
        }
    }

    /// Whether the tensor has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as `f32`: borrowed where that is how they are stored, else widened, which is exact.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match &self.elements {
            Elements::F32(v) => Cow::Borrowed(v),
            Elements::F16(v) => Cow::Owned(v.to_f32_vec()),
            Elements::BF16(v) => Cow::Owned(v.to_f32_vec()),
        }
    }

    /// Some elements, counted row-major, as `f32`.
    pub(crate) fn range_to_f32(&self, range: Range<usize>) -> Vec<f32> {
        match &self.elements {
            Elements::F32(v) => v[range].to_vec(),
            Elements::F16(v) => v[range].to_f32_vec(),
            Elements::BF16(v) => v[range].to_f32_vec(),
        }
    }

    /// The bits of F16 and BF16 elements.
    pub(crate) fn bits(&self) -> Option<&[u16]> {
        match &self.elements {
            Elements::F32(_) => None,
            Elements::F16(v) => Some(bytemuck::cast_slice(v)),
            Elements::BF16(v) => Some(bytemuck::cast_slice(v)),
        }
    }

    /// The index and value of the first element that is NaN or infinite.
    pub(crate) fn first_not_finite(&self) -> Option<(usize, f32)> {
        fn find<T: Copy>(elements: &[T], finite: impl Fn(T) -> bool) -> Option<usize> {
            // Chunk by chunk without an early end, so that the compiler can take many elements at once.
            let all_finite = |chunk: &[T]| chunk.iter().fold(true, |all, &v| all & finite(v));
            let chunk = elements.chunks(CHUNK).position(|chunk| !all_finite(chunk))?;
            let first = chunk * CHUNK;
            Some(first + elements[first..].iter().position(|&v| !finite(v))?)
        }
        const CHUNK: usize = 1024;
        match &self.elements {
            Elements::F32(v) => find(v, f32::is_finite).map(|index| (index, v[index])),
            Elements::F16(v) => find(v, f16::is_finite).map(|index| (index, v[index].to_f32())),
            Elements::BF16(v) => find(v, bf16::is_finite).map(|index| (index, v[index].to_f32())),
        }
    }

    /// The elements' bytes as a model file stores them: little-endian.
    pub fn to_le_bytes(&self) -> Cow<'_, [u8]> {
        if cfg!(target_endian = "little") {
            return Cow::Borrowed(match &self.elements {
                Elements::F32(v) => bytemuck::cast_slice(v),
                Elements::F16(v) => bytemuck::cast_slice(v),
                Elements::BF16(v) => bytemuck::cast_slice(v),
            });
        }
        match &self.elements {
            Elements::F32(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Elements::F16(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Elements::BF16(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}
