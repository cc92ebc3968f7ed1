//! A value of the graph that depends on the image: elements of one operation's map, in any order, each under one function.
//!
//! Whatever only moves elements (reshapes, transposes, slices, paddings) is done to an array of their indices. What it comes to
//! is asked when an operator wants a map: [`Map::placement`] finds the channels, the border and the step in it. So transposes
//! that cancel, a shuffle of channels and a flattening in another order need no rules of their own.

use std::rc::Rc;

use super::array::{Array, fault};
use super::evaluate::transpose;
use super::network::Id;
use super::pointwise::Function;
use crate::error::Result;

/// In place of an index: a zero.
pub(super) const ZERO: i64 = -1;
/// In place of an index: a number below every other.
pub(super) const LEAST: i64 = -2;

/// The node that a function ends with.
pub(super) struct Maker {
    pub layer_name: String,
    pub place: String,
}

/// Elements of an operation's map.
#[derive(Clone)]
pub(super) struct Map {
    pub id: Id,
    /// The dimensions that the graph sees, batch included.
    pub dims: Vec<usize>,
    /// Of each element, its index in the map, flattened in (C, H, W) order; `None` where they are all there, in order.
    index: Option<Rc<Array>>,
    /// What is computed of each, but no operation yet.
    pub function: Function,
    /// Who computes that last, where somebody does.
    pub maker: Option<Rc<Maker>>,
}

/// A map [1, C', H', W'] as whole channels of another, or zeros, in a border.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placement {
    /// Which channel each is; `None`: zeros.
    pub channels: Vec<Option<usize>>,
    /// How wide the border is, before and after, [h, w].
    pub pads: [[usize; 2]; 2],
    /// Every so many rows and columns are taken.
    pub step: [usize; 2],
    /// What the border is made of, where there is one.
    pub fill: Option<i64>,
}

impl Placement {
    /// Whether it is all channels of `count`, in order.
    pub fn is_all_channels(&self, count: usize) -> bool {
        self.channels.len() == count
            && self.channels.iter().enumerate().all(|(at, &channel)| channel == Some(at))
    }

    pub fn has_border(&self) -> bool {
        self.pads != [[0, 0]; 2]
    }
}

impl Map {
    /// All elements of an operation's map, in order.
    pub fn whole(id: Id, dims: Vec<usize>) -> Self {
        Map { id, dims, index: None, function: Function::identity(), maker: None }
    }

    /// Elements by their indices in a map of `len` elements.
    pub fn of_indices(id: Id, indices: Array, len: usize, function: Function) -> Result<Self> {
        if indices.len() == 0 {
            return Err(fault("a value with elements", format!("one of {:?}", indices.dims)));
        }
        let in_order = indices.as_ints()?.iter().copied().eq(0..len as i64);
        let dims = indices.dims.clone();
        Ok(Map { id, dims, index: (!in_order).then(|| Rc::new(indices)), function, maker: None })
    }

    /// Channels of an operation's map [c, h, w], `channels` of them, as [1, C', H, W].
    pub fn of_channels(id: Id, shape: [usize; 3], channels: &[usize]) -> Result<Self> {
        let plane = shape[1] * shape[2];
        let indices =
            channels.iter().flat_map(|&channel| (channel * plane..(channel + 1) * plane).map(|i| i as i64));
        let indices = Array::ints(vec![1, channels.len(), shape[1], shape[2]], indices.collect());
        Map::of_indices(id, indices, shape.iter().product(), Function::identity())
    }

    /// Whether the elements are all there, in order.
    pub fn is_in_order(&self) -> bool {
        self.index.is_none()
    }

    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// The indices of the elements.
    pub fn indices(&self) -> Array {
        match &self.index {
            Some(index) => (**index).clone(),
            None => Array::ints(self.dims.clone(), (0..self.len() as i64).collect()),
        }
    }

    /// Whether fills stand between the elements.
    pub fn has_fill(&self) -> bool {
        self.index
            .as_ref()
            .is_some_and(|index| index.as_ints().is_ok_and(|index| index.iter().any(|&i| i < 0)))
    }

    pub fn has_same_indices(&self, other: &Map) -> bool {
        match (&self.index, &other.index) {
            (None, None) => self.dims == other.dims,
            (Some(a), Some(b)) => Rc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }

    /// The same elements of another operation's map of the same shape.
    pub fn of_another(&self, id: Id) -> Self {
        Map { id, function: Function::identity(), ..self.clone() }
    }

    pub fn with_function(&self, function: Function) -> Self {
        Map { function, ..self.clone() }
    }

    /// Where the channels of a map of `shape` [c, h, w] are in this one, whose dimensions are [1, C', H', W']; `None` where
    /// it is no such arrangement.
    pub fn placement(&self, shape: [usize; 3]) -> Option<Placement> {
        let [channels, height, width] = shape;
        let &[1, out_channels, out_height, out_width] = &self.dims[..] else { return None };
        if self.is_in_order() && self.dims[1..] == shape {
            let channels = (0..channels).map(Some).collect();
            return Some(Placement { channels, pads: [[0, 0]; 2], step: [1, 1], fill: None });
        }
        let indices = self.indices();
        let indices = indices.as_ints().ok()?;
        let (plane, out_plane) = ((height * width) as i64, out_height * out_width);
        let first = indices.iter().position(|&index| index >= 0)?;
        if indices[first] % plane != 0 {
            return None;
        }
        let (row, column) = (first % out_plane / out_width, first % out_width);
        // The step along each axis, from the neighbour of the first element.
        let step = |has_next: bool, next: usize, size: usize, unit: i64| -> usize {
            let next = if has_next { indices[first + next] } else { -1 };
            let step = (next - indices[first]) / unit;
            if next >= 0 && step > 0 && (step as usize) < size { step as usize } else { 1 }
        };
        let step = [
            step(row + 1 < out_height, out_width, height, width as i64),
            step(column + 1 < out_width, 1, width, 1),
        ];
        let counts = [height.div_ceil(step[0]), width.div_ceil(step[1])];
        let pads = [
            [row, out_height.checked_sub(row + counts[0])?],
            [column, out_width.checked_sub(column + counts[1])?],
        ];
        let at = |channel: usize, row: usize, column: usize| {
            indices[channel * out_plane + row * out_width + column]
        };
        let channels: Vec<Option<usize>> = (0..out_channels)
            .map(|channel| {
                usize::try_from(at(channel, row, column) / plane)
                    .ok()
                    .filter(|_| at(channel, row, column) >= 0)
            })
            .collect();
        let mut fill = None;
        for (channel, source) in channels.iter().enumerate() {
            for (r, c) in (0..out_height).flat_map(|r| (0..out_width).map(move |c| (r, c))) {
                let inside = r
                    .checked_sub(row)
                    .filter(|&r| r < counts[0])
                    .zip(c.checked_sub(column).filter(|&c| c < counts[1]));
                let found = at(channel, r, c);
                let fits = match (source, inside) {
                    (Some(source), Some((r, c))) => {
                        found == *source as i64 * plane + (r * step[0] * width + c * step[1]) as i64
                    }
                    (None, Some(_)) => found == ZERO,
                    (_, None) => found < 0 && *fill.get_or_insert(found) == found,
                };
                if !fits {
                    return None;
                }
            }
        }
        Some(Placement { channels, pads, step, fill })
    }

    /// As `placement`, of a map whose every element is there some times down and across, as floor(i / factor) says; and how
    /// many times, [h, w].
    pub fn repetition(&self, shape: [usize; 3]) -> Option<(Placement, [usize; 2])> {
        let &[1, out_channels, out_height, out_width] = &self.dims[..] else { return None };
        let [_, height, width] = shape;
        if !out_height.is_multiple_of(height) || !out_width.is_multiple_of(width) {
            return None;
        }
        let factor = [out_height / height, out_width / width];
        let indices = self.indices();
        let indices = indices.as_ints().ok()?;
        let at = |place: usize| {
            let (channel, row, column) =
                (place / (out_height * out_width), place / out_width % out_height, place % out_width);
            (channel, row / factor[0] * width + column / factor[1])
        };
        // Each channel's first element is that of the channel it is.
        let plane = height * width;
        let channels: Vec<Option<usize>> = (0..out_channels)
            .map(|channel| usize::try_from(indices[channel * out_height * out_width]).ok())
            .map(|first| first.filter(|first| first % plane == 0).map(|first| first / plane))
            .collect();
        let fits = indices.iter().enumerate().all(|(place, &index)| {
            let (channel, inner) = at(place);
            channels[channel].is_some_and(|source| index == (source * plane + inner) as i64)
        });
        fits.then_some((Placement { channels, pads: [[0, 0]; 2], step: [1, 1], fill: None }, factor))
    }

    /// The same elements as [1, C', H, W], the channels those along `axis`; for a map of `shape` [c, h, w].
    pub fn channels_first(&self, axis: usize, shape: [usize; 3]) -> Result<Self> {
        let others: Vec<usize> = (0..self.dims.len()).filter(|&other| other != axis).collect();
        let rest: Vec<usize> = others.iter().map(|&other| self.dims[other]).collect();
        let count: usize = rest.iter().product();
        let plane = match (&rest[..], count) {
            (&[1, height, width], _) => [height, width],
            (_, 1) => [1, 1],
            (_, count) if count == shape[1] * shape[2] => [shape[1], shape[2]],
            _ => {
                let expected = "a batch of one, channels, height and width";
                return Err(fault(expected, format!("channels along axis {axis} of {:?}", self.dims)));
            }
        };
        let order: Vec<usize> = [axis].into_iter().chain(others).collect();
        let turned = transpose(&self.indices(), &order);
        let dims = vec![1, self.dims[axis], plane[0], plane[1]];
        Map::of_indices(self.id, turned.with_dims(dims)?, shape.iter().product(), self.function.clone())
    }

    /// The opposite of `channels_first`: this map [1, C', H', W'] with its channels along `axis` of a value that had `dims`.
    pub fn channels_back(&self, axis: usize, dims: &[usize], shape: [usize; 3]) -> Result<Self> {
        let others: Vec<usize> = (0..dims.len()).filter(|&other| other != axis).collect();
        let mut turned: Vec<usize> = others.iter().map(|&other| dims[other]).collect();
        turned.insert(0, self.dims[1]);
        let turned = self.indices().with_dims(turned)?;
        let mut order: Vec<usize> = (1..dims.len()).collect();
        order.insert(axis, 0);
        Map::of_indices(self.id, transpose(&turned, &order), shape.iter().product(), self.function.clone())
    }
}
