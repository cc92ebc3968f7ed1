"""A person with an expression, in a scene, as pixels.

The mesh is moved by the targets, turned, and projected with a weak perspective; every seen pixel then gets its colour
from where on the head it lies. What is finer than the mesh (brows, wrinkles, iris) is painted as a function of the
position on the average head at rest, so that it moves with the skin.
"""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .actions import SHAPES
from .head import EYE, MOUTH, SKIN, TEETH, TONGUE, Floats, head
from .person import Person
from .rasterise import rasterise

OVERSAMPLING = 2  # rendered pixels a side for one of the result
FRAME = 1.9  # decimetres that fill the picture at zoom 1
DISTANCE = 9.0  # decimetres from the eye of the viewer to the head

# Wrinkles at intensity 1: strokes from (x0, y0) to (x1, y1) on the average head at rest, mirrored at x = 0, their
# half width and how much of the light they swallow.
WRINKLES: dict[str, list[tuple[float, float, float, float, float, float]]] = {
    "AU1": [(0.0, 7.8, 0.22, 7.82, 0.03, 0.24), (0.0, 7.92, 0.2, 7.94, 0.03, 0.2)],
    "AU2": [(0.25, 7.83, 0.52, 7.76, 0.03, 0.22), (0.22, 7.95, 0.48, 7.9, 0.03, 0.18)],
    "AU4": [(0.055, 7.44, 0.075, 7.64, 0.027, 0.44), (0.0, 7.36, 0.08, 7.37, 0.022, 0.28)],
    "AU6": [
        (0.49, 7.3, 0.63, 7.38, 0.019, 0.28),
        (0.49, 7.24, 0.63, 7.2, 0.019, 0.28),
        (0.22, 7.1, 0.44, 7.12, 0.027, 0.24),
    ],
    "AU7": [(0.2, 7.19, 0.42, 7.21, 0.019, 0.28)],
    "AU9": [
        (0.02, 7.3, 0.11, 7.2, 0.02, 0.36),
        (0.02, 7.22, 0.12, 7.11, 0.02, 0.36),
        (0.16, 6.98, 0.26, 6.82, 0.03, 0.36),
    ],
    "AU10": [(0.18, 6.94, 0.31, 6.7, 0.03, 0.32)],
    "AU12": [(0.19, 6.9, 0.36, 6.63, 0.03, 0.32)],
    "AU15": [(0.27, 6.6, 0.33, 6.44, 0.027, 0.32)],
    "AU17": [(0.0, 6.37, 0.1, 6.33, 0.03, 0.28), (0.05, 6.24, 0.12, 6.27, 0.027, 0.2)],
    "AU20": [(0.33, 6.74, 0.37, 6.54, 0.024, 0.28)],
    "AU23": [(0.0, 6.75, 0.16, 6.73, 0.019, 0.24), (0.0, 6.48, 0.15, 6.5, 0.022, 0.28)],
}


@dataclass(frozen=True)
class Scene:
    yaw: float = 0.0  # radians
    pitch: float = 0.0
    roll: float = 0.0
    zoom: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)  # right, down, in parts of the picture
    light: tuple[float, float, float] = (0.25, 0.4, 0.9)  # towards the light
    ambient: float = 0.45
    warmth: float = 0.0  # of the light, -1 to 1
    gaze: tuple[float, float] = (0.0, 0.0)  # left, up, in radii of the eyeball
    background: tuple[tuple[float, float, float], tuple[float, float, float]] = ((96, 104, 112), (60, 66, 74))
    blur: float = 0.0  # of the lens, in parts of the picture, standard deviation
    noise: float = 0.0  # of a pixel, standard deviation
    gamma: float = 1.0  # of the camera
    jpeg: int = 0  # quality of the file that the picture went through; 0: none
    seed: int = 0  # of that noise and of the grain of the skin


def scene(random: np.random.Generator) -> Scene:
    """A scene in which the face is near the middle, lit from somewhere in front, and turned as on photographs of people
    who mostly do not look into the camera."""

    def clipped(deviation: float, at_most: float) -> float:
        return float(np.clip(random.normal(0, deviation), -at_most, at_most))

    def colour() -> tuple[float, float, float]:
        red, green, blue = random.uniform(20, 225) + random.uniform(-25, 25, 3)
        return (red, green, blue)

    return Scene(
        yaw=clipped(0.3, 0.85),
        pitch=clipped(0.2, 0.5),
        roll=clipped(0.16, 0.5),
        zoom=float(random.uniform(0.92, 1.12)),
        shift=(clipped(0.02, 0.05), clipped(0.02, 0.05)),
        light=(clipped(0.6, 1.4), 0.35 + clipped(0.3, 0.7), 0.9),
        ambient=float(random.uniform(0.25, 0.65)),
        warmth=clipped(0.4, 1.0),
        gaze=(clipped(0.1, 0.25), clipped(0.05, 0.12)),
        background=(colour(), colour()),
        noise=float(random.uniform(0, 5)),
        seed=int(random.integers(2**31)),
        blur=float(random.uniform(0.002, 0.010)) if random.random() < 0.4 else 0.0,
        gamma=float(np.exp(clipped(0.2, 0.4))),
        jpeg=int(random.integers(40, 95)) if random.random() < 0.5 else 0,
    )


def rotation(yaw: float, pitch: float, roll: float) -> Floats:
    cosines, sines = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cosines[0], 0, sines[0]], [0, 1, 0], [-sines[0], 0, cosines[0]]])
    about_x = np.array([[1, 0, 0], [0, cosines[1], -sines[1]], [0, sines[1], cosines[1]]])
    about_z = np.array([[cosines[2], -sines[2], 0], [sines[2], cosines[2], 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y, np.float32)


def unit_normals(vertices: Floats, triangles: NDArray[np.int64]) -> Floats:
    """Normals of the vertices, each the sum over its triangles, weighted by their area."""
    corners = vertices[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat = triangles.T.ravel()
    summed = np.stack([np.bincount(flat, np.tile(normals[:, axis], 3), len(vertices)) for axis in range(3)], 1)
    return np.asarray(summed / (np.linalg.norm(summed, axis=1, keepdims=True) + 1e-12), np.float32)


def bell(distance: Floats, width: float) -> Floats:
    return np.exp(-np.square(distance / width))


def step(value: Floats, width: float) -> Floats:
    """From 0 to 1 as `value` passes 0, over `width`."""
    return np.clip(value / width + 0.5, 0, 1)


def from_stroke(x: Floats, y: Floats, x0: float, y0: float, x1: float, y1: float) -> Floats:
    """The distance from a line segment."""
    along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
    return np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))


def skin_colour(who: Person, intensity: dict[str, float], rest: Floats, lips: Floats, eyelids: Floats) -> Floats:
    """Colours of points of the skin, before any light; `rest` is where they lie on the average head, [P, 3]."""
    x, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    front = step(z - 0.9, 0.2)
    flush = front * (0.5 * bell(np.hypot(x - 0.42, y - 6.92), 0.2) + 0.6 * bell(np.hypot(x, y - 6.92), 0.12))
    colour = who.skin * (1 - flush[:, None] * np.array([0.02, 0.14, 0.12], np.float32))
    socket = 0.22 * bell(np.hypot((x - 0.30) / 1.6, y - 7.29), 0.10) * front
    shade = 1 - socket

    for au, strokes in WRINKLES.items():
        depth = intensity.get(au, 0.0) * who.wrinkling
        for x0, y0, x1, y1, width, strength in strokes if depth > 0 else ():
            shade *= 1 - depth * strength * bell(from_stroke(x, y, x0, y0, x1, y1), width) * front
    colour *= shade[:, None]

    thin = 1 - 0.45 * intensity.get("AU23", 0.0)
    colour += (lips * thin)[:, None] * (who.lips - colour)
    lash = eyelids * step(y - 7.285, 0.03)
    colour *= (1 - 0.6 * lash - 0.2 * (eyelids - lash))[:, None]

    arch = who.brow_height - who.brow_arch * np.square(x - 0.30)
    ends = step(x - 0.10, 0.05) * step(0.54 - x, 0.10)
    brow = np.exp(-((np.abs(y - arch) / (who.brow_thickness * (1.25 - x))) ** 3)) * ends * front
    colour += (who.brow_density * brow)[:, None] * (0.75 * who.hair - colour)

    if who.beard > 0:
        edge = 6.50 + 0.9 * np.maximum(x - 0.28, 0)  # rises towards the ears
        jaw = step(edge - y, 0.12) * step(y - 5.9, 0.1)
        lip = step(y - 6.68, 0.05) * step(6.90 - y, 0.08) * step(0.33 - x, 0.08) if who.moustache else 0.0
        beard = np.maximum(jaw, lip) * front * (1 - lips)
        colour += (0.85 * who.beard * beard)[:, None] * (0.8 * who.hair - colour)
    if who.glasses:
        from_eye = ((np.abs(x - 0.31) / 0.25) ** 3 + (np.abs(y - 7.28) / 0.17) ** 3) ** (1 / 3)
        bridge = bell(y - 7.33, 0.018) * step(0.07 - x, 0.02)
        temple = bell(y - 7.33, 0.018) * step(x - 0.55, 0.02) * step(z - 0.2, 0.1)
        frame = np.maximum(np.maximum(bell(from_eye - 1, 0.11) * front, bridge * front), temple)
        colour += (0.9 * frame)[:, None] * (np.array([30, 28, 30], np.float32) - colour)

    if not who.bald:
        above = step(y - who.hairline + 0.35 * np.square(x) - 0.1 * bell(x - 0.5, 0.15), 0.08)
        beside = step(x - 0.62, 0.06) * step(y - 7.25, 0.15) * step(0.75 - z, 0.1)
        behind = step(0.15 - z, 0.15) * step(y - 6.9, 0.2)
        hair = np.maximum(np.maximum(above, beside), behind)
        colour += (0.95 * hair)[:, None] * (who.hair - colour)
    return colour


def eye_colour(who: Person, gaze: tuple[float, float], rest: Floats) -> Floats:
    radius = 0.137
    centre = head().eyes[(rest[:, 0] > 0).astype(int)]
    x, y = (rest[:, 0] - centre[:, 0]) / radius, (rest[:, 1] - centre[:, 1]) / radius
    outwards = np.hypot(x - gaze[0], y - gaze[1])
    iris = step(0.50 - outwards, 0.08)[:, None]
    pupil = step(0.22 - outwards, 0.06)[:, None]
    white = np.array([238, 234, 230], np.float32) * (1 - 0.35 * step(y - 0.25, 0.5))[:, None]
    rim = (1 - 0.5 * bell(outwards - 0.48, 0.08))[:, None]
    colour = white + iris * (who.iris * rim - white)
    colour += pupil * (np.array([12, 10, 10], np.float32) - colour)
    glint = bell(np.hypot(x - gaze[0] + 0.15, y - gaze[1] - 0.18), 0.09)[:, None]
    return colour + glint * (250 - colour)


def backdrop(where: Scene, size: int, random: np.random.Generator) -> Floats:
    top, bottom = np.array(where.background, np.float32)
    down = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    blotches = Image.fromarray(random.normal(0, 12, (5, 5)).astype(np.float32)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    return top + (bottom - top) * down + np.asarray(blotches)[:, :, None]


def blurred(image: Floats, deviation: float) -> Floats:
    """Convolved with a Gaussian of this deviation in pixels; the edges are repeated."""
    reach = int(np.ceil(3 * deviation))
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / deviation))
    kernel /= kernel.sum()
    for axis in (0, 1):
        padding = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
        padded, length = np.pad(image, padding, mode="edge"), image.shape[axis]
        image = sum(w * padded.take(range(i, i + length), axis) for i, w in enumerate(kernel))
    return image


def through_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """What is left of an image that was written as a JPEG file of this quality."""
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as read:
        return np.asarray(read.convert("RGB"))


def render(who: Person, intensity: dict[str, float], where: Scene, size: int) -> NDArray[np.uint8]:
    """An image, [size, size, 3]. `intensity` holds the AUs that are active, 0 to 1."""
    mesh = head()
    random = np.random.default_rng(where.seed)
    shapes = dict(who.resting)
    for au, value in intensity.items():
        for shape, weight in SHAPES[au].items():
            shapes[shape] = shapes.get(shape, 0.0) + weight * value
    vertices = who.vertices + mesh.actions.move(mesh.actions.weights(shapes))

    turn = rotation(where.yaw, where.pitch, where.roll)
    pivot = who.eyes + np.array([0, -0.36, -0.8], np.float32)
    turned = (vertices - pivot) @ turn.T
    normals = unit_normals(turned, mesh.triangles)
    pixels = size * OVERSAMPLING
    scale = pixels / FRAME * where.zoom * DISTANCE / (DISTANCE - turned[:, 2])
    points = np.stack(
        [
            pixels * (0.5 + where.shift[0]) + turned[:, 0] * scale,
            pixels * (0.5 + where.shift[1]) - turned[:, 1] * scale,
            turned[:, 2],
        ],
        1,
    )
    pixel, triangle, weights = rasterise(points, mesh.triangles, pixels)

    attributes = np.concatenate([normals, mesh.vertices, mesh.lips[:, None], mesh.eyelids[:, None]], 1)
    at = np.einsum("pk,pka->pa", weights, attributes[mesh.triangles[triangle]])
    normal, rest, lips, eyelids = at[:, :3], at[:, 3:6], at[:, 6], at[:, 7]
    normal = normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6)
    of = mesh.material[triangle]

    colour = np.empty_like(rest)
    skin = of == SKIN
    colour[skin] = skin_colour(who, intensity, rest[skin], lips[skin], eyelids[skin])
    colour[of == EYE] = eye_colour(who, where.gaze, rest[of == EYE])
    colour[of == TEETH] = (228, 222, 208)
    colour[of == TONGUE] = (150, 70, 70)
    colour[of == MOUTH] = (70, 26, 26)

    towards = np.array(where.light, np.float32)
    towards /= np.linalg.norm(towards)
    facing = normal @ towards
    key = np.clip(facing * 0.9 + 0.1, 0, 1)
    brightness = where.ambient * (0.85 + 0.15 * normal[:, 1]) + (1.12 - where.ambient) * key
    brightness[(of == TEETH) | (of == TONGUE) | (of == MOUTH)] *= 0.75
    tint = 1 + where.warmth * np.array([0.06, 0.0, -0.08], np.float32)
    half = towards + np.array([0, 0, 1], np.float32)
    gloss = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1) ** 24 * np.where(skin, 14 + 22 * lips, 0)
    colour = colour * brightness[:, None] * tint + gloss[:, None]

    image = backdrop(where, pixels, random).reshape(-1, 3)
    image[pixel] = colour
    fine = image.reshape(size, OVERSAMPLING, size, OVERSAMPLING, 3)
    coarse = 255 * np.clip(fine.mean((1, 3)) / 255, 0, 1) ** where.gamma
    if where.blur > 0:
        coarse = blurred(coarse, where.blur * size)
    coarse += where.noise * random.standard_normal((size, size, 3), np.float32)
    taken = np.clip(np.round(coarse), 0, 255).astype(np.uint8)
    return through_jpeg(taken, where.jpeg) if where.jpeg else taken
