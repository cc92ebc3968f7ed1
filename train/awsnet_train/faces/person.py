"""Who is seen: the shape and the colours of one identity, drawn from its number alone."""

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from .actions import both
from .head import EYE, Floats, head

# Traits that look like an expression, or move the head as a whole, belong to no identity.
NOT_A_TRAIT = ("mouth-angles", "mouth-laugh", "eyebrows-angle", "eyebrows-trans", "head-trans", "head-angle", "lip-ext")
SKIN_TONES = np.array([[241, 205, 184], [224, 178, 150], [198, 148, 116], [158, 112, 84], [112, 76, 58], [78, 52, 42]])
HAIR_COLOURS = np.array([[24, 20, 18], [52, 36, 26], [92, 62, 38], [150, 112, 70], [150, 148, 146]])
IRIS_COLOURS = np.array([[62, 40, 24], [92, 66, 36], [84, 104, 74], [88, 120, 150]])
BROW_HEIGHTS = (7.42, 7.48)  # decimetres; the eyes lie at 7.29
BROW_ARCHES = (0.05, 0.35)


@dataclass(frozen=True)
class Person:
    vertices: Floats  # [V, 3], at rest
    eyes: Floats  # [3], between the eyes
    skin: Floats  # colours are RGB, 0 to 255
    lips: Floats
    hair: Floats
    iris: Floats
    brow_thickness: float  # decimetres
    brow_height: float  # of the brow's middle on the average head at rest
    brow_arch: float  # how far the ends lie below the middle, a decimetre to the side squared
    brow_density: float  # 0: skin, 1: hair
    hairline: float
    bald: bool
    beard: float  # 0: shaven, 1: dense
    moustache: bool
    glasses: bool
    wrinkling: float  # how deeply an expression furrows the skin
    resting: dict[str, float]  # blend shapes of the face at rest: mouths curve without a smile


def between(colours: NDArray[np.int64], position: float) -> Floats:
    """A colour between two neighbours of a row of colours; `position` runs from 0 to 1 along the row."""
    position *= len(colours) - 1
    lower = min(int(position), len(colours) - 2)
    return np.asarray(colours[lower] + (colours[lower + 1] - colours[lower]) * (position - lower), np.float32)


@cache
def traits() -> list[int]:
    """Which of the features an identity can have."""
    return [index for index, name in enumerate(head().features.names) if not any(part in name for part in NOT_A_TRAIT)]


def resting(random: np.random.Generator) -> dict[str, float]:
    """What a face without any AU shows of its own, always fainter than the faintest AU."""
    curve, lips = random.uniform(-0.2, 0.26), random.uniform(0, 0.25)
    shapes = both("mouthSmile", curve) if curve > 0 else both("mouthFrown", -curve)
    shapes |= both("mouthPress" if random.random() < 0.5 else "mouthUpperUp", lips)
    if random.random() < 0.3:  # lips pushed forward
        shapes["mouthPucker"] = random.uniform(0, 0.6)
    if random.random() < 0.3:  # a mouth that is not in the middle
        shapes["mouthLeft" if random.random() < 0.5 else "mouthRight"] = random.uniform(0, 0.4)
    return shapes


@lru_cache(maxsize=4096)
def person(identity: int) -> Person:
    """The same number is the same person, on every call and with every seed."""
    random = np.random.default_rng([0x1D, identity])
    mesh = head()
    types = random.dirichlet(np.full(len(mesh.types.names), 0.3)).astype(np.float32)
    features = np.zeros(len(mesh.features.names), np.float32)
    features[random.choice(traits(), 16, replace=False)] = random.uniform(0, 0.6, 16)

    vertices = mesh.vertices + mesh.types.move(types) + mesh.features.move(features)
    darkness = random.random()
    skin = between(SKIN_TONES, darkness) * np.float32(random.uniform(0.95, 1.05))
    lightest = 1.0 if darkness < 0.5 else 0.25  # of hair and iris
    lip_tint = np.array([random.uniform(0.78, 0.95), random.uniform(0.52, 0.68), random.uniform(0.52, 0.7)], np.float32)
    if random.random() < 0.3:  # lipstick
        lip_tint *= np.array(
            [random.uniform(0.8, 1.05), random.uniform(0.35, 0.8), random.uniform(0.5, 0.9)], np.float32
        )
    return Person(
        vertices=vertices,
        eyes=vertices[np.unique(mesh.triangles[mesh.material == EYE])].mean(0),
        skin=skin,
        lips=skin * lip_tint,
        hair=between(HAIR_COLOURS, random.uniform(0, lightest)),
        iris=between(IRIS_COLOURS, random.uniform(0, lightest)),
        brow_thickness=float(random.uniform(0.022, 0.050)),
        brow_height=float(random.uniform(*BROW_HEIGHTS)),
        brow_arch=float(random.uniform(*BROW_ARCHES)),
        brow_density=float(random.uniform(0.45, 0.95)),
        hairline=float(random.uniform(7.74, 8.2)),
        bald=bool(random.random() < 0.15),
        beard=float(random.uniform(0.25, 1.0)) if random.random() < 0.25 else 0.0,
        moustache=bool(random.random() < 0.7),
        glasses=bool(random.random() < 0.15),
        wrinkling=float(random.uniform(0.6, 1.0)),
        resting=resting(random),
    )
