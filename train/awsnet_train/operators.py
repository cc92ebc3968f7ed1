"""The operators without weights, and the activations, as the format defines them.

PyTorch's pools take the same padding on opposite sides and at most half a window; the format takes any below the
window. Where PyTorch cannot, the map is padded first: with what never wins a maximum, or with zeros under an average,
which is then the sum over a window divided by how many of its pixels count.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .manifest import Layer
from .shapes import Shape, window


def apply(layer: Layer, module: Any, inputs: list[Tensor]) -> Tensor:  # noqa: ANN401, the module of a weighted op
    """z without its batch norm, [N, C, H, W]."""
    values = inputs[0]
    match layer.op:
        case "conv2d":
            top, left, bottom, right = layer.padding
            if (top, left) != (bottom, right):
                values = functional.pad(values, (left, right, top, bottom))
            convolved: Tensor = module(values)
            return convolved
        case "linear":
            flat: Tensor = module(values.flatten(1))
            return flat[:, :, None, None]
        case "max_pool2d":
            return max_pool2d(layer, values)
        case "avg_pool2d":
            return avg_pool2d(layer, values)
        case "global_avg_pool2d":
            return functional.adaptive_avg_pool2d(values, 1)
        case "adaptive_avg_pool2d":
            return functional.adaptive_avg_pool2d(values, layer.output)
        case "upsample2d":
            return values.repeat_interleave(layer.factor[0], 2).repeat_interleave(layer.factor[1], 3)
        case "concat":
            return torch.cat(inputs, 1)
    return values


def native_padding(layer: Layer) -> tuple[int, int] | None:
    """The padding in PyTorch's form, where its pools take it."""
    top, left, bottom, right = layer.padding
    fits = (top, left) == (bottom, right) and 2 * top <= layer.kernel[0] and 2 * left <= layer.kernel[1]
    return (top, left) if fits else None


def padded(layer: Layer, values: Tensor, fill: float) -> Tensor:
    """The map with its padding, and with what the last windows of ceil_mode reach beyond it."""
    top, left, bottom, right = layer.padding
    height, width = window(layer, Shape(*values.shape[1:]))
    below = (height - 1) * layer.stride[0] + layer.kernel[0] - values.shape[2] - top - bottom
    beside = (width - 1) * layer.stride[1] + layer.kernel[1] - values.shape[3] - left - right
    return functional.pad(values, (left, right + max(beside, 0), top, bottom + max(below, 0)), value=fill)


def max_pool2d(layer: Layer, values: Tensor) -> Tensor:
    padding = native_padding(layer)
    if padding is not None:
        return functional.max_pool2d(values, layer.kernel, layer.stride, padding, ceil_mode=layer.ceil_mode)
    return functional.max_pool2d(padded(layer, values, -torch.inf), layer.kernel, layer.stride)


def avg_pool2d(layer: Layer, values: Tensor) -> Tensor:
    padding = native_padding(layer)
    if padding is not None:
        return functional.avg_pool2d(
            values, layer.kernel, layer.stride, padding, layer.ceil_mode, layer.count_include_pad
        )
    ones = torch.ones_like(values[:1, :1])
    if layer.count_include_pad:
        top, left, bottom, right = layer.padding
        counted = padded(layer, ones, 0.0)
        counted[:, :, : values.shape[2] + top + bottom, : values.shape[3] + left + right] = 1.0
    else:
        counted = padded(layer, ones, 0.0)

    def sums(of: Tensor) -> Tensor:
        return functional.avg_pool2d(of, layer.kernel, layer.stride, divisor_override=1)

    return sums(padded(layer, values, 0.0)) / sums(counted)


def activate(layer: Layer, values: Tensor) -> Tensor:
    """Every activation but prelu, whose slopes are weights."""
    match layer.activation:
        case "relu":
            return functional.relu(values)
        case "leaky_relu":
            return functional.leaky_relu(values, layer.negative_slope)
        case "silu":
            return functional.silu(values)
        case "relu6":
            return functional.relu6(values)
        case "hardswish":
            return functional.hardswish(values)
        case "hardsigmoid":
            return functional.hardsigmoid(values)
        case "sigmoid":
            return functional.sigmoid(values)
        case "tanh":
            return functional.tanh(values)
        case "gelu":
            return functional.gelu(values)
        case "gelu_tanh":
            return functional.gelu(values, approximate="tanh")
        case "elu":
            return functional.elu(values)
    return values
