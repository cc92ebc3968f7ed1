"""Pictures of any size, made into images of a network's size as `awsnet predict` does, by Pillow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .images import is_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from .images import Shape

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Of the files of a folder that are read."""


def is_of_size(images: Any, shape: Shape) -> bool:
    """Whether an array or a tensor is what `Session.run` takes, one image or several."""
    c, h, w = shape
    sizes = [(h, w, c), (c, h, w)] + ([(h, w)] if c == 1 else [])
    found = tuple(getattr(images, "shape", ()))
    return not is_picture(images) and any(found in (size, found[:1] + size) for size in sizes)


def split(images: Any) -> list[Any]:
    """Pictures as a list: the files of a folder, the pictures of an array [N, H, W, C]; or the one that it is."""
    if isinstance(images, str | os.PathLike) and Path(images).is_dir():
        found = sorted(path for path in Path(images).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            raise FileNotFoundError(f"{os.fspath(images)}: expected pictures in this folder, found none")
        return list(found)
    if len(getattr(images, "shape", ())) == 4:
        return list(images)
    return [images]


def fitted(picture: Any, shape: Shape, name: str) -> NDArray[np.uint8]:
    """Give the largest centred part of a picture that has the network's aspect ratio, at its size, uint8 [H, W, C]."""
    image = opened(picture, name)
    (width, height), (to_width, to_height) = image.size, (shape.width, shape.height)
    if width * to_height > to_width * height:
        part = (max(1, min(width, (height * to_width + to_height // 2) // to_height)), height)
    else:
        part = (width, max(1, min(height, (width * to_height + to_width // 2) // to_width)))
    left, top = (width - part[0]) // 2, (height - part[1]) // 2
    image = image.crop((left, top, left + part[0], top + part[1]))
    image = image.resize((to_width, to_height), resample=2)  # bilinear, with antialiasing
    if shape.channels == 1:
        image = image.convert("L")
    return np.asarray(image).reshape(shape.height, shape.width, shape.channels)


def opened(picture: Any, name: str) -> Image:
    """Give a picture as Pillow's, RGB and upright."""
    try:
        from PIL import Image, ImageOps
    except ImportError as problem:
        raise ImportError("pictures are decoded and resized by Pillow: pip install 'awsnet[pictures]'") from problem
    if isinstance(picture, str | os.PathLike):
        name = os.fspath(picture)
        try:
            with Image.open(picture) as file:
                return ImageOps.exif_transpose(file).convert("RGB")
        except (SyntaxError, ValueError, EOFError, Image.UnidentifiedImageError) as problem:
            raise ValueError(f"{name}: expected a picture, found {problem}") from problem
    if is_picture(picture):
        return ImageOps.exif_transpose(picture).convert("RGB")
    if getattr(picture, "requires_grad", False):
        picture = picture.detach()
    if not hasattr(picture, "__array__") and not hasattr(picture, "__array_interface__"):
        expected = "a path, a PIL picture or a uint8 array [H, W, C]"
        raise TypeError(f"{name}: expected {expected}, found a {type(picture).__name__}")
    array = np.asarray(picture)
    if array.dtype != np.uint8:
        raise TypeError(f"{name}: expected a path, a PIL picture or a uint8 array, found an array of {array.dtype}")
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)  # as torchvision reads pictures
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ValueError(f"{name}: expected pixels [H, W] or [H, W, 3 or 4], found {list(array.shape)}")
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
