"""The model format's definition, word by word, in NumPy and float64: slow, plain, and nobody else's code.

A second opinion beside ONNX Runtime (onnx_graph.py): where both agree, what is written down as expected
rests on neither alone. It shares with it only the reading of the manifest (model_file.py). Every feature
map is [N, C, H, W]; a pair of them is (emotion, au).
"""

from collections.abc import Iterable, Mapping

import numpy as np

from model_file import BRANCHES, Head, Layer, Model

Pair = tuple[np.ndarray, np.ndarray]


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
    tensors = Tensors(model.tensors)
    image = image.astype(np.float64)
    values: dict[str, Pair] = {"image": (image, image)}
    outputs: dict[str, np.ndarray] = {}
    for layer in model.layers():
        values[layer.name] = layer_pair(layer, values, tensors)
        for branch, y in zip(BRANCHES, values[layer.name], strict=True):
            outputs[f"{branch}/{layer.name}"] = y
    for index, head in enumerate(model.heads()):
        logits = head_logits(head, values[head.input][index], tensors)
        outputs[f"{head.branch}.logits"] = logits
        outputs[f"{head.branch}.probabilities"] = (
            _softmax(logits, axis=1) if head.branch == "emotion" else _sigmoid(logits)
        )
    return outputs


def layer_pair(layer: Layer, values: Mapping[str, Pair], tensors: Tensors) -> Pair:
    """Compute one layer pair, AWS-Unit included, from the earlier ones."""
    u = []
    for index, branch in enumerate(BRANCHES):
        z = operator(layer, branch, values[layer.input][index], tensors)
        if layer.residual is not None:
            z = z + values[layer.residual][index]
        u.append(_activation(layer, z))
    return _aws_unit(layer, (u[0], u[1]), tensors)


def head_logits(head: Head, x: np.ndarray, tensors: Tensors) -> np.ndarray:
    """Compute a head's logits, [N, labels]."""
    prefix = f"{head.branch}.{head.tensor}"
    return x.reshape(len(x), -1) @ tensors[f"{prefix}.weight"].T + tensors.bias(prefix)


def operator(layer: Layer, branch: str, x: np.ndarray, tensors: Tensors) -> np.ndarray:
    """Compute z of one branch: the operator with its bias and its batch norm."""
    prefix = f"{branch}.{layer.name}"
    match layer.op:
        case "identity":
            return x
        case "global_avg_pool2d":
            return x.mean(axis=(2, 3), keepdims=True)
        case "max_pool2d":
            return np.maximum.reduce(_taps(layer, x, fill=-np.inf))
        case "avg_pool2d":
            return np.add.reduce(_taps(layer, x, fill=0.0)) / (layer.kernel[0] * layer.kernel[1])
        case "conv2d":
            z = _conv2d(layer, x, tensors[f"{prefix}.weight"])
        case "linear":
            z = (x.reshape(len(x), -1) @ tensors[f"{prefix}.weight"].T)[:, :, None, None]
        case _:
            raise ValueError(f"{layer.name}: unknown op {layer.op}")
    z = z + _channels(tensors.bias(prefix))
    if layer.batch_norm is not None:
        norm = f"{branch}.{layer.batch_norm}"
        centred = z - _channels(tensors[f"{norm}.running_mean"])
        scaled = centred / np.sqrt(_channels(tensors[f"{norm}.running_var"]) + layer.batch_norm_eps)
        z = scaled * _channels(tensors[f"{norm}.weight"]) + _channels(tensors[f"{norm}.bias"])
    return z


def _taps(layer: Layer, x: np.ndarray, fill: float) -> list[np.ndarray]:
    """For each position in the window, what it sees: the padded input, strided, [N, C, out H, out W]."""
    (kernel_h, kernel_w), (stride_h, stride_w) = layer.kernel, layer.stride
    (dilation_h, dilation_w), (top, left, bottom, right) = layer.dilation, layer.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    out_h = (padded.shape[2] - dilation_h * (kernel_h - 1) - 1) // stride_h + 1
    out_w = (padded.shape[3] - dilation_w * (kernel_w - 1) - 1) // stride_w + 1
    return [
        padded[:, :, i : i + stride_h * (out_h - 1) + 1 : stride_h, j : j + stride_w * (out_w - 1) + 1 : stride_w]
        for i in range(0, dilation_h * kernel_h, dilation_h)
        for j in range(0, dilation_w * kernel_w, dilation_w)
    ]


def _conv2d(layer: Layer, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Cross-correlate; output channels come in `groups` runs, each seeing its run of input channels."""
    out, group_in = weight.shape[:2]
    group_out = out // layer.groups
    taps = _taps(layer, x, fill=0.0)
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


def _activation(layer: Layer, v: np.ndarray) -> np.ndarray:
    match layer.activation:
        case "none":
            return v
        case "relu":
            return np.maximum(v, 0.0)
        case "leaky_relu":
            return np.where(v < 0.0, layer.negative_slope * v, v)
        case "silu":
            return v * _sigmoid(v)
    raise ValueError(f"{layer.name}: unknown activation {layer.activation}")


def _aws_unit(layer: Layer, u: Pair, tensors: Tensors) -> Pair:
    """Mix the pair: y_t = sum over s of A[t][s] * u_s."""
    if layer.aws == "none":
        return u
    if layer.aws == "gate":
        a = _gate(layer, u, tensors)[..., None, None]  # [N, 2, 2, C, 1, 1]
        return _pair(a[:, t, 0] * u[0] + a[:, t, 1] * u[1] for t in range(2))
    a = tensors[f"aws.{layer.name}.weight"]
    match layer.aws:
        case "layer":
            return _pair(a[t, 0] * u[0] + a[t, 1] * u[1] for t in range(2))
        case "channel":
            return _pair(_channels(a[t, 0]) * u[0] + _channels(a[t, 1]) * u[1] for t in range(2))
        case "dense":
            return _pair(np.einsum("soi,snihw->nohw", a[t], np.stack(u), optimize=True) for t in range(2))
    raise ValueError(f"{layer.name}: unknown AWS-Unit {layer.aws}")


def _gate(layer: Layer, u: Pair, tensors: Tensors) -> np.ndarray:
    """Compute A of a gate, [N, 2 (to), 2 (from), C]."""
    prefix = f"aws.{layer.name}"
    means = np.concatenate([v.mean(axis=(2, 3)) for v in u], axis=1)  # [N, 2C]
    g = np.maximum(means @ tensors[f"{prefix}.squeeze.weight"].T + tensors[f"{prefix}.squeeze.bias"], 0.0)
    logits = np.einsum("tscr,nr->ntsc", tensors[f"{prefix}.excite.weight"], g)
    logits = logits + tensors[f"{prefix}.excite.bias"]
    return _softmax(logits, axis=2) if layer.gate == "softmax" else _sigmoid(logits)


def _pair(items: Iterable[np.ndarray]) -> Pair:
    """Give the two items of an iterable as a pair."""
    emotion, au = items
    return emotion, au


def _softmax(v: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(v - v.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _sigmoid(v: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * v))
