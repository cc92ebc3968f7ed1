"""Makes a model file of one branch, emotion, of the expression network of the npm package @vladmandic/face-api 1.7.15.

    npm pack @vladmandic/face-api@1.7.15
    python train/tools/convert_face_api.py vladmandic-face-api-1.7.15.tgz target/face-expression.safetensors

The package is MIT licensed; its notice goes into the file's `about`. It was trained on photographs, by the author of
face-api.js. The weights are stored as bytes with one scale and one minimum a tensor; they come out as f32.

The network (src/faceFeatureExtractor in the package): 112x112 RGB, minus a mean colour, divided by 255; four dense
blocks of four separable convolutions each (the very first is a plain one), each block at half the size of the one
before:

    y0 = relu(c0(x));  s1 = c1(y0) + y0;  s2 = c2(relu(s1)) + s1;  y = relu(c3(relu(s2)) + s2)

then the average of each channel and one linear layer. Convolutions of stride 2 pad at the bottom and at the right
alone, as TensorFlow's "same" does where the size is even.
"""

import argparse
import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

INTEGRITY = "sha512-WDMmK3CfNLo8jylWqMoQgf4nIst3M0fzx1dnac96wv/dvMTN4DxC/Pq1DGtduDk1lktCamQ3MIDXFnvrdHTXDw=="
MODEL = "package/model/face_expression_model"
MEAN = (122.782, 117.001, 104.298)
LABELS = ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise")  # the order of the network's rows
WIDTHS = (32, 64, 128, 256)


def unpack(package: bytes) -> tuple[list[dict[str, Any]], bytes, str]:
    """What describes the weights, their bytes, and the licence; refuses another package than the one above."""
    found = "sha512-" + base64.b64encode(hashlib.sha512(package).digest()).decode()
    if found != INTEGRITY:
        raise SystemExit(f"package: expected {INTEGRITY}, found {found}")
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:

        def read(name: str) -> bytes:
            file = archive.extractfile(name)
            if file is None:
                raise SystemExit(f"package: expected a file {name}, found none")
            return file.read()

        groups = json.loads(read(f"{MODEL}-weights_manifest.json"))
        return groups[0]["weights"], read(f"{MODEL}.bin"), read("package/LICENSE").decode()


def read_weights(entries: list[dict[str, Any]], data: bytes) -> dict[str, np.ndarray]:
    """Every tensor as f32; a byte b means b * scale + min."""
    tensors, offset = {}, 0
    for entry in entries:
        count, quantised = int(np.prod(entry["shape"])), entry.get("quantization")
        dtype = np.dtype(quantised["dtype"] if quantised else entry["dtype"]).newbyteorder("<")
        values = np.frombuffer(data, dtype, count, offset).astype(np.float32)
        offset += count * dtype.itemsize
        if quantised:
            values = values * np.float32(quantised["scale"]) + np.float32(quantised["min"])
        tensors[entry["name"]] = values.reshape(entry["shape"])
    if offset != len(data):
        raise SystemExit(f"{MODEL}.bin: expected {offset} bytes, found {len(data)}")
    return tensors


def layers() -> list[dict[str, Any]]:
    """The manifest's layers, named as the package names its weights."""
    found: list[dict[str, Any]] = []
    source, channels = "image", 3

    def add(name: str, op: str, **keys: Any) -> str:  # noqa: ANN401
        found.append({"name": name, "op": op, "input": source} | keys)
        return name

    for block, width in enumerate(WIDTHS):
        last = ""  # the running sum
        for number in range(4):
            place = f"dense{block}.conv{number}"
            stride, padding = (2, [0, 0, 1, 1]) if number == 0 else (1, [1, 1, 1, 1])
            if block == number == 0:
                source = add(place, "conv2d", kernel=3, stride=2, padding=padding, activation="relu")
                last, channels = source, width
                continue
            source = add(f"{place}.depthwise", "conv2d", kernel=3, stride=stride, padding=padding, groups=channels)
            source = add(f"{place}.pointwise", "conv2d", kernel=1)
            channels = width
            if number == 0:
                source = last = add(f"dense{block}.relu0", "identity", activation="relu")
            elif number == 3:
                source = add(f"dense{block}.out", "identity", residual=last, activation="relu")
            else:
                source = last = add(f"dense{block}.sum{number}", "identity", residual=last)
                source = add(f"dense{block}.relu{number}", "identity", activation="relu")
    add("avgpool", "global_avg_pool2d")
    return found


def convert(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """TensorFlow's layouts, height and width first, as the format's: filters [out, in, h, w], linear [out, in]."""
    tensors = {}
    for name, values in weights.items():
        place, _, part = name.rpartition("/")
        place = "emotion." + place.replace("/", ".")
        separable = f"{name.rpartition('/')[0]}/pointwise_filter" in weights
        if part == "depthwise_filter":
            tensors[f"{place}.depthwise.weight"] = values.transpose(2, 3, 0, 1)
        elif part in ("pointwise_filter", "filters"):
            key = f"{place}.pointwise.weight" if separable else f"{place}.weight"
            tensors[key] = values.transpose(3, 2, 0, 1)
        elif part == "weights":
            tensors[f"{place}.weight"] = values.T
        else:
            tensors[f"{place}.pointwise.bias" if separable else f"{place}.bias"] = values
    return {name: np.ascontiguousarray(values) for name, values in tensors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="The expression network of face-api as a model file of one branch.")
    parser.add_argument("package", type=Path, help="vladmandic-face-api-1.7.15.tgz")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    entries, data, licence = unpack(arguments.package.read_bytes())
    manifest = {
        "version": 2,
        "name": "face-api expression",
        "branches": ["emotion"],
        "input": {
            "channels": 3,
            "height": 112,
            "width": 112,
            "mean": [value / 255 for value in MEAN],
            "std": [1, 1, 1],
        },
        "layers": layers(),
        "heads": {"emotion": {"kind": "classes", "input": "avgpool", "tensor": "fc", "labels": list(LABELS)}},
        "about": {
            "source": "@vladmandic/face-api 1.7.15, face_expression_model",
            "url": "https://github.com/vladmandic/face-api",
            "trained_on": "photographs, by the author of face-api.js",
            "licence": licence,
        },
    }
    tensors = convert(read_weights(entries, data))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_bytes(save(tensors, {"awsnet": json.dumps(manifest)}))


if __name__ == "__main__":
    main()
