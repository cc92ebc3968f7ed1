"""Is a model right on photographs? Holds it against two networks that were trained on them.

    npm pack @vladmandic/face-api@1.7.15
    tar xzf vladmandic-face-api-1.7.15.tgz
    python train/tools/convert_face_api.py vladmandic-face-api-1.7.15.tgz expression.safetensors
    python train/tools/judge_photographs.py MODEL expression.safetensors face_landmarker.task package/demo/sample*.jpg

Faces are found by BlazeFace and cut out as MODEL's manifest says. Of the emotions: how often the winner is that of
face-api's network on the same crop. Of the AUs: how often one is active where MediaPipe's face landmarker sees the
movement, and where it does not. Nobody has annotated these pictures; both judges err, above all on faces seen from the
side. The heads of cut_faces.py and judge_faces.py say what to install.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from cut_faces import SCALE, SHIFT, SIZE, Detector, cut
from judge_faces import SHAPES, Judge
from PIL import Image, ImageOps

from awsnet_train import load_model
from awsnet_train.network import AwsNet, Logits

AROUND = 0.6  # of a box's side, what the landmarker sees beside it
# AU, "above" or "below", a limit of its blend shape, what is wanted of the share of active ones
WANTED = [("AU12", "above", 0.5, "at least 0.80"), ("AU12", "below", 0.1, "at most 0.15"),
          ("AU1", "below", 0.1, "at most 0.20"), ("AU26", "below", 0.1, "at most 0.20")]  # fmt: skip


def run(network: AwsNet, faces: list[Image.Image]) -> Logits:
    size = (network.structure.input.width, network.structure.input.height)
    pixels = np.stack([np.asarray(face.resize(size, Image.Resampling.BILINEAR)) for face in faces])
    with torch.inference_mode():
        return network(network.normalise(torch.from_numpy(pixels)))


def winners(network: AwsNet, logits: Logits) -> list[str]:
    labels = network.manifest["heads"]["emotion"]["labels"]
    return [labels[index] for index in logits.emotion.argmax(1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("expression", type=Path, help="face-api's network, converted")
    parser.add_argument("landmarker", help="the file face_landmarker.task")
    parser.add_argument("pictures", type=Path, nargs="+")
    given = parser.parse_args()
    torch.set_num_threads(1)
    network, expression = load_model(given.model), load_model(given.expression)
    how = network.manifest.get("face", {}).get("box", {})
    scale, shift = how.get("scale", SCALE), how.get("shift", SHIFT)

    find, judge = Detector(), Judge(given.landmarker)
    faces, seen = [], []
    for path in given.pictures:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
        for box in find(picture):
            faces.append(cut(picture, box, scale, shift, SIZE))
            left, top = box.left - AROUND * box.width, box.top - AROUND * box.width
            side = (1 + 2 * AROUND) * box.width
            seen.append(
                judge(picture.crop((round(left), round(top), round(left + side), round(top + side))).resize((320, 320)))
            )
    if not faces:
        raise SystemExit(f"expected faces in {len(given.pictures)} pictures, found none")

    logits = run(network, faces)
    mine, theirs = winners(network, logits), winners(expression, run(expression, faces))
    agree = sum(a == b for a, b in zip(mine, theirs, strict=True))
    found = sum(shapes is not None for shapes in seen)
    print(f"{len(given.pictures)} pictures, {len(faces)} faces, of which the landmarker finds {found}")
    print(f"emotion: as face-api's network says: {agree / len(faces):.2f} of {len(faces)}, at least 0.90 wanted")
    heads = network.manifest["heads"]["au"]
    active = (logits.au.sigmoid() >= torch.tensor(heads.get("thresholds", [0.5] * len(heads["labels"])))).numpy()
    of = {au: active[:, index] for index, au in enumerate(heads["labels"])}
    for au, side, limit, wanted in WANTED:
        chosen = [
            i for i, s in enumerate(seen) if s is not None and (s[au] > limit if side == "above" else s[au] < limit)
        ]
        share = f"{of[au][chosen].mean():.2f}" if chosen else "-"
        print(f"{au} active, {SHAPES[au][0]} {side} {limit}: {share} of {len(chosen)}, {wanted} wanted")
    print("AU      active on   correlation of its probability with the blend shape")
    scores = logits.au.sigmoid().numpy()
    kept = [i for i, s in enumerate(seen) if s is not None]
    for index, au in enumerate(heads["labels"]):
        shapes = np.array([seen[i][au] for i in kept]) if au in SHAPES else np.zeros(len(kept))  # type: ignore[index]
        told = shapes.std() > 0.02 and scores[kept, index].std() > 0
        correlation = f"{np.corrcoef(scores[kept, index], shapes)[0, 1]:5.2f}" if told else "    -"
        print(f"{au:5} {of[au].mean():10.2f}   {correlation}")


if __name__ == "__main__":
    main()
