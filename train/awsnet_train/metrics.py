"""How well predictions agree with annotations; what is not annotated does not count."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset
from .losses import UNKNOWN


@dataclass(frozen=True)
class Metrics:
    emotion_accuracy: float
    emotion_macro_f1: float
    au_f1: dict[str, float]
    au_mean_f1: float
    confusion: list[list[int]]  # rows: annotated emotion, columns: predicted


def f1(predicted: NDArray[np.bool_], annotated: NDArray[np.bool_]) -> float:
    """2 TP / (2 TP + FP + FN); NaN where the class neither occurs nor is predicted."""
    hits = int((predicted & annotated).sum())
    total = int(predicted.sum() + annotated.sum())
    return 2 * hits / total if total else float("nan")


def measure(
    emotion: NDArray[np.int64],
    au: NDArray[np.bool_],
    annotated_emotion: NDArray[np.int64],
    annotated_au: NDArray[np.float32],
    emotions: int,
    aus: list[str],
) -> Metrics:
    """emotion [N] and au [N, AUs]: predictions. annotated_*: as in `Annotations`."""
    known = annotated_emotion != UNKNOWN
    confusion = np.zeros((emotions, emotions), int)
    np.add.at(confusion, (annotated_emotion[known], emotion[known]), 1)
    each_emotion = [f1(emotion[known] == k, annotated_emotion[known] == k) for k in range(emotions)]
    each_au = {}
    for k, name in enumerate(aus):
        known_au = ~np.isnan(annotated_au[:, k])
        each_au[name] = f1(au[known_au, k], annotated_au[known_au, k] > 0.5)
    return Metrics(
        emotion_accuracy=float(np.trace(confusion) / max(confusion.sum(), 1)),
        emotion_macro_f1=float(np.nanmean(each_emotion)),
        au_f1=each_au,
        au_mean_f1=float(np.nanmean(list(each_au.values()))),
        confusion=confusion.tolist(),
    )


def measure_predictions(lines: Iterable[dict[str, Any]], data: Dataset, emotions: list[str], aus: list[str]) -> Metrics:
    """The same for what `awsnet predict --json` said of the images, found by their file names."""
    of = {Path(line["image"]).name: line for line in lines}
    said = [of[Path(image).name] for image in data.images]
    return measure(
        np.array([emotions.index(line["emotion"]["label"]) for line in said]),
        np.array([[au in line["au"]["active"] for au in aus] for line in said]),
        data.annotations.emotion.numpy(),
        data.annotations.au.numpy(),
        len(emotions),
        aus,
    )
