"""A trained network as a list of layers: torch.export says what it computes, and every operator is read or refused.

torch.export gives the ATen operators that a network in evaluation ran on an example, without side effects, and with
constants for whatever depends on shapes. `Tracer` walks over them once. What only moves values (views, permutations,
slices, a channel shuffle) is computed on a tensor of places instead: a `Value` is a layer's map, and for every element
its place in that map. A convolution or a linear layer that reads moved channels has its columns moved; what cannot,
reads a 1x1 convolution of zeros and ones.

An operator joins the layer before it where nothing else reads that layer: a batch norm, a factor (`scale`), a sum
(`residual`), an activation, in this order. Elsewhere it becomes an `identity` with it.
"""

from .layers import IMAGE, Branch, Traced, selection
from .operators import trace
from .program import as_text, floats, unwrapped

__all__ = ["IMAGE", "Branch", "Traced", "as_text", "floats", "selection", "trace", "unwrapped"]
