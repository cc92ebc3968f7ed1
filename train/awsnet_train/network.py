"""AwsNet: the module that a manifest describes.

The manifest (docs/model-format.md) says which operators follow each other, not how wide they are: the numbers of
channels come beside it, or out of a state_dict. Submodules stand where their tensors' names say, so `state_dict()` is
the tensor list of a model file. `operators` computes what has no weights.
"""

import copy
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .aws_unit import ChannelUnit, DenseUnit, GateUnit, LayerUnit, aws_unit
from .manifest import KINDS_1, WEIGHTED, Head, Layer, Manifest, ModelError, quoted, read_manifest
from .operators import activate, apply
from .shapes import Shape, Widths, check_tensors, map_shapes, read_widths, rows_of, tensor_shapes

BRANCHES = tuple(KINDS_1)  # where a manifest names none
PARTS = ("branches", "heads", "units")
UNIT_KINDS = (LayerUnit, ChannelUnit, DenseUnit, GateUnit)


class Logits(tuple[Tensor, ...]):
    """The logits of every head, [N, rows], in the order of the heads; by name too: `logits.emotion`, `logits["au"]`."""

    names: tuple[str, ...]

    def __new__(cls, heads: Mapping[str, Tensor]) -> "Logits":
        logits = super().__new__(cls, heads.values())
        logits.names = tuple(heads)
        return logits

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401, as a tuple has it
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(f"no head {key}; the heads are {', '.join(self.names)}")
            key = self.names.index(key)
        return super().__getitem__(key)

    def __getattr__(self, name: str) -> Tensor:
        if name == "names" or name not in self.names:
            raise AttributeError(f"no head {name}")
        logits: Tensor = self[name]
        return logits

    def items(self) -> Iterator[tuple[str, Tensor]]:
        return zip(self.names, self, strict=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return Logits, (dict(self.items()),)


def submodule(root: nn.Module, path: str) -> Any:  # noqa: ANN401, whatever stands there
    """The module at a dotted path, whose parts may be any text."""
    for part in path.split("."):
        root = root._modules[part]  # type: ignore[assignment]
    return root


def place(root: nn.Module, path: str, module: nn.Module) -> None:
    """Puts a module at a dotted path below `root`, whatever its name: `add_module` refuses empty ones, and `type`."""
    *parents, name = path.split(".")
    for parent in parents:
        root = root._modules.setdefault(parent, nn.Module())  # type: ignore[assignment]
    root._modules[name] = module


def operator(layer: Layer, before: Shape, behind: Shape, bias: bool) -> nn.Module:
    """The operator of a layer with weights."""
    if layer.op == "linear":
        return nn.Linear(before.elements(), behind.channels, bias=bias)
    top, left, bottom, right = layer.padding
    conv = nn.Conv2d(
        before.channels,
        behind.channels,
        layer.kernel,
        layer.stride,
        (top, left) if (top, left) == (bottom, right) else 0,
        layer.dilation,
        layer.groups,
        bias,
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
    return conv


class AwsNet(nn.Module):
    """Branches and the AWS-Units between them; images [N, C, H, W], normalised, to `Logits`.

    channels: the output channels of every conv2d and linear layer, by name.
    biases: which of the layers and heads have a bias, as "emotion.conv1"; by default those without a batch norm.
    squeezed: r of the gate units, by layer; a quarter of the channels by default.
    slopes: how many slopes a prelu has, by its prefix; one a channel by default.
    rows: how many numbers a head without labels gives, by its name.
    """

    aws: nn.Module

    def __init__(
        self,
        manifest: Mapping[str, Any],
        channels: Mapping[str, int],
        biases: Collection[str] | None = None,
        squeezed: Mapping[str, int] | None = None,
        slopes: Mapping[str, int] | None = None,
        rows: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.structure: Manifest = read_manifest(manifest)
        self.manifest: dict[str, Any] = copy.deepcopy(dict(manifest))
        self.trunk_is_shared = False  # see `share_trunk`
        self.frozen: tuple[nn.Module, ...] = ()  # see `freeze`
        self.held: list[RemovableHandle] = []  # hooks that hold rows of units
        widths = Widths(channels, squeezed or {}, slopes or {}, rows or {})
        shapes = map_shapes(self.structure, channels)
        tensor_shapes(self.structure, widths, shapes)
        for name in (*self.structure.branches, "aws"):
            self._modules[name] = nn.Module()
        for key, module in self.built(shapes, widths, biases):
            *parents, name = key.split(".")
            if "training" in (*parents, name):
                raise ModelError(
                    f"tensor {quoted(key + '.weight')}", "a name that PyTorch has for modules", "`training`"
                )
            there: Any = self
            for parent in parents:
                there = None if there is None else there._modules.get(parent)
            taken = None if there is None else there._modules.get(name)
            if taken is not None and type(taken) is not nn.Module and type(taken) is not type(module):
                expected = f"a name of its own for the {type(module).__name__}"
                raise ModelError(
                    f"tensor {quoted(key + '.weight')}", expected, f"a {type(taken).__name__} of that name"
                )
            if taken is not None:
                module._modules |= taken._modules
            place(self, key, module)

    def built(
        self, shapes: Mapping[str, Shape], widths: Widths, biases: Collection[str] | None
    ) -> Iterator[tuple[str, nn.Module]]:
        """Every module with weights, and where it stands."""
        for layer in self.structure.layers:
            before, behind = shapes[layer.inputs[0]], shapes[layer.name]
            for branch in self.structure.branches:
                key = f"{branch}.{layer.name}"
                if layer.op in WEIGHTED:
                    biased = layer.batch_norm is None if biases is None else key in biases
                    yield key, operator(layer, before, behind, biased)
                if layer.batch_norm is not None:
                    yield f"{branch}.{layer.batch_norm}", nn.BatchNorm2d(behind.channels, layer.batch_norm_eps)
                if layer.prelu is not None:
                    yield f"{branch}.{layer.prelu}", nn.PReLU(widths.slopes.get(layer.prelu, behind.channels))
            if layer.aws != "none":
                unit = aws_unit(layer.aws, behind.channels, widths.squeezed.get(layer.name), layer.gate)
                yield f"aws.{layer.name}", unit
        for head in self.structure.heads:
            if head.tensor is not None:
                key = f"{head.branch}.{head.tensor}"
                biased = biases is None or key in biases
                yield key, nn.Linear(shapes[head.input].elements(), rows_of(head, widths), bias=biased)

    @classmethod
    def from_tensors(cls, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "AwsNet":
        """The network of a manifest with the widths and the values of a state_dict."""
        widths = check_tensors(read_manifest(manifest), tensors)
        biases = {key.removesuffix(".bias") for key in tensors if key.endswith(".bias")}
        network = cls(manifest, widths.channels, biases, widths.squeezed, widths.slopes, widths.rows)
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                if name in tensors:
                    tensor.copy_(tensors[name].reshape(tensor.shape))
        return network.eval()

    def rebuilt(self, manifest: Mapping[str, Any]) -> "AwsNet":
        """The network of a manifest of the same layers with these weights; what it has beyond them is new."""
        state = self.state_dict()
        widths = read_widths(self.structure, state)
        biases = {key.removesuffix(".bias") for key in state if key.endswith(".bias")}
        new = {head.name for head in read_manifest(manifest).heads} - {head.name for head in self.structure.heads}
        for head in read_manifest(manifest).heads:
            if head.name in new and head.tensor is not None:
                biases.add(f"{head.branch}.{head.tensor}")
        network = AwsNet(manifest, widths.channels, biases, widths.squeezed, widths.slopes, widths.rows)
        there = network.state_dict()
        kept = {name: tensor for name, tensor in state.items() if name in there and tensor.shape == there[name].shape}
        network.load_state_dict(there | kept)
        return network.train(self.training)

    def check(self) -> None:
        """Refuses a manifest that was changed into one of another network, or that awsnet refuses."""
        now = read_manifest(self.manifest)
        for what in ("branches", "layers"):
            if getattr(now, what) != getattr(self.structure, what):
                expected = "what the network was built from; build another one from a changed manifest"
                raise ModelError(f"manifest: `{what}`", expected, "something else")
        built = [(head.name, head.branch, head.input, head.tensor) for head in self.structure.heads]
        if [(head.name, head.branch, head.input, head.tensor) for head in now.heads] != built:
            raise ModelError("manifest: `heads`", "the heads the network was built with", "others")

    def operate(self, branch: str, layer: Layer, maps: Mapping[str, list[Tensor]], index: int) -> Tensor:
        """Operator, batch norm, scale, residual and activation of one branch."""
        root = self._modules[branch]
        assert root is not None
        module = submodule(root, layer.name) if layer.op in WEIGHTED else None
        values = apply(layer, module, [maps[name][index] for name in layer.inputs])
        if layer.batch_norm is not None:
            norm = submodule(root, layer.batch_norm)
            norm.eps = layer.batch_norm_eps  # layers that share a norm need not share this
            values = norm(values)
        if layer.scale is not None:
            values = values * maps[layer.scale][index]
        if layer.residual is not None:
            values = values + maps[layer.residual][index]
        if layer.prelu is not None:
            activated: Tensor = submodule(root, layer.prelu)(values)
            return activated
        return activate(layer, values)

    def forward(self, images: Tensor) -> Logits:
        branches = self.structure.branches
        maps: dict[str, list[Tensor]] = {"image": [images] * len(branches)}
        for layer in self.structure.layers:
            behind = [self.operate(branches[0], layer, maps, 0)]
            for index in range(1, len(branches)):
                behind.append(behind[0] if self.trunk_is_shared else self.operate(branches[index], layer, maps, index))
            if layer.aws != "none":
                behind = list(submodule(self.aws, layer.name)(*behind))
            maps[layer.name] = behind
        return Logits({head.name: self.read_out(head, maps) for head in self.structure.heads})

    def read_out(self, head: Head, maps: Mapping[str, list[Tensor]]) -> Tensor:
        features = maps[head.input][self.structure.branches.index(head.branch)].flatten(1)
        if head.tensor is None:
            return features
        logits: Tensor = submodule(self._modules[head.branch], head.tensor)(features)  # type: ignore[arg-type]
        return logits

    def heads(self) -> dict[str, nn.Module]:
        """The linear layers at the ends of the branches, by the names of the heads."""
        return {
            head.name: submodule(self._modules[head.branch], head.tensor)  # type: ignore[arg-type]
            for head in self.structure.heads
            if head.tensor is not None
        }

    def normalise(self, pixels: Tensor) -> Tensor:
        """From 8-bit pixels [N, H, W, C], RGB or luma, to what `forward` takes, on the device of the pixels."""
        image = self.manifest["input"]
        mean, std = (torch.tensor(image[key], dtype=torch.float32, device=pixels.device) for key in ("mean", "std"))
        if image.get("order", "rgb") == "bgr":
            pixels = pixels.flip(3)
        return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)

    def train(self, mode: bool = True) -> "AwsNet":
        """What is frozen keeps the statistics of its batch norms."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self


def parameter_groups(
    network: AwsNet, lr: float, weight_decay: float, unit_lr_multiplier: float
) -> list[dict[str, Any]]:
    """What an optimiser takes: filters at `lr`, AWS-Units at a multiple of it and without weight decay.

    A tensor that stands in both branches is listed once; what is frozen is not listed.
    """
    units = [p for p in network.aws.parameters() if p.requires_grad]
    of_units = {id(parameter) for parameter in units}
    others: Iterable[nn.Parameter] = (p for p in network.parameters() if id(p) not in of_units and p.requires_grad)
    groups = [
        {"params": list(others), "lr": lr, "weight_decay": weight_decay},
        {"params": units, "lr": lr * unit_lr_multiplier, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def share_trunk(network: AwsNet) -> None:
    """Makes both branches one: every module of the first branch but its head serves the second one too."""
    if len(network.structure.branches) != 2:
        raise ValueError("share_trunk: expected a network of two branches, found one")
    first, second = (submodule(network, branch) for branch in network.structure.branches)
    heads = {head.tensor for head in network.structure.heads}
    for name, child in first.named_children():
        if name not in heads:
            second._modules[name] = child
    network.trunk_is_shared = True


def freeze(network: AwsNet, *parts: str) -> None:
    """Keeps parts of a network as they are: "branches" (all but their heads), "heads", "units", or a branch by its
    name: its layers, its heads, and the rows of the units by which it borrows.

    Weights get no gradient, and batch norms neither move their statistics nor normalise by those of a batch, whatever
    `train` says. A second call replaces the first one; one without parts frees everything. A gate unit computes all its
    rows from one squeeze, so beside one a branch cannot be kept alone.
    """
    known = (*PARTS, *network.structure.branches)
    for part in parts:
        if part not in known:
            raise ValueError(f"freeze: expected some of {', '.join(known)}, found {part!r}")
    heads = {id(module) for head in network.heads().values() for module in head.modules()}
    units = {id(module) for module in network.aws.modules()}
    kept = [branch for branch in network.structure.branches if branch in parts]
    of_kept = {id(module) for branch in kept for module in submodule(network, branch).modules()}

    def is_frozen(module: nn.Module) -> bool:
        part = "heads" if id(module) in heads else "units" if id(module) in units else "branches"
        return part in parts or id(module) in of_kept

    for hook in network.held:
        hook.remove()
    network.requires_grad_(True)
    network.frozen = tuple(module for module in network.modules() if module is not network and is_frozen(module))
    network.train(network.training)
    for module in network.frozen:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    rows = [network.structure.branches.index(branch) for branch in kept]
    network.held = [
        unit_weight(unit).register_hook(functools.partial(without_rows, rows))
        for unit in network.aws.modules()
        if rows and "units" not in parts and isinstance(unit, UNIT_KINDS)
    ]


def without_rows(rows: list[int], gradient: Tensor) -> Tensor:
    """The gradient of a unit's weight [to, from, ...], with nothing for what branches of these numbers borrow."""
    gradient = gradient.clone()
    gradient[rows] = 0
    return gradient


def unit_weight(unit: nn.Module) -> nn.Parameter:
    """The weight of a unit, [to, from, ...]."""
    if isinstance(unit, GateUnit):
        raise ValueError("freeze: expected layer, channel or dense units beside a frozen branch, found a gate unit")
    weight: nn.Parameter = unit.weight  # type: ignore[assignment]
    return weight


@torch.no_grad()
def leave_alone(network: AwsNet, branch: str) -> None:
    """Makes a branch borrow nothing: it computes what it would without units."""
    row = network.structure.branches.index(branch)
    for unit in network.aws.modules():
        if isinstance(unit, UNIT_KINDS):
            weight = unit_weight(unit)
            weight[row] = 0
            one = torch.eye(weight.shape[-1]) if weight.dim() == 4 else torch.ones(weight.shape[2:])
            weight[row, row] = one.to(weight)
