"""Runs and times one network in one library, in this process, and prints one line of JSON.

usage: peers.py onnxruntime|openvino|pytorch --model M --graph G --input X --output Y --threads N --runs R

X holds `image`, Y gets the four outputs of the first run, as with `awsnet run`. A run goes from NumPy in to NumPy
out. The line has `start_ms` (from the file to the first result, imports not counted), `median_ms` of R runs behind a
warm-up, and `import_mib`, the memory that Python and the imports take before a network is loaded. All peers compute in
float32; a library that would choose a shorter type by itself is told not to.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

OUTPUTS = ("emotion.logits", "emotion.probabilities", "au.logits", "au.probabilities")

Run = Callable[[np.ndarray], list[np.ndarray]]
"""From images [N, C, H, W] to the values of `OUTPUTS`."""

Load = Callable[[argparse.Namespace, np.ndarray], Run]
"""From files, and images of the shape that will come, to a network ready to run."""


def onnxruntime() -> Load:
    """ONNX Runtime: the CPU provider with all of its graph optimisations."""
    import onnxruntime as ort

    def load(arguments: argparse.Namespace, image: np.ndarray) -> Run:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = arguments.threads
        options.inter_op_num_threads = 1
        session = ort.InferenceSession(arguments.graph, options, providers=["CPUExecutionProvider"])
        return lambda image: session.run(list(OUTPUTS), {"image": image})

    return load


def openvino() -> Load:
    """OpenVINO: latency mode, one stream, the shape of the images fixed."""
    import openvino as ov
    from openvino import properties

    def load(arguments: argparse.Namespace, image: np.ndarray) -> Run:
        core = ov.Core()
        model = core.read_model(arguments.graph)
        model.reshape(list(image.shape))
        compiled = core.compile_model(
            model,
            "CPU",
            {
                properties.hint.performance_mode: properties.hint.PerformanceMode.LATENCY,
                properties.hint.inference_precision: ov.Type.f32,  # else bf16 where the processor has it
                properties.hint.enable_hyper_threading: True,  # else it may take fewer threads than it is told
                properties.inference_num_threads: arguments.threads,
                properties.num_streams: 1,
            },
        )
        request = compiled.create_infer_request()
        ports = [compiled.output(name) for name in OUTPUTS]

        def run(image: np.ndarray) -> list[np.ndarray]:
            results = request.infer({"image": image}, share_inputs=True, share_outputs=True)
            return [results[port] for port in ports]

        return run

    return load


def pytorch() -> Load:
    """PyTorch: compiled by TorchInductor, weights frozen into the code."""
    import torch
    import torch._inductor.config

    import torch_network

    def load(arguments: argparse.Namespace, image: np.ndarray) -> Run:
        torch.set_num_threads(arguments.threads)
        torch._inductor.config.freezing = True
        network = torch.compile(torch_network.load(arguments.model))

        def run(image: np.ndarray) -> list[np.ndarray]:
            with torch.inference_mode():
                return [output.numpy() for output in network(torch.from_numpy(image))]

        return run

    return load


PEERS = {"onnxruntime": onnxruntime, "openvino": openvino, "pytorch": pytorch}

LEAST_WARM_UP_RUNS = 3
WARM_UP_S = 0.3


def main() -> None:
    """Load, run once for the outputs, then run for the times."""
    parser = argparse.ArgumentParser(description="Time one network in one library.")
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--model", type=Path, required=True, help="the network as a model file")
    parser.add_argument("--graph", type=Path, required=True, help="the same as an ONNX graph")
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    arguments = parser.parse_args()
    load = PEERS[arguments.peer]()
    image = load_file(arguments.input)["image"]
    import_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    started = time.perf_counter()
    run = load(arguments, image)
    outputs = run(image)
    start_ms = (time.perf_counter() - started) * 1e3
    save_file({name: np.array(value) for name, value in zip(OUTPUTS, outputs, strict=True)}, arguments.output)

    started, warm_up = time.perf_counter(), 0
    while warm_up < LEAST_WARM_UP_RUNS or time.perf_counter() < started + WARM_UP_S:
        run(image)
        warm_up += 1
    times_ms = []
    for _ in range(arguments.runs):
        started = time.perf_counter()
        run(image)
        times_ms.append((time.perf_counter() - started) * 1e3)
    median_ms = float(np.median(times_ms)) if times_ms else None
    print(json.dumps({"start_ms": start_ms, "median_ms": median_ms, "import_mib": import_mib}))


if __name__ == "__main__":
    main()
