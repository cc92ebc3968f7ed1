"""The AWS-Units: y_t = sum over s of A[t][s] * u_s, branch 0 is emotion, 1 is au, A[to][from].

Every unit starts as 0.9 of the own branch and 0.1 of the other one: a network that has hardly mixed yet, whose units
all the same pass gradients to both sides. Weights that mix want larger steps than weights that filter; see
`parameter_groups`.
"""

import math

import torch
from torch import Tensor, nn

OWN, OTHER = 0.9, 0.1
KINDS = ("layer", "channel", "dense", "gate")


def started() -> Tensor:
    """[2, 2]: OWN on the diagonal, OTHER beside it."""
    return torch.tensor([[OWN, OTHER], [OTHER, OWN]])


class LayerUnit(nn.Module):
    """One scalar for a whole map; weight [2, 2]. Cross-stitch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(started())

    def forward(self, emotion: Tensor, au: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight
        return weight[0, 0] * emotion + weight[0, 1] * au, weight[1, 0] * emotion + weight[1, 1] * au


class ChannelUnit(nn.Module):
    """One scalar a channel; weight [2, 2, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(started()[:, :, None].repeat(1, 1, channels))

    def forward(self, emotion: Tensor, au: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight[..., None, None]
        return weight[0, 0] * emotion + weight[0, 1] * au, weight[1, 0] * emotion + weight[1, 1] * au


class DenseUnit(nn.Module):
    """A 1x1 convolution over both branches; weight [2, 2, C, C]: to, from, out channel, in channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(started()[:, :, None, None] * torch.eye(channels))

    def forward(self, emotion: Tensor, au: Tensor) -> tuple[Tensor, Tensor]:
        channels = emotion.shape[1]
        weight = self.weight.permute(0, 2, 1, 3).reshape(2 * channels, 2 * channels, 1, 1)
        mixed_emotion, mixed_au = nn.functional.conv2d(torch.cat([emotion, au], 1), weight).split(channels, 1)
        return mixed_emotion, mixed_au


class Excite(nn.Module):
    """weight [2, 2, C, r] and bias [2, 2, C]: from r squeezed values to one a channel, for each pair of branches."""

    def __init__(self, channels: int, squeezed: int, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2, channels, squeezed))
        self.bias = nn.Parameter(bias[:, :, None].repeat(1, 1, channels))

    def forward(self, squeezed: Tensor) -> Tensor:  # [N, r] -> [N, 2, 2, C]
        return torch.einsum("tscr,nr->ntsc", self.weight, squeezed) + self.bias


class GateUnit(nn.Module):
    """One scalar a channel, computed anew for every image from the means of both maps.

    `excite.weight` starts at 0 and `excite.bias` such that the gate of every image is 0.9/0.1.
    """

    def __init__(self, channels: int, squeezed: int | None = None, gate: str = "softmax") -> None:
        super().__init__()
        if gate not in ("softmax", "sigmoid"):
            raise ValueError(f"gate: expected softmax or sigmoid, found {gate!r}")
        squeezed = squeezed or max(4, channels // 4)
        self.gate = gate
        self.squeeze = nn.Linear(2 * channels, squeezed)
        log_odds = math.log(OWN / OTHER)
        bias = started().log() if gate == "softmax" else log_odds * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        self.excite = Excite(channels, squeezed, bias)

    def forward(self, emotion: Tensor, au: Tensor) -> tuple[Tensor, Tensor]:
        means = torch.cat([emotion.mean((2, 3)), au.mean((2, 3))], 1)
        logits = self.excite(self.squeeze(means).relu())
        weight = (logits.softmax(2) if self.gate == "softmax" else logits.sigmoid())[..., None, None]
        return (
            weight[:, 0, 0] * emotion + weight[:, 0, 1] * au,
            weight[:, 1, 0] * emotion + weight[:, 1, 1] * au,
        )


def aws_unit(kind: str, channels: int, squeezed: int | None = None, gate: str = "softmax") -> nn.Module:
    """The unit that a manifest names. squeezed: r of a gate unit, a quarter of the channels if not given."""
    match kind:
        case "layer":
            return LayerUnit()
        case "channel":
            return ChannelUnit(channels)
        case "dense":
            return DenseUnit(channels)
        case "gate":
            return GateUnit(channels, squeezed, gate)
    raise ValueError(f"aws: expected one of {', '.join(KINDS)}, found {kind!r}")
