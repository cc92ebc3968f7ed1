"""Networks to start from: a small one for faces, and any two torchvision ResNets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from .network import BRANCHES, AwsNet

if TYPE_CHECKING:
    from torchvision.models import ResNet

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def heads(source: str, emotions: Sequence[str], aus: Sequence[str]) -> dict[str, Any]:
    return {
        "emotion": {"input": source, "labels": list(emotions)},
        "au": {"input": source, "labels": list(aus), "thresholds": [0.5] * len(aus)},
    }


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
                    "aws": aws if index == convolutions else "none",
                }
            )
    manifest = {
        "version": 1,
        "name": name,
        "input": {"channels": 3, "height": size, "width": size, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "layers": layers,
        "heads": heads(layers[-1]["name"], emotions, aus),
    }
    return AwsNet(manifest, channels)


def resnet_layers(resnet: "ResNet", aws: str) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The layers of a torchvision ResNet, an AWS-Unit behind the stem and behind every block, and their channels."""
    layers: list[dict[str, Any]] = []
    channels: dict[str, int] = {}

    def convolve(name: str, norm: str, **keys: Any) -> None:  # noqa: ANN401, values of the manifest
        conv = resnet.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        channels[name] = conv.out_channels
        geometry = {
            "kernel": conv.kernel_size,
            "stride": conv.stride,
            "padding": conv.padding,
            "dilation": conv.dilation,
        }
        listed = {key: list(value) for key, value in geometry.items() if not isinstance(value, str)}
        layers.append({"name": name, "op": "conv2d", **listed, "groups": conv.groups, "batch_norm": norm, **keys})

    convolve("conv1", "bn1", activation="relu", aws=aws)
    layers.append({"name": "maxpool", "op": "max_pool2d", "kernel": 3, "stride": 2, "padding": 1})
    before = "maxpool"
    for stage in range(1, 5):
        for index, block in enumerate(resnet.get_submodule(f"layer{stage}").children()):
            prefix = f"layer{stage}.{index}"
            last = sum(name.startswith("conv") for name, _ in block.named_children())
            residual = before
            if block.downsample is not None:
                residual = f"{prefix}.downsample.0"
                convolve(residual, f"{prefix}.downsample.1", input=before)
            source = before
            for number in range(1, last + 1):
                end = {"residual": residual, "aws": aws} if number == last else {}
                name = f"{prefix}.conv{number}"
                convolve(name, f"{prefix}.bn{number}", input=source, activation="relu", **end)
                source = name
            before = source
    layers.append({"name": "avgpool", "op": "global_avg_pool2d"})
    return layers, channels


def from_resnets(
    emotion: "ResNet",
    au: "ResNet",
    emotions: Sequence[str],
    aus: Sequence[str],
    size: int = 112,
    aws: str = "channel",
    name: str = "resnet",
) -> AwsNet:
    """Two torchvision ResNets of one shape as the branches of an AwsNet, their weights included.

    Their `fc` must have a row a label. With `aws` "none" each branch computes what its ResNet computes.
    """
    (layers, channels), (other, _) = (resnet_layers(resnet, aws) for resnet in (emotion, au))
    if layers != other:
        raise ValueError("the two ResNets differ in shape")
    manifest = {
        "version": 1,
        "name": name,
        "input": {"channels": 3, "height": size, "width": size, **IMAGENET},
        "layers": layers,
        "heads": heads("avgpool", emotions, aus),
    }
    network = AwsNet(manifest, channels)
    for branch, resnet in zip(BRANCHES, (emotion, au), strict=True):
        network.get_submodule(branch).load_state_dict(resnet.state_dict())
    return network
