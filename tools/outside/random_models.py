"""Draws random valid model files: every op, form and feature of version 1, in combinations nobody would write.

usage: random_models.py [--seed 0] [--count 10] --out FOLDER

Model S is the same wherever and whenever it is drawn; its file is called random-S.safetensors.
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

MAX_MACS = 6_000_000  # multiply-adds of one layer of one branch: a reference of naive loops runs these too
MAX_VALUES = 120_000  # of one feature map
MAX_FEATURES = 6_000  # a linear layer reads
MAX_LAYERS = 9


class _Draw(random.Random):
    """Random choices, by name."""

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


def generate(seed: int) -> Model:
    """Draw the model of a seed."""
    draw = _Draw(seed)
    height, width = draw.choice(IMAGE_SIZES)
    builder = ModelBuilder(
        seed,
        channels=draw.choice((1, 3, 3)),
        height=height,
        width=width,
        dtypes=draw.choice(DTYPES),
        name=draw.choice((None, f"random-{seed}", "")),
    )
    layers: list[str] = []
    for index in range(draw.randint(1, MAX_LAYERS)):
        layers.append(_layer(draw, builder, index, layers))
    if _features(builder, layers[-1]) > MAX_FEATURES:
        layers.append(builder.layer("last", "global_avg_pool2d"))
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
    return builder.build()


def _features(builder: ModelBuilder, name: str) -> int:
    channels, height, width = builder.shape(name)
    return channels * height * width


def _layer(draw: _Draw, builder: ModelBuilder, index: int, layers: list[str]) -> str:
    """Add one random layer that reads the last one, or at times any other."""
    previous = layers[-1] if layers else "image"
    source = previous if draw.chance(0.8) else draw.choice([*layers, "image"])
    channels, height, width = builder.shape(source)
    fields: dict[str, Any] = {}
    if source != previous or draw.chance(0.1):
        fields["input"] = source
    ops = {"conv2d": 10, "max_pool2d": 2, "avg_pool2d": 2, "identity": 2, "global_avg_pool2d": 1, "linear": 2}
    if height * width == 1:
        ops |= {"conv2d": 3, "linear": 5}
    if channels * height * width > MAX_FEATURES:
        del ops["linear"]
    op = draw.choices(list(ops), list(ops.values()))[0]
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
    name = draw.choice(NAMES).format(index)
    if op in ("conv2d", "linear") and draw.chance(0.4):
        fields["batch_norm"] = f"{name}.bn"
        if draw.chance(0.3):
            fields["batch_norm_eps"] = draw.choice((1e-3, 0.1))
    fields |= _epilogue(draw, [other for other in layers if builder.shape(other) == (out, *size)])
    if fields.get("aws") == "dense" and 2 * out * out * size[0] * size[1] > MAX_MACS:
        fields["aws"] = "channel"
    return builder.layer(name, op, out=out, bias=draw.chance(0.6), squeeze=draw.choice((1, 2, 5, 16)), **fields)


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
        size = builder.shape_of(op, input=source, **fields)
        if min(size) > 0 and channels * size[0] * size[1] <= MAX_VALUES:
            return size, fields


def _epilogue(draw: _Draw, same: list[str]) -> dict[str, Any]:
    """Draw residual, activation and AWS-Unit; `same`: the earlier layers of the output's shape."""
    fields: dict[str, Any] = {}
    if same and draw.chance(0.6):
        fields["residual"] = draw.choice(same)
    activation = draw.choices(("none", "relu", "leaky_relu", "silu"), (2, 4, 2, 2))[0]
    if activation != "none" or draw.chance(0.2):
        fields["activation"] = activation
    if activation == "leaky_relu" and draw.chance(0.6):
        fields["negative_slope"] = draw.choice((0, 0.2, 0.5, 1))
    aws = draw.choices(("none", "layer", "channel", "dense", "gate"), (5, 2, 2, 2, 3))[0]
    if aws != "none" or draw.chance(0.2):
        fields["aws"] = aws
    if aws == "gate" and draw.chance(0.7):
        fields["gate"] = draw.choice(("softmax", "sigmoid"))
    return fields


def main() -> None:
    """Write random models to a folder."""
    parser = argparse.ArgumentParser(description="Draw random valid model files.")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first model (default 0)")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        path = arguments.out / f"random-{seed}.safetensors"
        model_file.write(path, generate(seed))
        print(path)


if __name__ == "__main__":
    main()
