"""Networks put together: two models of one branch as one of two, and AWS-Units where they are wanted."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .manifest import KINDS_1, UNITS, Layer, ModelError, quoted, read_manifest
from .network import AwsNet
from .shapes import map_shapes, read_widths

WHERE = ("none", "stages", "blocks", "pairs")
ADVICE = (
    "otherwise each as a model of one branch, or one of the networks as both branches, "
    "with a last layer of its own in a copy (`as_branch`)"
)


def oldest(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest in version 1, where that can say it."""
    older = copy.deepcopy(manifest) | {"version": 1}
    if tuple(older.pop("branches", KINDS_1)) != tuple(KINDS_1) or tuple(older["heads"]) != tuple(KINDS_1):
        return manifest
    for name, head in older["heads"].items():
        if head.pop("kind", KINDS_1[name]) != KINDS_1[name] or head.pop("branch", name) != name:
            return manifest
    try:
        read_manifest(older)
    except ModelError:
        return manifest
    return older


def newest(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest in version 2."""
    newer = copy.deepcopy(manifest) | {"version": 2}
    for name, head in newer["heads"].items():
        head.setdefault("kind", KINDS_1.get(name, "values"))
    return newer


def put_units(manifest: dict[str, Any], network: AwsNet, aws: str, units: str | Sequence[str]) -> None:
    """Adds the key `aws` to the layers that `units` names; see `from_modules`."""
    shapes = map_shapes(network.structure, read_widths(network.structure, network.state_dict()).channels)
    layers = network.structure.layers
    sizes = [shapes[layer.name].height * shapes[layer.name].width for layer in layers]
    maps = [number for number, size in enumerate(sizes) if size > 1]
    if units == "stages":
        chosen = {max(n for n in maps if sizes[n] == size) for size in {sizes[n] for n in maps}}
    elif units == "blocks":
        chosen = {n for n in maps if layers[n].residual is not None or layers[n].op == "concat" or n == 0}
    elif units == "pairs":
        pools = ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "upsample2d")
        chosen = {n for n in maps if layers[n].op not in pools}
    elif isinstance(units, str):
        raise ValueError(f"units: expected one of {', '.join(WHERE)}, or names of layers, found {units!r}")
    else:
        known = {layer.name: number for number, layer in enumerate(layers)}
        for name in units:
            if name not in known:
                raise ValueError(f"units: expected names among {', '.join(known)}, found {name!r}")
        chosen = {known[name] for name in units}
    if not chosen:
        raise ValueError(f"units: expected a place for a unit at {units!r}, found none; name the layers")
    for number in sorted(chosen):
        manifest["layers"][number]["aws"] = aws


def with_units(network: AwsNet, aws: str, units: str | Sequence[str]) -> AwsNet:
    """The same network with units that have hardly mixed yet in place of those that it has."""
    if aws not in UNITS:
        raise ValueError(f"aws: expected one of {', '.join(UNITS)}, found {aws!r}")
    manifest = copy.deepcopy(network.manifest)
    for layer in manifest["layers"]:
        layer.pop("aws", None)
        layer.pop("gate", None)
    if aws != "none" and units != "none":
        put_units(manifest, network, aws, units)
    return network.rebuilt(manifest)


def unnamed(layers: Sequence[Layer]) -> list[Layer]:
    """Layers that name each other by their numbers, so that networks of other names can be compared."""
    number = {"image": "image"} | {layer.name: str(index) for index, layer in enumerate(layers)}
    return [
        dataclasses.replace(
            layer,
            name=number[layer.name],
            inputs=tuple(number[name] for name in layer.inputs),
            scale=None if layer.scale is None else number[layer.scale],
            residual=None if layer.residual is None else number[layer.residual],
            batch_norm=None if layer.batch_norm is None else "a batch norm",
            prelu=None if layer.prelu is None else "slopes",
        )
        for layer in layers
    ]


def as_branch(network: AwsNet, branch: str, kind: str, labels: Sequence[str]) -> AwsNet:
    """A model of one branch as another branch: the same layers, and beside them one new head, named after the branch,
    where the first head was. For `join_models` where only one of two tasks has a network that was trained."""
    if len(network.structure.branches) != 1:
        names = " and ".join(network.structure.branches)
        raise ModelError("manifest: `branches`", "a network of one branch", names)
    was, head = network.structure.branches[0], network.structure.heads[0]
    tensor = head.tensor or "fc"
    entry: dict[str, Any] = {"kind": kind, "input": head.input, "tensor": tensor, "labels": list(labels)}
    if kind == "units":
        entry["thresholds"] = [0.5] * len(labels)
    manifest = newest(network.manifest) | {"branches": [branch], "heads": {branch: entry}}
    heads = {f"{was}.{other.tensor}." for other in network.structure.heads if other.tensor is not None}
    kept = {
        f"{branch}.{name.removeprefix(f'{was}.')}": tensor
        for name, tensor in network.state_dict().items()
        if not any(name.startswith(prefix) for prefix in heads)
    }
    shapes = map_shapes(network.structure, read_widths(network.structure, network.state_dict()).channels)
    features = shapes[head.input].channels * shapes[head.input].height * shapes[head.input].width
    new = nn.Linear(features, len(labels))
    return AwsNet.from_tensors(
        manifest, kept | {f"{branch}.{tensor}.{name}": value for name, value in new.state_dict().items()}
    )


def join_models(first: AwsNet, second: AwsNet, aws: str = "channel", units: str | Sequence[str] = "stages") -> AwsNet:
    """Two models of one branch each, which are of one shape, as one of two branches with units between them."""
    for network in (first, second):
        if len(network.structure.branches) != 1:
            names = " and ".join(network.structure.branches)
            raise ModelError("manifest: `branches`", "one branch in each of the networks to join", names)
    one, other = first.structure.branches[0], second.structure.branches[0]
    if one == other:
        raise ModelError("manifest: `branches`", "two branches of different names", f"{quoted(one)} twice")
    for key in ("channels", "height", "width", "mean", "std", "order"):
        mine, theirs = (getattr(network.structure.input, key) for network in (first, second))
        if mine != theirs:
            place = f"manifest: `input`: `{key}`"
            raise ModelError(place, "networks that read the same images", f"{mine} and {theirs}")
    compare_layers(first, second)
    # Weights stand under the names of the first network.
    pairs = list(zip(second.structure.layers, first.structure.layers, strict=True))
    source = {"image": "image"} | {layer.name: to.name for layer, to in pairs}
    renamed = {f"{other}.{name}": f"{other}.{to}" for name, to in names_of(second, first)}
    manifest = newest(first.manifest)
    manifest["branches"] = [one, other]
    for head in second.structure.heads:
        if head.name in manifest["heads"]:
            raise ModelError("manifest: `heads`", "heads of different names", f"{quoted(head.name)} twice")
        entry = newest(second.manifest)["heads"][head.name] | {"input": source[head.input]}
        if head.name != other:
            entry["branch"] = other
        if head.tensor is not None and head.tensor in source.values():
            entry["tensor"] = f"{head.tensor}_{head.name}"
            renamed[f"{other}.{head.tensor}"] = f"{other}.{entry['tensor']}"
        manifest["heads"][head.name] = entry
    state: dict[str, Tensor] = dict(first.state_dict())
    for name, tensor in second.state_dict().items():
        prefix, _, part = name.rpartition(".")
        state[f"{renamed.get(prefix, prefix)}.{part}"] = tensor
    joined = AwsNet.from_tensors(oldest(manifest), state)
    return with_units(joined, aws, units) if aws != "none" else joined


def names_of(network: AwsNet, like: AwsNet) -> list[tuple[str, str]]:
    """What has weights in a network, and its name in another one of the same shape."""
    names: list[tuple[str, str]] = []
    for layer, to in zip(network.structure.layers, like.structure.layers, strict=True):
        names.append((layer.name, to.name))
        for own, its in ((layer.batch_norm, to.batch_norm), (layer.prelu, to.prelu)):
            if own is not None and its is not None:
                names.append((own, its))
    return names


def compare_layers(first: AwsNet, second: AwsNet) -> None:
    """Refuses networks of other shapes by the first layer that differs."""
    both = [network.structure.layers for network in (first, second)]
    shapes = [
        map_shapes(network.structure, read_widths(network.structure, network.state_dict()).channels)
        for network in (first, second)
    ]
    for index, (mine, theirs) in enumerate(zip(*map(unnamed, both), strict=False)):
        names = [layers[index].name for layers in both]
        outputs = [shape[name] for shape, name in zip(shapes, names, strict=True)]
        differing = [
            (field.name, str(getattr(mine, field.name)), str(getattr(theirs, field.name)))
            for field in dataclasses.fields(Layer)
            if field.name not in ("aws", "gate") and getattr(mine, field.name) != getattr(theirs, field.name)
        ]
        if outputs[0] != outputs[1]:
            differing.append(("output", str(outputs[0]), str(outputs[1])))
        if differing:
            key, own, other = differing[0]
            place = f"layer {index}, {quoted(names[0])} and {quoted(names[1])}"
            expected = f"networks of one shape, of which this is the first layer that differs; {ADVICE}"
            raise ModelError(place, expected, f"{key} {own} and {other}")
    if len(both[0]) != len(both[1]):
        raise ModelError("layers", f"as many in both networks; {ADVICE}", f"{len(both[0])} and {len(both[1])}")
