"""ONNX files for the tests of `awsnet import`, a rule of the importer each, and what ONNX Runtime computes of them.

Writes tests/onnx: NAME.onnx, refused/NAME.onnx, and expected.safetensors with NAME.x, an image as the graph reads it, and
NAME.y, the graph's output. What each becomes, and why each is refused, says the table in tests/onnx.rs.
"""
# ruff: noqa: E501 a graph is a line

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from safetensors.numpy import save_file

import onnx
from onnx import TensorProto, numpy_helper

Array = NDArray[Any]

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "onnx"

# A head behind a map `m`: a convolution that sees which places are neighbours, a mean, and a linear layer.
HEAD = (
    "near = Conv<pads = [1, 1, 1, 1]>(m, near.weight) bent = Relu(near) pooled = GlobalAveragePool(bent) "
    "flat = Flatten(pooled) y = Gemm<transB = 1>(flat, fc.weight, fc.bias)"
)


class Case:
    """A graph: its nodes as text, and constants by their names."""

    def __init__(self, name: str, body: str, constants: dict[str, Array] | None = None, **options: Any) -> None:
        self.name = name
        self.body = body
        self.constants = constants or {}
        self.opset: int = options.get("opset", 17)
        self.image: str = options.get("image", "float[N,3,8,8]")
        self.inputs: str = options.get("inputs", "")
        self.outputs: str = options.get("outputs", "float[N,M] y")
        self.domain: str = options.get("domain", "")
        self.listed: bool = options.get("listed", False)
        self.half: bool = options.get("half", False)
        self.external: bool = options.get("external", False)

    def model(self) -> onnx.ModelProto:
        """The graph with its constants."""
        domain = f', "{self.domain}" : 1' if self.domain else ""
        head = f'<ir_version: 8, opset_import: ["" : {self.opset}{domain}]>'
        # The parser's names have no dots.
        body = re.sub(r"\b(?!my\b)([a-z]+)\.([a-z]+)\b", r"\1__\2", self.body)
        text = f"{head} g ({self.image} x{self.inputs}) => ({self.outputs}) {{ {body} }}"
        model = onnx.parser.parse_model(text)
        for node in model.graph.node:
            node.name = f"{node.op_type}_{node.output[0]}"
            node.input[:] = [name.replace("__", ".") for name in node.input]
        read = {name for node in model.graph.node for name in node.input}
        for name, value in self.constants.items():
            if name not in read:
                continue
            if value.dtype == np.float64:
                value = value.astype(np.float16 if self.half else np.float32)
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
            if self.listed:
                kind = numpy_helper.from_array(value).data_type
                model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))
        return model

    def without_head(self) -> Case:
        """The same without the head that `after_conv` adds."""
        self.body = self.body.removesuffix(HEAD)
        return self

    def size(self) -> list[int]:
        """The image's dimensions, for a batch of one."""
        dims = self.image[self.image.index("[") + 1 : -1].split(",")
        return [int(dim) if dim.isdigit() else 1 for dim in dims]


RANDOM = np.random.default_rng(16)


def normal(*shape: int, scale: float = 0.5) -> Array:
    return RANDOM.normal(0, scale, shape)


def between(low: float, high: float, *shape: int) -> Array:
    return RANDOM.uniform(low, high, shape)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def number(value: float) -> Array:
    return np.array(value, np.float32)


def fc(channels: int) -> dict[str, Array]:
    """The constants of HEAD for a map of so many channels."""
    return {"near.weight": normal(4, channels, 3, 3), "fc.weight": normal(3, 4), "fc.bias": normal(3)}


def conv(out: int = 4, inside: int = 3, size: int = 3) -> dict[str, Array]:
    return {"conv.weight": normal(out, inside, size, size), "conv.bias": normal(out)}


CONV = "c = Conv<pads = [1, 1, 1, 1]>(x, conv.weight, conv.bias)"


def after_conv(
    name: str, body: str, constants: dict[str, Array] | None = None, channels: int = 4, **options: Any
) -> Case:
    """`body` makes `m` of a convolution's map `c`; the head follows."""
    return Case(name, f"{CONV} {body} {HEAD}", {**conv(), **fc(channels), **(constants or {})}, **options)


def norm(channels: int) -> dict[str, Array]:
    return {
        "n.weight": between(0.8, 1.2, channels),
        "n.bias": normal(channels),
        "n.mean": normal(channels),
        "n.var": between(0.8, 1.2, channels),
    }


NORM = "BatchNormalization<epsilon = 0.001>"


def activations() -> list[Case]:
    numbers = {"three": number(3), "six": number(6), "zero": number(0), "half": number(0.5), "one": number(1)}
    root = {"root": number(2**0.5), "cubed": number(0.044715), "power": number(3), "factor": number((2 / np.pi) ** 0.5)}
    return [
        after_conv("relu6_of_attributes", "m = Clip<min = 0.0, max = 6.0>(c)", opset=10),
        after_conv("relu6_of_inputs", "m = Clip(c, zero, six)", numbers),
        after_conv("relu_of_max", "m = Max(c, zero)", numbers),
        after_conv("clip_of_another_range", "m = Clip(c, half, one)", {"half": number(-0.5), "one": number(1)}),
        after_conv("hardswish", "m = HardSwish(c)"),
        after_conv("hardswish_of_hardsigmoid", "h = HardSigmoid<alpha = 0.1666666716>(c) m = Mul(c, h)"),
        after_conv(
            "hardswish_in_pieces", "a = Add(three, c) k = Clip(a, zero, six) t = Mul(c, k) m = Div(t, six)", numbers
        ),
        after_conv("hardsigmoid", "m = HardSigmoid<alpha = 0.1666666716>(c)"),
        after_conv("hardsigmoid_of_keras", "m = HardSigmoid(c)"),
        after_conv("silu", "s = Sigmoid(c) m = Mul(s, c)"),
        after_conv(
            "silu_behind_batch_norm",
            f"n = {NORM}(c, n.weight, n.bias, n.mean, n.var) s = Sigmoid(n) m = Mul(n, s)",
            norm(4),
        ),
        after_conv("gelu", "m = Gelu(c)", opset=20),
        after_conv(
            "gelu_of_erf",
            "d = Div(c, root) e = Erf(d) a = Add(e, one) t = Mul(c, a) m = Mul(t, half)",
            {**numbers, **root},
        ),
        after_conv(
            "gelu_of_tanh",
            "q = Pow(c, power) u = Mul(q, cubed) v = Add(c, u) w = Mul(v, factor) h = Tanh(w) a = Add(h, one) t = Mul(c, half) m = Mul(t, a)",
            {**numbers, **root},
        ),
        after_conv("elu", "m = Elu(c)"),
        after_conv("tanh", "m = Tanh(c)"),
        after_conv("leaky_relu", "m = LeakyRelu<alpha = 0.2>(c)"),
        after_conv("prelu", "m = PRelu(c, slope)", {"slope": between(0, 0.5, 4, 1, 1)}),
        after_conv("prelu_of_one_slope", "m = PRelu(c, slope)", {"slope": between(0, 0.5, 1)}),
        after_conv("two_activations", "r = Relu(c) m = Sigmoid(r)"),
    ]


def norms() -> list[Case]:
    columns = {"mean": normal(4, 1, 1), "factor": between(0.5, 1.5, 4, 1, 1), "term": normal(4, 1, 1)}
    arguments = "n.weight, n.bias, n.mean, n.var"
    return [
        after_conv("batch_norm", f"n = {NORM}(c, {arguments}) m = Relu(n)", norm(4)),
        after_conv("batch_norm_in_pieces", "s = Sub(c, mean) d = Div(s, factor) m = Add(d, term)", columns),
        after_conv("batch_norm_behind_relu", f"r = Relu(c) m = {NORM}(r, {arguments})", norm(4)),
        after_conv(
            "batch_norm_behind_pool",
            f"r = MaxPool<kernel_shape = [2, 2]>(c) n = {NORM}(r, {arguments}) m = Relu(n)",
            norm(4),
        ),
        Case(
            "batch_norm_behind_linear",
            f"f = Flatten(x) g = Gemm(f, w) n = {NORM}(g, {arguments}) y = Gemm(n, v)",
            {**norm(4), "w": normal(192, 4, scale=0.1), "v": normal(4, 3)},
        ),
        Case(
            "normalisation",
            f"s = Sub(x, mean) i = Div(s, std) c = Conv(i, conv.weight, conv.bias) m = Relu(c) {HEAD}",
            {**conv(), **fc(4), "mean": between(0.4, 0.6, 1, 3, 1, 1), "std": between(0.2, 0.3, 1, 3, 1, 1)},
        ),
        Case(
            "normalisation_of_bytes",
            f"f = Cast<to = 1>(x) s = Div(f, scale) i = Sub(s, one) c = Conv<pads = [1, 1, 1, 1]>(i, conv.weight, conv.bias) m = Relu(c) {HEAD}",
            {**conv(), **fc(4), "scale": number(127.5), "one": number(1)},
            image="uint8[N,3,8,8]",
        ),
    ]


def gates() -> list[Case]:
    squeeze = {"s.weight": normal(2, 4, 1, 1), "e.weight": normal(4, 2, 1, 1)}
    return [
        after_conv(
            "squeeze_excite",
            "r = Relu(c) g = GlobalAveragePool(r) s = Conv(g, s.weight) t = Relu(s) e = Conv(t, e.weight) h = HardSigmoid<alpha = 0.1666666716>(e) m = Mul(h, r)",
            squeeze,
        ),
        after_conv(
            "squeeze_excite_of_linear",
            "g = ReduceMean<axes = [2, 3], keepdims = 0>(c) s = Gemm(g, sw) t = Relu(s) e = MatMul(t, ew) h = Sigmoid(e) u = Reshape(h, shape) v = Expand(u, like) m = Mul(c, v)",
            {"sw": normal(4, 2), "ew": normal(2, 4), "shape": ints(-1, 4, 1, 1), "like": ints(1, 4, 8, 8)},
        ),
        after_conv(
            "product_of_maps",
            "d = Conv<pads = [1, 1, 1, 1]>(x, d.weight) s = Sigmoid(d) m = Mul(c, s)",
            {"d.weight": normal(4, 3, 3, 3)},
        ),
        after_conv(
            "residual",
            "d = Conv<pads = [1, 1, 1, 1]>(x, d.weight) a = Add(c, d) m = Relu(a)",
            {"d.weight": normal(4, 3, 3, 3)},
        ),
        after_conv(
            "residual_of_a_shared_map",
            "d = Conv(c, d.weight) e = Relu(d) m = Add(e, c)",
            {"d.weight": normal(4, 4, 1, 1)},
        ),
        after_conv(
            "difference", "d = Conv<pads = [1, 1, 1, 1]>(x, d.weight) m = Sub(c, d)", {"d.weight": normal(4, 3, 3, 3)}
        ),
        after_conv("twice", "m = Add(c, c)"),
    ]


def windows() -> list[Case]:
    pads = {"pads": ints(0, 0, 0, 0, 0, 0, 1, 1), "lowest": number(-np.inf), "all": ints(0, 0, 1, 1, 0, 0, 1, 1)}
    depthwise = {"d.weight": normal(4, 1, 3, 3)}
    return [
        Case(
            "pad_before_conv",
            f"b = Pad(x, pads) m = Conv<strides = [2, 2]>(b, conv.weight, conv.bias) {HEAD}",
            {**conv(), **fc(4), **pads},
        ),
        Case(
            "pad_of_attributes",
            f"b = Pad<pads = [0, 0, 1, 0, 0, 0, 1, 2]>(x) m = Conv(b, conv.weight, conv.bias) {HEAD}",
            {**conv(), **fc(4)},
            opset=10,
        ),
        after_conv(
            "pad_before_max_pool_of_relu",
            "r = Relu(c) b = Pad(r, pads) m = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(b)",
            pads,
        ),
        after_conv(
            "pad_before_max_pool_of_any_sign",
            "b = Pad(c, all) m = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(b)",
            pads,
        ),
        after_conv(
            "pad_of_the_lowest", "b = Pad(c, all, lowest) m = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(b)", pads
        ),
        after_conv(
            "pad_before_average_pool",
            "b = Pad(c, all) m = AveragePool<kernel_shape = [3, 3], strides = [2, 2]>(b)",
            pads,
        ),
        after_conv("pad_before_sigmoid", "b = Pad(c, all) m = Sigmoid(b)", pads),
        Case(
            "same_upper",
            f'm = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, conv.weight, conv.bias) {HEAD}',
            {**conv(), **fc(4)},
        ),
        Case(
            "same_lower",
            f'm = Conv<auto_pad = "SAME_LOWER", strides = [2, 2]>(x, conv.weight, conv.bias) {HEAD}',
            {**conv(), **fc(4)},
        ),
        after_conv(
            "average_pool_same", 'm = AveragePool<auto_pad = "SAME_UPPER", kernel_shape = [3, 3], strides = [2, 2]>(c)'
        ),
        after_conv(
            "average_pool_counts_padding",
            "m = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>(c)",
        ),
        after_conv("ceil_mode", "m = MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(c)"),
        after_conv(
            "ceil_mode_that_changes_nothing", "m = MaxPool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(c)"
        ),
        after_conv(
            "ceil_mode_of_an_average", "m = AveragePool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(c)"
        ),
        after_conv("average_over_all", "m = AveragePool<kernel_shape = [8, 8]>(c)"),
        after_conv("global_max_pool", "m = GlobalMaxPool(c)"),
        after_conv(
            "means_one_after_another",
            "w = ReduceMean<axes = [3], keepdims = 0>(c) m = ReduceMean<axes = [2], keepdims = 0>(w) y = Gemm<transB = 1>(m, fc.weight, fc.bias)",
        ).without_head(),
        after_conv(
            "reduce_mean_of_inputs",
            "g = ReduceMean<keepdims = 0>(c, axes) y = Gemm<transB = 1>(g, fc.weight, fc.bias)",
            {"axes": ints(-1, -2)},
            opset=18,
        ).without_head(),
        Case(
            "grouped_and_dilated",
            f"c = Conv<group = 2, dilations = [2, 2], kernel_shape = [3, 3]>(a, conv.weight) m = Relu(c) {HEAD}".replace(
                "c = Conv", "a = Conv(x, a.weight) c = Conv", 1
            ),
            {"a.weight": normal(4, 3, 1, 1), "conv.weight": normal(4, 2, 3, 3), **fc(4)},
        ),
        after_conv("depthwise", "d = Conv<group = 4, pads = [1, 1, 1, 1]>(c, d.weight) m = Relu(d)", depthwise),
    ]


def rearrangements() -> list[Case]:
    shuffle = "r1 = Reshape(c, five) t1 = Transpose<perm = [0, 2, 1, 3, 4]>(r1) s = Reshape(t1, four)"
    shapes = {"five": ints(1, 2, 2, 8, 8), "four": ints(1, 4, 8, 8)}
    one = {"d.weight": normal(5, 4, 1, 1)}
    split = {"d.weight": normal(2, 2, 1, 1), "sizes": ints(2, 2)}
    return [
        after_conv("shuffle_before_conv", f"{shuffle} m = Conv(s, d.weight)", {**shapes, **one}, channels=5),
        after_conv(
            "shuffle_before_depthwise",
            f"{shuffle} d = Conv<group = 4>(s, w.weight, w.bias) m = Relu(d)",
            {**shapes, "w.weight": normal(4, 1, 3, 3), "w.bias": normal(4)},
        ),
        after_conv("shuffle_before_pool", f"{shuffle} m = MaxPool<kernel_shape = [2, 2]>(s)", shapes),
        after_conv("shuffle_before_sum", f"{shuffle} m = Add(s, c)", shapes),
        after_conv(
            "shuffle_of_a_batch_of_any_size",
            "h = Shape(c) i = Gather(h, zero) u = Unsqueeze(i, first) k = Concat<axis = 0>(u, rest) r1 = Reshape(c, k) t1 = Transpose<perm = [0, 2, 1, 3, 4]>(r1) k2 = Concat<axis = 0>(u, rest2) m = Reshape(t1, k2)",
            {"zero": np.array(0), "first": ints(0), "rest": ints(2, 2, 8, 8), "rest2": ints(-1, 8, 8)},
        ),
        after_conv(
            "halves",
            "a, b = Split<axis = 1>(c, sizes) d = Conv(b, d.weight) e = Relu(d) m = Concat<axis = 1>(a, e)",
            split,
        ),
        after_conv(
            "slice_of_channels",
            "m = Slice(c, from, to, axes)",
            {"from": ints(1), "to": ints(3), "axes": ints(1)},
            channels=2,
        ),
        after_conv(
            "every_second_pixel",
            "m = Slice(c, from, to, axes, steps)",
            {"from": ints(0, 0), "to": ints(8, 2**62), "axes": ints(2, 3), "steps": ints(2, 2)},
        ),
        Case(
            "image_turned_to_bgr",
            f"t = Gather<axis = 1>(x, order) m = Conv(t, conv.weight, conv.bias) {HEAD}",
            {**conv(), **fc(4), "order": ints(2, 1, 0)},
        ),
        after_conv(
            "concat",
            "d = MaxPool<kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]>(c) m = Concat<axis = 1>(c, d, c)",
            channels=12,
        ),
        after_conv(
            "resize",
            'm = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(c, , scales)',
            {"scales": np.array([1, 1, 2, 3], np.float32)},
        ),
        after_conv(
            "resize_of_half_pixels",
            'm = Resize<coordinate_transformation_mode = "half_pixel">(c, , , sizes)',
            {"sizes": ints(1, 4, 16, 16)},
        ),
        after_conv("upsample", "m = Upsample(c, scales)", {"scales": np.array([1, 1, 2, 2], np.float32)}, opset=9),
        after_conv(
            "tile",
            "u = Unsqueeze(c, axes) t = Tile(u, times) m = Reshape(t, shape)",
            {"axes": ints(3, 5), "times": ints(1, 1, 1, 2, 1, 2), "shape": ints(1, 4, 16, 16)},
        ),
        Case(
            "flatten",
            "f = Flatten(x) g = Gemm(f, w, b) r = Relu(g) y = MatMul(r, v)",
            {"w": normal(192, 6, scale=0.1), "b": normal(6), "v": normal(6, 3)},
        ),
        after_conv(
            "flatten_channels_last",
            "t = Transpose<perm = [0, 2, 3, 1]>(c) f = Reshape(t, flat) y = MatMul(f, w)",
            {"flat": ints(-1, 256), "w": normal(256, 3, scale=0.1)},
        ).without_head(),
        Case(
            "gemm_of_factors",
            "p = GlobalAveragePool(x) f = Squeeze(p, axes) y = Gemm<alpha = 0.5, beta = 2.0>(f, w, b)",
            {"axes": ints(2, 3), "w": normal(3, 4), "b": normal(1, 4)},
        ),
        Case(
            "reshape_by_the_image",
            "p = GlobalAveragePool(x) h = Shape(p) i = Gather(h, zero) u = Unsqueeze(i, axes) k = Concat<axis = 0>(u, minus) f = Reshape(p, k) y = Gemm(f, w)",
            {"zero": np.array(0), "axes": ints(0), "minus": ints(-1), "w": normal(3, 4)},
        ),
        Case(
            "channels_last",
            "t = Transpose<perm = [0, 3, 1, 2]>(x) c = Conv(t, conv.weight, conv.bias) u = Transpose<perm = [0, 2, 3, 1]>(c) r = Relu(u) k = Add(r, bias) n = MatMul(k, w) "
            "q = Concat<axis = 3>(k, n) g = ReduceMean<axes = [1, 2], keepdims = 0>(q) y = MatMul(g, v)",
            {**conv(), "bias": normal(4), "w": normal(4, 2), "v": normal(6, 3)},
            image="float[N,8,8,3]",
        ),
    ]


def ends() -> list[Case]:
    scores = {"fc.weight": normal(3, 3), "fc.bias": normal(3)}
    pool = "p = GlobalAveragePool(x) f = Flatten(p) g = Gemm<transB = 1>(f, fc.weight, fc.bias)"
    return [
        Case("softmax", f"{pool} y = Softmax(g)", scores),
        Case("softmax_of_version_11", f"{pool} y = Softmax(g)", scores, opset=11),
        Case("log_softmax", f"{pool} y = LogSoftmax<axis = 1>(g)", scores),
        Case("sigmoid", f"{pool} y = Sigmoid(g)", scores),
        Case(
            "convolution_as_head",
            "p = GlobalAveragePool(x) c = Conv(p, h.weight, h.bias) y = Flatten(c)",
            {"h.weight": normal(4, 3, 1, 1), "h.bias": normal(4)},
        ),
        after_conv("mean_as_head", "r = Relu(c) p = GlobalAveragePool(r) y = Flatten(p)").without_head(),
        Case(
            "grey",
            f"c = Conv(x, conv.weight, conv.bias) m = Relu(c) {HEAD}",
            {**conv(4, 1), **fc(4)},
            image="float[N,1,8,8]",
        ),
        Case("any_size", f"{CONV} m = Relu(c) {HEAD}", {**conv(), **fc(4)}, image="float[N,3,H,W]"),
    ]


def storage() -> list[Case]:
    body = f"{CONV} m = Relu(c) {HEAD}"
    return [
        Case("constants_among_inputs", body, {**conv(), **fc(4)}, listed=True),
        Case(
            "half_floats",
            f"h = Cast<to = 10>(x) {body.replace('(x,', '(h,').replace('y =', 'z =')} y = Cast<to = 1>(z)",
            {**conv(), **fc(4)},
            half=True,
        ),
        Case("external_data", body, {**conv(), **fc(4)}, external=True),
        Case(
            "constant_nodes",
            "k = Constant<value = float[1] {2.0}>() s = Mul(x, k) i = Identity(s) p = GlobalAveragePool(i) d = Dropout(p) f = Flatten(d) y = Gemm(f, w)",
            {"w": normal(3, 4)},
        ),
    ]


def pairs() -> list[Case]:
    def squeeze(scores: int) -> dict[str, Array]:
        return {**conv(), "h.weight": normal(scores, 4, 1, 1), "h.bias": normal(scores)}

    squeezed = f"{CONV} r = Relu(c) h = Conv(r, h.weight, h.bias) s = Relu(h) p = GlobalAveragePool(s) y = Flatten(p)"
    return [
        Case("pair_a", f"{CONV} m = Relu(c) {HEAD}", {**conv(), **fc(4)}),
        # The same network by another exporter: a batch norm that is not folded, a MatMul and an Add.
        Case(
            "pair_b",
            f"{CONV} n = {NORM}(c, n.weight, n.bias, n.mean, n.var) m = Relu(n) near = Conv<pads = [1, 1, 1, 1]>(m, near.weight) bent = Relu(near) g = ReduceMean<axes = [2, 3], keepdims = 0>(bent) k = MatMul(g, w) y = Add(k, b)",
            {**conv(), **norm(4), **fc(4), "w": normal(4, 5), "b": normal(5)},
        ),
        Case(
            "pair_of_another_kernel",
            f"c = Conv<pads = [2, 2, 2, 2]>(x, conv.weight, conv.bias) m = Relu(c) {HEAD}",
            {**conv(4, 3, 5), **fc(4)},
        ),
        Case("pair_squeezed_a", squeezed, squeeze(3)),
        Case("pair_squeezed_b", squeezed, squeeze(5)),
    ]


def refused() -> list[Case]:
    gate = {"g.weight": normal(1, 4, 1, 1)}
    return [
        after_conv("mish", "s = Softplus(c) t = Tanh(s) m = Mul(c, t)"),
        after_conv("square", "m = Mul(c, c)"),
        after_conv("elu_of_another_alpha", "m = Elu<alpha = 0.5>(c)"),
        after_conv("instance_norm", "m = InstanceNormalization(c, one, one)", {"one": between(0.5, 1, 4)}),
        after_conv("layer_norm", "a = ReduceMean<axes = [1]>(c) m = Sub(c, a)"),
        after_conv("transposed_convolution", "m = ConvTranspose(c, t.weight)", {"t.weight": normal(4, 4, 2, 2)}),
        after_conv(
            "reflected_padding",
            'b = Pad<mode = "reflect">(c, pads) m = Relu(b)',
            {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)},
        ),
        after_conv(
            "padding_of_ones",
            "b = Pad(c, pads, one) m = Relu(b)",
            {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1), "one": number(1)},
        ),
        after_conv(
            "linear_resize", 'm = Resize<mode = "linear">(c, , scales)', {"scales": np.array([1, 1, 2, 2], np.float32)}
        ),
        after_conv(
            "resize_by_a_fraction", "m = Resize(c, , scales)", {"scales": np.array([1, 1, 1.5, 1.5], np.float32)}
        ),
        after_conv("dilated_max_pool", "m = MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(c)"),
        after_conv("quotient_of_maps", "s = Sigmoid(c) r = Relu(s) m = Div(c, r)"),
        after_conv("spatial_gate", "g = Conv(c, g.weight) s = Sigmoid(g) m = Mul(c, s)", gate),
        after_conv("sum_over_a_number_a_channel", "g = GlobalAveragePool(c) m = Add(c, g)"),
        after_conv("crop", "m = Slice(c, from, to, axes)", {"from": ints(1, 1), "to": ints(7, 7), "axes": ints(2, 3)}),
        after_conv("softmax_within", "s = Softmax<axis = 1>(c) m = Mul(c, s)"),
        after_conv("mean_over_channels", "m = ReduceMean<axes = [1]>(c)", channels=1),
        after_conv("weights_that_are_computed", "m = Conv(c, c)"),
        after_conv("unknown_attribute", "m = Relu<consumed_inputs = [0]>(c)"),
        after_conv("another_domain", "m = my.Relu(c)", domain="my"),
        Case(
            "two_outputs", f"{CONV} m = Relu(c) {HEAD}", {**conv(), **fc(4)}, outputs="float[N,M] y, float[N,4,8,8] m"
        ),
        Case(
            "two_inputs",
            f"{CONV} a = Add(c, other) m = Relu(a) {HEAD}",
            {**conv(), **fc(4)},
            inputs=", float[N,4,8,8] other",
        ),
        Case("four_channels", f"{CONV} m = Relu(c) {HEAD}", {**conv(4, 4), **fc(4)}, image="float[N,4,8,8]"),
        Case("batch_of_two", f"{CONV} m = Relu(c) {HEAD}", {**conv(), **fc(4)}, image="float[2,3,8,8]"),
        Case("old_operators", f"{CONV} m = Relu(c) {HEAD}", {**conv(), **fc(4)}, opset=6),
        Case("constant_scores", "y = Identity(k)", {"k": normal(1, 3)}),
        Case(
            "hardsigmoid_at_the_end",
            "p = GlobalAveragePool(x) f = Flatten(p) g = Gemm(f, w) y = HardSigmoid<alpha = 0.1666666716>(g)",
            {"w": normal(3, 4)},
        ),
    ]


def write(case: Case, folder: Path, expected: dict[str, Array] | None) -> None:
    """Writes the file, and runs it where `expected` is to hold what comes out."""
    model = case.model()
    path = folder / f"{case.name}.onnx"
    if case.external:
        location = f"{case.name}.data"
        (folder / location).unlink(missing_ok=True)
        onnx.save_model(model, path, save_as_external_data=True, location=location, size_threshold=0)
    else:
        onnx.save_model(model, path)
    if expected is None:
        return
    onnx.checker.check_model(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    is_bytes = model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    size = [8 if dim == 1 and at > 1 and case.name == "any_size" else dim for at, dim in enumerate(case.size())]
    x = RANDOM.integers(0, 256, size).astype(np.uint8) if is_bytes else normal(*size, scale=1.0).astype(np.float32)
    (y,) = session.run(None, {"x": x})
    expected[f"{case.name}.x"] = x.astype(np.float32)
    expected[f"{case.name}.y"] = y.astype(np.float32).reshape(1, -1)


def main() -> int:
    refused_folder = FOLDER / "refused"
    refused_folder.mkdir(parents=True, exist_ok=True)
    expected: dict[str, Array] = {}
    for case in [*activations(), *norms(), *gates(), *windows(), *rearrangements(), *ends(), *storage(), *pairs()]:
        write(case, FOLDER, expected)
    for case in refused():
        write(case, refused_folder, None)
    save_file(expected, FOLDER / "expected.safetensors")
    print(f"{len(expected) // 2} files that are read, {len(refused())} that are refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
