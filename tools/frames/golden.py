"""Makes tests/frames/golden.safetensors: frames of video as outside software has them, and the colours that it sees.

    python3 -m venv target/frames && target/frames/bin/pip install -r tools/frames/requirements.txt
    target/frames/bin/python tools/frames/golden.py

FFmpeg (PyAV) lays out frames of odd and even sizes: the planes of its frame, with their line sizes, and the bytes of
its rawvideo encoder, which have nothing between rows. OpenCV and FFmpeg's swscale convert to RGB. OpenCV knows even
sizes only. At odd ones swscale interpolates chroma, which then is the same everywhere: a second frame, called flat.
Luma is from 16 to 235 and chroma from 16 to 240, as in video; of what is darker OpenCV makes 16.
"""

import json
import pathlib
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "frames"
SIZES = [(48, 32), (7, 5), (33, 20), (20, 33), (1, 1), (9, 1), (1, 6)]
FORMATS = {"nv12": ("nv12", cv2.COLOR_YUV2RGB_NV12), "i420": ("yuv420p", cv2.COLOR_YUV2RGB_I420)}


def frame_of(pix_fmt: str, width: int, height: int, flat: bool, random: np.random.Generator) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, pix_fmt)
    for index, plane in enumerate(frame.planes):
        # What lies behind a row is no part of the picture, and is filled too.
        values = random.integers(16, 236 if index == 0 else 241, plane.buffer_size, dtype=np.uint8)
        if flat and index > 0:
            values[:] = np.resize(values[:2] if pix_fmt == "nv12" else values[:1], len(values))
        plane.update(values.tobytes())
    return frame


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """What swscale sees, [height][width][3]."""
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation="POINT",
    )
    rows = np.frombuffer(bytes(rgb.planes[0]), dtype=np.uint8).reshape(frame.height, -1)
    return np.ascontiguousarray(rows[:, : 3 * frame.width]).reshape(frame.height, frame.width, 3)


def dense(frame: av.VideoFrame) -> np.ndarray:
    """The bytes of FFmpeg's rawvideo."""
    codec: Any = av.CodecContext.create("rawvideo", "w")
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, frame.format.name
    codec.time_base = Fraction(1, 25)
    packets = codec.encode(frame)
    return np.frombuffer(bytes(packets[0]), dtype=np.uint8)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    random = np.random.default_rng(20261126)
    tensors: dict[str, np.ndarray] = {}
    cases = []
    for name, (pix_fmt, conversion) in FORMATS.items():
        for width, height in SIZES:
            even = width % 2 == 0 and height % 2 == 0
            for flat in (False,) if even else (False, True):
                case = f"{name}.{width}x{height}" + (".flat" if flat else "")
                frame = frame_of(pix_fmt, width, height, flat, random)
                for index, plane in enumerate(frame.planes):
                    tensors[f"{case}.plane{index}"] = np.frombuffer(bytes(plane), dtype=np.uint8)
                tensors[f"{case}.dense"] = dense(frame)
                if even:
                    bytes_of = tensors[f"{case}.dense"].reshape(height * 3 // 2, width)
                    tensors[f"{case}.opencv"] = cv2.cvtColor(bytes_of, conversion)
                if even or flat:
                    tensors[f"{case}.ffmpeg"] = to_rgb(frame)
                line_sizes = [plane.line_size for plane in frame.planes]
                cases.append({"name": case, "width": width, "height": height, "line_sizes": line_sizes})
    print(f"{len(cases)} frames")
    save_file(tensors, OUT / "golden.safetensors", {"cases": json.dumps(cases)})


if __name__ == "__main__":
    main()
