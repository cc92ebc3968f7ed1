"""A model file as a PyTorch module, batch norms folded, for `torch.compile`."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import model_file
import onnx_graph
from model_file import BRANCHES, Head, Layer, Model

Pair = tuple[Tensor, Tensor]


def load(path: Path) -> nn.Module:
    """Read a model file. The module maps images to logits and probabilities, emotion's first."""
    return Network(model_file.read(path)).eval()


class Network(nn.Module):
    """Both branches and their AWS-Units, layer pair by layer pair."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        if model.manifest["version"] != 1:
            raise NotImplementedError(f"no model file of version {model.manifest['version']} is written for PyTorch")
        self.layers = model.layers()
        self.heads = model.heads()
        self.names: dict[str, str] = {}  # a module's tensors have no dots in their names
        for layer in self.layers:
            for branch in BRANCHES:
                if layer.op in ("conv2d", "linear"):
                    weight, bias = onnx_graph.folded(model, layer, branch)
                    self._keep(f"{branch}.{layer.name}.weight", torch.from_numpy(weight))
                    if bias is not None:
                        self._keep(f"{branch}.{layer.name}.bias", torch.from_numpy(bias))
            if layer.aws in ("layer", "channel"):
                a = torch.from_numpy(model.tensors[f"aws.{layer.name}.weight"].astype("float32"))
                self._keep(f"aws.{layer.name}", a.reshape(2, 2, -1, 1, 1))
            elif layer.aws != "none":
                raise NotImplementedError(f"no AWS-Unit of kind {layer.aws} is written for PyTorch")
        for head in self.heads:
            for part in ("weight", "bias"):
                name = f"{head.branch}.{head.tensor}.{part}"
                if name in model.tensors:
                    self._keep(f"head.{head.branch}.{part}", torch.from_numpy(model.tensors[name].astype("float32")))

    def _keep(self, name: str, tensor: Tensor) -> None:
        self.names[name] = name.replace(".", "__")
        if name.endswith(".weight") and tensor.dim() == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        self.register_buffer(self.names[name], tensor)

    def _tensor(self, name: str) -> Tensor | None:
        return getattr(self, self.names[name]) if name in self.names else None

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute emotion logits and probabilities, au logits and probabilities."""
        image = image.contiguous(memory_format=torch.channels_last)
        values: dict[str, Pair] = {"image": (image, image)}
        for layer in self.layers:
            u = [self._branch(layer, index, values) for index in range(2)]
            a = self._tensor(f"aws.{layer.name}")
            if a is not None:
                u = [a[t, 0] * u[0] + a[t, 1] * u[1] for t in range(2)]
            values[layer.name] = (u[0], u[1])
        emotion, au = (self._head(head, values[head.input][index]) for index, head in enumerate(self.heads))
        return emotion, emotion.softmax(1), au, au.sigmoid()

    def _branch(self, layer: Layer, index: int, values: dict[str, Pair]) -> Tensor:
        z = self._operator(layer, BRANCHES[index], values[layer.inputs[0]][index])
        if layer.residual is not None:
            z = z + values[layer.residual][index]
        match layer.activation:
            case "relu":
                return functional.relu(z)
            case "leaky_relu":
                return functional.leaky_relu(z, layer.negative_slope)
            case "silu":
                return functional.silu(z)
        return z

    def _operator(self, layer: Layer, branch: str, x: Tensor) -> Tensor:
        top, left, bottom, right = layer.padding
        weight, bias = (self._tensor(f"{branch}.{layer.name}.{part}") for part in ("weight", "bias"))
        if (top, left) != (bottom, right):
            x = functional.pad(x, (left, right, top, bottom), value=-torch.inf if layer.op == "max_pool2d" else 0.0)
            top = left = 0
        match layer.op:
            case "conv2d":
                return functional.conv2d(x, weight, bias, layer.stride, (top, left), layer.dilation, layer.groups)
            case "linear":
                return functional.linear(x.flatten(1), weight, bias)[:, :, None, None]
            case "max_pool2d":
                return functional.max_pool2d(x, layer.kernel, layer.stride, (top, left))
            case "avg_pool2d":
                return functional.avg_pool2d(x, layer.kernel, layer.stride, (top, left))
            case "global_avg_pool2d":
                return x.mean((2, 3), keepdim=True)
        return x

    def _head(self, head: Head, x: Tensor) -> Tensor:
        weight, bias = (self._tensor(f"head.{head.branch}.{part}") for part in ("weight", "bias"))
        return functional.linear(x.flatten(1), weight, bias)
