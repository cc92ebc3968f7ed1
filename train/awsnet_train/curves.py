"""The course of a training as a picture: the loss in one panel, what is measured in another."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

WIDTH, HEIGHT, MARGIN = 360, 320, 48  # of a panel
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189))


def draw_panel(draw: ImageDraw.ImageDraw, curves: Mapping[str, Sequence[float]], left: int, top: float) -> None:
    """One line a name, a value an epoch, on the axis from 0 to `top`; the panel begins at the column `left`."""
    epochs = max(len(values) for values in curves.values())
    first, last, upper, lower = left + MARGIN, left + WIDTH - 16, MARGIN + 16 * len(curves), HEIGHT - MARGIN

    def at(epoch: int, value: float) -> tuple[float, float]:
        return first + (last - first) * epoch / max(epochs - 1, 1), lower - (lower - upper) * value / top

    for tick in range(6):
        _, y = at(0, top * tick / 5)
        draw.line([(first, y), (last, y)], fill=(225, 225, 225))
        draw.text((first - 34, y - 6), f"{top * tick / 5:.2f}", fill="black")
    draw.text((first, lower + 16), "epoch 1", fill="black")
    draw.text((last, lower + 16), f"epoch {epochs}", fill="black", anchor="ra")
    for row, (colour, (name, values)) in enumerate(zip(COLOURS, curves.items(), strict=False)):
        points = [at(epoch, value) for epoch, value in enumerate(values)]
        if len(points) > 1:
            draw.line(points, fill=colour, width=2)
        for x, y in points:
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
        draw.rectangle([first, 34 + 16 * row, first + 12, 42 + 16 * row], fill=colour)
        draw.text((first + 18, 31 + 16 * row), f"{name} {values[-1]:.3f}", fill="black")


def draw_curves(
    losses: Mapping[str, Sequence[float]], measures: Mapping[str, Sequence[float]], path: Path, title: str
) -> None:
    """Writes a PNG; losses have an axis of their own, measures one from 0 to 1."""
    image = Image.new("RGB", (2 * WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, 10), title, fill="black")
    draw_panel(draw, losses, 0, max(max(values) for values in losses.values()))
    draw_panel(draw, measures, WIDTH, 1.0)
    image.save(path)
