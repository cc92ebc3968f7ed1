"""ONNX Runtime against the definition: random models, every layer, folded or not, optimised or not."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import definition
import model_file
import onnx_graph
import random_models
from model_file import Model

SEEDS = range(100)
TOLERANCE = 1e-5
"""The largest difference from float64 that float32 is allowed, relative to a tensor's largest value, or to 1 for
probabilities."""


def worst(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> float:
    """Give the largest difference of any tensor, in the sense of `TOLERANCE`."""
    assert expected.keys() >= found.keys()
    ratios = []
    for name, value in found.items():
        assert value.shape == expected[name].shape, name
        assert np.isfinite(value).all(), name
        largest = 1.0 if name.endswith(".probabilities") else max(np.abs(expected[name]).max(), 1e-3)
        ratios.append(np.abs(value - expected[name]).max() / largest)
    return float(max(ratios))


@pytest.mark.parametrize("seed", SEEDS)
def test_onnx_runtime_agrees_with_the_definition(seed: int) -> None:
    model = random_models.generate(seed)
    image = np.random.default_rng(seed).standard_normal((3, *model.input_shape())).astype(np.float32)
    expected = definition.predict(model, image)
    every = onnx_graph.predict(model, image, layers=True)
    assert every.keys() == expected.keys()
    assert worst(expected, every) < TOLERANCE
    assert worst(expected, onnx_graph.predict(model, image, fold=True, optimise=True)) < TOLERANCE


def test_the_seeds_cover_the_format() -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        for layer in random_models.generate(seed).layers():
            seen[layer.op] += 1
            seen[layer.activation] += 1
            seen[f"{layer.op} {layer.aws}"] += 1
            seen[f"gate {layer.gate}"] += layer.aws == "gate"
            seen["batch norm"] += layer.batch_norm is not None
            seen[f"{layer.op} residual"] += layer.residual is not None
            top, left, bottom, right = layer.padding
            seen[f"{layer.op} asymmetric"] += (top, left) != (bottom, right)
            seen[f"{layer.op} rectangular"] += layer.kernel[0] != layer.kernel[1]
            seen["dilated"] += layer.dilation != (1, 1)
            seen["grouped"] += layer.groups > 1
            seen["large padding"] += layer.op == "conv2d" and max(layer.padding) >= max(layer.kernel)
    ops = ("conv2d", "linear", "max_pool2d", "avg_pool2d", "global_avg_pool2d", "identity")
    kinds = ("none", "layer", "channel", "dense", "gate")
    wanted = [f"{op} {kind}" for op in ops for kind in kinds]
    wanted += [f"{op} residual" for op in ops]
    wanted += [f"{op} {shape}" for op in ops[:1] + ops[2:4] for shape in ("asymmetric", "rectangular")]
    wanted += ["none", "relu", "leaky_relu", "silu", "gate softmax", "gate sigmoid"]
    wanted += ["batch norm", "dilated", "grouped", "large padding"]
    assert [what for what in wanted if not seen[what]] == []


def test_a_file_read_back_is_the_model_written(tmp_path: Path) -> None:
    for seed in SEEDS[:10]:
        paths = [tmp_path / "a", tmp_path / "b"]
        model = random_models.generate(seed)
        model_file.write(paths[0], model)
        again = model_file.read(paths[0])
        assert again.manifest == model.manifest
        assert _types(again) == _types(model)
        model_file.write(paths[1], random_models.generate(seed))
        assert paths[0].read_bytes() == paths[1].read_bytes()


def _types(model: Model) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (t.dtype.name, t.shape, t.tobytes()) for name, t in model.tensors.items()}
