"""Networks to start from: a small one for faces, and any two ResNets."""

import functools
import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .join import oldest
from .modules import from_modules
from .network import AwsNet

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def heads(source: str, emotions: Sequence[str], aus: Sequence[str]) -> dict[str, Any]:
    """The heads of a network that is built anew: of emotions, of AUs, or both."""
    both: dict[str, Any] = {}
    if emotions:
        both["emotion"] = {"input": source, "kind": "classes", "labels": list(emotions)}
    if aus:
        both["au"] = {"input": source, "kind": "units", "labels": list(aus), "thresholds": [0.5] * len(aus)}
    return both


def small(
    emotions: Sequence[str],
    aus: Sequence[str],
    size: int = 64,
    widths: Sequence[int] = (12, 24, 48, 64),
    aws: str = "channel",
    name: str = "small",
) -> AwsNet:
    """Stages that halve the map, each a strided 3x3 convolution and, but for the first and the last, a second one.

    An AWS-Unit stands behind every stage; the heads read all places of the last map, for in a face that has been cut
    out the place says much.
    """
    layers: list[dict[str, Any]] = []
    channels = {}
    for stage, width in enumerate(widths, 1):
        convolutions = 1 if stage in (1, len(widths)) else 2
        for index in range(1, convolutions + 1):
            layer = f"stage{stage}.conv{index}"
            channels[layer] = width
            layers.append(
                {
                    "name": layer,
                    "op": "conv2d",
                    "kernel": 3,
                    "stride": 2 if index == 1 else 1,
                    "padding": 1,
                    "batch_norm": f"stage{stage}.bn{index}",
                    "activation": "relu",
                    "aws": aws if index == convolutions and emotions and aus else "none",
                }
            )
    manifest = {
        "version": 2,
        "name": name,
        "branches": [branch for branch, labels in (("emotion", emotions), ("au", aus)) if labels],
        "input": {"channels": 3, "height": size, "width": size, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "layers": layers,
        "heads": heads(layers[-1]["name"], emotions, aus),
    }
    return AwsNet(oldest(manifest), channels)


def from_resnets(
    emotion: nn.Module,
    au: nn.Module,
    emotions: Sequence[str],
    aus: Sequence[str],
    size: int = 112,
    aws: str = "channel",
    name: str = "resnet",
    mean: Sequence[float] = IMAGENET["mean"],
    std: Sequence[float] = IMAGENET["std"],
    **more: Any,  # noqa: ANN401, what else `from_modules` takes
) -> AwsNet:
    """Two ResNets of one shape as the branches of an AwsNet, an AWS-Unit behind the stem and behind every block.

    Their last layers must have a row a label. With `aws` "none" each branch computes what its ResNet computes. mean and
    std are ImageNet's where they are not given, one number a channel.
    """
    channels = next((module.in_channels for module in emotion.modules() if isinstance(module, nn.Conv2d)), 3)
    return from_modules(
        emotion,
        au,
        torch.zeros(1, channels, size, size),
        emotions=emotions,
        aus=aus,
        mean=mean,
        std=std,
        aws=aws,
        name=name,
        **{"units": "blocks"} | more,
    )


@functools.cache
def architectures() -> tuple[str, ...]:
    """The networks of torchvision that can be asked for by name; none where it is not installed."""
    if importlib.util.find_spec("torchvision") is None:
        return ()
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


def architecture(
    name: str,
    emotions: Sequence[str],
    aus: Sequence[str],
    size: int,
    widths: Sequence[int],
    aws: str,
    units: str | Sequence[str],
    title: str,
) -> AwsNet:
    """A network that is built anew, for the tasks that have labels: `small`, or one of torchvision."""
    if name == "small":
        return small(emotions, aus, size, widths, aws, title)
    from torchvision.models import get_model

    emotion, au = (
        get_model(name, weights=None, num_classes=len(labels)) if labels else None for labels in (emotions, aus)
    )
    return from_modules(
        emotion,
        au,
        torch.zeros(1, 3, size, size),
        emotions=emotions,
        aus=aus,
        aws=aws,
        units=units,
        name=title,
        mean=IMAGENET["mean"],
        std=IMAGENET["std"],
    )
