"""Which triangle is seen at which pixel.

A pixel centre (c + 0.5, r + 0.5) lies in a triangle where both affine functions a and b of the position and 1 - a - b
are at least 0; these three are its barycentric coordinates. All candidate pairs (triangle, pixel of its bounding box)
are computed at once, and each pixel keeps the pair nearest to the viewer.
"""

import numpy as np
from numpy.typing import NDArray

from .head import Floats


def rasterise(
    points: Floats, triangles: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """The pixels that show something, ascending, the triangle of each, and its barycentric coordinates, [P, 3].

    points: [V, 3], column and row in pixels, and depth, larger is nearer; triangles that turn their back are not seen.
    Pixel p is row p // size, column p % size.
    """
    x, y = points[triangles.T, 0], points[triangles.T, 1]  # [3, T]
    determinant = (y[1] - y[2]) * (x[0] - x[2]) + (x[2] - x[1]) * (y[0] - y[2])
    front = np.flatnonzero(determinant < -1e-9)  # counter-clockwise; rows run down, so the sign is turned
    x, y = x[:, front], y[:, front]
    first_column = np.clip(np.ceil(x.min(0) - 0.5), 0, size).astype(np.int32)
    last_column = np.clip(np.floor(x.max(0) - 0.5), -1, size - 1).astype(np.int32)
    first_row = np.clip(np.ceil(y.min(0) - 0.5), 0, size).astype(np.int32)
    last_row = np.clip(np.floor(y.max(0) - 0.5), -1, size - 1).astype(np.int32)
    width = np.maximum(last_column - first_column + 1, 0)
    height = np.maximum(last_row - first_row + 1, 0)

    scale = 1 / determinant[front]
    a_column, a_row = (y[1] - y[2]) * scale, (x[2] - x[1]) * scale
    b_column, b_row = (y[2] - y[0]) * scale, (x[0] - x[2]) * scale
    a_origin = a_column * (0.5 - x[2]) + a_row * (0.5 - y[2])
    b_origin = b_column * (0.5 - x[2]) + b_row * (0.5 - y[2])

    pairs = width * height
    pair = np.repeat(np.arange(len(front)), pairs)
    step = np.arange(pairs.sum()) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    row, column = np.divmod(step.astype(np.int32), width[pair])
    row += first_row[pair]
    column += first_column[pair]
    right, down = column.astype(np.float32), row.astype(np.float32)
    a = a_origin[pair] + a_column[pair] * right + a_row[pair] * down
    b = b_origin[pair] + b_column[pair] * right + b_row[pair] * down
    inside = np.flatnonzero((a >= 0) & (b >= 0) & (a + b <= 1))
    pair, a, b, pixel = pair[inside], a[inside], b[inside], row[inside].astype(np.int64) * size + column[inside]
    triangle = front[pair]
    z = points[triangles[triangle].T, 2]
    depth = z[2] + a * (z[0] - z[2]) + b * (z[1] - z[2])

    nearest = np.full(size * size, -np.inf, np.float32)
    np.maximum.at(nearest, pixel, depth)
    owner = np.full(size * size, -1)
    wins = np.flatnonzero(depth == nearest[pixel])
    owner[pixel[wins]] = wins
    pixels = np.flatnonzero(owner >= 0)
    chosen = owner[pixels]
    a, b = a[chosen], b[chosen]
    return pixels, triangle[chosen], np.stack([a, b, 1 - a - b], 1)
