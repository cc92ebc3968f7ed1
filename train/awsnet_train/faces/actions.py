"""Action units as blend shapes and wrinkles, and emotions as action units.

An intensity runs from 0 to 1; one drawn for an active AU is never below FAINTEST, so that "active" is something that
can be seen. The prototypes of the emotions follow EMFACS.
"""

from dataclasses import dataclass

import numpy as np

EMOTIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")
FAINTEST = 0.4
TALKING = 0.25  # of the neutral faces have their lips parted


def both(name: str, weight: float) -> dict[str, float]:
    return {f"{name}Left": weight, f"{name}Right": weight}


# The blend shapes at intensity 1. A name is a shape of the ARKit family, and its weight may pass 1.
SHAPES: dict[str, dict[str, float]] = {
    "AU1": {"browInnerUp": 1.3},
    "AU2": both("browOuterUp", 1.3),
    "AU4": both("browDown", 1.9),
    "AU5": both("eyeWide", 1.4),
    "AU6": both("cheekSquint", 1.4),
    "AU7": both("eyeSquint", 1.2),
    "AU9": both("noseSneer", 1.5),
    "AU10": both("mouthUpperUp", 1.2),
    "AU12": both("mouthSmile", 1.1),
    "AU15": both("mouthFrown", 1.3),
    "AU16": both("mouthLowerDown", 1.0),
    "AU17": {"mouthShrugLower": 1.1, "mouthShrugUpper": 0.5},
    "AU20": both("mouthStretch", 1.3),
    "AU23": both("mouthPress", 0.9) | {"mouthRollLower": 0.6, "mouthRollUpper": 0.6},
    "AU25": both("mouthLowerDown", 0.45) | both("mouthUpperUp", 0.25) | {"jawOpen": 0.12},
    "AU26": {"jawOpen": 0.6},
}
AUS = tuple(SHAPES)


@dataclass(frozen=True)
class Prototype:
    """What an emotion does to a face: one of the `variants`, and each of `often` in half of the faces."""

    variants: tuple[dict[str, float], ...]
    often: dict[str, float]


PROTOTYPES: dict[str, Prototype] = {
    "neutral": Prototype(({},), {}),
    "happiness": Prototype(({"AU6": 0.9, "AU12": 1.0},), {"AU25": 0.9, "AU26": 0.7}),
    "sadness": Prototype(({"AU1": 1.0, "AU4": 0.6, "AU15": 1.0},), {"AU17": 0.7}),
    "surprise": Prototype(({"AU1": 0.9, "AU2": 1.0, "AU5": 0.8, "AU26": 1.0},), {"AU25": 0.7}),
    "fear": Prototype(
        ({"AU1": 1.0, "AU2": 0.6, "AU4": 0.6, "AU5": 1.0, "AU20": 1.0, "AU25": 0.9},), {"AU7": 0.5, "AU26": 0.6}
    ),
    "disgust": Prototype(({"AU9": 1.0, "AU15": 0.7, "AU16": 0.7},), {"AU10": 0.9, "AU4": 0.5, "AU6": 0.6}),
    "anger": Prototype(
        (
            {"AU4": 1.0, "AU5": 0.6, "AU7": 0.9, "AU23": 1.0},
            {"AU4": 1.0, "AU5": 0.6, "AU7": 0.9, "AU10": 0.8, "AU25": 0.9, "AU26": 0.5},
        ),
        {},
    ),
}

# Pairs that undo or hide each other; the second one met is not drawn beside the first.
OPPOSED = {
    frozenset(pair)
    for first, others in {
        "AU12": ("AU15", "AU17", "AU20", "AU23"),
        "AU17": ("AU16", "AU25", "AU26"),
        "AU23": ("AU10", "AU16", "AU20", "AU25", "AU26"),
        "AU5": ("AU6",),
    }.items()
    for pair in ((first, other) for other in others)
}


def expression(emotion: str, random: np.random.Generator, noise: float = 0.04) -> dict[str, float]:
    """The intensity of every AU of one face: the prototype, weaker or stronger, and now and then an AU beside it.

    noise: the chance of each AU that the emotion does not ask for.
    """
    prototype = PROTOTYPES[emotion]
    strength = random.uniform(0.65, 1.0)
    full = dict(prototype.variants[random.integers(len(prototype.variants))])
    full |= {au: value for au, value in prototype.often.items() if random.random() < 0.5}
    active = {au: value * strength * random.uniform(0.85, 1.15) for au, value in full.items()}
    for au in AUS:
        opposed = any(frozenset((au, other)) in OPPOSED for other in active)
        if random.random() < noise and au not in active and not opposed:
            active[au] = random.uniform(FAINTEST, 0.7)
    if emotion == "neutral" and random.random() < TALKING and "AU17" not in active and "AU23" not in active:
        active.setdefault("AU25", random.uniform(FAINTEST, 0.8))
    return completed(active, random)


def unrelated(random: np.random.Generator, chance: float = 0.2) -> dict[str, float]:
    """The intensity of every AU of a face that shows no emotion's prototype: each AU comes by itself, where none that
    is there already opposes it. Where AUs come in prototypes alone, a network learns any of them by the sight of all.
    """
    active: dict[str, float] = {}
    for au in random.permutation(AUS):
        opposed = any(frozenset((str(au), other)) in OPPOSED for other in active)
        if random.random() < chance and not opposed:
            active[str(au)] = random.uniform(FAINTEST, 1)
    return completed(active, random)


def completed(active: dict[str, float], random: np.random.Generator) -> dict[str, float]:
    """All AUs: those at rest, too, and the lips that a dropped jaw or a lowered lip parts."""
    if not {"AU16", "AU26"}.isdisjoint(active):
        active.setdefault("AU25", random.uniform(FAINTEST, 0.7))
    return {au: float(np.clip(active[au], FAINTEST, 1)) if au in active else 0.0 for au in AUS}
