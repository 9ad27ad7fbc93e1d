"""Grey textures by seed: random fields with grain and stripes, and glowing spots.

For microscopy, materials and astronomy, where everyday photographs are the wrong prior.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tweedie_inverse.datasets.seeds import generators, uniform


@dataclass(frozen=True)
class RandomFields:
    """Gaussian fields ``(1, size, size)`` with a random spectrum, bent by a random tone curve.

    The spectrum is a power law (f^-2 to f^-4 in power) or a ring with a preferred direction, which
    gives stripes and grain of 3 to 16 pixels.
    """

    size: int = 64

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, self.size, self.size)

    def images(self, seeds: Sequence[int]) -> Tensor:
        draws = generators(seeds)
        u = uniform(draws, 10)[:, :, None, None]
        # Twice the size and cut: a field from the FFT is periodic, an image is not.
        side = 2 * self.size
        white = torch.stack([torch.randn(side, side, generator=g) for g in draws])
        rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
        turn, stretch = math.pi * u[:, 0], 1 + 3 * u[:, 1] ** 2
        along = turn.cos() * columns + turn.sin() * rows
        across = turn.cos() * rows - turn.sin() * columns
        f = ((along * stretch) ** 2 + across**2 + (0.5 / side) ** 2).sqrt()
        power_law = f ** -(1 + u[:, 2])
        centre = 1 / (3 + 13 * u[:, 3])
        ring = (-((f - centre) ** 2) / (2 * (0.1 + 0.4 * u[:, 4]) ** 2 * centre**2)).exp()
        amplitude = torch.where(
            u[:, 5] < 0.5, power_law, ring + 0.03 * power_law / power_law.amax()
        )
        field = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(side, side))
        field = field[:, : self.size, : self.size]
        field = field - field.mean(dim=(1, 2), keepdim=True)
        field = field / field.std(dim=(1, 2), keepdim=True)
        bent = torch.where(u[:, 6] < 0.3, (2.5 * field).tanh(), field)  # two phases, soft edges
        return (0.25 + 0.5 * u[:, 7] + (0.03 + 0.2 * u[:, 8]) * bent).clamp(0, 1)[:, None]


@dataclass(frozen=True)
class Spots:
    """Glowing round and oblong spots on a dim background: cells, beads, stars."""

    size: int = 64
    spots: int = 60

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, self.size, self.size)

    def images(self, seeds: Sequence[int]) -> Tensor:
        draws = generators(seeds)
        u, v = uniform(draws, self.spots, 7), uniform(draws, 5)
        grid = torch.arange(self.size) + 0.5
        image = 0.02 + 0.15 * v[:, 0, None, None] * torch.ones(self.size, self.size)
        present = u[..., 6] < 0.1 + 0.9 * v[:, 1, None]
        # Radii from points to a fifth of the image; small ones are common.
        radius = 0.8 * (0.2 * self.size / 0.8) ** (u[..., 2] * (0.3 + 0.7 * v[:, 2, None]))
        for k in range(self.spots):
            x = grid - self.size * (1.2 * u[:, k, 0, None, None] - 0.1)
            y = grid[:, None] - self.size * (1.2 * u[:, k, 1, None, None] - 0.1)
            turn, ratio = math.pi * u[:, k, 3, None, None], 0.5 + 0.5 * u[:, k, 4, None, None]
            p, q = turn.cos() * x + turn.sin() * y, (turn.cos() * y - turn.sin() * x) / ratio
            reach = (p**2 + q**2).sqrt() / radius[:, k, None, None]
            # A blurred disc or a Gaussian, one kind an image.
            sharp = 0.5 * (1 - ((reach - 1) * radius[:, k, None, None]).tanh())
            glow = torch.where(v[:, 3, None, None] < 0.5, sharp, (-0.5 * reach**2).exp())
            bright = (0.1 + 0.9 * u[:, k, 5] ** 2) * present[:, k]
            image = image + bright[:, None, None] * glow * (1 - image)
        return image.clamp(0, 1)[:, None]
