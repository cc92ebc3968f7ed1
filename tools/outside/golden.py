"""Writes the golden cases: small model files, images, and what every layer and head must give.

usage: golden.py [FOLDER, by default tests/golden]

NAME.model.safetensors is a model file. NAME.expected.safetensors holds `image` [N, C, H, W], `{head}.logits` and,
but of heads of values, `{head}.probabilities` [N, how many it gives], and for every layer `{branch}/{layer}`, its
y [N, C, H, W], AWS-Unit included; all F32. The values are the definition's (definition.py, float64), rounded once;
nothing is written unless ONNX Runtime agrees with every one of them. The same bytes come out each time. The cases
are in golden_cases.py and golden_cases_2.py.
"""

import argparse
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save

import definition
import golden_cases_2  # noqa: F401 (registers its cases)
import model_file
import onnx_graph
from golden_cases import CASES
from model_builder import ModelBuilder

TOLERANCE = 1e-5
"""The largest difference of ONNX Runtime (float32) from the definition, relative to a tensor's largest value."""


def write_case(folder: Path, name: str) -> int:
    """Write a case's two files once both implementations agree; gives their size in bytes."""
    seed = zlib.crc32(name.encode())  # so that a new case leaves the others as they are
    options = CASES[name].options
    builder = ModelBuilder(seed, **options)
    source = CASES[name].build(builder)
    if source and options.get("version") == 2:
        builder.head("mood", source, 3, branch=builder.branches[0], kind="values", tensor="mood")
        builder.head(builder.branches[-1], source, 4, kind="classes", tensor="head")
    elif source:
        builder.head("emotion", source, 7)
        builder.head("au", source, 12)
    model = builder.build()
    image = builder.images(1 + seed % 3)
    expected = definition.predict(model, image)
    for outputs in (
        onnx_graph.predict(model, image, layers=True),
        onnx_graph.predict(model, image, layers=True, fold=True, optimise=True),
    ):
        if outputs.keys() != expected.keys():
            raise ValueError(f"{name}: other outputs: {sorted(outputs.keys() ^ expected.keys())}")
        for tensor, value in outputs.items():
            largest = np.abs(expected[tensor]).max()
            error = np.abs(value - expected[tensor]).max()
            if not (error <= TOLERANCE * largest and largest > 0.01):
                raise ValueError(f"{name}, {tensor}: the two differ by {error:.1e} of values up to {largest:.1e}")
    paths = [folder / f"{name}.{part}.safetensors" for part in ("model", "expected")]
    model_file.write(paths[0], model)
    outputs = {tensor: np.array(value, np.float32, order="C") for tensor, value in expected.items()}
    paths[1].write_bytes(save({"image": image} | outputs))
    return sum(path.stat().st_size for path in paths)


def main() -> None:
    """Write every case."""
    parser = argparse.ArgumentParser(description="Write the golden cases.")
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(__file__).resolve().parents[2] / "tests" / "golden"
    )
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {name: write_case(folder, name) for name in CASES}
    for name, size in sizes.items():
        print(f"{name:36} {size:8} bytes")
    print(f"{f'{len(sizes)} cases':36} {sum(sizes.values()):8} bytes")


if __name__ == "__main__":
    main()
