#!/usr/bin/env python3
"""awsnet beside PyTorch on the same network, weights and GPU, in one process.

    compare.py --library libawsnet.so MODEL... [--compile] [--batch 1,8,64] [--seconds 60] [--json FILE] [--table FILE]

PyTorch in f16, channels_last, batch normalisation folded: eager, and eager replayed from a CUDA graph; with --compile,
which takes minutes, torch.compile(max-autotune) replayed from a CUDA graph instead. awsnet in f16: a run queued on the
same stream. Outputs are held against PyTorch in f32 first, and what is wrong is not timed. A time is the median between
two events around one run that was queued while the device was busy: cold, right behind a write of 512 MB, which evicts
the L2; warm, right behind the cold one.
PyTorch's images are f16 and channels_last already, awsnet's are f32 and planar. The ways take turns, so that clocks and
temperature are shared.

With `--device cpu` nothing is timed: eager f32 is held against awsnet's reference, which tries the module itself.
"""

import argparse
import ctypes
import itertools
import json
import statistics
import time
import warnings
from collections.abc import Callable

import torch

import awsnet_c
from torch_network import Network

EVICTION_BYTES = 512 << 20
ROUNDS = 5
WARM_UP_RUNS = 10
MAX_ERROR = 2e-2  # norm of the difference as a share of the norm: a few roundings of f16 feature maps

Run = Callable[[], object]


def error(found: tuple, expected: tuple) -> float:
    """The worse branch's distance, as a share of the expected norm."""
    return max(float((f.float() - e).norm() / e.norm()) for f, e in zip(found, expected, strict=True))


def captured(network: Callable, images: torch.Tensor) -> tuple[Run, tuple]:
    """A replay of the network from a CUDA graph, and where it leaves its logits."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            network(images)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = network(images)
    return graph.replay, logits


class Ways:
    """The ways to run one batch, those with right outputs; `notes` says what became of the others."""

    def __init__(self, library: str, path: str, batch: int, compiled: bool) -> None:
        self.runs: dict[str, Run] = {}
        self.errors: dict[str, float] = {}
        self.notes: list[str] = []
        exact = Network(path).prepare("cuda", torch.float32)
        shape = exact.manifest["input"]
        torch.manual_seed(batch)
        images = torch.randn(batch, shape["channels"], shape["height"], shape["width"], device="cuda")
        self._expected = tuple(logits.clone() for logits in exact(images))
        del exact
        network = Network(path).prepare("cuda", torch.float16)
        half = images.half().contiguous(memory_format=torch.channels_last)

        if compiled:

            def compile_and_capture() -> tuple[Run, tuple]:
                torch.compiler.reset()
                return captured(torch.compile(network, mode="max-autotune-no-cudagraphs"), half)

            self._try("torch.compile max-autotune, CUDA graph", compile_and_capture)
        else:
            self._try("eager", lambda: (lambda: network(half), network(half)))
            self._try("eager, CUDA graph", lambda: captured(network, half))
        self._try("awsnet", lambda: self._awsnet(library, path, batch, images))

    def _awsnet(self, library: str, path: str, batch: int, images: torch.Tensor) -> tuple[Run, tuple]:
        session = awsnet_c.Session(awsnet_c.Library(library), path, awsnet_c.DEVICE_CUDA, batch, awsnet_c.PRECISION_F16)
        logits = tuple(torch.full((batch, labels), float("nan"), device="cuda") for labels in session.labels)
        images = images.contiguous()
        self._held = (session, images)  # alive as long as the runs
        stream = torch.cuda.current_stream().cuda_stream
        return session.queue(stream, images.data_ptr(), [values.data_ptr() for values in logits]), logits

    def _try(self, way: str, make: Callable[[], tuple[Run, tuple]]) -> None:
        try:
            run, logits = make()
            run()
            torch.cuda.synchronize()
            self._add(way, run, logits)
        except Exception as failure:  # whatever one way does, the others are compared
            self.notes.append(f"{way}: {str(failure).splitlines()[0] if str(failure) else repr(failure)}")

    def _add(self, way: str, run: Run, logits: tuple) -> None:
        found = error(logits, self._expected)
        self.errors[way] = found
        if found <= MAX_ERROR:
            self.runs[way] = run
        else:
            self.notes.append(f"{way}: wrong, {found:.1e} of the logits' norm")


def microseconds(run: Run, evicted: torch.Tensor, runs: int) -> tuple[list[float], list[float]]:
    """Times of a run with a cold L2, and of one right behind it.

    Both are queued while the device still writes: the host's part of a launch shows where it is longer than that.
    """
    begin, between, end = (torch.cuda.Event(enable_timing=True) for _ in range(3))
    cold, warm = [], []
    for _ in range(runs):
        evicted.fill_(1)
        begin.record()
        run()
        between.record()
        run()
        end.record()
        end.synchronize()
        cold.append(begin.elapsed_time(between) * 1e3)
        warm.append(between.elapsed_time(end) * 1e3)
    return cold, warm


def time_all(ways: Ways, runs: int) -> dict[str, dict[str, float]]:
    evicted = torch.empty(EVICTION_BYTES, dtype=torch.uint8, device="cuda")
    times: dict = {way: {"warm_us": [], "cold_us": []} for way in ways.runs}
    for run in ways.runs.values():
        microseconds(run, evicted, WARM_UP_RUNS)
    for _ in range(ROUNDS):
        for way, run in ways.runs.items():
            cold, warm = microseconds(run, evicted, runs // ROUNDS)
            times[way]["cold_us"] += cold
            times[way]["warm_us"] += warm
    return {
        way: {state: round(statistics.median(values), 1) for state, values in of.items()} for way, of in times.items()
    }


def table(rows: list[dict], notes: list[str], title: str) -> str:
    """What a record needs, as Markdown."""
    lines = [title, "", "| model | batch | way | warm us | cold us | error |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [
        f"| {r['model']} | {r['batch']} | {r['way']} | {r['warm_us']} | {r['cold_us']} | {r['error']} |" for r in rows
    ]
    if notes:
        lines += ["", *(f"- {note}" for note in notes)]
    first = [r for r in rows if (r["model"], r["batch"]) == (rows[0]["model"], rows[0]["batch"])]
    own = [r for r in first if r["way"] == "awsnet"]
    others = [r for r in first if r["way"] != "awsnet"]
    if own and others:
        best = min(others, key=lambda r: r["warm_us"])
        lines += [
            "",
            f"{own[0]['model']}, batch {own[0]['batch']}, warm: awsnet {own[0]['warm_us']} us, "
            f"{best['way']} {best['warm_us']} us",
        ]
    return "\n".join(lines) + "\n"


def on_cpu(arguments) -> None:
    """Hold the module against awsnet's reference; a wrong module fails."""
    library = awsnet_c.Library(arguments.library)
    for path in arguments.models:
        session = awsnet_c.Session(library, path, awsnet_c.DEVICE_REFERENCE, 2, awsnet_c.PRECISION_F32)
        network = Network(path).prepare("cpu", torch.float32)
        images = torch.randn(2, session.info.channels, session.info.height, session.info.width)
        flat = (ctypes.c_float * images.numel())(*images.flatten().tolist())
        expected = [torch.tensor(values).reshape(2, -1) for values in session.run(flat)]
        found = error(network(images), tuple(expected))
        print(f"{path}: {found:.1e} of the logits' norm")
        if not found <= 1e-4:
            raise SystemExit(f"{path}: the PyTorch module is wrong")
        session.close()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--library", required=True)
    parser.add_argument("--batch", default="1,8,64")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0, help="after which nothing new begins")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--json")
    parser.add_argument("--table")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        on_cpu(arguments)
        return
    warnings.filterwarnings("ignore")
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    began = time.monotonic()
    title = f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}"
    print(title)
    batches = [int(batch) for batch in arguments.batch.split(",")]
    rows, notes = [], []
    for batch, path in itertools.product(batches, arguments.models):
        model = path.rsplit("/", 1)[-1].removesuffix(".safetensors")
        name = f"{model}, batch {batch}"
        if time.monotonic() - began > arguments.seconds:
            notes.append(f"{name}: no time left")
            continue
        with torch.cuda.stream(torch.cuda.Stream()):
            ways = Ways(arguments.library, path, batch, arguments.compile)
            for way, times in time_all(ways, arguments.runs).items():
                rows.append({"model": model, "batch": batch, "way": way, **times, "error": f"{ways.errors[way]:.1e}"})
                print(rows[-1], flush=True)
        notes += [f"{name}: {note}" for note in ways.notes]
        if arguments.json:
            with open(arguments.json, "w", encoding="utf-8") as out:
                json.dump({"device": title, "rows": rows, "notes": notes}, out, indent=1)
        if arguments.table and rows:
            with open(arguments.table, "w", encoding="utf-8") as out:
                out.write(table(rows, notes, title))
    print("\n".join(notes))
    if not any(row["way"] == "awsnet" for row in rows):
        raise SystemExit("awsnet has no right output")


if __name__ == "__main__":
    main()
