"""Do rendered faces look like what they are called? Asks MediaPipe's face landmarker, which has seen photographs.

    pip install mediapipe==1.2.3
    python train/tools/judge_faces.py face_landmarker.task [--count 300] [--seed 11]

The landmarker (Apache-2.0) gives 52 blend shapes, 0 to 1. The table has a row an AU: the mean of its blend shape where
the AU is drawn above 0.3, the mean where it is at rest, and how often the first is the larger one (AUC). The last lines
hold faces without an AU against what neutral people look like: on photographs the landmarker's mean of browInnerUp is
0.08, of browOuterUp 0.17.
"""

import argparse

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
from numpy.typing import NDArray
from PIL import Image

from awsnet_train.faces.person import person
from awsnet_train.faces.render import render, scene
from awsnet_train.faces.write import faces

PEOPLE = range(5000, 5500)
SIZE, MARGIN = 240, 40  # pixels; the landmarker wants to see around a face


def both(name: str) -> tuple[str, str]:
    return f"{name}Left", f"{name}Right"


# AU6 and AU9 are left out: cheekSquint and noseSneer stay near 0 on photographs, too.
SHAPES: dict[str, tuple[str, ...]] = {
    "AU1": ("browInnerUp",),
    "AU2": both("browOuterUp"),
    "AU4": both("browDown"),
    "AU5": both("eyeWide"),
    "AU7": both("eyeSquint"),
    "AU10": both("mouthUpperUp"),
    "AU12": both("mouthSmile"),
    "AU15": both("mouthFrown"),
    "AU16": both("mouthLowerDown"),
    "AU17": ("mouthShrugLower",),
    "AU20": both("mouthStretch"),
    "AU23": both("mouthPress"),
    "AU26": ("jawOpen",),
}


NEUTRAL = {
    "AU1": "at most 0.20 wanted",
    "AU2": "at most 0.25 wanted",
    "AU4": "at most 0.20 wanted",
    "AU12": "at most 0.10 wanted",
    "AU26": "at most 0.10 wanted",
}


class Judge:
    def __init__(self, path: str) -> None:
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=path),
            output_face_blendshapes=True,
            num_faces=1,
            min_face_detection_confidence=0.2,
        )
        self.landmarker = vision.FaceLandmarker.create_from_options(options)

    def __call__(self, image: Image.Image) -> dict[str, float] | None:
        """The mean blend shape of every AU of SHAPES, or None where no face is found."""
        data = np.ascontiguousarray(np.asarray(image.convert("RGB")))
        found = self.landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=data)).face_blendshapes
        if not found:
            return None
        scores = {shape.category_name: shape.score for shape in found[0]}
        return {au: float(np.mean([scores[name] for name in names])) for au, names in SHAPES.items()}


def pasted(pixels: NDArray[np.uint8]) -> Image.Image:
    canvas = Image.new("RGB", (SIZE + 2 * MARGIN,) * 2, (128, 128, 128))
    canvas.paste(Image.fromarray(pixels), (MARGIN, MARGIN))
    return canvas


def mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("landmarker", help="the file face_landmarker.task")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--neutral", type=int, default=60, help="faces without an AU, besides")
    parser.add_argument("--seed", type=int, default=11)
    given = parser.parse_args()
    judge = Judge(given.landmarker)
    drawn = [(face.label["au"], judge(pasted(face.pixels))) for face in faces(given.count, given.seed, SIZE, PEOPLE)]
    found = [(label, seen) for label, seen in drawn if seen is not None]
    print(f"seed {given.seed}: {len(drawn)} faces, of which the landmarker finds {len(found)}")
    print("AU     active   mean    at rest   AUC")
    for au in SHAPES:
        active = [seen[au] for label, seen in found if label[au] > 0.3]
        rest = [seen[au] for label, seen in found if label[au] == 0]
        auc = mean([(a > r) + 0.5 * (a == r) for a in active for r in rest])
        print(f"{au:5} {len(active):7}   {mean(active):.2f}      {mean(rest):.2f}   {auc:.2f}")

    random = np.random.default_rng(given.seed)
    calm = [judge(pasted(render(person(PEOPLE[i]), {}, scene(random), SIZE))) for i in range(given.neutral)]
    neutral = [seen for seen in calm if seen is not None]
    print(f"{given.neutral} faces without an AU, of which the landmarker finds {len(neutral)}")
    for au, wanted in NEUTRAL.items():
        print(f"mean {SHAPES[au][0]} {mean([seen[au] for seen in neutral]):.2f}, {wanted}")


if __name__ == "__main__":
    main()
