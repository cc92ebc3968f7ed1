//! Arrays as ONNX graphs compute with them: row-major, of floats or of integers.
//!
//! Integers are shapes, axes and indices, and truth values (0 and 1). Every float type of a file becomes f32 when it is
//! read.

use crate::error::{Error, ErrorKind, Result};

/// The most elements an array may have: VGG's first linear layer, the largest of the field, has 1e8.
const MAX_ELEMENTS: usize = 1 << 27;

/// The elements of an array.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Float(Vec<f32>),
    Int(Vec<i64>),
}

/// An array: `dims`, and as many elements as they say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub dims: Vec<usize>,
    pub data: Data,
}

/// An error of a model file without a place, which the caller names.
pub(super) fn fault(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::new(ErrorKind::Model, "", expected, found)
}

/// The number of elements of `dims`.
pub(super) fn elements(dims: &[usize]) -> Result<usize> {
    dims.iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .filter(|&len| len <= MAX_ELEMENTS)
        .ok_or_else(|| fault(format!("an array of at most {MAX_ELEMENTS} elements"), format!("{dims:?}")))
}

/// How far apart neighbours along each axis lie.
pub(super) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// An axis that counts from the end where it is negative.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize> {
    let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(from_start)
        .ok()
        .filter(|&axis| axis < rank)
        .ok_or_else(|| fault(format!("an axis of an array with {rank} dimensions"), format!("axis {axis}")))
}

/// The dimensions that both broadcast to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim =
        |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis]);
    let dims = (0..rank).map(|axis| match (dim(a, axis), dim(b, axis)) {
        (1, other) | (other, 1) => Some(other),
        (one, other) => (one == other).then_some(one),
    });
    dims.collect::<Option<_>>().ok_or_else(|| fault("shapes that broadcast", format!("{a:?} and {b:?}")))
}

/// For each element of `to`, in order, the place of the element of `from` that broadcasts there.
pub(super) fn broadcast_places<'a>(from: &[usize], to: &'a [usize]) -> impl Iterator<Item = usize> + use<'a> {
    let lead = to.len() - from.len();
    let mut steps = vec![0; to.len()];
    for (axis, stride) in strides(from).into_iter().enumerate() {
        steps[lead + axis] = if from[axis] == 1 { 0 } else { stride };
    }
    walk(to, steps)
}

/// The places of a walk over `dims` in row-major order in which a step along an axis is `steps[axis]` elements.
pub(super) fn walk(dims: &[usize], steps: Vec<usize>) -> impl Iterator<Item = usize> + use<'_> {
    let len: usize = dims.iter().product();
    let mut position = vec![0; dims.len()];
    let mut place = 0;
    (0..len).map(move |_| {
        let found = place;
        for axis in (0..dims.len()).rev() {
            position[axis] += 1;
            place += steps[axis];
            if position[axis] < dims[axis] {
                break;
            }
            place -= steps[axis] * dims[axis];
            position[axis] = 0;
        }
        found
    })
}

impl Array {
    pub fn floats(dims: Vec<usize>, elements: Vec<f32>) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), elements.len());
        Array { dims, data: Data::Float(elements) }
    }

    pub fn ints(dims: Vec<usize>, elements: Vec<i64>) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), elements.len());
        Array { dims, data: Data::Int(elements) }
    }

    /// A list of integers.
    pub fn list(elements: Vec<i64>) -> Self {
        Array::ints(vec![elements.len()], elements)
    }

    pub fn len(&self) -> usize {
        match &self.data {
            Data::Float(elements) => elements.len(),
            Data::Int(elements) => elements.len(),
        }
    }

    pub fn is_float(&self) -> bool {
        matches!(self.data, Data::Float(_))
    }

    pub fn as_floats(&self) -> Result<&[f32]> {
        match &self.data {
            Data::Float(elements) => Ok(elements),
            Data::Int(_) => Err(fault("floats", "integers")),
        }
    }

    pub fn as_ints(&self) -> Result<&[i64]> {
        match &self.data {
            Data::Int(elements) => Ok(elements),
            Data::Float(_) => Err(fault("integers", "floats")),
        }
    }

    /// The elements as f64, whatever they are.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            Data::Float(elements) => elements.iter().map(|&v| f64::from(v)).collect(),
            Data::Int(elements) => elements.iter().map(|&v| v as f64).collect(),
        }
    }

    /// The one element of an array of one.
    pub fn scalar(&self) -> Result<f64> {
        match (self.len(), &self.data) {
            (1, Data::Float(elements)) => Ok(f64::from(elements[0])),
            (1, Data::Int(elements)) => Ok(elements[0] as f64),
            _ => Err(fault("one number", format!("an array of {:?}", self.dims))),
        }
    }

    /// The same elements under other dimensions, which must be as many.
    pub fn with_dims(&self, dims: Vec<usize>) -> Result<Self> {
        if elements(&dims)? != self.len() {
            return Err(fault(format!("a shape of {} elements", self.len()), format!("{dims:?}")));
        }
        Ok(Array { dims, data: self.data.clone() })
    }

    /// An array of `dims` whose elements are those at `places`, one each.
    pub fn pick(&self, dims: Vec<usize>, places: impl Iterator<Item = usize>) -> Self {
        match &self.data {
            Data::Float(from) => Array::floats(dims, places.map(|place| from[place]).collect()),
            Data::Int(from) => Array::ints(dims, places.map(|place| from[place]).collect()),
        }
    }
}
