"""Measures awsnet beside other libraries on the CPU: the same networks, weights and images. See README.md.

For each network and batch, every library first runs once, and its outputs must agree to 1e-3 with those of the network
as it stands in the file, in ONNX Runtime without its optimisations. Then they are timed in turn, round after round,
each in a process of its own, since the idle threads of one would spin beside the next. A library that cannot run a
network is reported with its reason, and the others go on.
"""

import argparse
import datetime
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from safetensors.numpy import load_file, save_file

import agree
import machine
import model_file
import onnx_graph
import report

TOLERANCE = 1e-3
PEERS = ("awsnet", "onnxruntime", "openvino", "pytorch", "tract", "candle")
IN_RUST = ("tract", "candle")
TIMEOUT_S = 600
LEAST_RUNS, MOST_RUNS = 10, 1000
CHECK_RUNS = 5
UNITS_RUNS = 4
"""Times the runs of a turn, where the time with AWS-Units is compared with that without: it differs by little."""

MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""
"""Runs a command and writes its peak memory (KiB) to a file. Linux counts the memory of the process that starts a
command in that command's peak, so a bare Python (some 10 MiB) starts it and not this one."""


class Failed(Exception):
    """A library cannot run a network, or says something else than the others."""


class Side:
    """One library on one network: how it is started."""

    def __init__(self, peer: str, arguments: argparse.Namespace, case: dict[str, Any], folder: Path) -> None:
        self.peer = peer
        self.awsnet: Path = arguments.awsnet
        self.case = case
        self.folder = folder
        self.threads = str(arguments.threads)
        self.environment = os.environ | {
            "RAYON_NUM_THREADS": self.threads,
            "OMP_NUM_THREADS": self.threads,
            "TORCHINDUCTOR_CACHE_DIR": str(arguments.folder / "inductor"),
        }
        if peer in IN_RUST:
            self.program = [arguments.rust_peers, peer]
        else:
            self.program = [sys.executable, Path(__file__).with_name("peers.py"), peer]

    def check(self, expected: dict[str, np.ndarray]) -> float:
        """Compare the outputs; gives the worst difference of a logit, relative to its tensor's largest."""
        output = self.folder / "output.safetensors"
        output.unlink(missing_ok=True)
        if self.peer == "awsnet":
            files = ["--input", self.folder / "input.safetensors", "--output", output]
            self._start([self.awsnet, "run", self.case["path"], *files, *self._options()])
        else:
            self.time(0)
        try:
            return agree.compare(expected, load_file(output), TOLERANCE)
        except agree.Disagreement as problem:
            raise Failed(str(problem)) from problem

    def time(self, runs: int) -> dict[str, Any]:
        """Time so many runs in a process of their own."""
        count = ["--runs", str(runs)]
        if self.peer == "awsnet":
            bench = [self.awsnet, "bench", self.case["path"], "--json", *self._options()]
            first = self._start([*bench, "--start-up", "--runs", "1"])
            return self._start([*bench, *count]) | {"start_ms": first["median_ms"]}
        files = {"model": self.case["path"], "graph": self.case["graph"]}
        files |= {name: self.folder / f"{name}.safetensors" for name in ("input", "output")}
        options = itertools.chain.from_iterable((f"--{name}", path) for name, path in files.items())
        return self._start([*self.program, *options, "--threads", self.threads, *count])

    def against(self, other: Path, runs: int) -> float:
        """Give the ratio of awsnet's time on this network to that on another, both measured in turn in one process."""
        options = ["--json", "--against", str(other), "--runs", str(runs)]
        return self._start([self.awsnet, "bench", self.case["path"], *options, *self._options()])["against"]["ratio"]

    def _options(self) -> list[str]:
        return ["--device", "cpu", "--threads", self.threads, "--batch", str(self.case["batch"])]

    def _start(self, command: Sequence[str | Path]) -> dict[str, Any]:
        """Run a command; gives the line of JSON it prints, if any, and `peak_mib`."""
        with tempfile.NamedTemporaryFile("r") as peak:
            start = [sys.executable, "-I", "-S", "-c", MEASURE, peak.name, *map(str, command)]
            try:
                done = subprocess.run(
                    start, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=self.environment
                )
            except subprocess.TimeoutExpired as problem:
                raise Failed(f"not done after {TIMEOUT_S} s") from problem
            if done.returncode != 0:
                last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
                raise Failed(f"exit code {done.returncode}: {last}")
            lines = done.stdout.strip().splitlines()
            figures = json.loads(lines[-1]) if lines else {}
            return figures | {"peak_mib": int(peak.read()) / 1024}


def cases(arguments: argparse.Namespace, folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Write the networks and give the cases: those of a network and a batch size with each kind of AWS-Unit."""
    for arch, size in itertools.product(arguments.arch, arguments.size):
        files: dict[str, dict[str, Path]] = {}
        for aws in arguments.aws:
            path = folder / f"{arch}-{size}-{aws}.safetensors"
            options = ["--arch", arch, "--size", str(size), "--aws", aws, "--dtype", arguments.dtype, "-o", str(path)]
            subprocess.run([str(arguments.awsnet), "init", *options], check=True, stdout=subprocess.DEVNULL)
            files[aws] = {"path": path, "graph": path.with_suffix(".onnx")}
            onnx.save(onnx_graph.convert(model_file.read(path), fold=True), files[aws]["graph"])
        for batch in arguments.batch:
            shape = {"arch": arch, "size": size, "dtype": arguments.dtype, "batch": batch, "threads": arguments.threads}
            yield [shape | {"aws": aws} | files[aws] for aws in arguments.aws]
        for path in itertools.chain.from_iterable(pair.values() for pair in files.values()):
            path.unlink()


def measure(arguments: argparse.Namespace, group: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Check every library, then time them in turn; gives, for each case, each one's figures or why it has none.

    A library runs all cases of the group one behind the other, so that the kinds of AWS-Units can be compared; awsnet
    also runs each kind in turn with none.
    """
    without = [case["path"] for case in group if case["aws"] == "none"]
    sides: dict[str, list[tuple[Side, int, list[dict[str, Any]]]]] = {}
    results: list[dict[str, Any]] = []
    for case in group:
        model = model_file.read(case["path"])
        image = np.random.default_rng(0).standard_normal((case["batch"], *model.input_shape())).astype(np.float32)
        place = folder / case["aws"]
        place.mkdir(exist_ok=True)
        save_file({"image": image}, place / "input.safetensors")
        expected = onnx_graph.predict(model, image)
        peers: dict[str, Any] = {}
        results.append(peers)
        for peer in arguments.peers:
            side = Side(peer, arguments, case, place)
            try:
                peers[peer] = {"difference": side.check(expected), "rounds": []}
                typical_ms = side.time(CHECK_RUNS)["median_ms"]
            except Failed as problem:
                peers[peer] = {"failed": str(problem)}
                continue
            runs = min(max(int(arguments.seconds * 1e3 / typical_ms), LEAST_RUNS), MOST_RUNS)
            sides.setdefault(peer, []).append((side, runs, peers[peer]["rounds"]))
    for index in range(arguments.rounds if sides else 0):
        order = list(sides)
        for peer in order[index % len(order) :] + order[: index % len(order)]:  # each once behind each
            for side, runs, rounds in sides[peer][:: -1 if index % 2 else 1]:
                figures = side.time(runs)
                kept = ("median_ms", "start_ms", "peak_mib", "import_mib")
                row = {name: figures[name] for name in kept if name in figures}
                if peer == "awsnet" and without and side.case["aws"] != "none":
                    row["units_ratio"] = side.against(without[0], UNITS_RUNS * runs)
                rounds.append(row)
    return results


def keep(rows: list[dict[str, Any]], row: dict[str, Any], peers: dict[str, Any]) -> None:
    """Put figures in the place of older ones of the same network and library."""
    for old in rows:
        if row.items() <= old.items():
            old["peers"] |= peers
            return
    rows.append(row | {"peers": dict(peers)})


def main() -> None:
    """Measure, keep the figures, write the report."""
    parser = argparse.ArgumentParser(prog="bench-compare/run", description="Measure awsnet beside other libraries.")
    parser.add_argument("--awsnet", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rust-peers", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="a look in a minute or two: 112x112, batch 1, 2 rounds")
    parser.add_argument("--arch", nargs="+", default=["resnet18"], help="architectures of `awsnet init`")
    parser.add_argument("--size", nargs="+", type=int, help="sides of the image in pixels (default 112 224)")
    parser.add_argument("--batch", nargs="+", type=int, help="batch sizes (default 1 8)")
    parser.add_argument("--aws", nargs="+", default=["none", "channel"], help="AWS-Units (default none channel)")
    parser.add_argument("--dtype", default="f32", help="how the file stores its weights: f32 (default), f16 or bf16")
    parser.add_argument("--threads", type=int, default=2, help="of each library (default 2)")
    parser.add_argument("--peers", nargs="+", default=PEERS, choices=PEERS, help="default: all")
    parser.add_argument("--rounds", type=int, help="times that each library has its turn (default 5)")
    parser.add_argument("--seconds", type=float, help="of measured runs in a turn (default 1)")
    parser.add_argument("--keep", action="store_true", help="add to the figures of the last call, replace no others")
    parser.add_argument("--report-only", action="store_true", help="measure nothing, report what was kept")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="also write a dated report here")
    arguments = parser.parse_args()
    quick = arguments.quick
    arguments.size = arguments.size or ([112] if quick else [112, 224])
    arguments.batch = arguments.batch or ([1] if quick else [1, 8])
    arguments.rounds = arguments.rounds or (2 if quick else 5)
    arguments.seconds = arguments.seconds or (0.3 if quick else 1.0)

    kept = arguments.folder / "results.json"
    results = {"machine": machine.describe(arguments.awsnet), "cases": []}
    if (arguments.keep or arguments.report_only) and kept.exists():
        results = json.loads(kept.read_text())
    if not arguments.report_only:
        with tempfile.TemporaryDirectory(prefix="compare-", dir=arguments.folder) as folder:
            for group in cases(arguments, Path(folder)):
                for case, peers in zip(group, measure(arguments, group, Path(folder)), strict=True):
                    row = {name: value for name, value in case.items() if name not in ("path", "graph")}
                    keep(results["cases"], row, peers)
                    for peer, figures in peers.items():
                        print(f"{report.title(row)}, {peer}: {outcome(figures)}", file=sys.stderr, flush=True)
                kept.write_text(json.dumps(results, indent=1) + "\n")
    places = [(arguments.folder, "report")]
    if arguments.record:
        places.append((arguments.record, f"{datetime.date.today()}-cpu-peers"))
    for folder, name in places:
        (folder / f"{name}.svg").write_text(report.picture(results))
        (folder / f"{name}.md").write_text(report.markdown(results, f"{name}.svg"))
    print(report.markdown(results, "report.svg"))
    print(f"written: {' '.join(str(folder / name) + '.{md,svg}' for folder, name in places)}", file=sys.stderr)


def outcome(figures: dict[str, Any]) -> str:
    """Say in a few words how a library did."""
    if "failed" in figures:
        return f"failed: {figures['failed']}"
    median = statistics.median(round["median_ms"] for round in figures["rounds"])
    return f"{median:.3f} ms, outputs differ by {figures['difference']:.1e}"


if __name__ == "__main__":
    main()
