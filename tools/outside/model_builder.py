"""Builds model files layer by layer, drawing weights that keep every feature map at a magnitude of about 1.

The builder runs what it has built so far (definition.py) on one random image, and scales each new weight by
what its layer really reads. So the logits of any network it builds lie within about 1 to 10, and an error
anywhere shows in them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

import definition
from model_file import BRANCHES, DTYPES, Layer, Manifest, Model, parse_head, parse_layer

LOGIT_SCALE = 3.0
"""The standard deviation aimed at for logits."""


class ModelBuilder:
    """A model file in the making; the same seed and calls give the same model."""

    def __init__(
        self,
        seed: int,
        *,
        channels: int = 3,
        height: int,
        width: int,
        dtypes: Sequence[str] = ("F32",),
        name: str | None = None,
        version: int = 1,
        branches: Sequence[str] | None = None,
        **fields: Any,
    ) -> None:
        """Begin a model; `branches` and `fields`, which go into `input` as they are, are version 2's."""
        self._random = np.random.default_rng(seed)
        self._dtypes = dtypes  # each tensor is stored in one of them, drawn at random
        self._tensors: dict[str, np.ndarray] = {}
        self._manifest: Manifest = {"version": version} | ({} if name is None else {"name": name})
        if branches is not None:
            self._manifest["branches"] = list(branches)
        self._branches = BRANCHES if branches is None else tuple(branches)
        self._manifest["input"] = {
            "channels": channels,
            "height": height,
            "width": width,
            "mean": [0.485, 0.456, 0.406][:channels],
            "std": [0.229, 0.224, 0.225][:channels],
        } | fields
        self._manifest["layers"] = []
        self._manifest["heads"] = {}
        image = self.images(1).astype(np.float64)
        self._values: dict[str, definition.Maps] = {"image": (image,) * len(self._branches)}
        self._of_heads: set[str] = set()  # the prefixes of their tensors
        self._last = "image"

    def images(self, count: int) -> np.ndarray:
        """Draw a batch of normalised images, [N, C, H, W]."""
        entry = self._manifest["input"]
        shape = (count, entry["channels"], entry["height"], entry["width"])
        return self._random.standard_normal(shape).astype(np.float32)

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches, one or two."""
        return self._branches

    def shape(self, layer: str) -> tuple[int, int, int]:
        """Give the C, H, W of a layer built, or of `image`."""
        _, channels, height, width = self._values[layer][0].shape
        return channels, height, width

    def largest(self, layer: str) -> float:
        """Give the largest magnitude that a layer built, or `image`, has."""
        return max(float(np.abs(x).max()) for x in self._values[layer])

    def shape_of(self, op: str, **fields: Any) -> tuple[int, int]:
        """Give the H, W a convolution or pool would give; either may be 0 or less."""
        layer = parse_layer({"name": "", "op": op, **fields}, self._last)
        _, height, width = self.shape(layer.inputs[0])
        return definition.window_counts(layer, height, width)

    def layer(
        self,
        name: str,
        op: str,
        *,
        out: int = 0,
        bias: bool = True,
        squeeze: int = 3,
        slopes: int = 0,
        **fields: Any,
    ) -> str:
        """Add a layer and give its name.

        `fields` go into the manifest as they are; `out` counts the output channels of a convolution or linear
        layer, `squeeze` the values a gate squeezes to, `slopes` those of a PReLU (by default one a channel).
        """
        entry = {"name": name, "op": op, **fields}
        layer = parse_layer(entry, self._last)
        weighted = op in ("conv2d", "linear")
        channels = out if weighted else sum(self.shape(source)[0] for source in layer.inputs)
        for index, branch in enumerate(self._branches):
            if weighted:
                self._draw_operator(layer, branch, self._values[layer.inputs[0]][index], out, bias)
            if layer.batch_norm is not None:
                self._draw_batch_norm(f"{branch}.{layer.batch_norm}", channels)
            if layer.activation == "prelu":
                self._draw_slopes(f"{branch}.{layer.prelu}.weight", slopes or channels)
        if layer.aws != "none":
            self._draw_aws_unit(layer, channels, squeeze)
        self._manifest["layers"].append(entry)
        tensors = definition.Tensors(self._tensors)
        self._values[name] = definition.layer_maps(layer, self._branches, self._values, tensors)
        self._last = name
        return name

    def head(self, name: str, source: str, rows: int = 0, *, bias: bool = True, **fields: Any) -> None:
        """Add a head; `source` is the layer it reads, `rows` counts the numbers it gives where it has a tensor.

        Labels are made up; a head has others, or none, where `fields` say so.
        """
        entry = {"input": source, "labels": []} | fields
        head = parse_head(name, entry)
        x = self._values[source][self._branches.index(head.branch)]
        features = x[0].size
        if "labels" not in fields:
            entry["labels"] = [f"{name}_{index}" for index in range(features if head.tensor is None else rows)]
        if entry["labels"] is None and self._random.random() < 0.5:
            del entry["labels"]  # which says the same
        self._manifest["heads"][name] = entry
        prefix = f"{head.branch}.{head.tensor}"
        if head.tensor is None or prefix in self._of_heads:
            return  # heads may share their tensors
        self._of_heads.add(prefix)
        scale = LOGIT_SCALE * _gain(x) / np.sqrt(features)
        self._store(f"{prefix}.weight", self._normal(rows, features) * scale)
        if bias:
            self._store(f"{prefix}.bias", self._normal(rows))

    def build(self) -> Model:
        """Give the model; its heads must have been added."""
        return Model(self._manifest, self._tensors)

    def _draw_operator(self, layer: Layer, branch: str, x: np.ndarray, out: int, bias: bool) -> None:
        shape = (out, x.shape[1] // layer.groups, *layer.kernel) if layer.op == "conv2d" else (out, x[0].size)
        prefix = f"{branch}.{layer.name}"
        weight = self._normal(*shape)
        self._store(f"{prefix}.weight", weight * (_gain(x) / np.sqrt(weight[0].size)))
        if bias:
            self._store(f"{prefix}.bias", 0.3 * self._normal(out))

    def _draw_batch_norm(self, norm: str, channels: int) -> None:
        if f"{norm}.weight" in self._tensors:
            return  # other layers may share a norm
        self._store(f"{norm}.weight", self._random.uniform(0.5, 1.5, channels))
        self._store(f"{norm}.bias", 0.3 * self._normal(channels))
        self._store(f"{norm}.running_mean", 0.3 * self._normal(channels))
        self._store(f"{norm}.running_var", self._random.uniform(0.25, 2.0, channels))
        if self._random.random() < 0.5:  # a state_dict has it; it is ignored
            self._tensors[f"{norm}.num_batches_tracked"] = np.array(12345, np.int64)

    def _draw_slopes(self, name: str, count: int) -> None:
        if name not in self._tensors:  # other layers may share them
            self._store(name, self._random.uniform(-0.3, 0.6, count))

    def _draw_aws_unit(self, layer: Layer, channels: int, squeeze: int) -> None:
        prefix = f"aws.{layer.name}"
        if layer.aws == "gate":
            self._store(f"{prefix}.squeeze.weight", self._normal(squeeze, 2 * channels) * (2.0 / np.sqrt(channels)))
            self._store(f"{prefix}.squeeze.bias", 0.5 + 0.5 * self._normal(squeeze))
            self._store(f"{prefix}.excite.weight", self._normal(2, 2, channels, squeeze) * (2.0 / np.sqrt(squeeze)))
            self._store(f"{prefix}.excite.bias", self._normal(2, 2, channels))
            return
        own = np.eye(2)[(...,) + (None,) * (0 if layer.aws == "layer" else 1)]  # [2, 2] or [2, 2, 1]
        if layer.aws == "dense":
            own = own[..., None] * np.eye(channels)
            noise = self._normal(2, 2, channels, channels) / np.sqrt(2 * channels)
        else:
            noise = self._normal(2, 2) if layer.aws == "layer" else self._normal(2, 2, channels)
        self._store(f"{prefix}.weight", 0.75 * own + 0.4 * noise)

    def _normal(self, *shape: int) -> np.ndarray:
        return self._random.standard_normal(shape)

    def _store(self, name: str, values: np.ndarray) -> None:
        if name in self._tensors:
            raise ValueError(f"two tensors are called {name}")
        dtype = self._dtypes[int(self._random.integers(len(self._dtypes)))]
        self._tensors[name] = values.astype(np.float32).astype(DTYPES[dtype])


def _gain(x: np.ndarray) -> float:
    """Give 1 / the root mean square of x, to a power of two, so that the last bits of x do not reach the weights."""
    size = float(np.sqrt(np.mean(np.square(x))))
    return float(2.0 ** -np.round(np.log2(size))) if size > 1e-3 else 1.0
