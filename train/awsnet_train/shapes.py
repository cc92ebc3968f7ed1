"""The shapes of a manifest's maps and tensors, once the widths of its layers are known; and tensors checked by them.

A window over an extent of n with kernel k, stride s, dilation d and padding p0 before and p1 after gives
floor((n + p0 + p1 - (d*(k-1) + 1)) / s) + 1. With ceil_mode the quotient is rounded up, but no window begins behind
the input and the padding before it, as in PyTorch.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .manifest import MOST_ELEMENTS, WEIGHTED, Head, Layer, Manifest, ModelError, quoted

STORED = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


class Shape(NamedTuple):
    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"

    def elements(self) -> int:
        return self.channels * self.height * self.width


@dataclass(frozen=True)
class Widths:
    """What a manifest leaves to the tensors."""

    channels: Mapping[str, int] = field(default_factory=dict)  # of conv2d and linear layers; else those of the input
    squeezed: Mapping[str, int] = field(default_factory=dict)  # r of gate units; else a quarter of the channels
    slopes: Mapping[str, int] = field(default_factory=dict)  # of prelu, by its prefix: 1; else one a channel
    rows: Mapping[str, int] = field(default_factory=dict)  # of heads without labels


def window(layer: Layer, size: Shape) -> tuple[int, int]:
    """Height and width behind a convolution or a pool."""
    (kh, kw), (dh, dw), (top, left, bottom, right) = layer.kernel, layer.dilation, layer.padding
    spans = (kh - 1) * dh + 1, (kw - 1) * dw + 1
    padded = size.height + top + bottom, size.width + left + right

    def extent(axis: int) -> int:
        span, stride = spans[axis], layer.stride[axis]
        count = max(0, (padded[axis] - span) // stride + 1)
        begins = count * stride
        left_over = begins + span < padded[axis] + stride
        if layer.ceil_mode and left_over and begins < size[1 + axis] + layer.padding[axis]:
            count += 1
        return count

    extents = extent(0), extent(1)
    if min(extents) < 1:
        raise ModelError(
            layer.place,
            "an output of at least 1x1, that is an input padded to at least the window of "
            f"{spans[0]}x{spans[1]} (kernel and dilation)",
            f"an empty output: {padded[0]}x{padded[1]} with padding",
        )
    return extents


def output_shape(layer: Layer, inputs: list[Shape], out_channels: int | None) -> Shape:
    """The shape of z."""
    size = inputs[0]
    match layer.op:
        case "conv2d":
            out = out_channels or size.channels
            for what, channels in (("input", size.channels), ("output", out)):
                if channels % layer.groups:
                    expected = f"{what} channels that are a multiple of `groups` {layer.groups}"
                    raise ModelError(layer.place, expected, f"{channels} {what} channels")
            shape = Shape(out, *window(layer, size))
        case "linear":
            shape = Shape(out_channels or size.elements(), 1, 1)
        case "max_pool2d" | "avg_pool2d":
            shape = Shape(size.channels, *window(layer, size))
        case "global_avg_pool2d":
            shape = Shape(size.channels, 1, 1)
        case "adaptive_avg_pool2d":
            shape = Shape(size.channels, *layer.output)
        case "upsample2d":
            shape = Shape(size.channels, size.height * layer.factor[0], size.width * layer.factor[1])
        case "concat":
            for name, other in zip(layer.inputs, inputs, strict=True):
                if other[1:] != size[1:]:
                    expected = f"layers of one height and width, as {quoted(layer.inputs[0])} gives {size}"
                    raise ModelError(f"{layer.place}: `inputs`", expected, f"{quoted(name)}, which gives {other}")
            shape = Shape(sum(other.channels for other in inputs), *size[1:])
        case _:
            shape = size
    if shape.elements() > MOST_ELEMENTS:
        raise ModelError(layer.place, "an output that fits the address space", str(shape))
    return shape


def map_shapes(manifest: Manifest, channels: Mapping[str, int]) -> dict[str, Shape]:
    """The shape of every map by the name of its layer, `image` included; `scale` and `residual` are checked."""
    image = manifest.input
    shapes = {"image": Shape(image.channels, image.height, image.width)}
    for layer in manifest.layers:
        shape = output_shape(layer, [shapes[name] for name in layer.inputs], channels.get(layer.name))
        if layer.scale is not None and shapes[layer.scale] not in (shape, Shape(shape.channels, 1, 1)):
            expected = f"a layer that gives {shape}, as this one does before it, or {shape.channels}x1x1"
            found = f"{quoted(layer.scale)}, which gives {shapes[layer.scale]}"
            raise ModelError(f"{layer.place}: `scale`", expected, found)
        if layer.residual is not None and shapes[layer.residual] != shape:
            expected = f"a layer that gives {shape}, as this one does before the addition"
            found = f"{quoted(layer.residual)}, which gives {shapes[layer.residual]}"
            raise ModelError(f"{layer.place}: `residual`", expected, found)
        shapes[layer.name] = shape
    for head in manifest.heads:
        features = shapes[head.input].elements()
        if head.tensor is None and head.labels is not None and len(head.labels) != features:
            expected = f"{features} labels, one a number of {quoted(head.input)}, for there is no tensor"
            raise ModelError(f"{head.place}: `labels`", expected, str(len(head.labels)))
    return shapes


def rows_of(head: Head, widths: Widths) -> int:
    return len(head.labels) if head.labels is not None else widths.rows.get(head.name, 1)


def tensor_shapes(
    manifest: Manifest, widths: Widths, shapes: Mapping[str, Shape]
) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """The shapes of all tensors that a model has by their names, and which of them, the biases, may be missing."""
    tensors: dict[str, tuple[int, ...]] = {}
    optional: set[str] = set()
    required: set[str] = set()

    def add(name: str, *shape: int, may_be_missing: bool = False) -> None:
        if tensors.setdefault(name, shape) != shape:
            raise ModelError(
                f"tensor {quoted(name)}", f"shape {list(tensors[name])}", f"{list(shape)} in another place"
            )
        (optional if may_be_missing else required).add(name)

    for layer in manifest.layers:
        before, behind = shapes[layer.inputs[0]], shapes[layer.name]
        for branch in manifest.branches:
            key = f"{branch}.{layer.name}"
            if layer.op == "conv2d":
                add(f"{key}.weight", behind.channels, before.channels // layer.groups, *layer.kernel)
            elif layer.op == "linear":
                add(f"{key}.weight", behind.channels, before.elements())
            if layer.op in WEIGHTED:
                add(f"{key}.bias", behind.channels, may_be_missing=True)
            if layer.batch_norm is not None:
                for part in ("weight", "bias", "running_mean", "running_var"):
                    add(f"{branch}.{layer.batch_norm}.{part}", behind.channels)
            if layer.prelu is not None:
                add(f"{branch}.{layer.prelu}.weight", widths.slopes.get(layer.prelu, behind.channels))
        unit, c = f"aws.{layer.name}", behind.channels
        match layer.aws:
            case "layer":
                add(f"{unit}.weight", 2, 2)
            case "channel":
                add(f"{unit}.weight", 2, 2, c)
            case "dense":
                add(f"{unit}.weight", 2, 2, c, c)
            case "gate":
                r = widths.squeezed.get(layer.name) or max(4, c // 4)
                add(f"{unit}.squeeze.weight", r, 2 * c)
                add(f"{unit}.squeeze.bias", r)
                add(f"{unit}.excite.weight", 2, 2, c, r)
                add(f"{unit}.excite.bias", 2, 2, c)
    for head in manifest.heads:
        if head.tensor is not None:
            rows = rows_of(head, widths)
            add(f"{head.branch}.{head.tensor}.weight", rows, shapes[head.input].elements())
            add(f"{head.branch}.{head.tensor}.bias", rows, may_be_missing=True)
    return tensors, optional - required


def first_extent(tensors: Mapping[str, Tensor], name: str, pattern: str) -> int:
    """The rows of a tensor, which say how wide a layer is."""
    place = f"tensor {quoted(name)}"
    if name not in tensors:
        raise ModelError(place, f"shape {pattern}", "none")
    dims = tuple(tensors[name].shape)
    if not dims or dims[0] == 0:
        raise ModelError(place, f"shape {pattern}, the first at least 1", str(list(dims)) if dims else "a scalar")
    return dims[0]


def read_widths(manifest: Manifest, tensors: Mapping[str, Tensor]) -> Widths:
    """The widths that a model's tensors tell."""
    first, channels, squeezed, slopes, rows = manifest.branches[0], {}, {}, {}, {}
    for layer in manifest.layers:
        if layer.op in WEIGHTED:
            dims = "[out, in]" if layer.op == "linear" else f"[out, in/groups, {layer.kernel[0]}, {layer.kernel[1]}]"
            channels[layer.name] = first_extent(tensors, f"{first}.{layer.name}.weight", dims)
        if layer.aws == "gate":
            squeezed[layer.name] = first_extent(tensors, f"aws.{layer.name}.squeeze.weight", "[r, 2C], r at least 1")
        if layer.prelu is not None and first_extent(tensors, f"{first}.{layer.prelu}.weight", "[C] or [1]") == 1:
            slopes[layer.prelu] = 1
    for head in manifest.heads:
        if head.labels is None and head.tensor is not None:
            rows[head.name] = first_extent(tensors, f"{head.branch}.{head.tensor}.weight", "[rows, features]")
    return Widths(channels, squeezed, slopes, rows)


def check_tensors(manifest: Manifest, tensors: Mapping[str, Tensor]) -> Widths:
    """Refuses tensors that are missing, unused, misshapen, mistyped or not finite, and batch norms that overflow."""
    widths = read_widths(manifest, tensors)
    expected, optional = tensor_shapes(manifest, widths, map_shapes(manifest, widths.channels))
    for name, shape in expected.items():
        place = f"tensor {quoted(name)}"
        if name not in tensors:
            if name in optional:
                continue
            raise ModelError(place, f"shape {list(shape)}", "none")
        tensor = tensors[name]
        if tuple(tensor.shape) != shape:
            dims = list(tensor.shape)
            raise ModelError(place, f"shape {list(shape)}", str(dims) if len(dims) <= 8 else f"{len(dims)} dimensions")
        if tensor.dtype not in STORED:
            raise ModelError(place, "F32, F16 or BF16", str(tensor.dtype).removeprefix("torch."))
        finite = torch.isfinite(tensor.detach())
        if not finite.all():
            index = int((~finite).flatten().nonzero()[0])
            raise ModelError(place, "finite numbers", f"{tensor.flatten()[index].item()} at index {index}")
    norms = {layer.batch_norm for layer in manifest.layers if layer.batch_norm is not None}
    counters = {f"{branch}.{norm}.num_batches_tracked" for branch in manifest.branches for norm in norms}
    check_used(expected, counters, tensors)
    check_norms(manifest, tensors)
    return widths


def check_used(expected: Collection[str], counters: Collection[str], tensors: Mapping[str, Tensor]) -> None:
    for name in tensors:
        if name not in expected and name not in counters:
            raise ModelError(f"tensor {quoted(name)}", "a tensor that the manifest uses", "one that nothing uses")


def check_norms(manifest: Manifest, tensors: Mapping[str, Tensor]) -> None:
    """Every batch norm is a factor and a term a channel that f32 holds, folded into the weights before it or alone."""

    def numbers(name: str) -> NDArray[np.float64]:
        return tensors[name].detach().double().cpu().numpy()

    for layer in manifest.layers:
        for branch in manifest.branches if layer.batch_norm is not None else ():
            prefix = f"{branch}.{layer.batch_norm}"
            gamma, beta, mean, variance = (
                numbers(f"{prefix}.{part}") for part in ("weight", "bias", "running_mean", "running_var")
            )
            spread = variance + layer.batch_norm_eps
            if (spread <= 0).any():
                index = int(np.flatnonzero(spread <= 0)[0])
                place, least = f"tensor {quoted(prefix + '.running_var')}", f"-eps = -{layer.batch_norm_eps:g}"
                raise ModelError(place, f"variances greater than {least}", f"{variance[index]:g} at index {index}")
            bias = numbers(f"{branch}.{layer.name}.bias") if f"{branch}.{layer.name}.bias" in tensors else 0.0
            with np.errstate(all="ignore"):
                factor = gamma / np.sqrt(spread)
                term = ((bias - mean) * factor + beta).astype(np.float32)
                bad = ~np.isfinite(term) | ~np.isfinite(factor.astype(np.float32))
                if layer.op in WEIGHTED:
                    weight = numbers(f"{branch}.{layer.name}.weight").reshape(len(factor), -1)
                    bad |= ~np.isfinite((np.abs(weight).max(1) * np.abs(factor)).astype(np.float32))
            if bad.any():
                expected = "a batch norm that can be folded into weight and bias in f32"
                found = f"an overflow in output channel {int(np.flatnonzero(bad)[0])}"
                raise ModelError(f"batch norm {quoted(prefix)}", expected, found)
