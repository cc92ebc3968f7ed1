"""Folders of annotated faces as tensors; `faces/write.py` describes them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .faces.write import LABELS
from .losses import UNKNOWN, Annotations


@dataclass(frozen=True)
class Dataset:
    images: list[str]
    pixels: Tensor  # [N, H, W, 3] u8
    annotations: Annotations

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> "Dataset":
        emotion, au = self.annotations
        return Dataset(self.images[:count], self.pixels[:count], Annotations(emotion[:count], au[:count]))


def load_dataset(folder: str | Path, emotions: list[str], aus: list[str], size: tuple[int, int]) -> Dataset:
    """All of a folder, resized to (width, height) if need be; an AU is active where its intensity is above 0."""
    folder = Path(folder)
    lines = [json.loads(line) for line in (folder / LABELS).read_text().splitlines()]
    if not lines:
        raise ValueError(f"{folder / LABELS}: expected one line an image, found none")
    for number, line in enumerate(lines, 1):
        unknown = {line["emotion"]} - set(emotions) if "emotion" in line else set()
        unknown |= set(line.get("au", {})) - set(aus)
        if unknown:
            raise ValueError(f"{folder / LABELS}:{number}: labels that the network does not have: {sorted(unknown)}")
    images = (Image.open(folder / line["image"]).convert("RGB") for line in lines)
    pixels = np.stack([np.asarray(image.resize(size, Image.Resampling.BILINEAR)) for image in images])
    emotion = [emotions.index(line["emotion"]) if "emotion" in line else UNKNOWN for line in lines]
    au = [
        [float(line["au"][name] > 0) if name in line.get("au", {}) else float("nan") for name in aus] for line in lines
    ]
    return Dataset(
        images=[line["image"] for line in lines],
        pixels=torch.from_numpy(pixels),
        annotations=Annotations(torch.tensor(emotion), torch.tensor(au)),
    )


def augment(pixels: Tensor, generator: torch.Generator, shift: int = 3) -> Tensor:
    """Mirrored by chance, moved by up to `shift` pixels, and brighter or darker; [N, H, W, 3] u8."""
    count, height, width, _ = pixels.shape
    mirrored = torch.rand(count, generator=generator) < 0.5
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(2), pixels)
    down, right = torch.randint(-shift, shift + 1, (2, count), generator=generator)
    rows = (torch.arange(height) + down[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width) + right[:, None]).clamp(0, width - 1)
    pixels = pixels[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    gain = torch.empty(count, 1, 1, 1).uniform_(0.8, 1.2, generator=generator)
    lift = torch.empty(count, 1, 1, 1).uniform_(-15, 15, generator=generator)
    return (pixels * gain + lift).clamp(0, 255).to(torch.uint8)
