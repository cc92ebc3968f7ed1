"""Times awsnet against ONNX Runtime, both on the CPU, on model files.

usage: time_networks.py --awsnet PATH MODEL... [--batch 1] [--threads 2] [--rounds 5] [--runs 100] [--json FILE]

First `awsnet run` must agree with ONNX Runtime to 1e-3. Then the two run in turn, each round in processes of their
own, since the idle threads of either would spin beside the other. ONNX Runtime gets a graph with batch norms folded and
all of its optimisations. Times are medians over rounds of each round's median over runs; memory is the peak resident
set of the whole process, for ONNX Runtime with Python, of which `import_mib` is there before a graph is loaded.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import agree
import model_file
import onnx_graph

CHECK_TOLERANCE = 1e-3

MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""
"""Runs a command and writes its peak memory (KiB) to a file. Linux counts the memory of the process that starts a
command in that command's peak, so a bare Python (some 10 MiB) starts it and not this one."""


def measured(command: Sequence[str | Path]) -> dict[str, Any]:
    """Run a command that prints a line of JSON; gives that line and `peak_mib`."""
    with tempfile.NamedTemporaryFile("r") as peak:
        start = [sys.executable, "-I", "-S", "-c", MEASURE, peak.name]
        done = subprocess.run([*start, *map(str, command)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"exit code {done.returncode} of {' '.join(map(str, command))}: {done.stderr.strip()}")
        return json.loads(done.stdout.strip().splitlines()[-1]) | {"peak_mib": int(peak.read()) / 1024}


def check(awsnet: Path, path: Path, batch: int, options: Sequence[str], folder: Path) -> float:
    """Compare the outputs of both; gives the worst difference of a logit, relative to its tensor's largest."""
    model = model_file.read(path)
    image = np.random.default_rng(0).standard_normal((batch, *model.input_shape())).astype(np.float32)
    found = agree.run_awsnet(awsnet, path, image, folder, options)
    expected = onnx_graph.predict(model, image, fold=True, optimise=True)
    return agree.compare(expected, found, CHECK_TOLERANCE)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Sum the rounds of one side up."""
    medians = [row["median_ms"] for row in rows]
    return {
        "median_ms": statistics.median(medians),
        "least_ms": min(medians),
        "most_ms": max(medians),
        "peak_mib": max(row["peak_mib"] for row in rows),
    }


def time_model(arguments: argparse.Namespace, path: Path, folder: Path) -> dict[str, Any]:
    """Check one model, time both sides in turn, print and give the figures."""
    run_options = ["--device", "cpu", "--threads", str(arguments.threads)]
    error = check(arguments.awsnet, path, arguments.batch, run_options, folder)
    graph = folder / f"{path.name}.onnx"
    onnx.save(onnx_graph.convert(model_file.read(path), fold=True), graph)
    counts = ["--batch", arguments.batch, "--threads", arguments.threads, "--runs", arguments.runs]
    commands: dict[str, list[str | Path]] = {
        "onnxruntime": [sys.executable, Path(__file__).with_name("time_onnx.py"), graph, *map(str, counts)],
        "awsnet": [arguments.awsnet, "bench", path, "--device", "cpu", *map(str, counts), "--json"],
    }
    rows: dict[str, list[dict[str, Any]]] = {side: [] for side in commands}
    for _ in range(arguments.rounds):
        for side, command in commands.items():
            rows[side].append(measured(command))
    sides = {side: summary(of_side) for side, of_side in rows.items()}
    ratio = sides["awsnet"]["median_ms"] / sides["onnxruntime"]["median_ms"]
    print(f"{path.name}  batch {arguments.batch}  threads {arguments.threads}  outputs differ by {error:.1e}")
    for side, figures in sides.items():
        print(
            f"    {side:12} {figures['median_ms']:9.3f} ms ({figures['least_ms']:.3f} to {figures['most_ms']:.3f})"
            f"  peak {figures['peak_mib']:6.1f} MiB"
        )
    imports = rows["onnxruntime"][0]["import_mib"]
    print(
        f"    awsnet / onnxruntime: {ratio:.3f}   (of onnxruntime's memory {imports:.1f} MiB are imports)",
        flush=True,
    )
    return {
        "model": path.name,
        "batch": arguments.batch,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "runs": arguments.runs,
        "error": error,
        "ratio": ratio,
        "import_mib": imports,
        **sides,
    }


def machine() -> dict[str, Any]:
    """Say where the figures come from."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {"cpu": cpu, "cores": os.cpu_count(), "onnxruntime": importlib.metadata.version("onnxruntime")}


def main() -> None:
    """Time every model and write the figures down."""
    parser = argparse.ArgumentParser(description="Time awsnet against ONNX Runtime on the CPU.")
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--awsnet", type=Path, required=True, help="the awsnet program")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=100, help="runs timed a round (default 100)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="awsnet-time-") as folder:
        rows = [time_model(arguments, path, Path(folder)) for path in arguments.models]
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "networks": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
