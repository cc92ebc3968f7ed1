"""Turns a model file into an ONNX graph, and runs it in ONNX Runtime on the CPU.

usage: onnx_graph.py MODEL GRAPH.onnx [--fold] [--layers]

The graph reads `image` [N, C, H, W], any N, and gives `{head}.logits` and, but of heads of values,
`{head}.probabilities`, and where asked for every layer's y of every branch as `{branch}/{layer}`. All of it is
float32: weights stored in half precision are widened. Batch norms are BatchNormalization nodes on the tensors as
they stand in the file, so that awsnet's folding is tested against something; `fold` folds them, as one would
before deploying.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import model_file
from model_file import Head, Layer, Model

OPSETS = {1: (18, 9), 2: (22, 10)}
"""By the model file's version the opset, and the oldest IR that carries it: graphs of version 1 are readable by old
ONNX Runtimes too; 22 is the first whose pools in ceil mode leave out a window that begins behind the map."""

Maps = tuple[str, ...]
"""The names of what a layer gives: a feature map a branch."""


class _Graph:
    """An ONNX graph being written: nodes in order and the constants they read."""

    def __init__(self, model: Model, fold: bool) -> None:
        self.model = model
        self.branches = model.branches()
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

    def scalar(self, value: float) -> str:
        """Add a number as a constant."""
        return self.constant(f"number {value}", np.array(value, np.float32))

    def tensor(self, name: str) -> np.ndarray:
        """Give a tensor of the file, widened to float32."""
        return self.model.tensors[name].astype(np.float32)

    def has(self, name: str) -> bool:
        """Tell whether the file holds a tensor."""
        return name in self.model.tensors

    def proto(self, outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """Give what has been written so far as a graph with these outputs."""
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *self.model.input_shape()])
        opset, ir_version = OPSETS[self.model.manifest["version"]]
        return helper.make_model(
            helper.make_graph(self.nodes, "awsnet", [image], outputs, list(self.constants.values())),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=ir_version,
        )

    def size(self, name: str) -> tuple[int, int]:
        """Give the height and width of a map written before, as ONNX infers them."""
        if name == "image":
            return self.model.input_shape()[1:]
        proto = self.proto([helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
        height, width = [dim.dim_value for dim in inferred.graph.output[0].type.tensor_type.shape.dim[2:]]
        if height == 0 or width == 0:
            raise ValueError(f"{name}: no size is inferred")
        return height, width


def convert(model: Model, *, layers: bool = False, fold: bool = False) -> onnx.ModelProto:
    """Turn a model into an ONNX graph; `layers`: give every layer's y too; `fold`: fold the batch norms."""
    graph = _Graph(model, fold)
    values: dict[str, Maps] = {"image": ("image",) * len(graph.branches)}
    outputs: dict[str, list[str | int | None]] = {}  # and their shapes
    for layer in model.layers():
        u = tuple(_branch(graph, layer, index, values) for index in range(len(graph.branches)))
        y = _aws_unit(graph, layer, u)
        if layers:
            names = [f"{branch}/{layer.name}" for branch in graph.branches]
            y = tuple(graph.node("Identity", v, output=name) for v, name in zip(y, names, strict=True))
            outputs |= {name: ["N", None, None, None] for name in y}
        values[layer.name] = y
    for head in model.heads():
        outputs |= _head(graph, head, values[head.input][graph.branches.index(head.branch)])
    proto = graph.proto(
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()]
    )
    onnx.checker.check_model(proto)
    return proto


def _branch(graph: _Graph, layer: Layer, index: int, values: dict[str, Maps]) -> str:
    """Write u of one branch: operator, scale, residual, activation."""
    v = _operator(graph, layer, graph.branches[index], [values[source][index] for source in layer.inputs])
    if layer.scale is not None:
        v = graph.node("Mul", v, values[layer.scale][index])
    if layer.residual is not None:
        v = graph.node("Add", v, values[layer.residual][index])
    return _activation(graph, layer, graph.branches[index], v)


def _activation(graph: _Graph, layer: Layer, branch: str, v: str) -> str:
    match layer.activation:
        case "none":
            return v
        case "relu":
            return graph.node("Relu", v)
        case "relu6":
            return graph.node("Clip", v, graph.scalar(0.0), graph.scalar(6.0))
        case "leaky_relu":
            return graph.node("LeakyRelu", v, alpha=float(layer.negative_slope))
        case "prelu":
            name = f"{branch}.{layer.prelu}.weight"
            return graph.node("PRelu", v, graph.constant(f"slopes of {name}", graph.tensor(name).reshape(-1, 1, 1)))
        case "elu":
            return graph.node("Elu", v)
        case "sigmoid":
            return graph.node("Sigmoid", v)
        case "hardsigmoid":
            return graph.node("HardSigmoid", v, alpha=1.0 / 6.0, beta=0.5)
        case "silu":
            return graph.node("Mul", v, graph.node("Sigmoid", v))
        case "hardswish":
            return graph.node("HardSwish", v)
        case "tanh":
            return graph.node("Tanh", v)
        case "gelu":  # as exporters below opset 20 write it
            erf = graph.node("Erf", graph.node("Mul", v, graph.scalar(math.sqrt(0.5))))
            return _gelu(graph, v, erf)
        case "gelu_tanh":
            cube = graph.node("Mul", graph.node("Mul", v, v), v)
            inner = graph.node("Add", v, graph.node("Mul", cube, graph.scalar(0.044715)))
            return _gelu(graph, v, graph.node("Tanh", graph.node("Mul", inner, graph.scalar(math.sqrt(2 / math.pi)))))
    raise ValueError(f"{layer.name}: unknown activation {layer.activation}")


def _gelu(graph: _Graph, v: str, odd: str) -> str:
    """Write v * (1 + odd) / 2."""
    return graph.node("Mul", graph.node("Mul", v, graph.node("Add", odd, graph.scalar(1.0))), graph.scalar(0.5))


def _operator(graph: _Graph, layer: Layer, branch: str, inputs: list[str]) -> str:
    """Write z of one branch: the operator with its bias and its batch norm."""
    if layer.op in ("conv2d", "linear"):
        return _weighted(graph, layer, branch, inputs[0])
    z = _weightless(graph, layer, inputs)
    if layer.batch_norm is None:
        return z
    if not graph.fold:
        return _batch_norm(graph, layer, branch, z)
    factor, term = (v.astype(np.float32).reshape(-1, 1, 1) for v in _factor_and_term(graph.model, layer, branch))
    prefix = f"{branch}.{layer.name}"
    scaled = graph.node("Mul", z, graph.constant(f"{prefix}.factor", factor))
    return graph.node("Add", scaled, graph.constant(f"{prefix}.term", term))


def _weightless(graph: _Graph, layer: Layer, inputs: list[str]) -> str:
    """Write an operator without weights. ONNX orders pads as the manifest does: top, left, bottom, right."""
    window: dict[str, Any] = {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": layer.padding}
    if layer.ceil_mode:
        window["ceil_mode"] = 1
    x = inputs[0]
    match layer.op:
        case "identity":
            return x
        case "concat":
            return graph.node("Concat", *inputs, axis=1)
        case "upsample2d":
            scales = np.array([1, 1, *layer.factor], np.float32)
            scales_name = graph.constant(f"scales of {layer.name}", scales)
            return graph.node(
                "Resize", x, "", scales_name, mode="nearest", coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )  # fmt: skip
        case "global_avg_pool2d":
            return graph.node("GlobalAveragePool", x)
        case "adaptive_avg_pool2d":  # a matrix of averages for the rows, another for the columns
            height, width = graph.size(x)
            rows = graph.constant(f"rows of {layer.name}", _averages(height, layer.output[0]))
            columns = graph.constant(f"columns of {layer.name}", _averages(width, layer.output[1]).T)
            return graph.node("MatMul", graph.node("MatMul", rows, x), columns)
        case "max_pool2d":  # pads with -inf
            return graph.node("MaxPool", x, **window)
        case "avg_pool2d":
            return graph.node("AveragePool", x, count_include_pad=int(layer.count_include_pad), **window)
    raise ValueError(f"{layer.name}: unknown op {layer.op}")


def _averages(size: int, windows: int) -> np.ndarray:
    """Give the matrix, [windows, size], that averages each of the windows which an adaptive pooling cuts."""
    matrix = np.zeros((windows, size), np.float32)
    for i in range(windows):
        begin, end = i * size // windows, -(-(i + 1) * size // windows)
        matrix[i, begin:end] = 1.0 / (end - begin)
    return matrix


def _weighted(graph: _Graph, layer: Layer, branch: str, x: str) -> str:
    """Write a convolution or a linear layer, and its batch norm."""
    prefix = f"{branch}.{layer.name}"
    weight, bias = folded(graph.model, layer, branch) if graph.fold else _stored(graph.model, layer, branch)
    constants = [graph.constant(f"{prefix}.weight", weight)]
    if bias is not None:
        constants.append(graph.constant(f"{prefix}.bias", bias))
    if layer.op == "conv2d":
        z = graph.node(
            "Conv", x, *constants, kernel_shape=layer.kernel, strides=layer.stride, pads=layer.padding,
            dilations=layer.dilation, group=layer.groups,
        )  # fmt: skip
    else:
        z = graph.node("Gemm", graph.node("Flatten", x), *constants, transB=1)
        shape = graph.constant(f"{prefix}.shape", np.array([-1, len(weight), 1, 1], np.int64))
        z = graph.node("Reshape", z, shape)
    return z if layer.batch_norm is None or graph.fold else _batch_norm(graph, layer, branch, z)


def _batch_norm(graph: _Graph, layer: Layer, branch: str, z: str) -> str:
    """Write a batch norm on its tensors as they stand in the file."""
    parts = [graph.constant(name, graph.tensor(name)) for name in _norm_names(layer, branch)]
    return graph.node("BatchNormalization", z, *parts, epsilon=float(layer.batch_norm_eps))


def _norm_names(layer: Layer, branch: str) -> list[str]:
    """Give the names of a batch norm's tensors, in the order that BatchNormalization reads them."""
    return [f"{branch}.{layer.batch_norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]


def _factor_and_term(model: Model, layer: Layer, branch: str) -> tuple[np.ndarray, np.ndarray]:
    """Give what a batch norm multiplies by and adds, a channel each, in float64."""
    gamma, beta, mean, variance = (model.tensors[name].astype(np.float64) for name in _norm_names(layer, branch))
    factor = gamma / np.sqrt(variance + layer.batch_norm_eps)
    return factor, beta - mean * factor


def _stored(model: Model, layer: Layer, branch: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Give a layer's weight and bias in float32."""
    prefix = f"{branch}.{layer.name}"
    weight = model.tensors[f"{prefix}.weight"].astype(np.float32)
    bias = model.tensors[f"{prefix}.bias"].astype(np.float32) if f"{prefix}.bias" in model.tensors else None
    return weight, bias


def folded(model: Model, layer: Layer, branch: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Give a layer's weight and bias in float32, its batch norm folded into them where it has one."""
    weight, bias = _stored(model, layer, branch)
    if layer.batch_norm is None:
        return weight, bias
    factor, term = _factor_and_term(model, layer, branch)
    scaled = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    shift = (0.0 if bias is None else bias) * factor + term
    return scaled.astype(np.float32), shift.astype(np.float32)


def _aws_unit(graph: _Graph, layer: Layer, u: Maps) -> Maps:
    """Write the AWS-Unit: y_t = sum over s of A[t][s] * u_s."""
    name = f"aws.{layer.name}.weight"
    match layer.aws:
        case "none":
            return u
        case "dense":  # one 1x1 convolution a branch, over both maps laid end to end
            both = graph.node("Concat", *u, axis=1)
            weight = graph.tensor(name)  # [2, 2, C, C]
            return tuple(
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
    return tuple(
        graph.node("Add", graph.node("Mul", parts[t][0], u[0]), graph.node("Mul", parts[t][1], u[1])) for t in range(2)
    )


def _gate(graph: _Graph, layer: Layer, u: Maps) -> list[list[str]]:
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


def _head(graph: _Graph, head: Head, x: str) -> dict[str, list[str | int | None]]:
    """Write a head; gives the names of its logits and its probabilities, and their shapes."""
    logits, length, features = f"{head.name}.logits", None, graph.node("Flatten", x)
    if head.tensor is None:
        graph.node("Identity", features, output=logits)
    else:
        prefix = f"{head.branch}.{head.tensor}"
        names = [f"{prefix}.{part}" for part in ("weight", "bias") if graph.has(f"{prefix}.{part}")]
        length = len(graph.tensor(names[0]))
        constants = [graph.constant(f"head of {name}", graph.tensor(name)) for name in names]
        graph.node("Gemm", features, *constants, output=logits, transB=1)
    output = f"{head.name}.probabilities"
    match head.kind:
        case "values":
            return {logits: ["N", length]}
        case "classes":
            graph.node("Softmax", logits, output=output, axis=1)
        case "units":
            graph.node("Sigmoid", logits, output=output)
        case _:
            raise ValueError(f"{head.name}: unknown kind {head.kind}")
    return {logits: ["N", length], output: ["N", length]}


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
    parser.add_argument("--layers", action="store_true", help="give every layer's y of every branch too")
    arguments = parser.parse_args()
    onnx.save(
        convert(model_file.read(arguments.model), layers=arguments.layers, fold=arguments.fold),
        arguments.graph,
    )


if __name__ == "__main__":
    main()
