"""The ATen operators, read one by one: each becomes a layer, joins one, moves values, or is refused.

`read_NAME` reads the operator aten.NAME, its arguments by their names there; `self` is `self_`.
"""

import math
import operator as python_operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..manifest import ModelError
from .builder import Builder
from .layers import IMAGE, Branch, Sides, Traced, Value, added, geometry, moved, two
from .program import exported, recognise

# Operators that give their input's values in other places, or some of them.
MOVES = {
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "permute", "transpose", "t", "numpy_T", "unsqueeze",
    "squeeze", "slice", "select", "split", "split_with_sizes", "chunk", "unbind", "expand", "expand_as", "narrow",
    "index_select", "flip", "roll", "channel_shuffle", "native_channel_shuffle", "pixel_shuffle", "pixel_unshuffle",
    "movedim", "swapaxes", "view_as", "reshape_as", "repeat", "tile", "broadcast_to", "hsplit", "tensor_split",
}  # fmt: skip
DROPOUTS = {"dropout", "feature_dropout", "alpha_dropout", "native_dropout"}
# Those that give their input.
ALIASES = {
    "dropout", "feature_dropout", "alpha_dropout", "clone", "contiguous", "alias", "detach", "detach_", "_to_copy",
    "to", "lift_fresh_copy", "lift_fresh", "type_as", "positive", "native_dropout",
}  # fmt: skip
ACTIVATIONS = {
    "relu": "relu", "relu6": "relu6", "silu": "silu", "hardswish": "hardswish", "hardsigmoid": "hardsigmoid",
    "sigmoid": "sigmoid", "tanh": "tanh",
}  # fmt: skip


class Tracer(Builder):
    def __init__(self, network: nn.Module, example: Tensor, kind: str) -> None:
        super().__init__(tuple(example.shape))
        self.program = exported(network, example)
        recognise(self.program.graph)
        self.kind = kind  # of the head
        self.last: str | None = None  # the softmax or sigmoid behind the logits
        self.values: dict[fx.Node, Any] = {}

    def run(self) -> Branch:
        signature = self.program.graph_signature
        state = {**self.program.constants, **self.program.state_dict}
        held = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        output: Any = None
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                if node.name in held:
                    self.values[node] = state[held[node.name]].detach()
                    self.paths[node] = held[node.name]
                else:
                    self.values[node] = Value(IMAGE)
            elif node.op == "output":
                output = node.args[0]
            else:
                for source in node.all_input_nodes:
                    for value in self.layers_of(self.values[source]):
                        self.pending[value] = self.pending.get(value, 0) - 1
                result = self.read(node)
                self.values[node] = result
                for value in self.layers_of(result):
                    self.pending[value] = self.pending.get(value, 0) + len(node.users)
        return self.finish(output)

    def layers_of(self, result: object) -> set[int]:
        if isinstance(result, Value):
            return {result.layer}
        return {r.layer for r in result if isinstance(r, Value)} if isinstance(result, list | tuple) else set()

    def argument(self, argument: Any) -> Any:  # noqa: ANN401
        return fx.node.map_arg(argument, lambda node: self.values[node])

    def read(self, node: fx.Node) -> Any:  # noqa: ANN401, a value, a constant or several
        arguments, named = self.argument(node.args), self.argument(node.kwargs)
        if node.target is python_operator.getitem:
            return arguments[0][arguments[1]]
        if not any(isinstance(self.values[source], Value | list | tuple) for source in node.all_input_nodes):
            return node.target(*arguments, **named)  # type: ignore[operator]
        what = str(node.target).removeprefix("aten.").split(".")[0].removesuffix("_copy")
        if what.startswith("_assert"):
            return None
        if what in DROPOUTS and len(arguments) > 2 and arguments[2]:
            raise self.refuse(node, "a dropout that is off in evaluation", "one that is always on")
        if what in ALIASES:
            return [arguments[0]] if what == "native_dropout" else arguments[0]
        if what in MOVES:
            return self.move(node, arguments, named)
        method: Callable[..., Any] | None = getattr(self, f"read_{what}", None)
        if method is not None:
            bound = bind(node, arguments, named)
            return method(node, **bound)
        if what in ACTIVATIONS:
            return self.activate(node, arguments[0], {"activation": ACTIVATIONS[what]})
        raise self.refuse(node, "an operator of the model file (docs/model-format.md)", f"{node.target}")

    def move(self, node: fx.Node, arguments: Any, named: Any) -> Any:  # noqa: ANN401
        values = [v for v in arguments if isinstance(v, Value)]
        source = values[0]
        plain = Value(self.layer_of(node, source)) if any(source.padding) else source
        places = [self.places(plain) if v is source else v for v in arguments]
        moved = node.target(*places, **named)  # type: ignore[operator]
        if isinstance(moved, list | tuple):
            return [self.with_places(plain.layer, part) for part in moved]
        return self.with_places(plain.layer, moved)

    def read_hardtanh(self, node: fx.Node, self_: Value, min_val: float = -1.0, max_val: float = 1.0) -> Value:
        return self.read_clamp(node, self_, min_val, max_val)

    def read_clamp(self, node: fx.Node, self_: Value, min: float | None = None, max: float | None = None) -> Value:
        limits = {(0.0, 6.0): "relu6", (0.0, None): "relu", (0.0, math.inf): "relu"}
        name = limits.get((min, max))  # type: ignore[arg-type]
        if name is None:
            raise self.refuse(node, "limits of 0 and 6, or of 0", f"{min} and {max}")
        return self.activate(node, self_, {"activation": name})

    def read_clamp_min(self, node: fx.Node, self_: Value, min: float) -> Value:
        return self.read_clamp(node, self_, min)

    def read_leaky_relu(self, node: fx.Node, self_: Value, negative_slope: float = 0.01) -> Value:
        return self.activate(node, self_, {"activation": "leaky_relu", "negative_slope": negative_slope})

    def read_gelu(self, node: fx.Node, self_: Value, approximate: str = "none") -> Value:
        return self.activate(node, self_, {"activation": "gelu" if approximate == "none" else "gelu_tanh"})

    def read_elu(
        self, node: fx.Node, self_: Value, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0
    ) -> Value:
        if (alpha, scale, input_scale) != (1.0, 1.0, 1.0):
            raise self.refuse(node, "an ELU of alpha 1 and scale 1", f"alpha {alpha:g}, scale {scale:g}")
        return self.activate(node, self_, {"activation": "elu"})

    def read_prelu(self, node: fx.Node, self_: Value, weight: Tensor) -> Value:
        slopes = weight.flatten()
        c = self.map_shape(self_.layer)[0]
        if len(slopes) > 1:
            slopes = self.per_channel(node, self_, slopes.view(1, -1, *[1] * (self.places(self_).dim() - 2)), 0.0)
            assert len(slopes) == c
        prefix = self.unique(self.name_for(node, "prelu", node.args[1]), self.prefixes)
        return self.activate(node, self_, {"activation": "prelu", "prelu": prefix}, slopes.clone())

    read__prelu_kernel = read_prelu

    def read_conv2d(
        self,
        node: fx.Node,
        input: Value,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Sequence[int] = (1,),
        padding: Sequence[int] | str = (0,),
        dilation: Sequence[int] = (1,),
        groups: int = 1,
    ) -> Value:
        if not isinstance(weight, Tensor):
            raise self.refuse(node, "a weight that does not depend on the image", "one that does")
        kernel = list(weight.shape[2:])
        stride, dilation = two(stride), two(dilation)
        if isinstance(padding, str):
            total = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
            sides = total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2
        else:
            h, w = two(padding)
            sides = h, w, h, w
        if input.fill == 0 and any(input.padding):
            sides = added(sides, input.padding)
            input = Value(input.layer, input.places)
        number, places, weight = self.folded(node, input, weight, groups)
        _, h, w = self.map_shape(number)
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        height = (h + sides[0] + sides[2] - spans[0]) // stride[0] + 1
        width = (w + sides[1] + sides[3] - spans[1]) // stride[1] + 1
        keys = geometry(kernel, stride, sides, dilation, groups)
        tensors = {"weight": weight} | (
            {} if bias is None else {"bias": bias if places is None else moved(bias, places)}
        )
        shape = (weight.shape[0], height, width)
        made = self.emit(node, "conv2d", [number], shape, keys=keys, tensors=tensors, weight=node.args[1])
        if places is None:
            return Value(made)
        return Value(made, places.view(1, -1, 1, 1) * height * width + torch.arange(height * width).view(height, width))

    def read_convolution(
        self,
        node: fx.Node,
        input: Value,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        transposed: bool,
        output_padding: Sequence[int],
        groups: int,
    ) -> Value:
        if transposed or weight.dim() != 4:
            raise self.refuse(node, "a convolution in two dimensions", "another one")
        return self.read_conv2d(node, input, weight, bias, stride, padding, dilation, groups)

    def read_linear(self, node: fx.Node, input: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
        if not isinstance(weight, Tensor) or not isinstance(input, Value):
            raise self.refuse(node, "a weight that does not depend on the image", "one that does")
        if any(input.padding):
            input = Value(self.layer_of(node, input))
        places = self.places(input)
        tensors = {} if bias is None else {"bias": bias}
        c, h, w = self.map_shape(input.layer)
        out = weight.shape[0]
        if places.numel() == places.shape[-1]:  # a vector, flattened in whatever order
            columns = torch.zeros(out, c * h * w).index_add(1, places.flatten(), weight)
            tensors["weight"] = columns
            number = self.emit(node, "linear", [input.layer], (out, 1, 1), tensors=tensors, weight=node.args[1])
            return Value(number, torch.arange(out).view(*places.shape[:-1], out))
        if places.dim() == 4:  # a linear layer at every pixel, channels last
            chosen = self.channels(input, places[0].permute(2, 0, 1))
            if chosen is not None:
                tensors["weight"] = torch.zeros(out, c, 1, 1).index_add(1, chosen, weight[:, :, None, None])
                keys = geometry([1, 1], [1, 1], (0, 0, 0, 0), [1, 1], 1)
                number = self.emit(
                    node, "conv2d", [input.layer], (out, h, w), keys=keys, tensors=tensors, weight=node.args[1]
                )
                return self.with_places(number, torch.arange(out * h * w).view(1, out, h, w).permute(0, 2, 3, 1))
        raise self.refuse(node, "a linear layer over a vector, or over the channels", f"values {list(places.shape)}")

    def read_addmm(self, node: fx.Node, self_: Tensor, mat1: Value, mat2: Tensor, **named: float) -> Value:
        if any(value != 1 for value in named.values()):
            raise self.refuse(node, "beta and alpha of 1", str(named))
        return self.read_linear(node, mat1, self.transposed(node, mat2), self_)

    def read_mm(self, node: fx.Node, self_: Value, mat2: Tensor) -> Value:
        return self.read_linear(node, self_, self.transposed(node, mat2))

    def read_matmul(self, node: fx.Node, self_: Value, other: Tensor) -> Value:
        return self.read_linear(node, self_, self.transposed(node, other))

    def read_batch_norm(
        self,
        node: fx.Node,
        input: Value,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
        cudnn_enabled: bool = False,
    ) -> Value:
        if running_mean is None or running_var is None or training:
            raise self.refuse(node, "a batch norm with running statistics", "one that takes those of the batch")
        c = len(running_mean)
        tensors = {
            "weight": torch.ones(c) if weight is None else weight,
            "bias": torch.zeros(c) if bias is None else bias,
            "running_mean": running_mean,
            "running_var": running_var,
        }
        # Channels that are moved as a whole, one for one, can be normed where they are.
        places = input.places
        if places is not None and not any(input.padding):
            chosen = self.channels(input, self.as_map(node, input))
            in_order = chosen is not None and len(chosen) == self.map_shape(input.layer)[0] == len(chosen.unique())
            if in_order and chosen is not None:
                tensors = {key: moved(tensor, chosen) for key, tensor in tensors.items()}
                number = input.layer
            else:
                number, places = self.layer_of(node, input), None
        else:
            number = self.layer_of(node, input)
        layer = self.open(Value(number), "norm", "scale", "residual", "activation")
        path = self.name_for(node, "batch_norm", node.args[3])
        path = path.removesuffix(".running_mean")
        if layer is None:
            name = self.unique(path, self.names)
            self.layers.append(Traced(name, "identity", [number], self.map_shape(number)))
            number = len(self.layers) - 1
            layer = self.layers[number]
        layer.norm = self.unique(path, self.prefixes)
        layer.norm_tensors = {key: tensor.clone() for key, tensor in tensors.items()}
        if eps != 1e-5:
            layer.keys["batch_norm_eps"] = eps
        return self.result(node, number) if places is None else Value(number, places)

    def read__native_batch_norm_legit(self, node: fx.Node, **named: Any) -> Value:  # noqa: ANN401
        raise self.refuse(node, "a batch norm with running statistics", "one that takes those of the image")

    def read__native_batch_norm_legit_no_training(
        self,
        node: fx.Node,
        input: Value,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> list[Value]:
        return [self.read_batch_norm(node, input, weight, bias, running_mean, running_var, False, momentum, eps)]

    def read_max_pool2d(
        self,
        node: fx.Node,
        self_: Value,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        dilation: Sequence[int] = (1,),
        ceil_mode: bool = False,
    ) -> Value:
        if two(dilation) != [1, 1]:
            raise self.refuse(node, "a pool without dilation", f"dilation {two(dilation)}")
        height, width = two(padding)
        sides: Sides = (height, width, height, width)
        if any(self_.padding) and ceil_mode:
            self_ = Value(self.layer_of(node, self_))
        if any(self_.padding):
            # Zeros win no maximum over what is never below them; there is a pixel in every window.
            never_below = self_.layer != IMAGE and self.layers[self_.layer].activation.get("activation") in (
                "relu", "relu6", "sigmoid", "hardsigmoid",
            )  # fmt: skip
            if self_.fill == -math.inf or (self_.fill == 0 and never_below):
                sides = added(sides, self_.padding)
                self_ = Value(self_.layer, self_.places)
            elif self_.fill != 0:
                raise self.refuse(node, "padding with zeros or with -inf", f"padding with {self_.fill:g}")
        return self.pool(node, "max_pool2d", self_, two(kernel_size), two(stride or kernel_size), sides, ceil_mode)

    def read_max_pool2d_with_indices(self, node: fx.Node, self_: Value, **named: Any) -> list[Value]:  # noqa: ANN401
        return [self.read_max_pool2d(node, self_, **named)]

    def read_avg_pool2d(
        self,
        node: fx.Node,
        self_: Value,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        if divisor_override is not None:
            raise self.refuse(node, "an average", f"a divisor of {divisor_override}")
        height, width = two(padding)
        sides: Sides = (height, width, height, width)
        if not any(sides) and not ceil_mode:
            count_include_pad = True
        if any(self_.padding) and ceil_mode:
            self_ = Value(self.layer_of(node, self_))
        if any(self_.padding) and self_.fill == 0 and (count_include_pad or not any(sides)):
            sides, count_include_pad = added(sides, self_.padding), True
            self_ = Value(self_.layer, self_.places)
        return self.pool(
            node, "avg_pool2d", self_, two(kernel_size), two(stride or kernel_size), sides, ceil_mode, count_include_pad
        )

    def read_adaptive_avg_pool2d(self, node: fx.Node, self_: Value, output_size: Sequence[int]) -> Value:
        number = self.layer_of(node, self_)
        c, h, w = self.map_shape(number)
        size = [int(extent) for extent in node.meta["val"].shape[2:]]
        if size == [h, w]:
            return Value(number)
        if size == [1, 1]:
            return Value(self.emit(node, "global_avg_pool2d", [number], (c, 1, 1)))
        if h % size[0] == 0 and w % size[1] == 0:
            kernel = [h // size[0], w // size[1]]
            return self.pool(node, "avg_pool2d", Value(number), kernel, kernel, (0, 0, 0, 0))
        shape = (c, size[0], size[1])
        return Value(self.emit(node, "adaptive_avg_pool2d", [number], shape, keys={"output": size}))

    read__adaptive_avg_pool2d = read_adaptive_avg_pool2d

    def read_adaptive_max_pool2d(self, node: fx.Node, self_: Value, output_size: Sequence[int]) -> list[Value]:
        number = self.layer_of(node, self_)
        _, h, w = self.map_shape(number)
        size = [int(extent) for extent in node.meta["val"][0].shape[2:]]
        if h % size[0] or w % size[1]:
            found = f"{size[0]}x{size[1]} of {h}x{w}"
            raise self.refuse(node, "an adaptive maximum over windows of one size", found)
        kernel = [h // size[0], w // size[1]]
        return [self.pool(node, "max_pool2d", Value(number), kernel, kernel, (0, 0, 0, 0))]

    def read_mean(
        self,
        node: fx.Node,
        self_: Value,
        dim: Sequence[int] | None = None,
        keepdim: bool = False,
        dtype: Any = None,  # noqa: ANN401
    ) -> Value:
        number, channel = self.over_maps(node, self_, dim, keepdim)
        c, h, w = self.map_shape(number)
        if h * w > 1:
            number = self.emit(node, "global_avg_pool2d", [number], (c, 1, 1), what="mean")
        return self.with_places(number, channel)

    def read_sum(
        self,
        node: fx.Node,
        self_: Value,
        dim: Sequence[int] | None = None,
        keepdim: bool = False,
        dtype: Any = None,  # noqa: ANN401
    ) -> Value:
        self_ = Value(self.layer_of(node, self_)) if any(self_.padding) else self_
        _, h, w = self.map_shape(self_.layer)
        return self.affine(node, self.read_mean(node, self_, dim, keepdim), float(h * w), 0.0)

    def read_amax(self, node: fx.Node, self_: Value, dim: Sequence[int] = (), keepdim: bool = False) -> Value:
        number, channel = self.over_maps(node, self_, dim, keepdim)
        c, h, w = self.map_shape(number)
        if h * w > 1:
            keys = {"kernel": [h, w]}
            number = self.emit(node, "max_pool2d", [number], (c, 1, 1), keys=keys, what="max")
        return self.with_places(number, channel)

    def read_max(self, node: fx.Node, self_: Value, dim: int, keepdim: bool = False) -> list[Value]:
        return [self.read_amax(node, self_, [dim], keepdim)]

    def read_add(self, node: fx.Node, self_: Any, other: Any, alpha: float = 1) -> Value:  # noqa: ANN401
        if not isinstance(self_, Value):
            return self.affine(node, other, float(alpha), self_)
        if not isinstance(other, Value):
            return self.affine(node, self_, 1.0, other * alpha)
        if alpha != 1:
            other = self.affine(node, other, float(alpha), 0.0)
        return self.join(node, "residual", self_, other)

    def read_sub(self, node: fx.Node, self_: Any, other: Any, alpha: float = 1) -> Value:  # noqa: ANN401
        if not isinstance(other, Value):
            return self.affine(node, self_, 1.0, -other * alpha)
        negative = self.affine(node, other, -float(alpha), 0.0 if isinstance(self_, Value) else self_)
        return self.join(node, "residual", self_, negative) if isinstance(self_, Value) else negative

    def read_rsub(self, node: fx.Node, self_: Value, other: Any, alpha: float = 1) -> Value:  # noqa: ANN401
        return self.affine(node, self_, -float(alpha), other)

    def read_neg(self, node: fx.Node, self_: Value) -> Value:
        return self.affine(node, self_, -1.0, 0.0)

    def read_mul(self, node: fx.Node, self_: Any, other: Any) -> Value:  # noqa: ANN401
        if not isinstance(self_, Value):
            return self.affine(node, other, self_, 0.0)
        if not isinstance(other, Value):
            return self.affine(node, self_, other, 0.0)
        return self.join(node, "scale", self_, other)

    def read_div(self, node: fx.Node, self_: Any, other: Any, rounding_mode: str | None = None) -> Value:  # noqa: ANN401
        if isinstance(other, Value) or rounding_mode is not None:
            raise self.refuse(node, "a division by a constant", "another division")
        return self.affine(node, self_, 1.0 / other, 0.0)

    def read_cat(self, node: fx.Node, tensors: Sequence[Any], dim: int = 0) -> Value:
        if not all(isinstance(value, Value) for value in tensors):
            raise self.refuse(node, "maps that depend on the image", "constants among them")
        values = [Value(self.layer_of(node, value)) if any(value.padding) else value for value in tensors]
        if len({value.layer for value in values}) == 1:
            return self.with_places(values[0].layer, torch.cat([self.places(value) for value in values], dim))
        axes = self.places(values[0]).dim()
        if dim % axes != 1 or axes not in (2, 4):
            raise self.refuse(node, "maps that are joined by channels", f"joined along axis {dim} of {axes}")
        numbers = [self.layer_of(node, value) for value in values]
        shapes = [self.map_shape(number) for number in numbers]
        shape = (sum(s[0] for s in shapes), *shapes[0][1:])
        return self.result(node, self.emit(node, "concat", numbers, shape))

    def read_stack(self, node: fx.Node, tensors: Sequence[Any], dim: int = 0) -> Value:
        if len({value.layer for value in tensors}) != 1:
            raise self.refuse(node, "an operator of the model file", "a stack of several maps")
        return self.with_places(tensors[0].layer, torch.stack([self.places(value) for value in tensors], dim))

    def read_pad(
        self, node: fx.Node, self_: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None
    ) -> Value:
        if mode != "constant":
            raise self.refuse(node, "padding with zeros", f"{mode} padding")
        pad = [*pad, 0, 0, 0, 0][: max(4, len(pad))]
        if min(pad) < 0 or any(pad[4:]):
            raise self.refuse(node, "padding of height and width by 0 or more", str(list(pad)))
        if not any(pad):
            return self_
        fill, sides = float(value or 0.0), (pad[2], pad[0], pad[3], pad[1])
        if any(self_.padding) and fill != self_.fill:
            self_ = Value(self.layer_of(node, self_))
        if self_.places is not None and self_.places.dim() != 4:
            raise self.refuse(node, "padding of maps [N, C, H, W]", f"values {list(self_.places.shape)}")
        return Value(self_.layer, self_.places, added(self_.padding, sides), fill)

    def read_constant_pad_nd(self, node: fx.Node, self_: Value, pad: Sequence[int], value: float = 0.0) -> Value:
        return self.read_pad(node, self_, pad, "constant", value)

    def read_upsample_nearest2d(self, node: fx.Node, **named: Any) -> Value:  # noqa: ANN401
        number = self.layer_of(node, named["input"] if "input" in named else named["self_"])
        c, h, w = self.map_shape(number)
        height, width = (int(extent) for extent in node.meta["val"].shape[2:])
        if height % h or width % w:
            raise self.refuse(node, "nearest upsampling by whole numbers", f"{h}x{w} to {height}x{width}")
        if (height, width) == (h, w):
            return Value(number)
        keys = {"factor": [height // h, width // w]}
        return Value(self.emit(node, "upsample2d", [number], (c, height, width), keys=keys))

    read__upsample_nearest_exact2d = read_upsample_nearest2d

    def read_softmax(self, node: fx.Node, self_: Value, dim: int, dtype: Any = None) -> Value:  # noqa: ANN401
        """A softmax is the head's own: only behind the logits."""
        if any(user.op != "output" for user in node.users) or dim % self.places(self_).dim() != 1:
            raise self.refuse(
                node, "an operator of the model file (docs/model-format.md)", "a softmax within the network"
            )
        self.last = str(node.target).removeprefix("aten.").split(".")[0].removeprefix("_")
        return self_

    read_log_softmax = read_softmax

    def read__softmax(self, node: fx.Node, self_: Value, dim: int, half_to_float: bool) -> Value:
        return self.read_softmax(node, self_, dim)

    read__log_softmax = read__softmax

    def transposed(self, node: fx.Node, matrix: object) -> Tensor:
        if not isinstance(matrix, Tensor) or matrix.dim() != 2:
            raise self.refuse(node, "a product with a matrix of weights", "another product")
        return matrix.T

    def finish(self, output: Any) -> Branch:  # noqa: ANN401
        nodes = list(output) if isinstance(output, list | tuple) else [output]
        if len(nodes) != 1:
            raise ModelError("the network's output", "one tensor of logits, [N, rows]", f"{len(nodes)} values")
        value = self.values[nodes[0]] if isinstance(nodes[0], fx.Node) else None
        if not isinstance(value, Value):
            raise ModelError("the network's output", "logits that depend on the image", "constants")
        places = self.places(value)
        if places.dim() != 2 or places.shape[0] != 1:
            places = places.reshape(1, -1) if places.shape[0] == 1 and places.numel() == places.shape[1] else places
        if places.dim() != 2:
            raise ModelError("the network's output", "logits [N, rows]", f"the shape {list(places.shape)}")
        number, rows = value.layer, int(places.shape[1])
        if number != IMAGE and self.layers[number].activation == {"activation": "sigmoid"} and self.kind != "values":
            self.layers[number].activation, self.last = {}, "sigmoid"
        allowed = {"classes": (None, "softmax", "log_softmax"), "units": (None, "sigmoid"), "values": (None,)}[
            self.kind
        ]
        if self.last not in allowed:
            expected = " or ".join("logits" if name is None else f"a {name} behind them" for name in allowed)
            raise ModelError("the network's output", f"{expected}, for the kind {self.kind}", f"a {self.last}")
        if not torch.equal(places.flatten(), torch.arange(math.prod(self.map_shape(number)))):
            # Some of the last numbers, or in another order: a layer of zeros and ones is the head.
            number = self.chosen_numbers(number, places.flatten())
        return self.ordered(number, rows, self.last)


def bind(node: fx.Node, arguments: Any, named: Any) -> dict[str, Any]:  # noqa: ANN401
    """The arguments of an ATen operator by their names; `self` is `self_`."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    bound = {argument.name: value for argument, value in zip(schema, arguments, strict=False)} | dict(named)
    return {"self_" if key == "self" else key: value for key, value in bound.items()}


def trace(network: nn.Module, example: Tensor, kind: str) -> Branch:
    """The layers and the head of a network in f32 (see `floats`) that reads images like `example`, [1, C, H, W]."""
    return Tracer(network, example, kind).run()
