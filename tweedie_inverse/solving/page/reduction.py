"""How a page stays small: which samples and slices are on it, and over how many pixels it averages.

Averages are made of every sample before anything else, so that mean, spread and interval are those
of what is shown.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

MOST_MEASUREMENTS, MOST_SAMPLES, LEAST_SAMPLES, MOST_SLICES, MOST_SIDE = 12, 24, 8, 24, 1024
# Numbers of all images on a page: 2 bytes each, 2.7 as text.
MOST_NUMBERS = 6_000_000
# Images beside the samples, at most: mean, spread, ends and width of intervals, truth, error.
_OTHERS = 9


class Reduction(NamedTuple):
    """What is shown of images ``(channels, slices, height, width)``.

    Attributes:
        samples: how many of them, the first ones.
        slices: which of them.
        block: side of the square of pixels that are averaged.
    """

    samples: int
    slices: tuple[int, ...]
    block: int

    @staticmethod
    def of(shape: tuple[int, ...], samples: int, budget: int) -> "Reduction":
        """Fewer samples first, then larger blocks, until `budget` numbers are enough."""
        channels, depth, height, width = shape
        count = min(depth, MOST_SLICES)
        slices = tuple(round((k + 0.5) * depth / count - 0.5) for k in range(count))
        block = math.ceil(max(height, width) / MOST_SIDE)
        while True:
            size = channels * count * math.ceil(height / block) * math.ceil(width / block)
            shown = min(samples, MOST_SAMPLES, max(budget // size - _OTHERS, LEAST_SAMPLES))
            if (shown + _OTHERS) * size <= budget or (height <= block and width <= block):
                return Reduction(shown, slices, block)
            block += 1

    def applied(self, images: Tensor) -> Tensor:
        """The slices of ``(..., channels, slices, height, width)``, averaged over blocks."""
        return pooled(images[..., list(self.slices), :, :], self.block)

    def notes(self, shape: tuple[int, ...], samples: int) -> list[str]:
        """What was left out, in words."""
        found = []
        if self.samples < samples:
            found.append(
                f"The first {self.samples} of {samples} samples are on this page; mean, spread and "
                "interval are of all."
            )
        if len(self.slices) < shape[1]:
            found.append(f"{len(self.slices)} of {shape[1]} slices are on this page.")
        if self.block > 1:
            found.append(
                f"Each pixel of this page is the average over {self.block} x {self.block} pixels "
                f"of an image of {shape[2]} x {shape[3]}; mean, spread and interval are of these "
                "averages, which vary less than single pixels."
            )
        return found


def as_volume(images: Tensor, lead: int) -> Tensor:
    """``(..., channels, slices, height, width)`` of images of any shape after `lead` axes."""
    first, shape = images.shape[:lead], images.shape[lead:]
    if len(shape) == 0:
        shape = torch.Size([1])
    if len(shape) == 1:
        return images.reshape(*first, 1, 1, 1, *shape)
    if len(shape) == 2:
        return images.reshape(*first, 1, 1, *shape)
    return images.reshape(*first, shape[0], -1, *shape[-2:])


def pooled(images: Tensor, block: int) -> Tensor:
    """Averages over squares of pixels, smaller ones at the far edges; rows of a line stay apart."""
    if block == 1:
        return images
    height = images.shape[-2]
    flat = images.reshape(-1, 1, *images.shape[-2:])
    small = torch.nn.functional.avg_pool2d(flat, (min(block, height), block), ceil_mode=True)
    return small.reshape(*images.shape[:-2], *small.shape[-2:])
