"""Losses of partly annotated images: each counts only what is annotated.

An emotion that is not known is UNKNOWN, an AU or a value that is not known is NaN; a batch mixes images of all kinds.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .network import Logits

UNKNOWN = -1


class Annotations(NamedTuple):
    emotion: Tensor  # [N] i64, an index or UNKNOWN
    au: Tensor  # [N, AUs] f32: 1 active, 0 at rest, NaN unknown
    values: Tensor | None = None  # [N, values] f32: NaN unknown

    def of(self, chosen: Tensor) -> "Annotations":
        return Annotations(*(None if tensor is None else tensor[chosen] for tensor in self))  # type: ignore[arg-type]

    def to(self, device: torch.device) -> "Annotations":
        return Annotations(*(None if tensor is None else tensor.to(device) for tensor in self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Weights:
    """How much classes count: of the emotions each, and of the AUs where they are active."""

    emotion: Tensor | None = None  # [emotions]
    au: Tensor | None = None  # [AUs]

    def to(self, device: torch.device) -> "Weights":
        return Weights(*(None if tensor is None else tensor.to(device) for tensor in (self.emotion, self.au)))


def balanced(annotations: Annotations, emotions: int, most: float = 20.0) -> Weights:
    """Emotions by the inverse of how often they occur, with a mean of 1 over the images; active AUs by how many are at
    rest for each. No weight is more than `most`, and what never occurs has a weight of 1."""
    emotion = au = None
    known = annotations.emotion[annotations.emotion != UNKNOWN]
    if emotions and len(known):
        counts = known.bincount(minlength=emotions).float()
        weights = torch.where(counts > 0, len(known) / ((counts > 0).sum() * counts.clamp(min=1)), 1.0)
        emotion = weights.clamp(max=most)
    if annotations.au.shape[1]:
        active, rest = (annotations.au == 1).sum(0).float(), (annotations.au == 0).sum(0).float()
        au = torch.where((active > 0) & (rest > 0), rest / active.clamp(min=1), 1.0).clamp(1 / most, most)
    return Weights(emotion, au)


def emotion_loss(logits: Tensor, emotion: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross entropy, averaged over the images whose emotion is known; 0 where none is."""
    total = functional.cross_entropy(logits, emotion, weight, ignore_index=UNKNOWN, reduction="sum")
    return total / (emotion != UNKNOWN).sum().clamp(min=1)


def au_loss(logits: Tensor, au: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross entropy, averaged over all known AUs of the batch; 0 where none is."""
    known = ~au.isnan()
    targets = torch.where(known, au, 0.0)
    each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none", pos_weight=weight)
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)


def values_loss(found: Tensor, values: Tensor) -> Tensor:
    """The squared error, averaged over all known values of the batch; 0 where none is."""
    known = ~values.isnan()
    each = (found - torch.where(known, values, 0.0)).square()
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)


def partial_loss(
    logits: Logits,
    annotations: Annotations,
    au_weight: float = 1.0,
    values_weight: float = 1.0,
    weights: Weights | None = None,
) -> Tensor:
    """The losses of the heads `emotion`, `au` and `values`, of those that there are.

    Of a batch without any AU only the emotion's loss has a gradient, and the reverse.
    """
    weights = weights or Weights()
    total = logits[0].sum() * 0.0
    if "emotion" in logits.names:
        total = total + emotion_loss(logits.emotion, annotations.emotion, weights.emotion)
    if "au" in logits.names:
        total = total + au_weight * au_loss(logits.au, annotations.au, weights.au)
    if "values" in logits.names and annotations.values is not None:
        total = total + values_weight * values_loss(logits["values"], annotations.values)
    return total
