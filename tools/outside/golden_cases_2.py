"""The golden cases of version 2, by name, on small images.

Where a case adds no heads, one of values on the first branch and one of classes on the last read the layer it gives.
"""

from collections.abc import Callable
from typing import Any

from golden_cases import CASES, Build, Case, case
from model_builder import ModelBuilder

SMALL = {"height": 6, "width": 7}


def case_2(**options: Any) -> Callable[[Build], Build]:
    """Register a case of version 2."""
    return case(**{"version": 2} | SMALL | options)


@case_2(branches=("emotion", "au"))
def activation_prelu(b: ModelBuilder) -> str:
    """A slope a channel, one for all, which two layers share; behind convolutions, a linear layer, a pool, a sum."""
    b.layer("a", "conv2d", out=4, kernel=3, activation="prelu", prelu="a.act")
    b.layer("b", "conv2d", out=4, kernel=3, padding=1, activation="prelu", prelu="shared", slopes=1, aws="channel")
    b.layer("c", "identity", residual="a", activation="prelu", prelu="shared")
    b.layer("d", "max_pool2d", kernel=2, activation="prelu", prelu="d.act")
    return b.layer("e", "linear", out=3, activation="prelu", prelu="e.act")


def _activation(activation: str) -> Build:
    def build(b: ModelBuilder) -> str:
        """Alone, on values beyond 6; behind a convolution, a depthwise one, a pool and a linear layer."""
        b.layer("wide", "conv2d", out=5, kernel=3, batch_norm="wide.bn")
        b.layer("double", "identity", residual="wide")
        b.layer("four", "identity", residual="double")
        b.layer("alone", "identity", activation=activation, aws="channel")
        b.layer("conv", "conv2d", out=6, kernel=[1, 3], batch_norm="conv.bn", activation=activation)
        b.layer("depthwise", "conv2d", out=6, kernel=3, padding=1, groups=6, activation=activation)
        b.layer("pool", "avg_pool2d", kernel=2, activation=activation)
        return b.layer("fc1", "linear", out=5, activation=activation)

    return build


for _name in ("relu6", "elu", "sigmoid", "hardsigmoid", "hardswish", "tanh", "gelu", "gelu_tanh"):
    CASES[f"activation_{_name}"] = Case(_activation(_name), {"version": 2} | SMALL)


@case_2()
def scale_of_the_map(b: ModelBuilder) -> str:
    """A layer multiplied by another of its shape: with residual, activation and unit behind it, on every kind of op."""
    b.layer("left", "conv2d", out=5, kernel=3, padding=1)
    b.layer("right", "conv2d", input="image", out=5, kernel=3, padding=1, activation="sigmoid", aws="channel")
    b.layer("product", "identity", input="left", scale="right", residual="left", activation="relu", aws="dense")
    b.layer("conv", "conv2d", out=5, kernel=3, padding=1, batch_norm="conv.bn", scale="left", activation="silu")
    b.layer("pool", "max_pool2d", kernel=3, stride=1, padding=1, scale="right", residual="product")
    b.layer("square", "identity", scale="pool", batch_norm="square.bn")
    b.layer("fc1", "linear", out=4, activation="tanh")
    return b.layer("fc2", "linear", out=4, scale="fc1", residual="fc1")


@case_2()
def scale_of_channels(b: ModelBuilder) -> str:
    """A layer multiplied by C x 1 x 1, spread over the map: behind every kind of op, before residual and activation."""
    b.layer("stem", "conv2d", out=6, kernel=3, padding=1)
    b.layer("factors", "global_avg_pool2d", activation="sigmoid")
    b.layer("conv", "conv2d", input="stem", out=6, kernel=3, padding=1, scale="factors", residual="stem",
            activation="relu")  # fmt: skip
    b.layer("depthwise", "conv2d", out=6, kernel=3, padding=1, groups=6, batch_norm="depthwise.bn", scale="factors",
            aws="gate")  # fmt: skip
    b.layer("avg", "avg_pool2d", kernel=2, scale="factors", activation="relu6")
    b.layer("up", "upsample2d", factor=2, scale="factors")
    b.layer("adaptive", "adaptive_avg_pool2d", output=[2, 3], scale="factors")
    return b.layer("both", "identity", scale="factors", residual="adaptive")


@case_2()
def squeeze_excite(b: ModelBuilder) -> str:
    """As in MobileNetV3, a projection behind; as in EfficientNet, with units; by linear layers that others read too."""
    b.layer("stem", "conv2d", out=6, kernel=3, padding=1, activation="hardswish")
    b.layer("expand", "conv2d", out=9, kernel=3, padding=1, batch_norm="expand.bn", activation="hardswish")
    b.layer("se-1.pool", "global_avg_pool2d")
    b.layer("se-1.fc1", "conv2d", out=3, kernel=1, activation="relu")
    b.layer("se-1.fc2", "conv2d", out=9, kernel=1, activation="hardsigmoid")
    b.layer("se-1", "identity", input="expand", scale="se-1.fc2")
    b.layer("project", "conv2d", out=6, kernel=1, batch_norm="project.bn", residual="stem")
    b.layer("dw", "conv2d", out=6, kernel=3, padding=1, stride=2, groups=6, activation="silu", aws="channel")
    b.layer("se-2.pool", "adaptive_avg_pool2d", output=1)
    b.layer("se-2.fc1", "conv2d", out=2, kernel=1, activation="silu")
    b.layer("se-2.fc2", "conv2d", out=6, kernel=1, activation="sigmoid")
    b.layer("se-2", "identity", input="dw", scale="se-2.fc2", activation="relu", aws="gate")
    b.layer("se-3.pool", "global_avg_pool2d")
    b.layer("se-3.fc1", "linear", out=4, activation="relu")
    b.layer("se-3.fc2", "linear", out=6, activation="sigmoid", aws="layer")
    b.layer("se-3", "identity", input="se-2", scale="se-3.fc2", residual="dw")
    b.layer("again", "identity", input="se-3.fc2", residual="se-3.pool")
    b.head("emotion", "se-3", 5, kind="classes")
    b.head("au", "again", 4, kind="units")
    return ""


@case_2(height=4, width=5)
def concat(b: ModelBuilder) -> str:
    """Layers side by side: of other widths, one twice, behind a unit; with all that may follow, read by several."""
    b.layer("a", "conv2d", out=3, kernel=3, padding=1, activation="relu", aws="channel")
    b.layer("b", "conv2d", input="image", out=5, kernel=1)
    b.layer("c", "max_pool2d", input="b", kernel=3, stride=1, padding=1)
    b.layer("plain", "concat", inputs=["a", "b", "c"])
    b.layer("twice", "concat", inputs=["a", "b", "a"], batch_norm="twice.bn", activation="hardswish", aws="gate")
    b.layer("sums", "concat", inputs=["b", "a", "a"], residual="twice", scale="twice", activation="elu")
    b.layer("conv", "conv2d", input="plain", out=4, kernel=3)
    b.layer("mean", "global_avg_pool2d", input="sums")
    b.layer("fc", "linear", input="conv", out=4)
    return b.layer("vector", "concat", inputs=["fc", "mean", "fc"])


@case_2(height=5, width=4)
def concat_nested(b: ModelBuilder) -> str:
    """DenseNet's: each convolution's channels behind all that came before, norm and activation first."""
    state = b.layer("stem", "conv2d", out=3, kernel=3, padding=1)
    for step in (1, 2, 3):
        b.layer(f"norm{step}", "identity", input=state, batch_norm=f"norm{step}", activation="relu")
        b.layer(f"conv{step}", "conv2d", out=2, kernel=3, padding=1, aws="channel" if step == 2 else "none")
        state = b.layer(f"dense{step}", "concat", inputs=[state, f"conv{step}"])
    b.layer("transition", "conv2d", out=5, kernel=1, batch_norm="transition.bn", activation="relu")
    return b.layer("pool", "avg_pool2d", kernel=2)


@case_2(height=4, width=3)
def upsample2d(b: ModelBuilder) -> str:
    """By one factor and by two, an image too; added to a map of its size, as pyramids do."""
    b.layer("image2", "upsample2d", factor=[1, 3])
    b.layer("wide", "conv2d", out=3, kernel=3, stride=[1, 2], padding=1)
    b.layer("small", "conv2d", out=3, kernel=3, stride=[2, 1], padding=1, activation="relu", aws="layer")
    b.layer("up", "upsample2d", factor=[2, 1], residual="wide", activation="relu", aws="channel")
    return b.layer("up2", "upsample2d", factor=2, batch_norm="up2.bn")


@case_2()
def adaptive_avg_pool2d(b: ModelBuilder) -> str:
    """Windows that overlap, that divide the map, that are as many as its pixels, and more than those."""
    b.layer("overlap", "adaptive_avg_pool2d", output=[4, 5])
    b.layer("more", "adaptive_avg_pool2d", output=[6, 7], activation="relu", aws="channel")
    b.layer("divide", "adaptive_avg_pool2d", output=[3, 1], batch_norm="divide.bn")
    b.layer("same", "adaptive_avg_pool2d", output=[3, 1], residual="divide")
    b.layer("one", "adaptive_avg_pool2d", input="more", output=1)
    b.layer("map", "adaptive_avg_pool2d", input="one", output=2)
    b.head("emotion", "map", 3, kind="classes")
    b.head("au", "same", 3, kind="units")
    return ""


def _ceil_mode(b: ModelBuilder, op: str) -> str:
    """Last windows that are not whole; those that would begin in the padding and are not there; one beyond the map."""
    b.layer("a", op, kernel=2, stride=2, ceil_mode=True)  # 6x7 to 3x4
    b.layer("b", op, input="image", kernel=3, stride=2, padding=1, ceil_mode=True, activation="relu", aws="channel")
    b.layer("c", op, input="image", kernel=[3, 2], stride=[4, 3], padding=[1, 0, 0, 1], ceil_mode=True)
    b.layer("d", op, input="image", kernel=2, stride=3, padding=[0, 0, 0, 1], ceil_mode=True, batch_norm="d.bn")
    b.layer("e", op, input="image", kernel=3, stride=5, padding=[0, 2, 2, 2], ceil_mode=True)
    b.layer("f", op, input="image", kernel=[7, 9], stride=[3, 4], ceil_mode=True)
    b.layer("all", "linear", input="a", out=4)
    for name in ("b", "c", "d", "e", "f"):
        b.layer(f"{name}.mean", "global_avg_pool2d", input=name)
    return b.layer("means", "concat", inputs=["all", *[f"{name}.mean" for name in ("b", "c", "d", "e", "f")]])


@case_2()
def max_pool2d_ceil_mode(b: ModelBuilder) -> str:
    return _ceil_mode(b, "max_pool2d")


@case_2()
def avg_pool2d_ceil_mode(b: ModelBuilder) -> str:
    return _ceil_mode(b, "avg_pool2d")


@case_2()
def avg_pool2d_without_padding(b: ModelBuilder) -> str:
    """Averages that leave out the padding which they meet, in ceil mode too."""
    fields: dict[str, Any] = {"input": "image", "count_include_pad": False}
    b.layer("a", "avg_pool2d", kernel=3, stride=1, padding=1, **fields)
    b.layer("b", "avg_pool2d", kernel=[3, 2], stride=[1, 2], padding=[2, 0, 1, 1], aws="channel", **fields)
    b.layer("c", "avg_pool2d", kernel=3, stride=2, padding=1, ceil_mode=True, batch_norm="c.bn", **fields)
    b.layer("d", "avg_pool2d", kernel=[4, 3], stride=[3, 4], padding=[3, 1, 0, 2], ceil_mode=True, **fields)
    b.layer("e", "avg_pool2d", input="a", kernel=3, stride=1, padding=1, count_include_pad=True)
    b.layer("f", "linear", input="b", out=3)
    for name in ("c", "d", "e"):
        b.layer(f"{name}.mean", "global_avg_pool2d", input=name)
    return b.layer("means", "concat", inputs=["f", "c.mean", "d.mean", "e.mean"])


@case_2()
def batch_norm_anywhere(b: ModelBuilder) -> str:
    """Alone, on the image first as IResNet has it, on pools, and before scale and residual."""
    b.layer("image-norm", "identity", batch_norm="image-norm")
    b.layer("conv", "conv2d", out=5, kernel=3, padding=1, activation="relu")
    b.layer("alone", "identity", batch_norm="alone", batch_norm_eps=0.1, aws="channel")
    b.layer("max", "max_pool2d", kernel=3, stride=1, padding=1, batch_norm="max.bn", activation="relu")
    b.layer("avg", "avg_pool2d", kernel=2, stride=1, batch_norm="avg.bn", batch_norm_eps=0.001)
    b.layer("before", "identity", input="alone", batch_norm="before.bn", scale="max", residual="conv",
            activation="tanh", aws="gate")  # fmt: skip
    b.layer("adaptive", "adaptive_avg_pool2d", output=2, batch_norm="adaptive.bn")
    b.layer("mean", "global_avg_pool2d", input="avg", batch_norm="mean.bn", activation="sigmoid")
    b.layer("vector", "identity", batch_norm="vector.bn", scale="mean")
    b.head("emotion", "adaptive", 4, kind="classes")
    b.head("au", "vector", 4, kind="units")
    return ""


@case_2(branches=("face",))
def one_branch(b: ModelBuilder) -> str:
    """A branch alone, whose head has its name, a block of MobileNetV2 in it."""
    b.layer("stem", "conv2d", out=6, kernel=3, stride=2, padding=1, batch_norm="stem.bn", activation="relu6")
    b.layer("expand", "conv2d", out=10, kernel=1, batch_norm="expand.bn", activation="relu6")
    b.layer("depthwise", "conv2d", out=10, kernel=3, padding=1, groups=10, batch_norm="dw.bn", activation="relu6")
    b.layer("project", "conv2d", out=6, kernel=1, batch_norm="project.bn", residual="stem")
    b.layer("pool", "global_avg_pool2d")
    b.head("face", "pool", 5, kind="classes")
    return ""


@case_2(branches=("face", "body"))
def three_heads_on_one_branch(b: ModelBuilder) -> str:
    """A head of each kind on the second branch, none on the first; one labelled head of values, one of the image."""
    b.layer("a", "conv2d", out=5, kernel=3, stride=2, activation="relu", aws="channel")
    b.layer("b", "global_avg_pool2d", activation="hardswish")
    b.head("mood", "b", 2, branch="body", kind="values", tensor="mood", labels=["valence", "arousal"])
    b.head("body", "a", 4, kind="classes")
    b.head("units", "b", 3, branch="body", kind="units", tensor="units-1", thresholds=[0.5, 0.125, 1])
    b.head("pixels", "image", 3, branch="body", kind="values", tensor="pixels", bias=False, labels=None)
    return ""


@case_2(branches=("detector",), channels=1, order="rgb")
def raw_heads(b: ModelBuilder) -> str:
    """Heads without a linear layer: a map's numbers without labels, a vector's with labels of every kind."""
    b.layer("a", "conv2d", out=3, kernel=3, stride=2, padding=1, activation="gelu")
    b.layer("b", "conv2d", out=5, kernel=3, stride=2, padding=1)
    b.layer("c", "global_avg_pool2d")
    b.head("anchors", "a", branch="detector", kind="values", tensor=None, labels=None)
    b.head("detector", "b", branch="detector", kind="values", tensor=None)
    b.head("kind_of_face", "c", branch="detector", kind="classes", tensor=None)
    b.head("parts", "c", branch="detector", kind="units", tensor=None, thresholds=[0.25] * 5)
    return ""


@case_2(height=13, width=11, dtypes=("F32", "F16", "BF16"), name="everything of version 2", branches=("left", "right"),
        order="bgr", about={"licence": "none"}, face={"box": {"scale": 1.25, "shift": [0, 0.05]}})  # fmt: skip
def everything_2(b: ModelBuilder) -> str:
    """What networks of version 2 are made of, one behind the other."""
    b.layer("norm-0", "identity", batch_norm="norm-0")
    b.layer("stem.conv-1", "conv2d", out=6, kernel=3, stride=2, padding=1, batch_norm="stem.bn", activation="prelu",
            prelu="stem.act", aws="channel", bias=False)  # fmt: skip
    b.layer("pool-0", "max_pool2d", kernel=3, stride=2, ceil_mode=True)
    b.layer("expand", "conv2d", out=8, kernel=1, batch_norm="expand.bn", activation="hardswish")
    b.layer("depthwise", "conv2d", out=8, kernel=3, padding=1, groups=8, batch_norm="depthwise.bn", activation="silu")
    b.layer("se.pool", "global_avg_pool2d")
    b.layer("se.fc1", "conv2d", out=3, kernel=1, activation="gelu")
    b.layer("se.fc2", "conv2d", out=8, kernel=1, activation="hardsigmoid")
    b.layer("se", "identity", input="depthwise", scale="se.fc2", aws="dense")
    b.layer("project", "conv2d", out=6, kernel=1, batch_norm="project.bn", residual="pool-0", aws="gate")
    b.layer("branch-1", "conv2d", out=4, kernel=1, activation="relu6")
    b.layer("branch-2", "conv2d", input="project", out=3, kernel=3, padding=1, dilation=1, activation="elu")
    b.layer("branch-3", "avg_pool2d", input="project", kernel=3, stride=1, padding=1, count_include_pad=False)
    b.layer("mixed", "concat", inputs=["branch-1", "branch-2", "branch-3"], batch_norm="mixed.bn", activation="tanh")
    b.layer("up", "upsample2d", factor=2)
    b.layer("grid", "adaptive_avg_pool2d", output=[3, 2], activation="gelu_tanh", aws="layer")
    b.layer("gate", "conv2d", out=13, kernel=1, activation="sigmoid", aws="gate", gate="sigmoid")
    b.layer("gated", "identity", input="grid", scale="gate", residual="grid", activation="leaky_relu")
    b.layer("fc-1", "linear", out=7, batch_norm="fc-1.bn", activation="relu", aws="dense")
    b.head("left", "fc-1", 5, kind="classes", tensor="head")
    b.head("units", "gated", 4, branch="right", kind="units", tensor="head.units", thresholds=[0.25, 0.5, 0.5, 0.75])
    b.head("mood", "fc-1", 2, branch="right", kind="values", tensor="head.mood", labels=["valence", "arousal"])
    b.head("grid", "grid", branch="left", kind="values", tensor=None, labels=None)
    return ""
