"""Layers being made: names, values, and how an operator joins the layer before it."""

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from ..manifest import ModelError, quoted
from .layers import IMAGE, Branch, Sides, Traced, Value, geometry, moved, selection


class Builder:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape  # of the example
        self.layers: list[Traced] = []
        self.names: set[str] = set()
        self.prefixes: set[str] = set()
        self.pending: dict[int, int] = {}  # how often a layer's values are still to be read
        self.gathers: dict[tuple[int, tuple[int, ...]], int] = {}
        self.paths: dict[fx.Node, str] = {}  # where a parameter stands

    def path(self, node: fx.Node) -> str:
        """The module that an operator belongs to."""
        stack = node.meta.get("nn_module_stack") or {}
        return [str(path) for path, _ in stack.values()][-1] if stack else ""

    def refuse(self, node: fx.Node, expected: str, found: str) -> ModelError:
        what = str(node.target).removeprefix("aten.").split(".")[0]
        path = self.path(node)
        return ModelError(f"{'layer ' + quoted(path) if path else 'the network'} ({what})", expected, found)

    def unique(self, wanted: str, taken: set[str]) -> str:
        name = re.sub(r"[^A-Za-z0-9_.\-]", "_", wanted).strip(".") or "layer"
        if name == "image":
            name = "image_"
        numbered, number = name, 2
        while numbered in taken:
            numbered, number = f"{name}_{number}", number + 1
        taken.add(numbered)
        return numbered

    def name_for(self, node: fx.Node, what: str, weight: object = None) -> str:
        """The path of a weight, or of the module where that is the operator itself, or one below it."""
        path = self.paths.get(weight, "") if isinstance(weight, fx.Node) else ""
        if path:
            return path.removesuffix(".weight")
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path, kind = (str(stack[-1][0]), str(stack[-1][1])) if stack else ("", "")
        is_the_operator = kind.startswith("torch.nn.modules.") and "container" not in kind
        return path if path and is_the_operator else f"{path}.{what}" if path else what

    def emit(self, node: fx.Node, op: str, inputs: list[int], shape: tuple[int, int, int], **more: Any) -> int:  # noqa: ANN401
        what = more.pop("what", op)
        name = self.unique(self.name_for(node, what, more.pop("weight", None)), self.names)
        self.layers.append(Traced(name, op, inputs, shape, **more))
        return len(self.layers) - 1

    def map_shape(self, number: int) -> tuple[int, int, int]:
        if number == IMAGE:
            return self.shape[1], self.shape[2], self.shape[3]
        return self.layers[number].shape

    def open(self, value: Value, *set_before: str) -> Traced | None:
        """The layer, where nobody else reads it and none of these is set, so that an operator can join it."""
        number = value.layer
        if number == IMAGE or any(value.padding) or self.pending.get(number, 0) > 0:
            return None
        if any(number in layer.reads() for layer in self.layers):
            return None
        layer = self.layers[number]
        present = {
            "norm": layer.norm is not None,
            "scale": layer.scale is not None,
            "residual": layer.residual is not None,
            "activation": bool(layer.activation),
        }
        if any(present[what] for what in set_before):
            return None
        # What joins it is not part of the channels that it gathers for others.
        self.gathers = {key: made for key, made in self.gathers.items() if made != number}
        return layer

    def places(self, value: Value) -> Tensor:
        if value.places is not None:
            return value.places
        shape = self.map_shape(value.layer)
        return torch.arange(math.prod(shape)).view(1, *shape)

    def with_places(self, layer: int, places: Tensor) -> Value:
        """The simplest value: the map itself where every element is in its place."""
        shape = self.map_shape(layer)
        if tuple(places.shape) == (1, *shape) and torch.equal(places.flatten(), torch.arange(math.prod(shape))):
            return Value(layer)
        return Value(layer, places.contiguous())

    def channels(self, value: Value, places: Tensor) -> Tensor | None:
        """Which channel of the layer each channel is, where places [C, H, W] only choose channels."""
        _, h, w = self.map_shape(value.layer)
        if tuple(places.shape[1:]) != (h, w):
            return None
        chosen = places[:, 0, 0] // (h * w)
        expected = chosen[:, None] * (h * w) + torch.arange(h * w)
        return chosen if torch.equal(places.flatten(1), expected) else None

    def as_map(self, node: fx.Node, value: Value) -> Tensor:
        """The places as [C, H, W]; [1, C] is C x 1 x 1."""
        places = self.places(value)
        if places.dim() == 2:
            places = places[:, :, None, None]
        if places.dim() != 4 or places.shape[0] != 1:
            found = f"values of the shape {list(places.shape)}"
            raise self.refuse(node, "maps [N, C, H, W] or vectors [N, C]", found)
        return places[0]

    def chosen(self, node: fx.Node, value: Value) -> Tensor:
        chosen = self.channels(value, self.as_map(node, value))
        if chosen is None:
            expected = "values that are moved by whole channels before something other than a linear layer reads them"
            raise self.refuse(node, expected, "values that are moved within their maps")
        return chosen

    def layer_of(self, node: fx.Node, value: Value) -> int:
        """The number of a layer whose map the value is; one is made where channels are moved or zeros stand around."""
        number, (c, h, w) = value.layer, self.map_shape(value.layer)
        if value.places is not None:
            chosen = self.chosen(node, value)
            if not torch.equal(chosen, torch.arange(c)):
                key = (number, tuple(chosen.tolist()))
                if key not in self.gathers:
                    weight = torch.zeros(len(chosen), c, 1, 1)
                    weight[torch.arange(len(chosen)), chosen] = 1.0
                    shape, keys = (len(chosen), h, w), {"kernel": [1, 1]}
                    made = self.emit(
                        node, "conv2d", [number], shape, keys=keys, tensors={"weight": weight}, what="gather"
                    )
                    self.gathers[key] = made
                number = self.gathers[key]
        if any(value.padding):
            if value.fill != 0:
                raise self.refuse(node, "padding with zeros", f"padding with {value.fill:g}")
            top, left, bottom, right = value.padding
            c = self.map_shape(number)[0]
            keys = geometry([1, 1], [1, 1], value.padding, groups=c)
            shape = (c, h + top + bottom, w + left + right)
            tensors = {"weight": torch.ones(c, 1, 1, 1)}
            number = self.emit(node, "conv2d", [number], shape, keys=keys, tensors=tensors, what="pad")
        return number

    def result(self, node: fx.Node, number: int) -> Value:
        """The map in the shape that ATen gives it: [1, C] for C x 1 x 1."""
        size = node.meta["val"]
        shape = tuple(int(extent) for extent in (size[0] if isinstance(size, tuple | list) else size).shape)
        return self.with_places(number, torch.arange(math.prod(self.map_shape(number))).view(shape))

    def activate(self, node: fx.Node, value: Value, keys: dict[str, Any], prelu: Tensor | None = None) -> Value:
        """An activation moves nothing, so it also joins a layer whose values are read in other places."""
        if any(value.padding):
            value = Value(self.layer_of(node, value))
        layer = self.open(value, "activation")
        if layer is None:
            what = str(keys["activation"])
            number = self.emit(node, "identity", [value.layer], self.map_shape(value.layer), what=what)
            layer, value = self.layers[number], Value(number, value.places)
        layer.activation, layer.prelu = keys, prelu
        return value

    def pool(
        self,
        node: fx.Node,
        op: str,
        value: Value,
        kernel: list[int],
        stride: list[int],
        sides: Sides,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> Value:
        """A pool; padding of a window or more, which the format has not, is put around the map first."""
        if sides[0] >= kernel[0] or sides[2] >= kernel[0] or sides[1] >= kernel[1] or sides[3] >= kernel[1]:
            if op == "max_pool2d" or not count_include_pad:
                raise self.refuse(node, "padding that is less than the kernel", f"{list(sides)} of {kernel}")
            value, sides = Value(self.layer_of(node, Value(value.layer, value.places, sides))), (0, 0, 0, 0)
        number = self.layer_of(node, value)
        c, h, w = self.map_shape(number)
        size = node.meta["val"][0] if isinstance(node.meta["val"], tuple | list) else node.meta["val"]
        keys = geometry(kernel, stride, sides)
        if stride == kernel:
            keys.pop("stride", None)
        elif "stride" not in keys:
            keys["stride"] = stride
        if ceil_mode and tuple(size.shape[2:]) != (
            (h + sides[0] + sides[2] - kernel[0]) // stride[0] + 1,
            (w + sides[1] + sides[3] - kernel[1]) // stride[1] + 1,
        ):
            keys["ceil_mode"] = True
        if not count_include_pad and (any(sides) or "ceil_mode" in keys):
            keys["count_include_pad"] = False
        return Value(self.emit(node, op, [number], (c, int(size.shape[2]), int(size.shape[3])), keys=keys))

    def folded(self, node: fx.Node, value: Value, weight: Tensor, groups: int) -> tuple[int, Tensor | None, Tensor]:
        """What a convolution reads, and its weight: columns are moved instead of channels.

        A depthwise convolution moves its filters; then its own channels come in the order of the places it returns.
        """
        if value.places is None or any(value.padding):
            return self.layer_of(node, value), None, weight
        c = self.map_shape(value.layer)[0]
        chosen = self.chosen(node, value)
        is_order = len(chosen) == c and len(chosen.unique()) == c
        if groups == 1 and (is_order or weight.shape[2:].numel() == 1):
            columns = torch.zeros(weight.shape[0], c, *weight.shape[2:])
            return value.layer, None, columns.index_add(1, chosen, weight)
        if is_order and groups == c == weight.shape[0]:
            return value.layer, chosen, moved(weight, chosen)
        return self.layer_of(node, value), None, weight

    def over_maps(
        self, node: fx.Node, value: Value, dim: Sequence[int] | int | None, keepdim: bool
    ) -> tuple[int, Tensor]:
        """The layer and the places [.., 1 value a channel] of a reduction over height and width."""
        if any(value.padding):
            value = Value(self.layer_of(node, value))
        places = self.places(value)
        listed = [dim] if isinstance(dim, int) else list(dim or range(places.dim()))
        dims = sorted(d % places.dim() for d in listed)
        rest = [d for d in range(places.dim()) if d not in dims]
        rows = places.permute(*rest, *dims).reshape(*[places.shape[d] for d in rest], -1)
        _, h, w = self.map_shape(value.layer)
        ordered = rows.sort(-1).values
        channel = ordered[..., 0] // (h * w)
        if rows.shape[-1] != h * w or not torch.equal(ordered, channel[..., None] * (h * w) + torch.arange(h * w)):
            raise self.refuse(node, "a reduction over the height and the width of a map", f"one over the axes {dims}")
        for d in dims if keepdim else []:
            channel = channel.unsqueeze(d)
        return value.layer, channel

    def per_channel(self, node: fx.Node, value: Value, constant: Tensor | float, default: float) -> Tensor:
        """A constant that meets a value, as one number for each channel of the value's layer."""
        places = self.places(value)
        c, h, w = self.map_shape(value.layer)
        numbers = torch.as_tensor(constant, dtype=torch.float32)
        try:
            numbers = numbers.expand(places.shape).flatten()
        except RuntimeError as error:
            shapes = f"{list(numbers.shape)} and {list(places.shape)}"
            raise self.refuse(node, "a constant that is spread over the values", shapes) from error
        filled = torch.full((c * h * w,), torch.nan)
        filled[places.flatten()] = numbers
        if not torch.equal(filled[places.flatten()], numbers):
            raise self.refuse(node, "one number a channel", "several")
        rows = filled.view(c, h * w)
        known = ~rows.isnan()
        first = torch.where(known, rows, torch.inf).amin(1)
        if bool((known & (rows != first[:, None])).any()):
            raise self.refuse(node, "one number a channel", "numbers that differ within a map")
        return torch.where(known.any(1), first, default)

    def affine(self, node: fx.Node, value: Value, factor: Tensor | float, term: Tensor | float) -> Value:
        """factor * value + term, in the weights before it, or as a depthwise 1x1 convolution."""
        if any(value.padding):
            value = Value(self.layer_of(node, value))
        factors = self.per_channel(node, value, factor, 1.0)
        terms = self.per_channel(node, value, term, 0.0)
        layer = self.open(value, "scale", "residual", "activation")
        if layer is not None and layer.norm is not None:
            layer.norm_tensors["weight"] = layer.norm_tensors["weight"] * factors
            layer.norm_tensors["bias"] = layer.norm_tensors["bias"] * factors + terms
            return value
        if layer is not None and layer.op in ("conv2d", "linear"):
            weight = layer.tensors["weight"]
            layer.tensors["weight"] = weight * factors.view(-1, *[1] * (weight.dim() - 1))
            if "bias" in layer.tensors or bool((terms != 0).any()):
                layer.tensors["bias"] = layer.tensors.get("bias", torch.zeros(len(terms))) * factors + terms
            return value
        c, h, w = self.map_shape(value.layer)
        keys = geometry([1, 1], [1, 1], (0, 0, 0, 0), [1, 1], c)
        tensors = {"weight": factors.view(c, 1, 1, 1)}
        if bool((terms != 0).any()):
            tensors["bias"] = terms
        number = self.emit(node, "conv2d", [value.layer], (c, h, w), keys=keys, tensors=tensors, what="affine")
        return Value(number, value.places)

    def join(self, node: fx.Node, key: str, first: Value, second: Value) -> Value:
        """A sum (`residual`) or a product (`scale`) of two maps, joined to the layer of either where that is open."""
        shapes = [tuple(self.as_map(node, value).shape) for value in (first, second)]
        padded = [any(value.padding) for value in (first, second)]
        if shapes[0] != shapes[1] or any(padded) or key == "scale":
            first, second = self.spread(node, key, first, second)
        numbers = [self.layer_of(node, value) for value in (first, second)]
        before = {"scale": ("scale", "residual", "activation"), "residual": ("residual", "activation")}[key]
        same = self.map_shape(numbers[0]) == self.map_shape(numbers[1])
        for own, other in ((0, 1), (1, 0)) if same else ((0, 1),):
            layer = self.open(Value(numbers[own]), *before)
            if layer is not None and numbers[0] != numbers[1]:
                setattr(layer, key, numbers[other])
                return self.result(node, numbers[own])
        what = "add" if key == "residual" else "mul"
        number = self.emit(node, "identity", [numbers[0]], self.map_shape(numbers[0]), what=what)
        setattr(self.layers[number], key, numbers[1])
        return self.result(node, number)

    def spread(self, node: fx.Node, key: str, first: Value, second: Value) -> tuple[Value, Value]:
        """A factor of C x 1 x 1 stands second, one a channel; other values that differ in shape are refused."""

        def vector(value: Value) -> Value | None:
            places = self.as_map(node, value)
            one = places[:, :1, :1]
            if self.map_shape(value.layer)[1:] == (1, 1) and torch.equal(places, one.expand_as(places)):
                return Value(value.layer, one[None])
            return None

        first, second = (
            Value(self.layer_of(node, value)) if any(value.padding) else value for value in (first, second)
        )
        shapes = [tuple(self.as_map(node, value).shape) for value in (first, second)]
        if key == "scale":
            for own, other in ((first, second), (second, first)):
                factor = vector(other)
                fits = factor is not None and len(self.as_map(node, own)) == len(self.as_map(node, factor))
                if factor is not None and fits and (vector(own) is None or shapes[0] == shapes[1]):
                    return own, factor
        if shapes[0] != shapes[1]:
            expected = "maps of one shape" + (", or C x 1 x 1 as a factor" if key == "scale" else "")
            raise self.refuse(node, expected, " and ".join("x".join(map(str, shape)) for shape in shapes))
        return first, second

    def chosen_numbers(self, number: int, places: Tensor) -> int:
        shape = self.map_shape(number)
        name = self.unique("select", self.names)
        self.layers.append(Traced(name, "linear", [number], (len(places), 1, 1), tensors=selection(places, shape)))
        return len(self.layers) - 1

    def ordered(self, number: int, rows: int, last: str | None) -> Branch:
        """Only what the logits need, each layer behind those it reads, else in the order of the network."""
        order: list[int] = []
        done: set[int] = {IMAGE}
        stack = [(number, iter(sorted(self.layers[number].reads())))] if number != IMAGE else []
        open_ = {number}
        while stack:
            current, sources = stack[-1]
            for source in sources:
                if source not in done and source not in open_:
                    open_.add(source)
                    stack.append((source, iter(sorted(self.layers[source].reads()))))
                    break
            else:
                stack.pop()
                done.add(current)
                order.append(current)
        head, source = None, number
        if number != IMAGE:
            layer = self.layers[number]
            is_linear = layer.op == "linear" or (
                layer.op == "conv2d" and self.map_shape(layer.inputs[0])[1:] == (1, 1) == tuple(layer.keys["kernel"])
                and "groups" not in layer.keys and "padding" not in layer.keys
            )  # fmt: skip
            if (
                is_linear
                and layer.norm is None
                and layer.scale is None
                and layer.residual is None
                and not layer.activation
            ):
                head, source = layer, layer.inputs[0]
                layer.tensors["weight"] = layer.tensors["weight"].flatten(1)
                order.remove(number)
        renumbered = {IMAGE: IMAGE} | {old: new for new, old in enumerate(order)}
        layers = [self.layers[old] for old in order]
        for layer in layers:
            layer.inputs = [renumbered[i] for i in layer.inputs]
            layer.scale = None if layer.scale is None else renumbered[layer.scale]
            layer.residual = None if layer.residual is None else renumbered[layer.residual]
        return Branch(layers, renumbered[source], head, last, rows)
