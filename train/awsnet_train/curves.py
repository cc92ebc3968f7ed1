"""The course of a training as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

WIDTH, HEIGHT, MARGIN = 720, 400, 56
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189))


def draw_curves(curves: Mapping[str, Sequence[float]], path: str | Path, title: str) -> None:
    """One line a name, a value an epoch, all of them on the axis from 0 to the largest value or 1."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    top = max([1.0, *(value for values in curves.values() for value in values)])
    epochs = max(len(values) for values in curves.values())
    left, right, upper, lower = MARGIN, WIDTH - 170, MARGIN // 2 + 8, HEIGHT - MARGIN

    def at(epoch: int, value: float) -> tuple[float, float]:
        across = epoch / max(epochs - 1, 1)
        return left + (right - left) * across, lower - (lower - upper) * value / top

    for tick in range(6):
        value = top * tick / 5
        _, y = at(0, value)
        draw.line([(left, y), (right, y)], fill=(225, 225, 225))
        draw.text((left - 34, y - 6), f"{value:.2f}", fill="black")
    draw.text((left, 8), title, fill="black")
    draw.text((left, lower + 24), "epoch 1", fill="black")
    draw.text((right - 56, lower + 24), f"epoch {epochs}", fill="black")
    for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
        points = [at(epoch, value) for epoch, value in enumerate(values)]
        if len(points) > 1:
            draw.line(points, fill=colour, width=2)
        for x, y in points:
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
        row = upper + 18 * list(curves).index(name)
        draw.rectangle([right + 16, row + 2, right + 28, row + 10], fill=colour)
        draw.text((right + 34, row), f"{name} {values[-1]:.3f}", fill="black")
    image.save(path)
