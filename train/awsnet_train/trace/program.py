"""From a network to the ATen operators that it runs, without side effects, by torch.export."""

import contextlib
import copy
import io
import logging
import math
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..manifest import ModelError

WRAPPERS = ("DataParallel", "DistributedDataParallel", "AveragedModel", "ExponentialMovingAverage", "EMA")


def unwrapped(network: Any) -> nn.Module:  # noqa: ANN401, EMA wrappers need be no modules
    """The network in a wrapper that only holds it: DataParallel, DistributedDataParallel, averaged models."""
    kind = type(network).__name__
    if kind in WRAPPERS or kind.startswith("ModelEma"):
        for attribute in ("module", "ema_model", "ema"):
            inner = getattr(network, attribute, None)
            if isinstance(inner, nn.Module):
                return unwrapped(inner)
    if not isinstance(network, nn.Module):
        raise ModelError("network", "a torch.nn.Module", f"a {kind}")
    return network


def as_text(network: nn.Module) -> str:
    return f"network {type(network).__name__}"


def floats(network: nn.Module) -> nn.Module:
    """A copy in f32 on the CPU, in evaluation, without gradients."""
    return copy.deepcopy(network).cpu().float().eval().requires_grad_(False)


def exported(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # the error says it in a line
    try:
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            program = torch.export.export(network, (example,), strict=False)
            return program.run_decompositions({})
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise ModelError(as_text(network), "a network that torch.export can trace", lines[0][:200]) from error
    finally:
        logger.setLevel(level)


def is_op(node: object, *names: str) -> bool:
    if not isinstance(node, fx.Node) or node.op != "call_function":
        return False
    return str(node.target).removeprefix("aten.").split(".")[0] in names


def is_about(value: object, number: float) -> bool:
    return isinstance(value, int | float) and math.isclose(value, number, rel_tol=1e-6)


def within_6(node: object) -> Any:  # noqa: ANN401, a node or None
    """x of relu6(x + 3)."""
    if is_op(node, "relu6") or (is_op(node, "hardtanh", "clamp") and list(node.args[1:3]) == [0, 6]):  # type: ignore[attr-defined]
        inner = node.args[0]  # type: ignore[attr-defined]
        if is_op(inner, "add") and len(inner.args) == 2 and is_about(inner.args[1], 3):
            return inner.args[0]
    return None


def recognise(graph: fx.Graph) -> None:
    """Writes activations that are spelt out, and means over one axis after the other, as the one operator they are."""
    aten = torch.ops.aten
    for node in list(graph.nodes):
        replaced: tuple[Any, tuple[Any, ...]] | None = None
        if is_op(node, "mul", "div") and len(node.args) == 2:
            first, second = node.args
            sixth = is_about(second, 6) if is_op(node, "div") else is_about(second, 1 / 6)
            if sixth and within_6(first) is not None:
                replaced = aten.hardsigmoid.default, (within_6(first),)
            elif sixth and is_op(first, "mul"):
                for x, gate in (first.args, first.args[::-1]):
                    if isinstance(x, fx.Node) and within_6(gate) is x:
                        replaced = aten.hardswish.default, (x,)
            elif is_op(node, "mul"):
                for x, gate in ((first, second), (second, first)):
                    if is_op(gate, "sigmoid") and gate.args[0] is x:
                        replaced = aten.silu.default, (x,)
                    elif is_op(gate, "hardsigmoid") and gate.args[0] is x:
                        replaced = aten.hardswish.default, (x,)
        elif str(node.target) == "aten.mean.dim" and str(getattr(node.args[0], "target", "")) == "aten.mean.dim":
            replaced = two_means(node, node.args[0])
        if replaced is not None:
            with graph.inserting_before(node):
                new = graph.call_function(*replaced)
            new.meta = node.meta
            node.replace_all_uses_with(new)
    graph.eliminate_dead_code()


def two_means(outer: fx.Node, inner: fx.Node) -> tuple[Any, tuple[Any, ...]] | None:
    """A mean of a mean is the mean over the axes of both, where both keep them or neither does."""
    source: Any = inner.args[0]
    axes = source.meta["val"].dim()
    keeps = [len(node.args) > 2 and bool(node.args[2]) for node in (outer, inner)]
    inner_axes: Any = inner.args[1]
    outer_axes: Any = outer.args[1]
    first = [d % axes for d in inner_axes]
    left = [d for d in range(axes) if keeps[1] or d not in first]
    second = [left[d % len(left)] for d in outer_axes]
    if keeps[0] != keeps[1] or set(first) & set(second):
        return None
    return torch.ops.aten.mean.dim, (source, sorted([*first, *second]), keeps[0])
