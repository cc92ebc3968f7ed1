"""What people pass as images, as the library reads it: uint8 pixels [N, H, W, C], or float32 [N, C, H, W], normalised.

An array that lies as the library can read it is passed as it lies, views into larger pictures too. Everything else that
can only mean one thing is copied once. What could mean two things, or nothing, is refused.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CPU = (1, 3)
"""DLPack's device types of memory that a processor reads: plain, and pinned by CUDA."""


class Shape(NamedTuple):
    """Of one image, as the network takes it."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        c, h, w = self
        return f"uint8 [N, {h}, {w}, {c}], or normalised floats [N, {c}, {h}, {w}]"


def batch(images: Any, shape: Shape) -> NDArray[Any]:
    """Give images as one array, uint8 [N, H, W, C] or float32 [N, C, H, W].

    images: an array, a tensor or a picture, of one image or of several; or a list of single ones.
    """
    c, h, w = shape
    if (
        type(images) is np.ndarray
        and images.dtype == np.uint8
        and images.shape[1:] == (h, w, c)
        and lies_in_rows(images)
    ):
        return images
    if isinstance(images, list | tuple):
        if not images:
            return np.empty((0, shape.height, shape.width, shape.channels), np.uint8)
        parts = [_array(f"images[{index}]", image, shape, single=True) for index, image in enumerate(images)]
        for index, part in enumerate(parts):
            if part.dtype != parts[0].dtype:
                expected = f"expected {parts[0].dtype}, as in images[0]"
                raise TypeError(f"images[{index}]: {expected}, found {part.dtype}")
        return np.concatenate(parts)
    return _array("images", images, shape, single=False)


def _array(name: str, image: Any, shape: Shape, *, single: bool) -> NDArray[Any]:
    array = _as_numpy(name, image, shape)
    found = f"{array.dtype} {list(array.shape)}"
    if array.dtype == np.uint8:
        array = _pixels(name, array, shape, found)
    elif array.dtype.kind == "f" and array.dtype.itemsize <= 8:
        c, h, w = shape
        if array.shape == (c, h, w):
            array = array[None]
        elif array.shape[1:] != (c, h, w):
            hint = ""
            if array.shape[-3:] == (h, w, c):
                hint = "; pixels are passed as uint8, floats channel by channel, (pixel / 255 - mean) / std"
            raise ValueError(f"{name}: expected {shape}, found {found}{hint}")
        array = np.require(array, np.float32, ["C_CONTIGUOUS", "ALIGNED"])
    else:
        hint = ""
        if array.dtype.kind in "iub":
            hint = "; pixels from 0 to 255 are `.astype(numpy.uint8)`"
        raise TypeError(f"{name}: expected {shape}, found {found}{hint}")
    if single and len(array) != 1:
        raise ValueError(f"{name}: expected one image, as of every element of a list, found {found}")
    return array


def _pixels(name: str, array: NDArray[np.uint8], shape: Shape, found: str) -> NDArray[np.uint8]:
    c, h, w = shape
    if c == 1 and array.shape[-2:] == (h, w) and array.shape[-3:] != (h, w, 1) and array.shape[-3:] != (1, h, w):
        array = array[..., None]  # grey pictures have no axis of channels
    if array.ndim == 3:
        array = array[None]
    if array.ndim == 4 and array.shape[1:] == (c, h, w) != (h, w, c):
        array = array.transpose(0, 2, 3, 1)  # as torchvision reads pictures
    if array.ndim != 4 or array.shape[1:] != (h, w, c):
        hint = "; `Engine.predict` takes pictures of any size" if array.ndim in (3, 4) else ""
        raise ValueError(f"{name}: expected {shape}, found {found}{hint}")
    return array if lies_in_rows(array) else np.ascontiguousarray(array)


def lies_in_rows(array: NDArray[np.uint8]) -> bool:
    """Whether the rows of an array [N, H, W, C] are whole pixels, one behind the other."""
    if array.flags.c_contiguous:
        return True
    exact = (None, None, array.shape[3], 1)
    return all(
        length <= 1 or (stride >= 1 and wanted in (None, stride))
        for length, stride, wanted in zip(array.shape, array.strides, exact, strict=True)
    )


def _as_numpy(name: str, image: Any, shape: Shape) -> NDArray[Any]:
    """Give an object's values as an array, without a copy where it has them in memory."""
    if isinstance(image, str) or hasattr(image, "__fspath__"):
        raise TypeError(f"{name}: expected {shape}, found a path; `Engine.predict` reads files")
    if isinstance(image, np.ma.MaskedArray):
        if np.ma.is_masked(image):
            raise ValueError(f"{name}: expected an array whose values are all there, found a masked one")
        return np.asarray(image.data)
    if isinstance(image, np.ndarray):
        return np.asarray(image)
    if is_picture(image):
        return np.asarray(image.convert("L" if shape.channels == 1 else "RGB"))
    if hasattr(image, "__cuda_array_interface__") or _device_of(image) not in (None, *CPU):
        raise TypeError(f"{name}: expected an array in the processor's memory, found one on a GPU; see Session.enqueue")
    if getattr(image, "requires_grad", False):
        image = image.detach()  # of PyTorch
    if hasattr(image, "__array__") or hasattr(image, "__array_interface__") or isinstance(image, memoryview):
        try:
            return np.asarray(image)
        except (TypeError, ValueError, RuntimeError) as problem:
            raise TypeError(f"{name}: expected {shape}, found a {type(image).__name__}: {problem}") from problem
    if hasattr(image, "__dlpack__"):
        return np.from_dlpack(image)
    raise TypeError(f"{name}: expected {shape}, found a {type(image).__name__}")


def is_picture(image: Any) -> bool:
    """Whether this is a picture of PIL; without importing PIL, which has been where there is one."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(image, pil.Image)


def _device_of(image: Any) -> int | None:
    """DLPack's type of the memory that an object's values are in; None where it has none, or does not say."""
    device = getattr(image, "__dlpack_device__", None)
    try:
        return None if device is None else int(device()[0])
    except (ValueError, RuntimeError):  # PyTorch's tensors on "meta" and other devices that DLPack does not know
        return None
