"""How well predictions agree with annotations; what is not annotated does not count."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset
from .losses import UNKNOWN, Annotations


@dataclass(frozen=True)
class Metrics:
    """NaN, or nothing, where the network has no such head or nothing is annotated."""

    emotion_accuracy: float
    emotion_macro_f1: float
    au_f1: dict[str, float]
    au_mean_f1: float
    confusion: list[list[int]]  # rows: annotated emotion, columns: predicted
    values_ccc: dict[str, float] = field(default_factory=dict)  # the concordance correlation coefficient
    values_mae: dict[str, float] = field(default_factory=dict)  # the mean absolute error


@dataclass(frozen=True)
class Predicted:
    """What a network says of images, of the heads that it has."""

    emotion: NDArray[np.int64] | None = None  # [N]
    au: NDArray[np.bool_] | None = None  # [N, AUs]
    values: NDArray[np.float32] | None = None  # [N, values]


def f1(predicted: NDArray[np.bool_], annotated: NDArray[np.bool_]) -> float:
    """2 TP / (2 TP + FP + FN); NaN where the class neither occurs nor is predicted."""
    hits = int((predicted & annotated).sum())
    total = int(predicted.sum() + annotated.sum())
    return 2 * hits / total if total else float("nan")


def concordance(found: NDArray[np.float32], annotated: NDArray[np.float32]) -> float:
    """2 cov / (var + var + (mean - mean)^2)."""
    x, y = found.astype(np.float64), annotated.astype(np.float64)
    spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * ((x - x.mean()) * (y - y.mean())).mean() / spread) if spread > 0 else float("nan")


def mean_of(values: Iterable[float]) -> float:
    """Of those that are known; NaN where none is."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def measure(
    predicted: Predicted, annotations: Annotations, emotions: int, aus: Iterable[str], values: Iterable[str] = ()
) -> Metrics:
    confusion = np.zeros((emotions, emotions), int)
    each_emotion: list[float] = []
    if predicted.emotion is not None:
        annotated = annotations.emotion.cpu().numpy()
        known = annotated != UNKNOWN
        np.add.at(confusion, (annotated[known], predicted.emotion[known]), 1)
        each_emotion = [f1(predicted.emotion[known] == k, annotated[known] == k) for k in range(emotions)]
    each_au = {}
    if predicted.au is not None:
        annotated_au = annotations.au.cpu().numpy()
        for k, name in enumerate(aus):
            known = ~np.isnan(annotated_au[:, k])
            each_au[name] = f1(predicted.au[known, k], annotated_au[known, k] > 0.5)
    ccc, mae = {}, {}
    if predicted.values is not None and annotations.values is not None:
        annotated_values = annotations.values.cpu().numpy()
        for k, name in enumerate(values):
            known = ~np.isnan(annotated_values[:, k])
            found, right = predicted.values[known, k], annotated_values[known, k]
            ccc[name] = concordance(found, right) if known.any() else float("nan")
            mae[name] = float(np.abs(found - right).mean()) if known.any() else float("nan")
    images = confusion.sum()
    return Metrics(
        emotion_accuracy=float(np.trace(confusion) / images) if images else float("nan"),
        emotion_macro_f1=mean_of(each_emotion),
        au_f1=each_au,
        au_mean_f1=mean_of(each_au.values()),
        confusion=confusion.tolist(),
        values_ccc=ccc,
        values_mae=mae,
    )


def best_thresholds(scores: NDArray[np.float32], annotated: NDArray[np.float32]) -> list[float]:
    """For each AU the threshold with the best F1, between two scores; 0.5 where none is annotated active."""
    thresholds = []
    for k in range(scores.shape[1]):
        known = ~np.isnan(annotated[:, k])
        score, active = scores[known, k].astype(np.float64), annotated[known, k] > 0.5
        order = np.argsort(-score, kind="stable")
        score, hits = score[order], np.cumsum(active[order])
        if not len(score) or hits[-1] == 0:
            thresholds.append(0.5)
            continue
        f1s = 2 * hits / (np.arange(1, len(score) + 1) + hits[-1])
        f1s[:-1][score[:-1] == score[1:]] = -1  # equal scores are active together
        best = int(np.argmax(f1s))
        below = score[best + 1] if best + 1 < len(score) else 0.0
        thresholds.append(round(float((score[best] + below) / 2), 6))
    return thresholds


def measure_predictions(lines: Iterable[dict[str, Any]], data: Dataset, emotions: list[str], aus: list[str]) -> Metrics:
    """The same for what `awsnet predict --json` said of the images, found by their file names."""
    of = {Path(line["image"]).name: line for line in lines}
    said = [of[Path(image).name] for image in data.images]
    predicted = Predicted(
        emotion=np.array([emotions.index(line["emotion"]["label"]) for line in said]),
        au=np.array([[au in line["au"]["active"] for au in aus] for line in said]),
    )
    return measure(predicted, data.annotations, len(emotions), aus)
