"""Ellipse phantoms by seed: high contrast, flat regions, the exercise of tomography papers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tweedie_inverse.datasets.seeds import generators, uniform


@dataclass(frozen=True)
class EllipsePhantoms:
    """Grey CT-like slices: a body, organs of several sizes, bright and dark inserts; in [0, 1].

    Air is 0, soft tissue about 0.2 to 0.6, bright inserts up to 1.  Edges are one pixel wide.
    """

    size: int = 64
    organs: int = 14

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, self.size, self.size)

    def images(self, seeds: Sequence[int]) -> Tensor:
        u = uniform(generators(seeds), self.organs + 1, 8)  # (batch, ellipses, parameters)
        body, organs = u[:, :1], u[:, 1:]
        centre, axes, angle = self._body(body)
        limit = self._inside(centre, axes, angle)[:, 0]
        image = limit * (0.2 + 0.25 * body[:, 0, 5, None, None])
        # Organs sit inside the body ellipse, large ones first.
        radius, turn = 0.85 * organs[..., 0].sqrt(), 2 * math.pi * organs[..., 1]
        unit = torch.stack([radius * turn.cos(), radius * turn.sin()], dim=-1) * axes
        cos, sin = angle.cos(), angle.sin()
        rotated = torch.stack(
            [cos * unit[..., 0] - sin * unit[..., 1], sin * unit[..., 0] + cos * unit[..., 1]],
            dim=-1,
        )
        largest = torch.linspace(0.45, 0.06, self.organs)
        size = largest[:, None] * (0.5 + 0.7 * organs[..., 2:4])
        inside = self._inside(centre + rotated, size, math.pi * organs[..., 4])
        step = 0.4 * (organs[..., 5] - 0.5) + 0.3 * (organs[..., 6] > 0.9)
        present = organs[..., 7] < 0.75
        for k in range(self.organs):  # later organs cover earlier ones
            weight = inside[:, k] * present[:, k, None, None] * limit
            image = image + weight * step[:, k, None, None]
        return image.clamp(0, 1)[:, None]

    def _body(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        centre = 0.16 * (u[..., 0:2] - 0.5)
        axes = torch.stack([0.62 + 0.28 * u[..., 2], 0.5 + 0.3 * u[..., 3]], dim=-1)
        return centre, axes, math.pi * (u[..., 4] - 0.5) / 2

    def _inside(self, centre: Tensor, axes: Tensor, angle: Tensor) -> Tensor:
        """Area coverage ``(batch, ellipses, size, size)`` of ellipses in [-1, 1]^2."""
        grid = (torch.arange(self.size) + 0.5) * (2 / self.size) - 1
        x = grid[None, None, None, :] - centre[..., 0, None, None]
        y = grid[None, None, :, None] - centre[..., 1, None, None]
        cos, sin = angle.cos()[..., None, None], angle.sin()[..., None, None]
        p = (cos * x + sin * y) / axes[..., 0, None, None]
        q = (cos * y - sin * x) / axes[..., 1, None, None]
        distance = (p**2 + q**2).sqrt()
        # First-order distance to the edge in pixels, |f| / |grad f|, gives the covered fraction.
        gradient = (
            ((cos * p / axes[..., 0, None, None] - sin * q / axes[..., 1, None, None]) ** 2)
            + ((sin * p / axes[..., 0, None, None] + cos * q / axes[..., 1, None, None]) ** 2)
        ).sqrt() / distance.clamp(min=1e-6)
        return ((1 - distance) / gradient.clamp(min=1e-6) * (self.size / 2) + 0.5).clamp(0, 1)
