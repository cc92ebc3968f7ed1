"""ONNX Runtime against the definition: random models, every layer, folded or not, optimised or not."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import definition
import model_file
import onnx_graph
import random_models
from model_file import Layer, Model

SEEDS = range(100)
TOLERANCES = {1: 1e-5, 2: 3e-5}
"""The largest difference from float64 that float32 is allowed, by the version: relative to a tensor's largest value,
or to 1 for probabilities. In version 2 more layers meet, and maps whose terms cancel are drawn more often."""

OPS = ("conv2d", "linear", "max_pool2d", "avg_pool2d", "global_avg_pool2d", "identity")
OPS_2 = (*OPS, "adaptive_avg_pool2d", "concat", "upsample2d")


def worst(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> float:
    """Give the largest difference of any tensor, in the sense of `TOLERANCES`."""
    assert expected.keys() >= found.keys()
    ratios = []
    for name, value in found.items():
        assert value.shape == expected[name].shape, name
        assert np.isfinite(value).all(), name
        largest = 1.0 if name.endswith(".probabilities") else max(np.abs(expected[name]).max(), 1e-3)
        ratios.append(np.abs(value - expected[name]).max() / largest)
    return float(max(ratios))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("version", (1, 2))
def test_onnx_runtime_agrees_with_the_definition(version: int, seed: int) -> None:
    model = random_models.generate(seed, version)
    image = np.random.default_rng(seed).standard_normal((3, *model.input_shape())).astype(np.float32)
    expected = definition.predict(model, image)
    every = onnx_graph.predict(model, image, layers=True)
    assert every.keys() == expected.keys()
    assert worst(expected, every) < TOLERANCES[version]
    assert worst(expected, onnx_graph.predict(model, image, fold=True, optimise=True)) < TOLERANCES[version]


def test_the_seeds_cover_version_1() -> None:
    seen = _features(version=1)
    kinds = ("none", "layer", "channel", "dense", "gate")
    wanted = [f"{op} aws {kind}" for op in OPS for kind in kinds]
    wanted += [f"{op} residual" for op in OPS]
    wanted += [f"{op} {shape}" for op in OPS[:1] + OPS[2:4] for shape in ("asymmetric", "rectangular")]
    wanted += ["none", "relu", "leaky_relu", "silu", "gate softmax", "gate sigmoid"]
    wanted += ["batch norm", "dilated", "grouped", "large padding"]
    assert [what for what in wanted if not seen[what]] == []


def test_the_seeds_cover_version_2() -> None:
    seen = _features(version=2)
    wanted = [
        f"{op} {stage}" for op in OPS_2 for stage in ("batch norm", "full scale", "residual", "activation", "aws")
    ]
    wanted += [f"{op} spread scale" for op in OPS_2 if op not in ("linear", "global_avg_pool2d")]
    wanted += list(random_models.ACTIVATIONS_2)
    wanted += [
        "one slope",
        "slopes a channel",
        "shared slope",
        "shared norm",
        "bgr",
        "face box",
        "face points",
        "about the input",
        "about",
    ]
    wanted += [f"{pool} ceil {more}" for pool in OPS[2:4] for more in ("one more", "no more")]
    wanted += ["padding left out", "padding left out, ceil one more", "one window, beyond the map"]
    wanted += ["adaptive whole", "adaptive overlapping", "adaptive repeating", "upsample rectangular"]
    wanted += ["concat of one twice", "concat of three", "concat of concat", "-"]
    wanted += [
        f"{branches} {what}" for branches in ("one branch", "two branches") for what in ("classes", "units", "values")
    ]
    wanted += [
        "heads on one branch",
        "two heads on one tensor",
        "head of the image",
        "named by its branch",
        "branch stated",
    ]
    wanted += [f"{kind} without tensor" for kind in ("classes", "units", "values")] + ["values without labels"]
    assert [what for what in wanted if not seen[what]] == []


def _features(version: int) -> Counter[str]:
    """Count what the models of a version have."""
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        model = random_models.generate(seed, version)
        image = np.zeros((1, *model.input_shape()), np.float32)
        branch = model.branches()[0]
        values = {name.removeprefix(f"{branch}/"): y for name, y in definition.predict(model, image).items()}
        shapes = {"image": image.shape[1:]} | {name: y.shape[1:] for name, y in values.items() if y.ndim == 4}
        layers = model.layers()
        for layer in layers:
            seen.update(_layer_features(model, layer, shapes))
        ops = {layer.name: layer.op for layer in layers}
        seen["concat of concat"] += any(
            layer.op == "concat" and "concat" in [ops[source] for source in layer.inputs] for layer in layers
        )
        norms = [layer.batch_norm for layer in layers if layer.batch_norm is not None]
        seen["shared norm"] += len(set(norms)) < len(norms)
        seen["shared slope"] += [layer.prelu for layer in layers].count(random_models.SHARED_SLOPE) > 1
        if version == 2:
            seen.update(_manifest_features(model))
    return seen


def _layer_features(model: Model, layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """List what a layer has."""
    shape, source = shapes[layer.name], shapes[layer.inputs[0]]
    top, left, bottom, right = layer.padding
    slopes = model.tensors.get(f"{model.branches()[0]}.{layer.prelu}.weight", np.zeros(0))
    floor = definition.window_counts(replace(layer, ceil_mode=False), *source[1:])
    ceil = layer.ceil_mode and "pool2d" in layer.op
    more = ceil and shape[1:] != floor
    adaptive, concat = layer.op == "adaptive_avg_pool2d", layer.op == "concat"
    uneven = any(size % windows for size, windows in zip(source[1:], layer.output, strict=True))
    scale = shapes.get(layer.scale or "")
    has = {
        layer.op: True,
        layer.activation: True,
        f"{layer.op} aws {layer.aws}": True,
        f"{layer.op} aws": layer.aws != "none",
        f"gate {layer.gate}": layer.aws == "gate",
        "batch norm": layer.batch_norm is not None,
        f"{layer.op} batch norm": layer.batch_norm is not None,
        f"{layer.op} residual": layer.residual is not None,
        f"{layer.op} activation": layer.activation != "none",
        f"{layer.op} full scale": scale == shape,
        f"{layer.op} spread scale": scale is not None and scale != shape,
        f"{layer.op} asymmetric": (top, left) != (bottom, right),
        f"{layer.op} rectangular": layer.kernel[0] != layer.kernel[1],
        "dilated": layer.dilation != (1, 1),
        "grouped": layer.groups > 1,
        "large padding": layer.op == "conv2d" and max(layer.padding) >= max(layer.kernel),
        "one slope": slopes.size == 1 and shape[0] > 1,
        "slopes a channel": slopes.size > 1,
        f"{layer.op} ceil one more": more,
        f"{layer.op} ceil no more": ceil and not more,
        "one window, beyond the map": ceil and min(floor) < 1,
        "padding left out": not layer.count_include_pad and any(layer.padding),
        "padding left out, ceil one more": not layer.count_include_pad and any(layer.padding) and more,
        "adaptive whole": adaptive and not uneven,
        "adaptive overlapping": adaptive and uneven,
        "adaptive repeating": adaptive and any(w > s for s, w in zip(source[1:], layer.output, strict=True)),
        "upsample rectangular": layer.factor[0] != layer.factor[1],
        "concat of one twice": concat and len(set(layer.inputs)) < len(layer.inputs),
        "concat of three": len(set(layer.inputs)) > 2,
        "-": "-" in layer.name,
    }
    return [what for what, there in has.items() if there]


def _manifest_features(model: Model) -> list[str]:
    """List what a model of version 2 has beside its layers."""
    entry, heads, branches = model.manifest["input"], model.heads(), model.branches()
    linear = [(head.branch, head.tensor) for head in heads if head.tensor is not None]
    count = "one branch" if len(branches) == 1 else "two branches"
    has = {
        "bgr": entry.get("order") == "bgr",
        "about the input": "about" in entry,
        "about": "about" in model.manifest,
        **{f"face {how}": True for how in entry.get("face", {})},
        **{f"{count} {head.kind}": True for head in heads},
        "heads on one branch": len({head.branch for head in heads}) < len(heads),
        "two heads on one tensor": len(set(linear)) < len(linear),
        "head of the image": "image" in [head.input for head in heads],
        "named by its branch": any("branch" not in head for head in model.manifest["heads"].values()),
        "branch stated": any("branch" in head for head in model.manifest["heads"].values()),
        **{f"{head.kind} without tensor": True for head in heads if head.tensor is None},
        "values without labels": any(head.get("labels") is None for head in model.manifest["heads"].values()),
    }
    return [what for what, there in has.items() if there]


@pytest.mark.parametrize("version", (1, 2))
def test_a_file_read_back_is_the_model_written(version: int, tmp_path: Path) -> None:
    for seed in SEEDS[:10]:
        paths = [tmp_path / "a", tmp_path / "b"]
        model = random_models.generate(seed, version)
        model_file.write(paths[0], model)
        again = model_file.read(paths[0])
        assert again.manifest == model.manifest
        assert _types(again) == _types(model)
        model_file.write(paths[1], random_models.generate(seed, version))
        assert paths[0].read_bytes() == paths[1].read_bytes()


def _types(model: Model) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (t.dtype.name, t.shape, t.tobytes()) for name, t in model.tensors.items()}
