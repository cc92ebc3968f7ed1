"""Other views of the images of a batch: 8-bit pixels [N, H, W, C] in and out, everything drawn from the generator.

`moved` is what any picture bears. `photographed` is for faces that were drawn: it takes away what tells them from
photographs, clean colours, full resolution and a frame that always fits, so that a network cannot lean on it.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

AUGMENTATIONS = ("moved", "photographed")


def moved(pixels: Tensor, generator: torch.Generator, shift: int = 3) -> Tensor:
    """Mirrored by chance, moved by up to `shift` pixels, and brighter or darker."""
    count, height, width, _ = pixels.shape
    mirrored = torch.rand(count, generator=generator) < 0.5
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(2), pixels)
    down, right = torch.randint(-shift, shift + 1, (2, count), generator=generator)
    rows = (torch.arange(height) + down[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width) + right[:, None]).clamp(0, width - 1)
    pixels = pixels[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    gain = between(0.8, 1.2, count, generator)
    lift = between(-15, 15, count, generator)
    return (pixels * gain + lift).clamp(0, 255).to(torch.uint8)


def photographed(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """`moved`, and in other light: contrast and the colour of the light; a fifth of the images grey; a quarter with a
    patch of one grey over them, a quarter at a third to two thirds of the resolution; the batch seen from nearer."""
    count, height, width, channels = pixels.shape
    images = moved(pixels, generator, shift=max(1, width // 18)).float()
    mean = images.mean((1, 2, 3), keepdim=True)
    light = torch.empty(count, 1, 1, channels).uniform_(0.8, 1.25, generator=generator)
    images = ((images - mean) * between(0.6, 1.3, count, generator) + mean) * light
    grey = (torch.rand(count, generator=generator) < 0.2)[:, None, None, None]
    images = torch.where(grey, images.mean(3, keepdim=True), images)

    for image in images:
        if chance(0.25, generator):
            tall, wide = (whole(side // 14, side // 4, generator) for side in (height, width))
            top, left = whole(0, height - tall, generator), whole(0, width - wide, generator)
            image[top : top + tall, left : left + wide] = 255 * torch.rand(1, generator=generator)
        if chance(0.25, generator):
            few = [whole(side // 3, 2 * side // 3, generator) for side in (height, width)]
            small = interpolate(image.permute(2, 0, 1)[None], few, mode="bilinear", antialias=True)
            image[:] = interpolate(small, (height, width), mode="bilinear")[0].permute(1, 2, 0)

    seen = float(between(0.72, 1.0, 1, generator))
    tall, wide = int(height * seen), int(width * seen)
    top = round((height - tall) * float(between(0.35, 0.75, 1, generator)))
    left = round((width - wide) * float(between(0.3, 0.7, 1, generator)))
    nearer = images[:, top : top + tall, left : left + wide].permute(0, 3, 1, 2)
    images = interpolate(nearer, (height, width), mode="bilinear").permute(0, 2, 3, 1)
    return images.round().clamp(0, 255).to(torch.uint8)


def augment(how: str, pixels: Tensor, generator: torch.Generator) -> Tensor:
    return photographed(pixels, generator) if how == "photographed" else moved(pixels, generator)


def between(least: float, most: float, count: int, generator: torch.Generator) -> Tensor:
    """A number for each image, [N, 1, 1, 1]."""
    return torch.empty(count, 1, 1, 1).uniform_(least, most, generator=generator)


def chance(of: float, generator: torch.Generator) -> bool:
    return bool(torch.rand(1, generator=generator) < of)


def whole(least: int, most: int, generator: torch.Generator) -> int:
    """A whole number, both ends included."""
    return int(torch.randint(least, max(least, most) + 1, (1,), generator=generator))
