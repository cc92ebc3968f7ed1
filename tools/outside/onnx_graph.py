"""Turns a model file into an ONNX graph, and runs it in ONNX Runtime on the CPU.

usage: onnx_graph.py MODEL GRAPH.onnx [--fold] [--layers]

The graph reads `image` [N, C, H, W], any N, and gives `{branch}.logits` and `{branch}.probabilities`, and where
asked for every layer's y of both branches as `{branch}/{layer}`. All of it is float32: weights stored in half
precision are widened. Batch norms are BatchNormalization nodes on the tensors as they stand in the file, so
that awsnet's folding is tested against something; `fold` folds them, as one would before deploying.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import model_file
from model_file import BRANCHES, Head, Layer, Model

OPSET = 18
IR_VERSION = 9  # the oldest that carries the opset: readable by old ONNX Runtimes too

Pair = tuple[str, str]
"""The names of a pair of feature maps, emotion and au."""


class _Graph:
    """An ONNX graph being written: nodes in order and the constants they read."""

    def __init__(self, model: Model, fold: bool) -> None:
        self.model = model
        self.fold = fold
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, and give that output's name."""
        output = output or f"{op}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant, once for each name, and give that name."""
        self.constants[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name

    def tensor(self, name: str) -> np.ndarray:
        """Give a tensor of the file, widened to float32."""
        return self.model.tensors[name].astype(np.float32)

    def has(self, name: str) -> bool:
        """Tell whether the file holds a tensor."""
        return name in self.model.tensors


def convert(model: Model, *, layers: bool = False, fold: bool = False) -> onnx.ModelProto:
    """Turn a model into an ONNX graph; `layers`: give every layer's y too; `fold`: fold the batch norms."""
    graph = _Graph(model, fold)
    values: dict[str, Pair] = {"image": ("image", "image")}
    outputs: dict[str, list[str | int | None]] = {}  # and their shapes
    for layer in model.layers():
        u = [_branch(graph, layer, index, values) for index in range(2)]
        y = _aws_unit(graph, layer, (u[0], u[1]))
        if layers:
            y = _pair(graph.node("Identity", y[i], output=f"{BRANCHES[i]}/{layer.name}") for i in range(2))
            outputs |= {name: ["N", None, None, None] for name in y}
        values[layer.name] = y
    for index, head in enumerate(model.heads()):
        for name in _head(graph, head, values[head.input][index]):
            outputs[name] = ["N", len(head.labels)]
    channels, height, width = model.input_shape()
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "awsnet",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", channels, height, width])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(proto)
    return proto


def _pair(items: Iterable[str]) -> Pair:
    emotion, au = items
    return emotion, au


def _branch(graph: _Graph, layer: Layer, index: int, values: dict[str, Pair]) -> str:
    """Write u of one branch: operator, residual, activation."""
    v = _operator(graph, layer, BRANCHES[index], values[layer.input][index])
    if layer.residual is not None:
        v = graph.node("Add", v, values[layer.residual][index])
    match layer.activation:
        case "relu":
            v = graph.node("Relu", v)
        case "leaky_relu":
            v = graph.node("LeakyRelu", v, alpha=float(layer.negative_slope))
        case "silu":
            v = graph.node("Mul", v, graph.node("Sigmoid", v))
    return v


def _operator(graph: _Graph, layer: Layer, branch: str, x: str) -> str:
    """Write z of one branch. ONNX orders pads as the manifest does: top, left, bottom, right."""
    window: dict[str, Any] = {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": layer.padding}
    match layer.op:
        case "identity":
            return x
        case "global_avg_pool2d":
            return graph.node("GlobalAveragePool", x)
        case "max_pool2d":  # pads with -inf
            return graph.node("MaxPool", x, **window)
        case "avg_pool2d":
            return graph.node("AveragePool", x, count_include_pad=1, **window)
    prefix = f"{branch}.{layer.name}"
    weight, bias, batch_norm = _weights(graph, layer, branch)
    constants = [graph.constant(f"{prefix}.weight", weight)]
    if bias is not None:
        constants.append(graph.constant(f"{prefix}.bias", bias))
    if layer.op == "conv2d":
        z = graph.node("Conv", x, *constants, dilations=layer.dilation, group=layer.groups, **window)
    elif layer.op == "linear":
        z = graph.node("Gemm", graph.node("Flatten", x), *constants, transB=1)
        shape = graph.constant(f"{prefix}.shape", np.array([-1, len(weight), 1, 1], np.int64))
        z = graph.node("Reshape", z, shape)
    else:
        raise ValueError(f"{layer.name}: unknown op {layer.op}")
    if batch_norm:
        parts = [graph.constant(name, graph.tensor(name)) for name in batch_norm]
        z = graph.node("BatchNormalization", z, *parts, epsilon=float(layer.batch_norm_eps))
    return z


def _weights(graph: _Graph, layer: Layer, branch: str) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Give weight, bias and the names of what BatchNormalization reads (nothing, with `fold`)."""
    if layer.batch_norm is None or graph.fold:
        return *folded(graph.model, layer, branch), []
    prefix = f"{branch}.{layer.name}"
    bias = graph.tensor(f"{prefix}.bias") if graph.has(f"{prefix}.bias") else None
    return graph.tensor(f"{prefix}.weight"), bias, _batch_norm(layer, branch)


def _batch_norm(layer: Layer, branch: str) -> list[str]:
    """Give the names of a batch norm's tensors, in the order that BatchNormalization reads them."""
    return [f"{branch}.{layer.batch_norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]


def folded(model: Model, layer: Layer, branch: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Give a layer's weight and bias in float32, its batch norm folded into them where it has one."""
    prefix = f"{branch}.{layer.name}"
    weight = model.tensors[f"{prefix}.weight"].astype(np.float32)
    bias = model.tensors[f"{prefix}.bias"].astype(np.float32) if f"{prefix}.bias" in model.tensors else None
    if layer.batch_norm is None:
        return weight, bias
    gamma, beta, mean, variance = (model.tensors[name].astype(np.float64) for name in _batch_norm(layer, branch))
    scale = gamma / np.sqrt(variance + layer.batch_norm_eps)
    scaled = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    shift = ((0.0 if bias is None else bias) - mean) * scale + beta
    return scaled.astype(np.float32), shift.astype(np.float32)


def _aws_unit(graph: _Graph, layer: Layer, u: Pair) -> Pair:
    """Write the AWS-Unit: y_t = sum over s of A[t][s] * u_s."""
    name = f"aws.{layer.name}.weight"
    match layer.aws:
        case "none":
            return u
        case "dense":  # one 1x1 convolution a branch, over both maps laid end to end
            both = graph.node("Concat", *u, axis=1)
            weight = graph.tensor(name)  # [2, 2, C, C]
            return _pair(
                graph.node(
                    "Conv",
                    both,
                    graph.constant(f"{name}.{t}", np.concatenate([weight[t, 0], weight[t, 1]], 1)[..., None, None]),
                )
                for t in range(2)
            )
        case "layer" | "channel":
            a = graph.tensor(name).reshape(2, 2, -1, 1, 1)
            parts = [[graph.constant(f"{name}.{t}{s}", a[t, s]) for s in range(2)] for t in range(2)]
        case "gate":
            parts = _gate(graph, layer, u)
        case _:
            raise ValueError(f"{layer.name}: unknown AWS-Unit {layer.aws}")
    return _pair(
        graph.node("Add", graph.node("Mul", parts[t][0], u[0]), graph.node("Mul", parts[t][1], u[1])) for t in range(2)
    )


def _gate(graph: _Graph, layer: Layer, u: Pair) -> list[list[str]]:
    """Write a gate's A; gives the names of A[t][s], each [N, C, 1, 1]."""
    prefix = f"aws.{layer.name}"
    excite = graph.tensor(f"{prefix}.excite.weight")  # [2, 2, C, r]
    channels, squeezed = excite.shape[2:]
    means = graph.node("Flatten", graph.node("Concat", *[graph.node("GlobalAveragePool", v) for v in u], axis=1))
    g = graph.node(
        "Gemm",
        means,
        graph.constant(f"{prefix}.squeeze.weight", graph.tensor(f"{prefix}.squeeze.weight")),
        graph.constant(f"{prefix}.squeeze.bias", graph.tensor(f"{prefix}.squeeze.bias")),
        transB=1,
    )
    logits = graph.node(
        "Gemm",
        graph.node("Relu", g),
        graph.constant(f"{prefix}.excite.weight", excite.reshape(-1, squeezed)),
        graph.constant(f"{prefix}.excite.bias", graph.tensor(f"{prefix}.excite.bias").reshape(-1)),
        transB=1,
    )
    shape = graph.constant(f"{prefix}.shape", np.array([-1, 2, 2, channels, 1, 1], np.int64))
    logits = graph.node("Reshape", logits, shape)
    a = graph.node("Softmax", logits, axis=2) if layer.gate == "softmax" else graph.node("Sigmoid", logits)
    index = [graph.constant(f"index.{i}", np.array(i, np.int64)) for i in range(2)]
    rows = [graph.node("Gather", a, index[t], axis=1) for t in range(2)]
    return [[graph.node("Gather", rows[t], index[s], axis=1) for s in range(2)] for t in range(2)]


def _head(graph: _Graph, head: Head, x: str) -> list[str]:
    """Write a head; gives the names of its logits and its probabilities."""
    prefix = f"{head.branch}.{head.tensor}"
    names = [f"{prefix}.{part}" for part in ("weight", "bias") if graph.has(f"{prefix}.{part}")]
    constants = [graph.constant(f"head.{name}", graph.tensor(name)) for name in names]
    logits = graph.node("Gemm", graph.node("Flatten", x), *constants, output=f"{head.branch}.logits", transB=1)
    output = f"{head.branch}.probabilities"
    if head.branch == "emotion":
        return [logits, graph.node("Softmax", logits, output=output, axis=1)]
    return [logits, graph.node("Sigmoid", logits, output=output)]


def session(graph: bytes | str, *, optimise: bool, threads: int) -> onnxruntime.InferenceSession:
    """Load a graph (its bytes or its path) into ONNX Runtime, on the CPU, one node after the other."""
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def predict(
    model: Model, image: np.ndarray, *, layers: bool = False, fold: bool = False, optimise: bool = False
) -> dict[str, np.ndarray]:
    """Run a model in ONNX Runtime: the graph's outputs by name, float32."""
    graph = convert(model, layers=layers, fold=fold).SerializeToString()
    runtime = session(graph, optimise=optimise, threads=1)
    names = [output.name for output in runtime.get_outputs()]
    return dict(zip(names, runtime.run(names, {"image": image}), strict=True))


def main() -> None:
    """Write a model file's graph to a file."""
    parser = argparse.ArgumentParser(description="Turn a model file into an ONNX graph.")
    parser.add_argument("model", type=Path)
    parser.add_argument("graph", type=Path)
    parser.add_argument("--fold", action="store_true", help="fold the batch norms into weights and biases")
    parser.add_argument("--layers", action="store_true", help="give every layer's y of both branches too")
    arguments = parser.parse_args()
    onnx.save(
        convert(model_file.read(arguments.model), layers=arguments.layers, fold=arguments.fold),
        arguments.graph,
    )


if __name__ == "__main__":
    main()
