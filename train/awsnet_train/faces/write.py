"""Folders of faces: images and what is known of each.

`labels.jsonl` has one line an image:

    {"image": "images/000000.png", "identity": 17, "emotion": "fear", "au": {"AU1": 0.83, "AU2": 0.0, ...}}

`au` holds intensities, 0 where the AU is at rest. What an image is not annotated with is missing: the key `emotion`,
the key `au`, or single AUs of it. Image i of a folder depends on seed, i, the range of identities and the size alone.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from .actions import EMOTIONS, expression, unrelated
from .person import person
from .render import render, scene

LABELS = "labels.jsonl"
ANNOTATIONS = ("full", "halves", "patchy", "unrelated")


@dataclass(frozen=True)
class Face:
    pixels: NDArray[np.uint8]  # [size, size, 3]
    label: dict[str, Any]  # identity, emotion, au


def annotated(label: dict[str, Any], annotation: str, index: int, random: np.random.Generator) -> dict[str, Any]:
    """What of a label is told: all; by turns the emotion or the AUs alone; or that, with AUs missing by chance; or all,
    where by turns the face has an emotion or AUs that belong to none."""
    if annotation == "full" or (annotation == "unrelated" and index % 2 == 0):
        return label
    if annotation == "unrelated":
        return {key: value for key, value in label.items() if key != "emotion"}
    told = {key: value for key, value in label.items() if key != ("au" if index % 2 == 0 else "emotion")}
    if annotation == "patchy" and "au" in told:
        told["au"] = {au: value for au, value in told["au"].items() if random.random() < 0.8}
    return told


def faces(
    count: int, seed: int, size: int, identities: range, annotation: str = "full", zoom: float = 1.0
) -> Iterator[Face]:
    """zoom: 1 fills the picture with the head; less leaves room around it, as in a photograph."""
    for index in range(count):
        random = np.random.default_rng([seed, index])
        identity = int(random.integers(identities.start, identities.stop))
        emotion = EMOTIONS[random.integers(len(EMOTIONS))]
        no_emotion = annotation == "unrelated" and index % 2 == 1
        intensity = unrelated(random) if no_emotion else expression(emotion, random)
        where = scene(random)
        pixels = render(person(identity), intensity, replace(where, zoom=where.zoom * zoom), size)
        label = {
            "identity": identity,
            "emotion": emotion,
            "au": {au: round(value, 3) for au, value in intensity.items()},
        }
        yield Face(pixels, annotated(label, annotation, index, random))


def write_faces(
    out: Path, count: int, seed: int, size: int, identities: range, annotation: str, zoom: float = 1.0
) -> None:
    """Writes `count` faces and their labels into the folder `out`, which must be new or empty."""
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out}: is not empty")
    (out / "images").mkdir(parents=True)
    with (out / LABELS).open("w") as labels:
        drawn = faces(count, seed, size, identities, annotation, zoom)
        for index, face in enumerate(tqdm(drawn, total=count, desc="faces", unit="face")):
            name = f"images/{index:06}.png"
            Image.fromarray(face.pixels).save(out / name)
            labels.write(json.dumps({"image": name} | face.label) + "\n")
