"""Losses of partly annotated images: each counts only what is annotated.

An emotion that is not known is UNKNOWN, an AU that is not known is NaN; a batch mixes images of all kinds.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .network import Logits

UNKNOWN = -1


class Annotations(NamedTuple):
    emotion: Tensor  # [N] i64, an index or UNKNOWN
    au: Tensor  # [N, AUs] f32: 1 active, 0 at rest, NaN unknown


def emotion_loss(logits: Tensor, emotion: Tensor) -> Tensor:
    """Cross entropy, averaged over the images whose emotion is known; 0 where none is."""
    total = functional.cross_entropy(logits, emotion, ignore_index=UNKNOWN, reduction="sum")
    return total / (emotion != UNKNOWN).sum().clamp(min=1)


def au_loss(logits: Tensor, au: Tensor) -> Tensor:
    """Binary cross entropy, averaged over all known AUs of the batch; 0 where none is."""
    known = ~au.isnan()
    each = functional.binary_cross_entropy_with_logits(logits, torch.where(known, au, 0.0), reduction="none")
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)


def partial_loss(logits: Logits, annotations: Annotations, au_weight: float = 1.0) -> Tensor:
    """Both losses. Of a batch without any AU only the emotion's loss has a gradient, and the reverse."""
    return emotion_loss(logits.emotion, annotations.emotion) + au_weight * au_loss(logits.au, annotations.au)
