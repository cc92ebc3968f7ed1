"""Times one ONNX graph in ONNX Runtime, in this process, and prints one line of JSON as `awsnet bench --json` does.

usage: time_onnx.py GRAPH.onnx --batch B --threads N --runs R

It imports nothing but ONNX Runtime and NumPy, so that the process's memory is that of a deployment in Python;
`import_mib` is what those imports alone take.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
import onnxruntime

WARM_UP_RUNS = 10


def main() -> None:
    """Time the graph's runs, each from NumPy in to NumPy out."""
    parser = argparse.ArgumentParser(description="Time an ONNX graph.")
    parser.add_argument("graph", type=Path)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=100)
    arguments = parser.parse_args()
    import_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = arguments.threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(arguments.graph, options, providers=["CPUExecutionProvider"])
    shape = (arguments.batch, *session.get_inputs()[0].shape[1:])
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    names = ["emotion.probabilities", "au.probabilities"]

    times_ms = []
    for run in range(WARM_UP_RUNS + arguments.runs):
        start = time.perf_counter()
        session.run(names, {"image": image})
        if run >= WARM_UP_RUNS:
            times_ms.append((time.perf_counter() - start) * 1e3)
    median_ms = float(np.median(times_ms))
    row = {
        "batch": arguments.batch,
        "median_ms": median_ms,
        "p99_ms": float(np.quantile(times_ms, 0.99)),
        "images_per_s": arguments.batch * 1e3 / median_ms,
        "import_mib": import_mib,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
