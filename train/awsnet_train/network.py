"""AwsNet: the module that a manifest describes.

The manifest (docs/model-format.md) says which operators follow each other, not how wide they are: the numbers of
channels come beside it, or out of a state_dict. Submodules stand where their tensors' names say, so `state_dict()` is
the tensor list of a model file.
"""

import copy
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .aws_unit import aws_unit

BRANCHES = ("emotion", "au")
WEIGHTED = ("conv2d", "linear")


class Logits(NamedTuple):
    emotion: Tensor  # [N, emotions]
    au: Tensor  # [N, AUs]


def pair(value: int | list[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def padding(value: int | list[int]) -> tuple[int, int, int, int]:
    """Left, right, top, bottom, as `functional.pad` wants it, from any of the manifest's three forms."""
    if isinstance(value, list) and len(value) == 4:
        top, left, bottom, right = value
        return left, right, top, bottom
    height, width = pair(value)
    return width, width, height, height


def place(root: nn.Module, path: str, module: nn.Module) -> None:
    """Puts a module at a dotted path below `root`."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)


def operator(layer: Mapping[str, Any], shape: torch.Size, out: int | None, bias: bool) -> nn.Module:
    """The operator of a layer for an input of the shape [C, H, W]."""
    channels = shape[0]
    match layer["op"]:
        case "conv2d":
            groups = layer.get("groups", 1)
            conv = nn.Conv2d(
                channels,
                out or channels,
                pair(layer["kernel"]),
                pair(layer.get("stride", 1)),
                dilation=pair(layer.get("dilation", 1)),
                groups=groups,
                bias=bias,
            )
            nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
            return conv
        case "linear":
            return nn.Linear(shape.numel(), out or shape.numel(), bias=bias)
        case "max_pool2d":
            return nn.MaxPool2d(pair(layer["kernel"]), pair(layer.get("stride", layer["kernel"])))
        case "avg_pool2d":
            return nn.AvgPool2d(pair(layer["kernel"]), pair(layer.get("stride", layer["kernel"])))
        case "global_avg_pool2d":
            return nn.AdaptiveAvgPool2d(1)
        case "identity":
            return nn.Identity()
    raise ValueError(f"layer {layer['name']}: unknown op {layer['op']!r}")


def activate(layer: Mapping[str, Any], values: Tensor) -> Tensor:
    match layer.get("activation", "none"):
        case "none":
            return values
        case "relu":
            return functional.relu(values)
        case "leaky_relu":
            return functional.leaky_relu(values, layer.get("negative_slope", 0.01))
        case "silu":
            return functional.silu(values)
    raise ValueError(f"layer {layer['name']}: unknown activation {layer['activation']!r}")


class AwsNet(nn.Module):
    """Two branches and the AWS-Units between them; images [N, C, H, W], normalised, to `Logits`.

    channels: the output channels of every conv2d and linear layer, by name.
    biases: which of the layers and heads have a bias, as "emotion.conv1"; by default those without a batch norm.
    squeezed: r of the gate units, by layer; a quarter of the channels by default.
    """

    def __init__(
        self,
        manifest: dict[str, Any],
        channels: Mapping[str, int],
        biases: Collection[str] | None = None,
        squeezed: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.manifest = manifest
        self.emotion, self.au, self.aws = nn.Module(), nn.Module(), nn.Module()
        self.trunk_is_shared = False  # see `share_trunk`
        # What has no weights, and operators on their way to `place`: a parent goes before its children.
        self.operators: dict[str, nn.Module] = {}
        weighted: dict[str, nn.Module] = {}

        image = manifest["input"]
        shapes = {"image": torch.Size([image["channels"], image["height"], image["width"]])}
        self.sources: dict[str, str] = {}
        previous = "image"
        for layer in manifest["layers"]:
            name, norm = layer["name"], layer.get("batch_norm")
            self.sources[name] = layer.get("input", previous)
            previous = name
            before = shapes[self.sources[name]]
            for branch in BRANCHES:
                key = f"{branch}.{name}"
                biased = norm is None if biases is None else key in biases
                built = operator(layer, before, channels.get(name), biased)
                if layer["op"] in WEIGHTED:
                    weighted[key] = built
                else:
                    self.operators[name] = built
            shape = self.shape_behind(layer, built, before)
            if norm is not None:
                eps = layer.get("batch_norm_eps", 1e-5)
                kind = nn.BatchNorm2d if layer["op"] == "conv2d" else nn.BatchNorm1d
                weighted |= {f"{branch}.{norm}": kind(shape[0], eps=eps) for branch in BRANCHES}
            if layer.get("aws", "none") != "none":
                width = (squeezed or {}).get(name)
                weighted[f"aws.{name}"] = aws_unit(layer["aws"], shape[0], width, layer.get("gate", "softmax"))
            shapes[name] = shape
        for branch in BRANCHES:
            head = manifest["heads"][branch]
            key = f"{branch}.{head.get('tensor', 'fc')}"
            biased = biases is None or key in biases
            weighted[key] = nn.Linear(shapes[head["input"]].numel(), len(head["labels"]), bias=biased)
        for key in sorted(weighted, key=lambda key: key.count(".")):
            place(self, key, weighted[key])

    @classmethod
    def from_tensors(cls, manifest: dict[str, Any], tensors: Mapping[str, Tensor]) -> "AwsNet":
        """The network of a manifest with the widths and the values of a state_dict."""
        channels, biases, squeezed = {}, set(), {}
        for layer in manifest["layers"]:
            name = layer["name"]
            if layer["op"] in WEIGHTED:
                channels[name] = tensors[f"emotion.{name}.weight"].shape[0]
            if layer.get("aws") == "gate":
                squeezed[name] = tensors[f"aws.{name}.squeeze.weight"].shape[0]
        biases = {key.removesuffix(".bias") for key in tensors if key.endswith(".bias")}
        network = cls(manifest, channels, biases, squeezed)
        counters = {key: value for key, value in network.state_dict().items() if key.endswith(".num_batches_tracked")}
        network.load_state_dict(counters | dict(tensors))
        return network.eval()

    @staticmethod
    def shape_behind(layer: Mapping[str, Any], built: nn.Module, before: torch.Size) -> torch.Size:
        """The shape [C, H, W] that an operator gives, found by running it on a tensor without values."""
        return apply(layer, copy.deepcopy(built).to("meta"), torch.empty(1, *before, device="meta")).shape[1:]

    def operate(self, branch: nn.Module, layer: Mapping[str, Any], values: Tensor, residual: Tensor | None) -> Tensor:
        """Operator, batch norm, residual and activation of one branch."""
        name, norm = layer["name"], layer.get("batch_norm")
        built = branch.get_submodule(name) if layer["op"] in WEIGHTED else self.operators[name]
        values = apply(layer, built, values)
        if norm is not None:
            flat = values if layer["op"] == "conv2d" else values.flatten(1)
            values = branch.get_submodule(norm)(flat).view_as(values)
        return activate(layer, values if residual is None else values + residual)

    def forward(self, images: Tensor) -> Logits:
        maps: dict[str, tuple[Tensor, Tensor]] = {"image": (images, images)}
        for layer in self.manifest["layers"]:
            name = layer["name"]
            source, residual = maps[self.sources[name]], maps.get(layer.get("residual"), (None, None))
            emotion = self.operate(self.emotion, layer, source[0], residual[0])
            au = emotion if self.trunk_is_shared else self.operate(self.au, layer, source[1], residual[1])
            if layer.get("aws", "none") != "none":
                emotion, au = self.aws.get_submodule(name)(emotion, au)
            maps[name] = (emotion, au)
        emotion_head, au_head = self.heads()
        emotion, au = (maps[self.manifest["heads"][branch]["input"]][index] for index, branch in enumerate(BRANCHES))
        return Logits(emotion_head(emotion.flatten(1)), au_head(au.flatten(1)))

    def heads(self) -> tuple[nn.Module, nn.Module]:
        """The linear layers at the end of both branches."""
        names = [self.manifest["heads"][branch].get("tensor", "fc") for branch in BRANCHES]
        return self.emotion.get_submodule(names[0]), self.au.get_submodule(names[1])

    def normalise(self, pixels: Tensor) -> Tensor:
        """From 8-bit pixels [N, H, W, C] to what `forward` takes."""
        image = self.manifest["input"]
        mean, std = torch.tensor(image["mean"]), torch.tensor(image["std"])
        return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def apply(layer: Mapping[str, Any], built: nn.Module, values: Tensor) -> Tensor:
    """An operator with its padding; the result is [N, C, H, W]."""
    if layer["op"] == "linear":
        flat: Tensor = built(values.flatten(1))
        return flat[:, :, None, None]
    edges = padding(layer.get("padding", 0))
    if any(edges):
        values = functional.pad(values, edges, value=-torch.inf if layer["op"] == "max_pool2d" else 0.0)
    result: Tensor = built(values)
    return result


def parameter_groups(
    network: AwsNet, lr: float, weight_decay: float, unit_lr_multiplier: float
) -> list[dict[str, Any]]:
    """What an optimiser takes: filters at `lr`, AWS-Units at a multiple of it and without weight decay.

    A tensor that stands in both branches is listed once.
    """
    units = {id(parameter) for parameter in network.aws.parameters()}
    others: Iterable[nn.Parameter] = (p for p in network.parameters() if id(p) not in units)
    groups = [{"params": list(others), "lr": lr, "weight_decay": weight_decay}]
    if units:
        groups.append({"params": list(network.aws.parameters()), "lr": lr * unit_lr_multiplier, "weight_decay": 0.0})
    return groups


def share_trunk(network: AwsNet) -> None:
    """Makes both branches one: every module of the emotion branch but its head serves the au branch too."""
    heads = {network.manifest["heads"][branch].get("tensor", "fc") for branch in BRANCHES}
    for name, child in network.emotion.named_children():
        if name not in heads:
            network.au.add_module(name, child)
    network.trunk_is_shared = True
