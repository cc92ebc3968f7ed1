"""Runs awsnet, ONNX Runtime and the definition on random models (or given ones) and compares what they say.

usage: agree.py --awsnet PATH [--version 1] [--count 20] [--seed 0] [--device cpu] [MODEL...]

Each model runs at batches 1, 3 and 17, the first images of one lot, through `awsnet run`; both outside
implementations compute the whole lot once. A logit may differ by 1e-4 of the largest |logit| of its tensor, a
probability by as much as such a difference can move it. A model that fails stays in the folder named, with its
input and awsnet's output, and the exit code is 1.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

import definition
import model_file
import onnx_graph
import random_models
from model_file import Model

BATCHES = (1, 3, 17)
RUN_TIMEOUT_S = 600
LEAST_LARGEST = 0.01
"""Where the largest |logit| is below this (a branch may be dead), differences are relative to this."""


class Disagreement(Exception):
    """awsnet failed, or said something else than an outside implementation."""


def run_awsnet(
    awsnet: Path, model: Path, image: np.ndarray, folder: Path, options: Sequence[str]
) -> dict[str, np.ndarray]:
    """Run a model file through `awsnet run`; input and output files stay in `folder`."""
    source, target = folder / f"{model.name}.input", folder / f"{model.name}.output"
    target.unlink(missing_ok=True)
    save_file({"image": image}, source)
    command = [str(awsnet), "run", str(model), "--input", str(source), "--output", str(target), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise Disagreement(f"exit code {done.returncode} of {' '.join(command)}: {done.stderr.strip()}")
    try:
        return load_file(target)
    except (OSError, SafetensorError) as problem:
        raise Disagreement(f"exit code 0, and yet no output of {' '.join(command)}: {problem}") from problem


def compare(expected: dict[str, np.ndarray], found: dict[str, np.ndarray], tolerance: float) -> float:
    """Give the worst difference of a logit, relative to its tensor's largest; too much of one is a Disagreement."""
    if found.keys() != expected.keys():
        raise Disagreement(f"expected the tensors {sorted(expected)}, found {sorted(found)}")
    worst = 0.0
    for name, value in found.items():
        head, part = name.split(".")
        largest = max(float(np.abs(expected[f"{head}.logits"]).max()), LEAST_LARGEST)
        allowed = tolerance * largest + (0.0 if part == "logits" else 1e-6)
        if value.dtype.name != "float32" or value.shape != expected[name].shape:
            raise Disagreement(f"{name}: {value.dtype} {value.shape}, not float32 {expected[name].shape}")
        error = np.abs(value.astype(np.float64) - expected[name])
        place = np.unravel_index(np.argmax(error), error.shape)  # of a NaN, where there is one
        if not error[place] <= allowed:
            raise Disagreement(
                f"{name}{[int(i) for i in place]}: {value[place]}, expected {expected[name][place]}; they differ "
                f"by {error[place]:.2e}, {allowed:.2e} is allowed (largest |logit| {largest:.3g})"
            )
        if part == "logits":
            worst = max(worst, float(error[place]) / largest)
    return worst


def models(arguments: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path, Model]]:
    """Give the models to run: a title, the file, what it holds."""
    for path in arguments.models:
        yield str(path), path, model_file.read(path)
    if not arguments.models:
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            path = folder / random_models.file_name(seed, arguments.version)
            model = random_models.generate(seed, arguments.version)
            model_file.write(path, model)
            yield f"model seed {seed} of version {arguments.version}", path, model


def outside(model: Model, image: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Compute what the heads give by both outside implementations."""
    runtime = onnx_graph.predict(model, image)
    defined = definition.predict(model, image)
    return {"ONNX Runtime": runtime, "the definition": {name: defined[name] for name in runtime}}


def main() -> int:
    """Compare, and say what was seen."""
    parser = argparse.ArgumentParser(description="Compare awsnet with ONNX Runtime and the definition.")
    parser.add_argument("models", type=Path, nargs="*", help="model files, in place of random models")
    parser.add_argument("--awsnet", type=Path, required=True, help="the awsnet program")
    parser.add_argument("--version", type=int, choices=(1, 2), default=1, help="of the random models (default 1)")
    parser.add_argument("--count", type=int, default=20, help="how many random models (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first (default 0)")
    parser.add_argument("--device", default="cpu", help="awsnet's --device (default cpu)")
    parser.add_argument("--precision", default="f32", help="awsnet's --precision (default f32)")
    parser.add_argument("--batch", type=int, help="awsnet's --batch: the size of its chunks")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()
    options = ["--device", arguments.device, "--precision", arguments.precision]
    if arguments.batch is not None:
        options += ["--batch", str(arguments.batch)]

    folder = Path(tempfile.mkdtemp(prefix="awsnet-agree-"))
    count, failed, worst = 0, 0, (0.0, "nothing")
    for title, path, model in models(arguments, folder):
        count += 1
        where = title
        images = np.random.default_rng(count).standard_normal((max(BATCHES), *model.input_shape())).astype(np.float32)
        expected = outside(model, images)
        try:
            for batch in BATCHES:
                found = run_awsnet(arguments.awsnet, path, images[:batch], folder, options)
                for who, outputs in expected.items():
                    where = f"{title}, batch {batch}, against {who}"
                    first = {name: values[:batch] for name, values in outputs.items()}
                    worst = max(worst, (compare(first, found, arguments.tolerance), where))
        except (Disagreement, subprocess.TimeoutExpired) as problem:
            failed += 1
            print(f"FAILED {where}: {problem}\n    kept: {path}", flush=True)
            continue
        for left in folder.glob(f"{path.name}*"):
            left.unlink()
    drawn = "" if arguments.models else f" of version {arguments.version}, the first of seed {arguments.seed},"
    print(f"{count} models{drawn} on {arguments.device}, batches {BATCHES}: {failed} failed")
    print(f"worst difference of those that agree: {worst[0]:.2e} of the largest logit ({worst[1]})")
    if not failed:
        folder.rmdir()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
