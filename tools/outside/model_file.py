"""Reads and writes model files of versions 1 and 2: a manifest (JSON) and named tensors in one safetensors file.

`Layer` and `Head` are the manifest's entries with every default filled in and every short form
(an integer for `[h, w]`, say) written out, so that nobody behind this file looks at the JSON again.
Files are taken to be valid: refusing bad ones is awsnet's work, not that of its outside counterpart.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

BRANCHES = ("emotion", "au")
"""The branches of a manifest that names none, in the order of the AWS-Units' indices: `A[to][from]`."""

KINDS = {"emotion": "classes", "au": "units"}
"""The kinds of version 1's heads, which do not say it."""

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
"""The storage types of weights, by their names in the file."""

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """One layer of every branch. `kernel` and `padding` mean something for convolutions and pools only."""

    name: str
    op: str
    inputs: tuple[str, ...]  # one, or those of a concatenation
    kernel: tuple[int, int]  # h, w
    stride: tuple[int, int]  # h, w
    padding: tuple[int, int, int, int]  # top, left, bottom, right
    dilation: tuple[int, int]  # h, w
    groups: int
    ceil_mode: bool
    count_include_pad: bool
    output: tuple[int, int]  # h, w of an adaptive pooling
    factor: tuple[int, int]  # h, w of an upsampling
    batch_norm: str | None
    batch_norm_eps: float
    scale: str | None
    residual: str | None
    activation: str
    negative_slope: float
    prelu: str | None
    aws: str
    gate: str


@dataclass(frozen=True)
class Head:
    """A linear layer over the flattened `input` of a branch, or without a `tensor` that input itself."""

    name: str
    branch: str
    kind: str  # classes, units or values
    input: str
    tensor: str | None


@dataclass(frozen=True)
class Model:
    """A model file in memory; the tensors in the types they are stored in."""

    manifest: Manifest
    tensors: Mapping[str, np.ndarray]

    def branches(self) -> tuple[str, ...]:
        """List the branches, one or two."""
        return tuple(self.manifest.get("branches", BRANCHES))

    def layers(self) -> list[Layer]:
        """List the layers in the order they run."""
        layers: list[Layer] = []
        for entry in self.manifest["layers"]:
            layers.append(parse_layer(entry, previous=layers[-1].name if layers else "image"))
        return layers

    def heads(self) -> list[Head]:
        """List the heads: version 1's in the order of `BRANCHES`, version 2's in the manifest's."""
        heads = self.manifest["heads"]
        names = BRANCHES if self.manifest["version"] == 1 else heads
        return [parse_head(name, heads[name]) for name in names]

    def input_shape(self) -> tuple[int, int, int]:
        """Give the channels, height and width of an image."""
        entry = self.manifest["input"]
        return entry["channels"], entry["height"], entry["width"]


def parse_layer(entry: Manifest, previous: str) -> Layer:
    """Fill in a layer's defaults; `previous` is the layer before it, or `image`."""
    kernel = _pair(entry.get("kernel", 1))
    pools = entry["op"] in ("max_pool2d", "avg_pool2d")
    return Layer(
        name=entry["name"],
        op=entry["op"],
        inputs=tuple(entry.get("inputs", (entry.get("input", previous),))),
        kernel=kernel,
        stride=_pair(entry.get("stride", kernel if pools else 1)),
        padding=_sides(entry.get("padding", 0)),
        dilation=_pair(entry.get("dilation", 1)),
        groups=entry.get("groups", 1),
        ceil_mode=entry.get("ceil_mode", False),
        count_include_pad=entry.get("count_include_pad", True),
        output=_pair(entry.get("output", 1)),
        factor=_pair(entry.get("factor", 1)),
        batch_norm=entry.get("batch_norm"),
        batch_norm_eps=entry.get("batch_norm_eps", 1e-5),
        scale=entry.get("scale"),
        residual=entry.get("residual"),
        activation=entry.get("activation", "none"),
        negative_slope=entry.get("negative_slope", 0.01),
        prelu=entry.get("prelu"),
        aws=entry.get("aws", "none"),
        gate=entry.get("gate", "softmax"),
    )


def parse_head(name: str, entry: Manifest) -> Head:
    """Fill in a head's defaults; a `tensor` that is null stays None."""
    kind = entry["kind"] if "kind" in entry else KINDS[name]
    return Head(name, entry.get("branch", name), kind, entry["input"], entry.get("tensor", "fc"))


def _pair(value: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    """Write out `k` as `(k, k)`."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _sides(value: int | list[int]) -> tuple[int, int, int, int]:
    """Write out a padding `p` or `[h, w]` as `(top, left, bottom, right)`."""
    if isinstance(value, list) and len(value) == 4:
        return (value[0], value[1], value[2], value[3])
    height, width = _pair(value)
    return (height, width, height, width)


def read(path: Path) -> Model:
    """Read a model file."""
    with safe_open(path, framework="np") as file:
        manifest = json.loads(file.metadata()["awsnet"])
        return Model(manifest, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (no mapping)


def write(path: Path, model: Model) -> None:
    """Write a model file; the same model gives the same bytes."""
    tensors = {name: np.array(tensor, order="C") for name, tensor in model.tensors.items()}
    path.write_bytes(save(tensors, metadata={"awsnet": json.dumps(model.manifest)}))
