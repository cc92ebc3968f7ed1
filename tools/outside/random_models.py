"""Draws random valid model files: every op, form and feature of a version, in combinations nobody would write.

usage: random_models.py [--version 1] [--seed 0] [--count 10] --out FOLDER

Model S of a version is the same wherever and whenever it is drawn; its file is called random-S.safetensors, or
random-v2-S.safetensors. Those of version 2 also have what networks are made of: squeeze and excitation, dense
blocks, blocks of several kernels side by side.
"""

import argparse
import random
from pathlib import Path
from typing import Any

import model_file
from model_builder import ModelBuilder
from model_file import Model

IMAGE_SIZES = ((37, 53), (53, 37), (48, 64), (32, 24), (28, 28), (16, 16), (9, 14), (5, 7), (3, 2))  # h, w
CHANNELS = (1, 3, 5, 7, 8, 12, 15, 16, 17, 21, 24, 30, 32, 33, 45, 48, 64, 100)
KERNELS = ((1, 1), (2, 2), (3, 3), (3, 3), (3, 3), (5, 5), (7, 7), (1, 3), (3, 1), (2, 5), (1, 7), (4, 3))
STRIDES = ((1, 1), (1, 1), (1, 1), (2, 2), (2, 1), (1, 2), (3, 2))
DILATIONS = ((1, 1), (1, 1), (1, 1), (2, 2), (1, 3), (3, 2))
DTYPES = (("F32",), ("F32",), ("F16",), ("BF16",), ("F32", "F16", "BF16"))
NAMES = ("conv{}", "layer{}.0.conv1", "Block_{}", "{}", "features.{}.x", "fc{}.image")
NAMES_2 = (*NAMES, "block-{}", "-{}-", "{}-0.a")
BRANCHES_2 = (None, None, None, ("emotion", "au"), ("au", "emotion"), ("left", "Right_2"), ("face",), ("_1",), ("fc",))
HEADS_2 = ("mood", "raw_0", "Gaze", "fc", "emotion", "au", "logits")
ACTIVATIONS = {"none": 2, "relu": 4, "leaky_relu": 2, "silu": 2}
ACTIVATIONS_2 = {"none": 6, "relu": 4, "leaky_relu": 2, "silu": 3, "prelu": 4} | dict.fromkeys(
    ("relu6", "elu", "sigmoid", "hardsigmoid", "hardswish", "tanh", "gelu", "gelu_tanh"), 2
)
SHARED_SLOPE = "prelu"  # the prefix of one slope that several layers read
FACE_POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")

MAX_MACS = 6_000_000  # multiply-adds of one layer of one branch: a reference of naive loops runs these too
MAX_VALUES = 120_000  # of one feature map
MAX_FEATURES = 6_000  # a linear layer reads
MAX_LAYERS = 9
MAX_BLOCKS = 7  # of version 2: a layer, or several that belong together
MAX_LABELS = 100  # of a head that has no tensor
MAX_FACTOR = 4.0  # the largest magnitude of a `scale`; and of what it multiplies, ten times that: products stay tame


class _Draw(random.Random):
    """Random choices, by name, for a version of the model file."""

    def __init__(self, seed: int, version: int) -> None:
        super().__init__(seed)
        self.version = version

    def weighted(self, choices: dict[str, int]) -> str:
        return self.choices(list(choices), list(choices.values()))[0]

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def pair_form(self, pair: tuple[int, int]) -> int | list[int]:
        """Write a pair as the manifest may: an integer where both are equal, or a list."""
        return pair[0] if pair[0] == pair[1] and self.chance(0.7) else list(pair)

    def padding(self, kernel: tuple[int, int], dilation: tuple[int, int], most: tuple[int, int]) -> int | list[int]:
        """Draw a padding, each side at most `most` of its direction."""
        same = [min(d * (k - 1) // 2, m) for k, d, m in zip(kernel, dilation, most, strict=True)]
        form = self.choices(("same", "none", "pair", "sides"), (5, 1, 2, 3))[0]
        if form == "same":
            return self.pair_form((same[0], same[1]))
        if form == "none":
            return 0
        if form == "pair":
            return self.pair_form((self.randint(0, most[0]), self.randint(0, most[1])))
        return [self.randint(0, most[side % 2]) for side in range(4)]


def generate(seed: int, version: int = 1) -> Model:
    """Draw the model of a seed."""
    draw = _Draw(seed, version)
    height, width = draw.choice(IMAGE_SIZES)
    channels, dtypes = draw.choice((1, 3, 3)), draw.choice(DTYPES)
    name = draw.choice((None, f"random-{seed}", ""))
    fields = _input_2(draw, channels, height, width) if version == 2 else {}
    builder = ModelBuilder(
        seed, channels=channels, height=height, width=width, dtypes=dtypes, name=name, version=version, **fields
    )
    layers: list[str] = []
    if version == 1:
        for index in range(draw.randint(1, MAX_LAYERS)):
            layers.append(_layer(draw, builder, index, layers))
    else:
        blocks = {_lone_layer: 12, _squeeze_excite: 3, _dense_block: 2, _parallel_block: 2}
        for index in range(draw.randint(1, MAX_BLOCKS)):
            draw.choices(list(blocks), list(blocks.values()))[0](draw, builder, index, layers)
    if _features(builder, layers[-1]) > MAX_FEATURES:
        layers.append(builder.layer("last", "global_avg_pool2d"))
    if version == 1:
        _two_heads(draw, builder, layers)
        return builder.build()
    _heads_2(draw, builder, layers)
    model = builder.build()
    if draw.chance(0.3) and "about" not in model.manifest["input"]:
        model.manifest["about"] = {"licence": "none", "trained on": "nothing"}
    return model


def _two_heads(draw: _Draw, builder: ModelBuilder, layers: list[str]) -> None:
    """Add the heads of version 1."""
    small = [name for name in layers if _features(builder, name) <= MAX_FEATURES]
    prefix = draw.choice(("fc", "head", "classifier.1"))
    for branch, most in (("emotion", 9), ("au", 17)):
        fields: dict[str, Any] = {}
        if prefix != "fc" or draw.chance(0.3):
            fields["tensor"] = prefix
        labels = draw.randint(1, most)
        if branch == "au" and draw.chance(0.5):
            fields["thresholds"] = [draw.choice((0, 0.25, 0.5, 1)) for _ in range(labels)]
        source = layers[-1] if draw.chance(0.7) else draw.choice(small)
        builder.head(branch, source, labels, bias=draw.chance(0.7), **fields)


def _input_2(draw: _Draw, channels: int, height: int, width: int) -> dict[str, Any]:
    """Draw the branches of version 2, and what it may say of the image, which changes no result."""
    fields: dict[str, Any] = {"branches": draw.choice(BRANCHES_2)}
    if draw.chance(0.4):
        fields["order"] = draw.choice(("rgb", "bgr")) if channels == 3 else "rgb"
    face = draw.choice((None, None, "box", "points"))
    if face == "box":
        fields["face"] = {"box": {"scale": 1.25, "shift": [0, -0.05]}}
    if face == "points":
        points = draw.sample(FACE_POINTS, draw.randint(2, 5))
        fields["face"] = {"points": {point: [width * i / 5, height / (i + 1)] for i, point in enumerate(points)}}
    if draw.chance(0.2):
        fields["about"] = {"source": "a seed"}
    return fields


def _heads_2(draw: _Draw, builder: ModelBuilder, layers: list[str]) -> None:
    """Add one to four heads of any kind, on any branch."""
    small = [name for name in [*layers, "image"] if _features(builder, name) <= MAX_FEATURES]
    names = draw.sample([*dict.fromkeys([*builder.branches, *HEADS_2])], draw.randint(1, 4))
    linear: list[tuple[str, str, str, int]] = []  # of the heads that have a tensor: branch, tensor, source, rows
    for index, name in enumerate(names):
        kind = draw.choice(("classes", "units", "values"))
        fields: dict[str, Any] = {"kind": kind}
        branch = name if name in builder.branches and draw.chance(0.6) else draw.choice(builder.branches)
        source = layers[-1] if draw.chance(0.6) else draw.choice(small)
        rows, nameless = draw.randint(1, 17), kind == "values" and draw.chance(0.5)
        tensor: str | None = f"heads.{index}-{name}" if draw.chance(0.5) else "fc"
        if draw.chance(0.25) and (nameless or _features(builder, source) <= MAX_LABELS):
            tensor, rows = None, _features(builder, source)
        elif linear and draw.chance(0.2):  # another view of the same numbers
            branch, tensor, source, rows = draw.choice(linear)
        elif (branch, tensor) in [other[:2] for other in linear]:
            tensor = f"more.{index}"
        if tensor is not None:
            linear.append((branch, tensor, source, rows))
        if tensor != "fc" or draw.chance(0.3):
            fields["tensor"] = tensor
        if branch != name or draw.chance(0.3):
            fields["branch"] = branch
        if nameless:
            fields["labels"] = None
        if kind == "units" and draw.chance(0.5):
            fields["thresholds"] = [draw.choice((0, 0.25, 0.5, 1)) for _ in range(rows)]
        # Whoever comes first draws what a tensor holds, and whether there is a bias.
        builder.head(name, source, rows, bias=draw.chance(0.7), **fields)


def _features(builder: ModelBuilder, name: str) -> int:
    channels, height, width = builder.shape(name)
    return channels * height * width


def _layer(draw: _Draw, builder: ModelBuilder, index: int, layers: list[str]) -> str:
    """Add one random layer that reads the last one, or at times any other."""
    previous = _previous(layers)
    source = previous if draw.chance(0.8) else draw.choice([*layers, "image"])
    channels, height, width = builder.shape(source)
    fields: dict[str, Any] = {}
    if source != previous or draw.chance(0.1):
        fields["input"] = source
    ops = {"conv2d": 10, "max_pool2d": 2, "avg_pool2d": 2, "identity": 2, "global_avg_pool2d": 1, "linear": 2}
    if draw.version == 2:
        ops |= {"max_pool2d": 3, "avg_pool2d": 4, "adaptive_avg_pool2d": 2, "upsample2d": 2} | (
            {"concat": 4} if source in layers else {}
        )
    if height * width == 1:
        ops |= {"conv2d": 3, "linear": 5}
    if channels * height * width > MAX_FEATURES:
        del ops["linear"]
    op = draw.weighted(ops)
    out, size = channels, (height, width)
    match op:
        case "conv2d":
            out, size, more = _conv2d(draw, builder, source)
            fields |= more
        case "max_pool2d" | "avg_pool2d":
            size, more = _pool(draw, builder, op, source)
            fields |= more
        case "linear":
            out, size = draw.choice(CHANNELS), (1, 1)
        case "global_avg_pool2d":
            size = (1, 1)
        case "adaptive_avg_pool2d":
            sizes = [other for name in layers if max(other := builder.shape(name)[1:]) <= 16]
            size = draw.choice(sizes) if sizes and draw.chance(0.4) else (draw.randint(1, 7), draw.randint(1, 7))
            fields["output"] = draw.pair_form(size)
        case "upsample2d":
            factor = (draw.randint(1, 3), draw.randint(1, 3))
            if channels * height * width * factor[0] * factor[1] > MAX_VALUES:
                factor = (1, 1)
            size = (height * factor[0], width * factor[1])
            fields["factor"] = draw.pair_form(factor)
        case "concat":
            fields.pop("input", None)
            fields["inputs"] = _concat(draw, builder, source, layers)
            out = sum(builder.shape(other)[0] for other in fields["inputs"])
    name = draw.choice(NAMES if draw.version == 1 else NAMES_2).format(index)
    return _finish(draw, builder, layers, name, op, (out, *size), fields)


def _finish(
    draw: _Draw,
    builder: ModelBuilder,
    layers: list[str],
    name: str,
    op: str,
    shape: tuple[int, int, int],
    fields: dict[str, Any],
) -> str:
    """Add a layer that gives `shape`, with a batch norm and stages at random."""
    weighted = op in ("conv2d", "linear")
    if (weighted and draw.chance(0.4)) or (draw.version == 2 and not weighted and draw.chance(0.25)):
        fields["batch_norm"] = f"{name}.bn"
        if draw.version == 2 and draw.chance(0.15):  # which layers of as many channels share
            fields["batch_norm"] = f"shared.bn{shape[0]}"
        if draw.chance(0.3):
            fields["batch_norm_eps"] = draw.choice((1e-3, 0.1))
    if draw.version == 2 and "scale" not in fields and (weighted or _tame(builder, fields, layers)):
        with_twin = draw.chance(0.2)
        if with_twin:  # a twin of the same shape, as gated convolutions have it
            if op != "concat":
                fields.setdefault("input", _previous(layers))
            twin = {key: value for key, value in fields.items() if not key.startswith("batch_norm")}
            twin["activation"] = draw.choice(("sigmoid", "tanh", "hardsigmoid"))
            layers.append(builder.layer(f"{name}.gate", op, out=shape[0], **twin))
            if draw.chance(0.4):
                layers.append(builder.layer(f"{name}.gate.mean", "global_avg_pool2d"))
        spread = (shape[0], 1, 1)
        factors = [other for other in layers if builder.shape(other) in (shape, spread)]
        factors = [other for other in factors if builder.largest(other) <= MAX_FACTOR]
        if factors and (with_twin or draw.chance(0.3)):
            fields["scale"] = draw.choice(factors)
    same = [other for other in layers if builder.shape(other) == shape]
    fields |= _epilogue(draw, same, name, len(builder.branches))
    if fields.get("aws") == "dense" and 2 * shape[0] * shape[0] * shape[1] * shape[2] > MAX_MACS:
        fields["aws"] = "channel"
    bias, squeeze = draw.chance(0.6), draw.choice((1, 2, 5, 16))
    slopes = 1 if fields.get("prelu") == SHARED_SLOPE or (draw.version == 2 and draw.chance(0.3)) else 0
    return builder.layer(name, op, out=shape[0], bias=bias, squeeze=squeeze, slopes=slopes, **fields)


def _tame(builder: ModelBuilder, fields: dict[str, Any], layers: list[str]) -> bool:
    """Tell whether what a layer reads may be multiplied by something."""
    sources = fields.get("inputs", [fields.get("input", _previous(layers))])
    return all(builder.largest(source) <= 10 * MAX_FACTOR for source in sources)


def _previous(layers: list[str]) -> str:
    return layers[-1] if layers else "image"


def _concat(draw: _Draw, builder: ModelBuilder, source: str, layers: list[str]) -> list[str]:
    """Draw the inputs of a concatenation, `source` among them; one may come twice."""
    _, height, width = builder.shape(source)
    fit = [name for name in layers if builder.shape(name)[1:] == (height, width)]
    inputs = [source, *draw.choices(fit, k=draw.randint(1, 3))]
    draw.shuffle(inputs)
    while len(inputs) > 2 and sum(_features(builder, name) for name in inputs) > MAX_VALUES:
        inputs.pop()
    return inputs


def _lone_layer(draw: _Draw, builder: ModelBuilder, index: int, layers: list[str]) -> None:
    layers.append(_layer(draw, builder, index, layers))


def _squeeze_excite(draw: _Draw, builder: ModelBuilder, index: int, layers: list[str]) -> None:
    """Multiply a layer by what two small layers make of its means."""
    source = _previous(layers)
    name, shape = f"se-{index}", builder.shape(source)
    pool = draw.choice(("global_avg_pool2d", "global_avg_pool2d", "global_avg_pool2d", "adaptive_avg_pool2d"))
    fields: dict[str, Any] = {"output": 1} if pool == "adaptive_avg_pool2d" else {}
    layers.append(builder.layer(f"{name}.pool", pool, input=source, **fields))
    for part, out, activations in (
        ("reduce", draw.choice((1, 3, 4, 8, 17)), ("relu", "silu", "hardswish", "prelu", "gelu")),
        ("expand", shape[0], ("sigmoid", "hardsigmoid", "tanh")),
    ):
        op = draw.choice(("conv2d", "conv2d", "linear"))
        fields = {"activation": draw.choice(activations)} | ({"kernel": 1} if op == "conv2d" else {})
        if fields["activation"] == "prelu":
            fields["prelu"] = f"{name}.{part}.slopes"
        if draw.chance(0.15):
            fields["batch_norm"] = f"{name}.{part}.bn"
        if draw.chance(0.15) and len(builder.branches) == 2:
            fields["aws"] = draw.choice(("layer", "channel", "dense", "gate"))
        layers.append(builder.layer(f"{name}.{part}", op, out=out, bias=draw.chance(0.8), **fields))
    fields = {"input": source, "scale": layers[-1]}
    op = "identity"
    if draw.chance(0.2):  # the product joins a convolution of its own
        op = "conv2d"
        fields |= {"kernel": 3, "padding": 1, "groups": shape[0]}
    layers.append(_finish(draw, builder, layers, f"{name}.scale", op, shape, fields))


def _dense_block(draw: _Draw, builder: ModelBuilder, index: int, layers: list[str]) -> None:
    """Put what each convolution gives behind all that it read, as DenseNet does."""
    name = f"dense{index}"
    growth = draw.choice((1, 3, 4, 8, 12))
    state = layers[-1] if layers else _finish_conv(draw, builder, layers, f"{name}.stem", "image", growth, 3)
    for step in range(draw.randint(1, 3)):
        source = state
        if draw.chance(0.5):
            norm = f"{name}.{step}.norm"
            source = builder.layer(norm, "identity", input=state, batch_norm=norm, activation="relu")
            layers.append(source)
        new = _finish_conv(draw, builder, layers, f"{name}.{step}", source, growth, 3)
        inputs = [state, new] if draw.chance(0.8) else [new, state]
        state = builder.layer(f"{name}.{step}.concat", "concat", inputs=inputs)
        layers.append(state)


def _parallel_block(draw: _Draw, builder: ModelBuilder, index: int, layers: list[str]) -> None:
    """Lay what several kernels, or a pool, make of one layer side by side, as GoogLeNet and SqueezeNet do."""
    name, source = f"mixed_{index}", _previous(layers)
    channels, height, width = builder.shape(source)
    inputs = []
    for way in range(draw.randint(2, 4)):
        if draw.chance(0.2):
            op = draw.choice(("max_pool2d", "avg_pool2d"))
            fields: dict[str, Any] = {"input": source, "kernel": 3, "stride": 1, "padding": 1}
            if op == "avg_pool2d" and draw.chance(0.5):
                fields["count_include_pad"] = False
            inputs.append(_finish(draw, builder, layers, f"{name}.{way}", op, (channels, height, width), fields))
            layers.append(inputs[-1])
        else:
            out, kernel = draw.choice((1, 4, 5, 8, 16)), draw.choice((1, 3, 5))
            inputs.append(_finish_conv(draw, builder, layers, f"{name}.{way}", source, out, kernel))
    shape = (sum(builder.shape(way)[0] for way in inputs), height, width)
    if shape[0] * height * width <= MAX_VALUES:
        layers.append(_finish(draw, builder, layers, f"{name}.concat", "concat", shape, {"inputs": inputs}))


def _finish_conv(
    draw: _Draw, builder: ModelBuilder, layers: list[str], name: str, source: str, out: int, kernel: int
) -> str:
    """Add a convolution that keeps height and width; a smaller one where this is too much work."""
    channels, height, width = builder.shape(source)
    while out * channels * kernel * kernel * height * width > MAX_MACS and (out, kernel) != (1, 1):
        out, kernel = max(1, out // 2), max(1, kernel - 2)
    fields = {"input": source, "kernel": kernel, "padding": kernel // 2}
    layers.append(_finish(draw, builder, layers, name, "conv2d", (out, height, width), fields))
    return layers[-1]


def _conv2d(draw: _Draw, builder: ModelBuilder, source: str) -> tuple[int, tuple[int, int], dict[str, Any]]:
    """Draw a convolution that gives something and is not too much work: its out channels, size and fields."""
    channels = builder.shape(source)[0]
    while True:
        kernel, stride, dilation = draw.choice(KERNELS), draw.choice(STRIDES), draw.choice(DILATIONS)
        groups, out = 1, channels if draw.chance(0.4) else draw.choice(CHANNELS)
        kind = draw.choices(("whole", "grouped", "depthwise", "multiplier"), (6, 2, 2, 1))[0]
        if kind == "grouped":
            groups = draw.choice([g for g in range(1, channels + 1) if channels % g == 0])
            out = groups * draw.choice((1, 3, 5, 8, channels // groups))
        elif kind != "whole":
            groups, out = channels, channels * (1 if kind == "depthwise" else draw.choice((2, 3)))
        most = (kernel[0] + 2, kernel[1] + 2)  # more than the kernel is legal
        fields: dict[str, Any] = {"kernel": draw.pair_form(kernel)}
        if stride != (1, 1) or draw.chance(0.1):
            fields["stride"] = draw.pair_form(stride)
        if dilation != (1, 1) or draw.chance(0.1):
            fields["dilation"] = draw.pair_form(dilation)
        if groups != 1 or draw.chance(0.1):
            fields["groups"] = groups
        padding = draw.padding(kernel, dilation, most)
        if padding != 0 or draw.chance(0.1):
            fields["padding"] = padding
        size = builder.shape_of("conv2d", input=source, **fields)
        values = out * size[0] * size[1]
        macs = values * kernel[0] * kernel[1] * channels // groups
        if min(size) > 0 and out <= 128 and values <= MAX_VALUES and macs <= MAX_MACS:
            return out, size, fields


def _pool(draw: _Draw, builder: ModelBuilder, op: str, source: str) -> tuple[tuple[int, int], dict[str, Any]]:
    """Draw a pool that gives something: its size and fields."""
    channels = builder.shape(source)[0]
    while True:
        kernel = draw.choice(KERNELS)
        fields: dict[str, Any] = {"kernel": draw.pair_form(kernel)}
        if draw.chance(0.7):
            fields["stride"] = draw.pair_form(draw.choice(STRIDES))
        padding = draw.padding(kernel, (1, 1), (kernel[0] - 1, kernel[1] - 1))
        if padding != 0 or draw.chance(0.1):
            fields["padding"] = padding
        if draw.version == 2 and draw.chance(0.6):
            fields["ceil_mode"] = draw.chance(0.9)
        if draw.version == 2 and op == "avg_pool2d" and draw.chance(0.7):
            fields["count_include_pad"] = draw.chance(0.2)
        size = builder.shape_of(op, input=source, **fields)
        if min(size) > 0 and channels * size[0] * size[1] <= MAX_VALUES:
            return size, fields


def _epilogue(draw: _Draw, same: list[str], name: str, branches: int) -> dict[str, Any]:
    """Draw residual, activation and AWS-Unit; `same`: the earlier layers of the output's shape."""
    fields: dict[str, Any] = {}
    if same and draw.chance(0.6):
        fields["residual"] = draw.choice(same)
    activation = draw.weighted(ACTIVATIONS if draw.version == 1 else ACTIVATIONS_2)
    if activation != "none" or draw.chance(0.2):
        fields["activation"] = activation
    if activation == "leaky_relu" and draw.chance(0.6):
        fields["negative_slope"] = draw.choice((0, 0.2, 0.5, 1))
    if activation == "prelu":
        fields["prelu"] = SHARED_SLOPE if draw.chance(0.2) else f"{name}.slopes"
    if branches == 1:
        return fields
    aws = draw.choices(("none", "layer", "channel", "dense", "gate"), (5, 2, 2, 2, 3))[0]
    if aws != "none" or draw.chance(0.2):
        fields["aws"] = aws
    if aws == "gate" and draw.chance(0.7):
        fields["gate"] = draw.choice(("softmax", "sigmoid"))
    return fields


def file_name(seed: int, version: int) -> str:
    """Give the name of a seed's file."""
    return f"random-{seed}.safetensors" if version == 1 else f"random-v{version}-{seed}.safetensors"


def main() -> None:
    """Write random models to a folder."""
    parser = argparse.ArgumentParser(description="Draw random valid model files.")
    parser.add_argument("--version", type=int, choices=(1, 2), default=1, help="of the model file (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first model (default 0)")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        path = arguments.out / file_name(seed, arguments.version)
        model_file.write(path, generate(seed, arguments.version))
        print(path)


if __name__ == "__main__":
    main()
