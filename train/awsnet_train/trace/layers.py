"""What a trace gives: layers of one branch, and values, which are a layer's map or some of it in other places."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

IMAGE = -1
Sides = tuple[int, int, int, int]  # top, left, bottom, right


@dataclass
class Traced:
    """A layer of one branch; other layers by their numbers, IMAGE for the image."""

    name: str
    op: str
    inputs: list[int]
    shape: tuple[int, int, int]  # of its output
    keys: dict[str, Any] = field(default_factory=dict)  # as in the manifest
    tensors: dict[str, Tensor] = field(default_factory=dict)  # weight, bias
    norm: str | None = None
    norm_tensors: dict[str, Tensor] = field(default_factory=dict)
    scale: int | None = None
    residual: int | None = None
    activation: dict[str, Any] = field(default_factory=dict)  # the keys of the manifest
    prelu: Tensor | None = None

    def reads(self) -> list[int]:
        return [*self.inputs, *(number for number in (self.scale, self.residual) if number is not None)]


@dataclass(frozen=True)
class Value:
    """A map, or some of its elements in other places.

    places: of the ATen tensor's shape; the place of each element in the layer's map, flattened in (C, H, W) order. None
    where it is the map itself, [1, C, H, W]. padding: zeros, or another number, that are still to be put around it.
    """

    layer: int
    places: Tensor | None = None
    padding: Sides = (0, 0, 0, 0)
    fill: float = 0.0


@dataclass
class Branch:
    """A network: its layers in an order in which they can be computed, and its head."""

    layers: list[Traced]
    head_input: int
    head: Traced | None  # None: the numbers are those of the input
    last: str | None  # softmax, log_softmax or sigmoid behind the logits, which the head's kind implies
    rows: int


def selection(places: Tensor, shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """The weight of a linear layer that gives some of the numbers of a map."""
    weight = torch.zeros(len(places), math.prod(shape))
    weight[torch.arange(len(places)), places] = 1.0
    return {"weight": weight}


def two(value: Sequence[int] | int) -> list[int]:
    listed = [value] if isinstance(value, int) else list(value)
    return [int(listed[0]), int(listed[-1])]


def added(first: Sides, second: Sides) -> Sides:
    top, left, bottom, right = (a + b for a, b in zip(first, second, strict=True))
    return top, left, bottom, right


def moved(tensor: Tensor, chosen: Tensor) -> Tensor:
    """Row c of `tensor` in the row chosen[c]."""
    result = torch.empty_like(tensor)
    result[chosen] = tensor
    return result


def geometry(
    kernel: Sequence[int], stride: Sequence[int], sides: Sides, dilation: Sequence[int] = (1, 1), groups: int = 1
) -> dict[str, Any]:
    """The keys of a window, those left out that are as by default."""
    keys: dict[str, Any] = {"kernel": list(kernel)}
    if list(stride) != [1, 1]:
        keys["stride"] = list(stride)
    if any(sides):
        keys["padding"] = list(sides[:2]) if sides[:2] == sides[2:] else list(sides)
    if list(dilation) != [1, 1]:
        keys["dilation"] = list(dilation)
    if groups != 1:
        keys["groups"] = groups
    return keys
