"""Dead-leaves images by seed: natural-image statistics from a formula (Lee et al. 2001)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tweedie_inverse.datasets.seeds import generators


@dataclass(frozen=True)
class DeadLeaves:
    """Colour images of occluding shaded discs with a power law of radii (Lee et al. 2001).

    Natural-image statistics (edges, scale invariance, occlusion) from a formula.
    """

    size: int = 64
    leaves: int = 220

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)

    def images(self, seeds: Sequence[int]) -> Tensor:
        return torch.stack([self._image(generator) for generator in generators(seeds)])

    def _image(self, generator: torch.Generator) -> Tensor:
        u = torch.rand(self.leaves, 10, generator=generator)
        # Density of radii ~ r^-3 between 2 pixels and the image size.
        small, large = 2.0 / self.size, 1.0
        radius = (small**-2 + u[:, 0] * (large**-2 - small**-2)) ** -0.5
        grid = (torch.arange(self.size) + 0.5) / self.size
        x = grid[None, None, :] - (1.4 * u[:, 1, None, None] - 0.2)
        y = grid[None, :, None] - (1.4 * u[:, 2, None, None] - 0.2)
        aspect = 0.4 + 0.6 * u[:, 3, None, None]
        turn = 2 * math.pi * u[:, 4, None, None]
        p, q = turn.cos() * x + turn.sin() * y, (turn.cos() * y - turn.sin() * x) / aspect
        r = radius[:, None, None]
        cover = ((r - (p**2 + q**2).sqrt()) * self.size * 0.8 + 0.5).clamp(0, 1)
        v = torch.rand(6, generator=generator)
        base = 0.15 + 0.7 * v[0] + 0.4 * (v[1:4] - 0.5)
        # Brightness varies more than hue, as in photographs.
        shade, hue = u[:, 5:6] - 0.5, u[:, 6:9] - 0.5
        colour = base + (0.2 + 0.7 * v[4]) * shade + (0.1 + 0.4 * v[5]) * hue
        slope = (u[:, 9, None, None] - 0.5) * 0.5 * p / r
        image = base[:, None, None].expand(3, self.size, self.size)
        for k in range(self.leaves):
            leaf = colour[k][:, None, None] + slope[k]
            image = image + cover[k] * (leaf - image)
        return image.clamp(0, 1)
