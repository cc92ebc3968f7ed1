"""The golden cases of version 1, by name; those of version 2 are in golden_cases_2.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model_builder import ModelBuilder

Build = Callable[[ModelBuilder], str]
"""Adds a case's layers to a builder, and gives the layer that its heads read; or its heads too, and then gives ""."""


@dataclass(frozen=True)
class Case:
    """How a case is built, and the builder's options."""

    build: Build
    options: dict[str, Any]


CASES: dict[str, Case] = {}


def case(**options: Any) -> Callable[[Build], Build]:
    """Register a case under its function's name; `options` go to the builder."""

    def register(build: Build) -> Build:
        CASES[build.__name__] = Case(build, {"height": 9, "width": 11} | options)
        return build

    return register


@case()
def conv2d(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=7, kernel=3, padding=1)
    return b.layer("b", "conv2d", out=5, kernel=3, bias=False)


@case()
def conv2d_rectangular(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=4, kernel=[1, 5], padding=[0, 2])
    return b.layer("b", "conv2d", out=5, kernel=[4, 2])


@case()
def conv2d_strided(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=4, kernel=3, stride=[1, 2], padding=1)
    return b.layer("b", "conv2d", out=5, kernel=2, stride=3)


@case()
def conv2d_asymmetric_padding(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=4, kernel=3, padding=[2, 1, 0, 3])
    return b.layer("b", "conv2d", out=4, kernel=3, stride=2, padding=[0, 0, 1, 1])


@case(height=4, width=3)
def conv2d_padding_larger_than_kernel(b: ModelBuilder) -> str:
    return b.layer("a", "conv2d", out=4, kernel=[2, 3], padding=[3, 5, 4, 0])


@case()
def conv2d_dilated(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=4, kernel=3, padding=2, dilation=2)
    return b.layer("b", "conv2d", out=4, kernel=[2, 3], dilation=[3, 1], stride=[1, 2])


@case()
def conv2d_grouped(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=10, kernel=1)
    b.layer("b", "conv2d", out=6, kernel=3, padding=1, groups=2)
    return b.layer("c", "conv2d", out=9, kernel=2, groups=3)


@case()
def conv2d_depthwise(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=7, kernel=1, activation="relu")
    b.layer("b", "conv2d", out=7, kernel=3, padding=1, groups=7)
    return b.layer("c", "conv2d", out=7, kernel=[3, 2], stride=2, groups=7)


@case()
def conv2d_depthwise_multiplier(b: ModelBuilder) -> str:
    return b.layer("a", "conv2d", out=9, kernel=3, padding=1, groups=3)


@case()
def batch_norm(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=5, kernel=3, bias=False, batch_norm="bn1", activation="relu")
    b.layer("b", "conv2d", out=4, kernel=3, batch_norm="norms.2", batch_norm_eps=0.1, activation="relu")
    return b.layer("c", "linear", out=6, batch_norm="c.norm", batch_norm_eps=0.001)


@case()
def linear(b: ModelBuilder) -> str:
    b.layer("conv", "conv2d", out=4, kernel=3, stride=3)
    b.layer("fc1", "linear", out=17, activation="relu")
    return b.layer("fc2", "linear", out=5, bias=False)


@case()
def max_pool2d(b: ModelBuilder) -> str:
    b.layer("a", "max_pool2d", kernel=2, stride=1, padding=1)
    b.layer("b", "max_pool2d", kernel=[3, 2], stride=[1, 2], padding=[2, 0, 1, 1])
    return b.layer("c", "max_pool2d", kernel=2)


@case()
def avg_pool2d(b: ModelBuilder) -> str:
    b.layer("a", "avg_pool2d", kernel=2, stride=1, padding=1)
    b.layer("b", "avg_pool2d", kernel=[3, 2], stride=[1, 2], padding=[2, 0, 1, 1])
    return b.layer("c", "avg_pool2d", kernel=2)


@case()
def global_avg_pool2d(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=7, kernel=1, activation="relu")
    return b.layer("b", "global_avg_pool2d")


@case()
def identity_residual(b: ModelBuilder) -> str:
    b.layer("stem", "conv2d", out=5, kernel=3, padding=1)
    b.layer("left", "conv2d", out=5, kernel=3, padding=1, activation="relu")
    b.layer("right", "conv2d", input="stem", out=5, kernel=1)
    b.layer("sum", "identity", residual="left", activation="relu")
    return b.layer("double", "identity", residual="sum")


@case()
def residual_readers(b: ModelBuilder) -> str:
    """One layer read by three later ones, AWS-Unit included; residuals on a pool and a linear layer."""
    b.layer("stem", "conv2d", out=4, kernel=3, activation="relu", aws="channel")
    b.layer("conv", "conv2d", out=4, kernel=3, padding=1, residual="stem", activation="relu")
    b.layer("pool", "avg_pool2d", kernel=3, stride=1, padding=1, residual="stem")
    b.layer("sum", "identity", residual="conv")
    b.layer("fc1", "linear", out=6, activation="relu")
    return b.layer("fc2", "linear", out=6, residual="fc1", activation="relu")


@case()
def activation_relu(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=4, kernel=3, activation="relu")
    return b.layer("b", "max_pool2d", kernel=2, activation="relu")


@case()
def activation_leaky_relu(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=4, kernel=3, activation="leaky_relu")
    return b.layer("b", "conv2d", out=4, kernel=3, activation="leaky_relu", negative_slope=0.3)


@case()
def activation_silu(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=4, kernel=3, activation="silu")
    return b.layer("b", "identity", residual="a", activation="silu")


def _aws(b: ModelBuilder, **fields: Any) -> str:
    """Put a unit behind a convolution, behind another without bias and activation, and behind a pool."""
    b.layer("conv", "conv2d", out=6, kernel=3, activation="relu", **fields)
    b.layer("bare", "conv2d", out=5, kernel=1, bias=False, **fields)
    return b.layer("pool", "max_pool2d", kernel=3, stride=2, **fields)


@case()
def aws_layer(b: ModelBuilder) -> str:
    return _aws(b, aws="layer")


@case()
def aws_channel(b: ModelBuilder) -> str:
    return _aws(b, aws="channel")


@case()
def aws_dense(b: ModelBuilder) -> str:
    return _aws(b, aws="dense")


@case()
def aws_gate_softmax(b: ModelBuilder) -> str:
    return _aws(b, aws="gate")


@case()
def aws_gate_sigmoid(b: ModelBuilder) -> str:
    return _aws(b, aws="gate", gate="sigmoid")


@case()
def aws_on_linear(b: ModelBuilder) -> str:
    b.layer("pool", "avg_pool2d", kernel=3)
    b.layer("fc1", "linear", out=7, activation="relu", aws="dense")
    b.layer("fc2", "linear", out=6, activation="silu", aws="gate")
    b.layer("fc3", "linear", out=6, residual="fc2", aws="channel")
    return b.layer("fc4", "linear", out=5, aws="layer")


@case()
def aws_on_residual(b: ModelBuilder) -> str:
    """Units behind residual and activation, on each op that has no weights."""
    b.layer("stem", "conv2d", out=5, kernel=3)
    b.layer("sum", "identity", residual="stem", activation="relu", aws="dense")
    b.layer("pool", "avg_pool2d", kernel=3, stride=1, padding=1, residual="sum", activation="silu", aws="gate")
    b.layer("mean", "global_avg_pool2d", aws="channel")
    return b.layer("mixed", "identity", residual="mean", aws="gate", gate="sigmoid")


def _weights(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=5, kernel=3, batch_norm="a.bn", activation="relu", aws="gate")
    b.layer("b", "conv2d", out=5, kernel=3, groups=5, activation="relu", aws="dense")
    return b.layer("c", "linear", out=6, aws="channel")


@case(dtypes=("F16",))
def weights_f16(b: ModelBuilder) -> str:
    return _weights(b)


@case(dtypes=("BF16",))
def weights_bf16(b: ModelBuilder) -> str:
    return _weights(b)


@case(dtypes=("F32", "F16", "BF16"))
def weights_mixed(b: ModelBuilder) -> str:
    return _weights(b)


@case()
def heads_of_different_layers(b: ModelBuilder) -> str:
    """A head on a map, without bias; one on a vector; a layer that nothing reads."""
    b.layer("a", "conv2d", out=4, kernel=3, stride=2, activation="relu", aws="channel")
    b.layer("b", "global_avg_pool2d")
    b.layer("c", "conv2d", input="a", out=3, kernel=1)
    b.head("emotion", "a", 7, bias=False, tensor="classifier.1")
    b.head("au", "b", 12, tensor="scores")
    return ""


@case(channels=1)
def luma(b: ModelBuilder) -> str:
    b.layer("a", "conv2d", out=5, kernel=3, stride=2, activation="relu", aws="channel")
    return b.layer("b", "global_avg_pool2d", input="a")


@case(height=19, width=13, dtypes=("F32", "F16", "BF16"), name="everything")
def everything(b: ModelBuilder) -> str:
    """A small ResNet of every op, form and AWS-Unit, several layers reading the image."""
    b.layer("conv1", "conv2d", out=8, kernel=[5, 3], stride=[2, 1], padding=[2, 1, 2, 1], batch_norm="bn1",
            activation="relu", aws="channel", bias=False)  # fmt: skip
    b.layer("maxpool", "max_pool2d", kernel=3, stride=2, padding=1)
    b.layer("layer1.0.conv1", "conv2d", out=8, kernel=3, padding=2, dilation=2, groups=2, batch_norm="layer1.0.bn1",
            activation="leaky_relu", negative_slope=0.1, aws="gate")  # fmt: skip
    b.layer("layer1.0.conv2", "conv2d", out=8, kernel=3, padding=1, batch_norm="layer1.0.bn2", residual="maxpool",
            activation="relu", aws="dense")  # fmt: skip
    b.layer("depthwise", "conv2d", out=8, kernel=3, padding=1, groups=8, activation="silu", aws="layer")
    b.layer("project", "conv2d", out=8, kernel=1, residual="layer1.0.conv2")
    b.layer("thumbnail", "avg_pool2d", input="image", kernel=4, stride=[4, 2], padding=[1, 1, 0, 2])
    b.layer("thumbnail.conv", "conv2d", out=8, kernel=1, aws="gate", gate="sigmoid")
    b.layer("sum", "identity", input="project", residual="thumbnail.conv", activation="relu", aws="channel")
    b.layer("avgpool", "global_avg_pool2d")
    b.layer("fc1", "linear", out=9, batch_norm="fc1.bn", activation="relu", aws="gate")
    b.head("emotion", "fc1", 7, tensor="head")
    b.head("au", "avgpool", 12, tensor="head", thresholds=[0.25] * 6 + [0.75] * 6)
    return ""
