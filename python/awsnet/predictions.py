"""What a run gives: numbers with the names of what they stand for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas

    from .faces import Face

Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Head:
    """What a head of a network gives for an image."""

    name: str
    kind: str
    """"classes", of which one is right, as emotions; "units", each active or not, as AUs; or "values" as they are."""
    count: int
    """Numbers that it gives."""
    labels: list[str]
    """One for each number; a head of values may have none."""
    thresholds: Floats
    """The probabilities from which on units count as active, [count]; none of another kind."""


@dataclasses.dataclass(frozen=True)
class HeadScores:
    """What a run gives for a head."""

    head: Head
    logits: Floats
    """[N, count]: what the network computes."""
    probabilities: Floats
    """[N, count]: softmax of the logits of classes, sigmoid of those of units, values as they are."""

    @functools.cached_property
    def filled(self) -> tuple[int, int, int]:
        """The number of images, and the addresses of logits and probabilities, of arrays that the library may fill."""
        for array in (self.logits, self.probabilities):
            shape = (len(self.logits), self.head.count)
            if array.dtype != np.float32 or array.shape != shape or not array.flags.c_contiguous:
                expected = f"float32 [N, {self.head.count}], contiguous"
                raise ValueError(f"out: {self.head.name}: expected {expected}, found {array.dtype} {list(array.shape)}")
            if not array.flags.writeable or not array.flags.aligned:
                raise ValueError(f"out: {self.head.name}: expected an array that can be written, found another")
        return len(self.logits), self.logits.ctypes.data, self.probabilities.ctypes.data

    @property
    def is_finite(self) -> NDArray[np.bool_]:
        """Of every image, whether its logits are finite, [N]; others mean nothing: a map has overflowed its type."""
        return np.asarray(np.isfinite(self.logits).all(axis=1))

    @property
    def labels(self) -> list[str]:
        """The name of every column."""
        return self.head.labels

    def best(self) -> list[str]:
        """Of every image, the label of the largest probability; for classes."""
        if self.head.kind != "classes":
            raise ValueError(f"{self.head.name}: expected a head of classes, found one of {self.head.kind}")
        return [self.labels[index] for index in np.nan_to_num(self.probabilities, nan=-1.0).argmax(1)]

    def active(self) -> list[list[str]]:
        """Of every image, the labels whose probability reaches its threshold; for units."""
        if self.head.kind != "units":
            raise ValueError(f"{self.head.name}: expected a head of units, found one of {self.head.kind}")
        above = self.probabilities >= self.head.thresholds
        return [[label for label, on in zip(self.labels, row, strict=True) if on] for row in above]


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions(Mapping[str, HeadScores]):
    """What a run gives: `HeadScores` by the names of the heads, in the order of the model file.

    `predictions["emotion"].best()`, `predictions["au"].probabilities`.
    """

    heads: dict[str, HeadScores]
    count: int
    """The number of images, or of faces."""
    faces: list[tuple[int, Face]] | None = None
    """Of every row, the number of its picture and where in it the face is; None where nobody looked for faces."""

    def __getitem__(self, name: str) -> HeadScores:
        try:
            return self.heads[name]
        except KeyError:
            raise KeyError(f"expected one of the heads {', '.join(self.heads)}, found {name!r}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.heads)

    def __len__(self) -> int:
        return len(self.heads)

    def __repr__(self) -> str:
        heads = ", ".join(f"{name}: {scores.head.count} {scores.head.kind}" for name, scores in self.items())
        return f"<awsnet.Predictions of {self.count} images; {heads}>"

    def to_dicts(self) -> list[dict[str, Any]]:
        """Of every image, what `awsnet predict --json` says of its heads."""
        return [
            {name: _told(scores, row) for name, scores in self.items()} for row in range(self.count)
        ]  # fmt: skip

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each image or face: the probability of every label, and the best label of every head of classes.

        Columns are labels; where two heads share one it is HEAD_LABEL. The best label's column is the head's name. Of
        faces, `picture` is the number of their picture, and face_x, face_y, face_width, face_height, face_score follow.
        """
        import pandas

        columns: dict[str, Any] = {}
        if self.faces is not None:
            columns["picture"] = [index for index, _ in self.faces]
            for side in ("x", "y", "width", "height", "score"):
                columns[f"face_{side}"] = [getattr(face, side) for _, face in self.faces]
        names = [label for scores in self.values() for label in _columns(scores)]
        for name, scores in self.items():
            if scores.head.kind == "classes":
                columns[name] = scores.best()
            for index, label in enumerate(_columns(scores)):
                key = label if names.count(label) == 1 and label not in self else f"{name}_{label}"
                columns[key] = scores.probabilities[:, index]
        return pandas.DataFrame(columns)


def _columns(scores: HeadScores) -> list[str]:
    return scores.labels or [str(index) for index in range(scores.head.count)]


def _told(scores: HeadScores, row: int) -> dict[str, Any]:
    probabilities = scores.probabilities[row].tolist()
    named = dict(zip(scores.labels, probabilities, strict=True)) if scores.labels else probabilities
    if scores.head.kind == "classes":
        return {"label": scores.best()[row], "scores": named}
    if scores.head.kind == "units":
        return {"active": scores.active()[row], "scores": named}
    return {"values": named}


def joined(parts: list[Predictions]) -> Predictions:
    """The predictions of several runs of a network, one behind the other."""
    heads = {
        name: HeadScores(
            scores.head,
            np.concatenate([part[name].logits for part in parts]),
            np.concatenate([part[name].probabilities for part in parts]),
        )
        for name, scores in parts[0].items()
    }
    return Predictions(heads, sum(part.count for part in parts))
