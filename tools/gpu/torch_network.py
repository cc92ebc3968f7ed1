"""A model file of version 1 (docs/model-format.md) as a PyTorch module: the operators of its manifest, one by one.

Batch normalisation is folded into the weights, as anybody would who deploys it. Nothing is needed but torch: a model
file is a safetensors file, whose header is JSON.
"""

import json
import struct
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

BRANCHES = ("emotion", "au")
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
Pair = tuple[Tensor, Tensor]


def read(path: str) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a model file, as f32, and its manifest."""
    content = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    manifest = json.loads(header.pop("__metadata__")["awsnet"])
    data, tensors = bytearray(content[8 + length :]), {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if entry["dtype"] in _DTYPES and end > begin:
            stored = torch.frombuffer(data[begin:end], dtype=_DTYPES[entry["dtype"]])
            tensors[name] = stored.float().reshape(entry["shape"])
    return tensors, manifest


def _two(value) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _pad(x: Tensor, layer: dict, fill: float) -> tuple[Tensor, list[int]]:
    """The input, padded by hand where its sides differ, and the padding left to the operator."""
    padding = _two(layer.get("padding", 0))
    if len(padding) == 2:
        return x, padding
    top, left, bottom, right = padding
    return functional.pad(x, (left, right, top, bottom), value=fill), [0, 0]


class Layer(nn.Module):
    """One layer pair: both operators, residual, activation and the AWS-Unit."""

    def __init__(self, layer: dict, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.layer, self.op = layer, layer["op"]
        self.aws = layer.get("aws", "none")
        name = layer["name"]
        if self.op in ("conv2d", "linear"):
            for branch in BRANCHES:
                weight, bias = _folded(layer, f"{branch}.", tensors)
                self.register_buffer(f"{branch}_weight", weight)
                self.register_buffer(f"{branch}_bias", bias)
        prefix = f"aws.{name}."
        for key in tensors:
            if key.startswith(prefix):
                self.register_buffer("aws_" + key[len(prefix) :].replace(".", "_"), tensors[key])

    def forward(self, inputs: Pair, residuals: Pair | None) -> Pair:
        u = []
        for index, branch in enumerate(BRANCHES):
            x = self._operate(inputs[index], branch)
            if residuals is not None:
                x = x + residuals[index]
            u.append(self._activate(x))
        return self._mix(u[0], u[1])

    def _operate(self, x: Tensor, branch: str) -> Tensor:
        layer = self.layer
        if self.op == "conv2d":
            x, padding = _pad(x, layer, 0.0)
            weight, bias = getattr(self, f"{branch}_weight"), getattr(self, f"{branch}_bias")
            stride, dilation = _two(layer.get("stride", 1)), _two(layer.get("dilation", 1))
            return functional.conv2d(x, weight, bias, stride, padding, dilation, layer.get("groups", 1))
        if self.op == "linear":
            weight, bias = getattr(self, f"{branch}_weight"), getattr(self, f"{branch}_bias")
            return functional.linear(x.contiguous().flatten(1), weight, bias)[:, :, None, None]
        if self.op == "global_avg_pool2d":
            return x.mean((2, 3), keepdim=True)
        if self.op in ("max_pool2d", "avg_pool2d"):
            kernel = _two(layer["kernel"])
            x, padding = _pad(x, layer, float("-inf") if self.op == "max_pool2d" else 0.0)
            return getattr(functional, self.op)(x, kernel, _two(layer.get("stride", kernel)), padding)
        return x

    def _activate(self, x: Tensor) -> Tensor:
        activation = self.layer.get("activation", "none")
        if activation == "leaky_relu":
            return functional.leaky_relu(x, self.layer.get("negative_slope", 0.01))
        return {"relu": functional.relu, "silu": functional.silu, "none": lambda x: x}[activation](x)

    def _mix(self, emotion: Tensor, au: Tensor) -> Pair:
        u = (emotion, au)
        if self.aws in ("layer", "channel"):
            a = self.aws_weight.reshape(2, 2, -1, 1, 1)
            return tuple(a[to, 0] * u[0] + a[to, 1] * u[1] for to in range(2))
        if self.aws == "dense":
            a = self.aws_weight[..., None, None]
            return tuple(functional.conv2d(u[0], a[to, 0]) + functional.conv2d(u[1], a[to, 1]) for to in range(2))
        if self.aws == "gate":
            means = torch.cat([x.mean((2, 3)) for x in u], 1)
            squeezed = functional.relu(functional.linear(means, self.aws_squeeze_weight, self.aws_squeeze_bias))
            logits = torch.einsum("tscr,nr->ntsc", self.aws_excite_weight, squeezed) + self.aws_excite_bias
            a = torch.sigmoid(logits) if self.layer.get("gate") == "sigmoid" else torch.softmax(logits, 2)
            a = a[..., None, None]
            return tuple(a[:, to, 0] * u[0] + a[:, to, 1] * u[1] for to in range(2))
        return u


def _folded(layer: dict, branch: str, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Weight and bias with the batch normalisation behind them."""
    weight = tensors[f"{branch}{layer['name']}.weight"]
    bias = tensors.get(f"{branch}{layer['name']}.bias", torch.zeros(len(weight)))
    if layer.get("batch_norm"):
        norm = {
            key: tensors[f"{branch}{layer['batch_norm']}.{key}"]
            for key in ("weight", "bias", "running_mean", "running_var")
        }
        scale = norm["weight"] / (norm["running_var"] + layer.get("batch_norm_eps", 1e-5)).sqrt()
        weight = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
        bias = (bias - norm["running_mean"]) * scale + norm["bias"]
    return weight, bias


class Network(nn.Module):
    """A whole model; gives the logits of both branches."""

    def __init__(self, path: str) -> None:
        super().__init__()
        tensors, self.manifest = read(path)
        self.layers = nn.ModuleList(Layer(layer, tensors) for layer in self.manifest["layers"])
        for branch in BRANCHES:
            head = f"{branch}.{self.manifest['heads'][branch].get('tensor', 'fc')}"
            weight = tensors[f"{head}.weight"]
            self.register_buffer(f"{branch}_weight", weight)
            self.register_buffer(f"{branch}_bias", tensors.get(f"{head}.bias", torch.zeros(len(weight))))

    def forward(self, image: Tensor) -> Pair:
        values, previous = {"image": (image, image)}, "image"
        for module in self.layers:
            layer = module.layer
            residual = layer.get("residual")
            values[layer["name"]] = module(values[layer.get("input", previous)], values[residual] if residual else None)
            previous = layer["name"]
        logits = []
        for index, branch in enumerate(BRANCHES):
            features = values[self.manifest["heads"][branch]["input"]][index].contiguous().flatten(1)
            logits.append(
                functional.linear(features, getattr(self, f"{branch}_weight"), getattr(self, f"{branch}_bias"))
            )
        return logits[0], logits[1]

    def prepare(self, device: str, dtype: torch.dtype) -> "Network":
        """Ready to be timed: on the device, in the type, filters as channels_last."""
        return self.eval().to(device, dtype).to(memory_format=torch.channels_last)
