"""Faces in pictures: where they are, by BlazeFace on awsnet's own kernels, and each as a network wants to see it."""

from __future__ import annotations

import dataclasses
from ctypes import byref, c_size_t, c_void_p
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from . import _c
from ._c import call

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from .engine import Model, Pool

FORMATS = ("rgb", "bgr", "rgba", "bgra", "grey", "nv12", "i420")
"""By AWSNET_FRAME_*."""

CHANNELS = {"rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4}
POINTS = ("left_eye", "right_eye", "nose", "mouth", "left_ear", "right_ear")
"""By AWSNET_POINT_*; left is the picture's left where the face stands upright."""


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in a picture, in pixels from its upper left corner. The bounds may cross the borders."""

    x: float
    y: float
    width: float
    height: float
    score: float = 1.0
    """From 0 to 1, how sure the detector is."""
    points: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """By the names of `POINTS`; none of a face that something else has found."""

    def _of_c(self) -> _c.Face:
        face = _c.Face(self.x, self.y, self.width, self.height, self.score, len(self.points))
        if self.points:
            if tuple(self.points) != POINTS:
                raise ValueError(f"face: expected the points {', '.join(POINTS)}, found {', '.join(self.points)}")
            for number, (x, y) in enumerate(self.points.values()):
                face.points[2 * number], face.points[2 * number + 1] = x, y
        return face


class Frame:
    """A picture in memory as the library reads it, whole or a view into a larger one."""

    def __init__(self, pixels: NDArray[np.uint8], format: str | None = None, name: str = "picture") -> None:
        """Describe an array.

        pixels: uint8 [H, W, 3], [H, W, 4], or [H, W] of grey; for "nv12" and "i420" [H * 3 / 2, W], as OpenCV has them.
        format: one of `FORMATS`; by default "rgb", "rgba" or "grey". Rows of whole pixels are not copied.
        """
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
            found = f"an array of {pixels.dtype}" if isinstance(pixels, np.ndarray) else f"a {type(pixels).__name__}"
            raise TypeError(f"{name}: expected a uint8 array, found {found}")
        if format is not None and format not in FORMATS:
            raise ValueError(f"format: expected one of {', '.join(FORMATS)}, found {format!r}")
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        planar = format in ("nv12", "i420")
        if format is None:
            format = "grey" if pixels.ndim == 2 else {3: "rgb", 4: "rgba"}.get(pixels.shape[-1], "rgb")
        channels = CHANNELS.get(format, 1)
        fits = pixels.ndim == 2 if channels == 1 else pixels.ndim == 3 and pixels.shape[2] == channels
        if not fits or pixels.size == 0 or (planar and (pixels.shape[0] % 3 or pixels.shape[1] % 2)):
            wanted = {"nv12": "[H * 3 / 2, W]", "i420": "[H * 3 / 2, W]", "grey": "[H, W]"}.get(
                format, f"[H, W, {channels}]"
            )
            raise ValueError(f"{name}: expected {format} pixels {wanted}, found {list(pixels.shape)}")
        inner = (channels, 1) if pixels.ndim == 3 else (1,)
        if pixels.strides[1:] != inner or pixels.strides[0] < pixels.shape[1] * channels or planar:
            pixels = np.ascontiguousarray(pixels)
        self.pixels = pixels
        self.height, self.width = pixels.shape[0] * 2 // 3 if planar else pixels.shape[0], pixels.shape[1]
        self._of_c = _c.Frame()
        self._of_c.format = FORMATS.index(format)
        self._of_c.width, self._of_c.height = self.width, self.height
        self._of_c.planes[0] = pixels.ctypes.data
        self._of_c.sizes[0] = pixels.strides[0] * (pixels.shape[0] - 1) + pixels.shape[1] * channels
        self._of_c.row_strides[0] = 0 if planar else pixels.strides[0]


class Detector(_c.Handle):
    """A face detector with one caller's memory and threads; one thread at a time may use it."""

    _kind = "detector"
    _least: ClassVar[int] = 16

    def __init__(
        self,
        model: Model | str | os.PathLike[str] | bytes | None = None,
        *,
        min_score: float = 0.0,
        min_face: float = 0.0,
        device: str = "auto",
        threads: int = 0,
        pool: Pool | None = None,
    ) -> None:
        """Make a detector.

        model: another detector of BlazeFace's kind; by default the one in the library. min_score: what it is less sure
        of is left out, from 0 to 1; 0 is 0.6. min_face: how small a face may be, in pixels of its width; 0 is a tenth
        of the picture's longer side. Smaller ones take closer looks, four times as many each time it is halved. The
        rest is as for `Engine`; "auto" is the CPU.
        """
        from . import engine

        options, handle = _c.DetectorOptions(), c_void_p()
        options.min_score, options.min_face = min_score, min_face
        options.device, options.device_index = engine._device(device)
        options.threads = engine._number("threads", threads, 0)
        options.pool = None if pool is None else pool._handle
        opened = None
        if model is not None:
            opened = model if isinstance(model, engine.Model) else engine.Model.load(model)
        call("awsnet_detector_create", None if opened is None else opened._handle, byref(options), byref(handle))
        super().__init__(handle)

    def detect(self, picture: Any, format: str | None = None) -> list[Face]:
        """Find the faces in a picture, the surest first.

        picture: a path, a PIL picture, an array as `Frame` takes it, or a `Frame`. Faces that are turned by more than
        about 30 degrees in the picture's plane, or look away, may be missed.
        """
        frame = as_frame(picture, format)
        count, capacity = c_size_t(), self._least
        while True:
            faces = (_c.Face * capacity)()
            call("awsnet_detector_detect", self._handle, byref(frame._of_c), faces, capacity, byref(count))
            if count.value <= capacity:
                break
            capacity = count.value
        return [_face(faces[index]) for index in range(count.value)]


def _face(of: _c.Face) -> Face:
    points = {name: (of.points[2 * i], of.points[2 * i + 1]) for i, name in enumerate(POINTS[: of.point_count])}
    return Face(of.x, of.y, of.width, of.height, of.score, points)


def as_frame(picture: Any, format: str | None = None, name: str = "picture") -> Frame:
    """A picture as the library reads it: a path, a PIL picture, an array, or a frame already."""
    if isinstance(picture, Frame):
        return picture
    if isinstance(picture, np.ndarray):
        return Frame(picture, format, name)
    if format is not None:
        raise TypeError(f"format: expected none beside a {type(picture).__name__}, whose colours are known")
    from . import pictures

    return Frame(np.asarray(pictures.opened(picture, name)), "rgb", name)
