"""The model format's definition, word by word, in NumPy and float64: slow, plain, and nobody else's code.

A second opinion beside ONNX Runtime (onnx_graph.py): where both agree, what is written down as expected
rests on neither alone. It shares with it only the reading of the manifest (model_file.py). Every feature
map is [N, C, H, W]; what a layer gives is a map a branch, in the order of the branches.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from model_file import Head, Layer, Model

Maps = tuple[np.ndarray, ...]


class Tensors:
    """A model's tensors, widened to float64."""

    def __init__(self, stored: Mapping[str, np.ndarray]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> np.ndarray:
        return self._stored[name].astype(np.float64)

    def bias(self, prefix: str) -> np.ndarray | float:
        """Give `{prefix}.bias`, which may be missing."""
        return self[f"{prefix}.bias"] if f"{prefix}.bias" in self._stored else 0.0


def predict(model: Model, image: np.ndarray) -> dict[str, np.ndarray]:
    """Compute every layer (`{branch}/{layer}`), logits and probabilities, all float64, of a batch of images."""
    tensors, branches = Tensors(model.tensors), model.branches()
    image = image.astype(np.float64)
    values: dict[str, Maps] = {"image": (image,) * len(branches)}
    outputs: dict[str, np.ndarray] = {}
    for layer in model.layers():
        values[layer.name] = layer_maps(layer, branches, values, tensors)
        for branch, y in zip(branches, values[layer.name], strict=True):
            outputs[f"{branch}/{layer.name}"] = y
    for head in model.heads():
        logits = head_logits(head, values[head.input][branches.index(head.branch)], tensors)
        outputs[f"{head.name}.logits"] = logits
        match head.kind:
            case "classes":
                outputs[f"{head.name}.probabilities"] = _softmax(logits, axis=1)
            case "units":
                outputs[f"{head.name}.probabilities"] = _sigmoid(logits)
            case "values":
                pass
            case _:
                raise ValueError(f"{head.name}: unknown kind {head.kind}")
    return outputs


def layer_maps(layer: Layer, branches: Sequence[str], values: Mapping[str, Maps], tensors: Tensors) -> Maps:
    """Compute one layer of every branch, AWS-Unit included, from the earlier ones."""
    u = []
    for index, branch in enumerate(branches):
        z = operator(layer, branch, [values[source][index] for source in layer.inputs], tensors)
        if layer.scale is not None:
            z = z * values[layer.scale][index]  # C x 1 x 1 meets every pixel
        if layer.residual is not None:
            z = z + values[layer.residual][index]
        u.append(_activation(layer, branch, z, tensors))
    return _aws_unit(layer, tuple(u), tensors)


def head_logits(head: Head, x: np.ndarray, tensors: Tensors) -> np.ndarray:
    """Compute a head's logits, [N, how many it gives]."""
    features = x.reshape(len(x), -1)
    if head.tensor is None:
        return features
    prefix = f"{head.branch}.{head.tensor}"
    return features @ tensors[f"{prefix}.weight"].T + tensors.bias(prefix)


def operator(layer: Layer, branch: str, inputs: Sequence[np.ndarray], tensors: Tensors) -> np.ndarray:
    """Compute z of one branch: the operator with its bias and its batch norm."""
    prefix, x = f"{branch}.{layer.name}", inputs[0]
    match layer.op:
        case "identity":
            z = x
        case "concat":
            z = np.concatenate(inputs, axis=1)
        case "upsample2d":
            z = x.repeat(layer.factor[0], axis=2).repeat(layer.factor[1], axis=3)
        case "global_avg_pool2d":
            z = x.mean(axis=(2, 3), keepdims=True)
        case "adaptive_avg_pool2d":
            z = _adaptive_avg_pool2d(layer, x)
        case "max_pool2d":
            z = np.maximum.reduce(_taps(layer, x, padding=-np.inf, beyond=-np.inf))
        case "avg_pool2d":
            pixels = np.ones((1, 1, *x.shape[2:]))
            counts = _taps(layer, pixels, padding=1.0 if layer.count_include_pad else 0.0, beyond=0.0)
            z = np.add.reduce(_taps(layer, x, padding=0.0, beyond=0.0)) / np.add.reduce(counts)
        case "conv2d":
            z = _conv2d(layer, x, tensors[f"{prefix}.weight"]) + _channels(tensors.bias(prefix))
        case "linear":
            z = (x.reshape(len(x), -1) @ tensors[f"{prefix}.weight"].T)[:, :, None, None]
            z = z + _channels(tensors.bias(prefix))
        case _:
            raise ValueError(f"{layer.name}: unknown op {layer.op}")
    if layer.batch_norm is not None:
        norm = f"{branch}.{layer.batch_norm}"
        centred = z - _channels(tensors[f"{norm}.running_mean"])
        scaled = centred / np.sqrt(_channels(tensors[f"{norm}.running_var"]) + layer.batch_norm_eps)
        z = scaled * _channels(tensors[f"{norm}.weight"]) + _channels(tensors[f"{norm}.bias"])
    return z


def window_counts(layer: Layer, height: int, width: int) -> tuple[int, int]:
    """Give how many windows of a convolution or pool there are, down and across; either may be 0 or less.

    In ceil mode there is one more where whole ones leave something over, unless it would begin behind the map,
    in the padding.
    """
    top, left, bottom, right = layer.padding
    counts = []
    for axis, size, before, after in ((0, height, top, bottom), (1, width, left, right)):
        stride = layer.stride[axis]
        steps = size + before + after - (layer.dilation[axis] * (layer.kernel[axis] - 1) + 1)
        count = steps // stride + 1
        if layer.ceil_mode and steps % stride != 0 and count * stride < before + size:
            count += 1
        counts.append(count)
    return counts[0], counts[1]


def _taps(layer: Layer, x: np.ndarray, padding: float, beyond: float) -> list[np.ndarray]:
    """For each position in the window, what it sees: the padded input, strided, [N, C, out H, out W].

    `padding` is around the map, `beyond` is what a last window in ceil mode meets behind the padding.
    """
    (kernel_h, kernel_w), (stride_h, stride_w) = layer.kernel, layer.stride
    (dilation_h, dilation_w), (top, left, bottom, right) = layer.dilation, layer.padding
    out_h, out_w = window_counts(layer, *x.shape[2:])
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=padding)
    more_h = max(0, stride_h * (out_h - 1) + dilation_h * (kernel_h - 1) + 1 - padded.shape[2])
    more_w = max(0, stride_w * (out_w - 1) + dilation_w * (kernel_w - 1) + 1 - padded.shape[3])
    padded = np.pad(padded, ((0, 0), (0, 0), (0, more_h), (0, more_w)), constant_values=beyond)
    return [
        padded[:, :, i : i + stride_h * (out_h - 1) + 1 : stride_h, j : j + stride_w * (out_w - 1) + 1 : stride_w]
        for i in range(0, dilation_h * kernel_h, dilation_h)
        for j in range(0, dilation_w * kernel_w, dilation_w)
    ]


def _adaptive_avg_pool2d(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Average windows that cover the map; the i-th of n over s rows is [floor(i*s/n), ceil((i+1)*s/n))."""
    (out_h, out_w), (height, width) = layer.output, x.shape[2:]
    z = np.empty((*x.shape[:2], out_h, out_w))
    for i in range(out_h):
        for j in range(out_w):
            rows = slice(math.floor(i * height / out_h), math.ceil((i + 1) * height / out_h))
            columns = slice(math.floor(j * width / out_w), math.ceil((j + 1) * width / out_w))
            z[:, :, i, j] = x[:, :, rows, columns].mean(axis=(2, 3))
    return z


def _conv2d(layer: Layer, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Cross-correlate; output channels come in `groups` runs, each seeing its run of input channels."""
    out, group_in = weight.shape[:2]
    group_out = out // layer.groups
    taps = _taps(layer, x, padding=0.0, beyond=0.0)
    z = np.zeros((len(x), out, *taps[0].shape[2:]))
    for tap, w in zip(taps, np.moveaxis(weight.reshape(out, group_in, -1), 2, 0), strict=True):
        for group in range(layer.groups):
            rows = slice(group * group_out, (group + 1) * group_out)
            columns = slice(group * group_in, (group + 1) * group_in)
            z[:, rows] += np.einsum("oi,nihw->nohw", w[rows], tap[:, columns], optimize=True)
    return z


def _channels(values: np.ndarray | float) -> np.ndarray | float:
    """Lay one value a channel out for [N, C, H, W]."""
    return values[:, None, None] if isinstance(values, np.ndarray) else values


def _activation(layer: Layer, branch: str, v: np.ndarray, tensors: Tensors) -> np.ndarray:
    match layer.activation:
        case "none":
            return v
        case "relu":
            return np.maximum(v, 0.0)
        case "relu6":
            return _relu6(v)
        case "leaky_relu":
            return np.where(v < 0.0, layer.negative_slope * v, v)
        case "prelu":
            return np.where(v < 0.0, _channels(tensors[f"{branch}.{layer.prelu}.weight"]) * v, v)
        case "elu":
            return np.where(v < 0.0, np.expm1(np.minimum(v, 0.0)), v)
        case "sigmoid":
            return _sigmoid(v)
        case "hardsigmoid":
            return _relu6(v + 3.0) / 6.0
        case "silu":
            return v * _sigmoid(v)
        case "hardswish":
            return v * _relu6(v + 3.0) / 6.0
        case "tanh":
            return np.tanh(v)
        case "gelu":
            return v * 0.5 * (1.0 + _erf(v / math.sqrt(2.0)))
        case "gelu_tanh":
            return v * 0.5 * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (v + 0.044715 * v**3)))
    raise ValueError(f"{layer.name}: unknown activation {layer.activation}")


def _aws_unit(layer: Layer, u: Maps, tensors: Tensors) -> Maps:
    """Mix the two branches: y_t = sum over s of A[t][s] * u_s."""
    if layer.aws == "none":
        return u
    if layer.aws == "gate":
        a = _gate(layer, u, tensors)[..., None, None]  # [N, 2, 2, C, 1, 1]
        return tuple(a[:, t, 0] * u[0] + a[:, t, 1] * u[1] for t in range(2))
    a = tensors[f"aws.{layer.name}.weight"]
    match layer.aws:
        case "layer":
            return tuple(a[t, 0] * u[0] + a[t, 1] * u[1] for t in range(2))
        case "channel":
            return tuple(_channels(a[t, 0]) * u[0] + _channels(a[t, 1]) * u[1] for t in range(2))
        case "dense":
            return tuple(np.einsum("soi,snihw->nohw", a[t], np.stack(u), optimize=True) for t in range(2))
    raise ValueError(f"{layer.name}: unknown AWS-Unit {layer.aws}")


def _gate(layer: Layer, u: Maps, tensors: Tensors) -> np.ndarray:
    """Compute A of a gate, [N, 2 (to), 2 (from), C]."""
    prefix = f"aws.{layer.name}"
    means = np.concatenate([v.mean(axis=(2, 3)) for v in u], axis=1)  # [N, 2C]
    g = np.maximum(means @ tensors[f"{prefix}.squeeze.weight"].T + tensors[f"{prefix}.squeeze.bias"], 0.0)
    logits = np.einsum("tscr,nr->ntsc", tensors[f"{prefix}.excite.weight"], g)
    logits = logits + tensors[f"{prefix}.excite.bias"]
    return _softmax(logits, axis=2) if layer.gate == "softmax" else _sigmoid(logits)


def _softmax(v: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(v - v.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _sigmoid(v: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * v))


def _relu6(v: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(v, 0.0), 6.0)


def _erf(v: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float64])(v)
