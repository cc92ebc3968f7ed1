"""Annotated images: where they are, what is known of them, and their pixels, a batch at a time.

A source is one of three:

- a folder with `labels.jsonl`, one line an image; `faces/write.py` describes it. A line may have `values`, numbers by
  name, and `subject`, or `identity`, who is seen;
- a folder of folders, one a class, named after the emotions;
- a CSV file: `image`, paths relative to the file; `emotion`, `subject` (or `identity`), and numbers, a column a label.
  What is empty is not known. Columns that are none of these are named and left alone.

Intensities become active AUs from a threshold on. Pixels are kept as they were read while all of them are few
(`MOST_KEPT_BYTES`); beyond that, images are read again whenever they are wanted, on a few threads.
"""

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from .faces.write import LABELS
from .losses import UNKNOWN, Annotations

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MOST_KEPT_BYTES = 1 << 30
NAN = float("nan")
log = logging.getLogger("awsnet_train")


@dataclass(frozen=True)
class Row:
    """What a source says of an image."""

    place: str  # where it says so
    image: str
    emotion: str | None = None
    numbers: dict[str, float] = field(default_factory=dict)  # AUs and values
    subject: str | None = None


@dataclass(frozen=True)
class Labels:
    """The labels of a network's heads, in the order of their rows; none where it has no such head."""

    emotions: tuple[str, ...] = ()
    aus: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    images: list[str]
    annotations: Annotations
    size: tuple[int, int]  # width, height
    channels: int = 3
    folder: Path = Path()
    subjects: list[str | None] = field(default_factory=list)
    threads: int = 1
    kept: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)  # of the images in `kept`

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, chosen: Sequence[int]) -> "Dataset":
        """Some of the images, which share what is kept of them."""
        listed = list(chosen)
        return replace(
            self,
            images=[self.images[i] for i in listed],
            annotations=self.annotations.of(torch.tensor(listed, dtype=torch.long)),
            subjects=[self.subjects[i] for i in listed],
            numbers=[self.numbers[i] for i in listed],
        )

    def first(self, count: int) -> "Dataset":
        return self.subset(range(min(count, len(self))))

    def read(self, index: int) -> NDArray[np.uint8]:
        """The pixels of an image, upright and of the network's size."""
        number = self.numbers[index]
        if number in self.kept:
            return self.kept[number]
        path = self.folder / self.images[index]
        try:
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file).convert("RGB" if self.channels == 3 else "L")
        except OSError as error:
            raise ValueError(f"{path}: expected an image that can be read, found {error}") from error
        pixels = np.asarray(image.resize(self.size, Image.Resampling.BILINEAR)).reshape(*self.size[::-1], -1)
        if max(self.numbers) * pixels.nbytes <= MOST_KEPT_BYTES:
            self.kept[number] = pixels
        return pixels

    def pixels(self, chosen: Sequence[int]) -> Tensor:
        """[N, H, W, C] u8."""
        if self.threads > 1 and len(chosen) > 1:
            with ThreadPoolExecutor(self.threads) as pool:
                images = list(pool.map(self.read, chosen))
        else:
            images = [self.read(index) for index in chosen]
        return torch.from_numpy(np.stack(images))

    def batches(self, order: Sequence[int], batch: int) -> Iterator[tuple[Tensor, Annotations]]:
        """Pixels and annotations; the next batch is read while one is used."""
        chunks = [list(order[start : start + batch]) for start in range(0, len(order), batch)]
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self.pixels, chunks[0]) if chunks else None
            for index, chunk in enumerate(chunks):
                assert coming is not None
                pixels = coming.result()
                coming = ahead.submit(self.pixels, chunks[index + 1]) if index + 1 < len(chunks) else None
                yield pixels, self.annotations.of(torch.tensor(chunk))


def number_of(place: str, name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = NAN
    if not np.isfinite(number):
        raise ValueError(f"{place}: {name}: expected a finite number, found {value!r}")
    return number


def read_lines(path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        place = f"{path}:{number}"
        try:
            entry: Any = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{place}: expected a JSON object, found {error}") from error
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise ValueError(f"{place}: expected a JSON object with the key image, found {line[:60]!r}")
        numbers = {
            name: number_of(place, name, value)
            for key in ("au", "values")
            for name, value in entry.get(key, {}).items()
            if value is not None
        }
        subject = entry.get("subject", entry.get("identity"))
        subject = None if subject is None else str(subject)
        rows.append(Row(place, entry["image"], entry.get("emotion"), numbers, subject))
    return rows


def read_csv(path: Path, wanted: Sequence[str]) -> list[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = [name for name in reader.fieldnames or [] if name]
        if "image" not in columns:
            raise ValueError(f"{path}:1: expected a column image, found {', '.join(columns) or 'no header'}")
        known = ("image", "emotion", "subject", "identity")
        others = [name for name in columns if name not in known and name not in wanted]
        if others:
            log.warning("%s: columns that are no labels of the network: %s", path, ", ".join(others))
        rows = []
        for line in reader:
            place = f"{path}:{reader.line_num}"
            cells = {name: (line[name] or "").strip() for name in columns}
            if not cells["image"]:
                raise ValueError(f"{place}: image: expected a path, found nothing")
            numbers = {name: number_of(place, name, cells[name]) for name in wanted if cells.get(name)}
            subject = cells.get("subject") or cells.get("identity") or None
            rows.append(Row(place, cells["image"], cells.get("emotion") or None, numbers, subject))
    return rows


def read_folders(folder: Path) -> list[Row]:
    rows = []
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in sorted(inner.rglob("*")):
            if path.suffix.lower() in ENDINGS:
                name = path.relative_to(folder)
                rows.append(Row(str(folder / name), str(name), inner.name))
    return rows


def read_rows(source: Path, wanted: Sequence[str]) -> tuple[Path, list[Row]]:
    """The folder that the paths are relative to, and all rows of a source."""
    if source.is_file():
        return source.parent, read_csv(source, wanted)
    if (source / LABELS).is_file():
        return source, read_lines(source / LABELS)
    if not source.is_dir():
        raise ValueError(f"{source}: expected a folder or a CSV file, found nothing")
    return source, read_folders(source)


def found_labels(source: str | Path) -> Labels | None:
    """The labels that a source brings along: a folder a class, or the columns of a CSV file; None where it does not."""
    path = Path(source)
    if path.is_file():
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            emotions = {(line.get("emotion") or "").strip() for line in reader} - {""}
        aus = [name for name in columns if name and name[:2].upper() == "AU" and name[2:].isdigit()]
        return Labels(tuple(sorted(emotions)), tuple(aus))
    if path.is_dir() and not (path / LABELS).is_file():
        return Labels(
            tuple(sorted(row.emotion for row in {r.emotion: r for r in read_folders(path)}.values() if row.emotion))
        )
    return None


def load_dataset(
    source: str | Path,
    labels: Labels,
    size: tuple[int, int],
    channels: int = 3,
    au_active: float | None = None,
    threads: int = 1,
) -> Dataset:
    """All rows of a source; images are resized to (width, height).

    au_active: the intensity from which an AU counts as active; above 0 if not given.
    """
    path = Path(source)
    wanted = tuple(dict.fromkeys([*labels.aus, *labels.values]))
    folder, rows = read_rows(path, wanted)
    if not rows:
        raise ValueError(f"{path}: expected images, found none")
    for row in rows:
        unknown = {row.emotion} - {None} - set(labels.emotions) if labels.emotions else set()
        unknown |= set(row.numbers) - set(wanted)
        if unknown:
            raise ValueError(f"{row.place}: labels that the network does not have: {sorted(map(str, unknown))}")

    def active(intensity: float) -> float:
        return float(intensity > 0 if au_active is None else intensity >= au_active)

    emotion = [labels.emotions.index(row.emotion) if row.emotion in labels.emotions else UNKNOWN for row in rows]
    au = [[active(row.numbers[name]) if name in row.numbers else NAN for name in labels.aus] for row in rows]
    values = [[row.numbers.get(name, NAN) for name in labels.values] for row in rows]
    if all(e == UNKNOWN for e in emotion) and not any(row.numbers for row in rows):
        raise ValueError(f"{path}: expected annotations of {labels}, found none in {len(rows)} images")
    return Dataset(
        images=[row.image for row in rows],
        annotations=Annotations(
            torch.tensor(emotion),
            torch.tensor(au, dtype=torch.float32).reshape(len(rows), -1),
            torch.tensor(values, dtype=torch.float32).reshape(len(rows), -1),
        ),
        size=size,
        channels=channels,
        folder=folder,
        subjects=[row.subject for row in rows],
        threads=threads,
        numbers=list(range(len(rows))),
    )


def subject_folds(data: Dataset, folds: int) -> list[list[int]]:
    """The images of every fold; a subject is in one fold alone, and folds are of about one size."""
    if None in data.subjects:
        index = data.subjects.index(None)
        raise ValueError(f"folds: expected a subject for every image, found none for {data.images[index]}")
    of: dict[str, list[int]] = {}
    for index, subject in enumerate(data.subjects):
        of.setdefault(str(subject), []).append(index)
    if len(of) < folds:
        raise ValueError(f"folds: expected at least {folds} subjects, found {len(of)}")
    parts: list[list[int]] = [[] for _ in range(folds)]
    for _, images in sorted(of.items(), key=lambda item: (-len(item[1]), item[0])):
        min(parts, key=len).extend(images)
    return [sorted(part) for part in parts]
