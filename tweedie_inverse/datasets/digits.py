"""Handwritten digits with their classes, from scikit-learn, at 8x8 pixels or larger."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.datasets.seeds import HELD_OUT_SEED, generators, uniform


@dataclass(frozen=True)
class Digits:
    """1797 handwritten digits as ``(1, size, size)`` images in [0, 1], white on black.

    At 8x8, as scikit-learn has them: 17 grey values, spread evenly over their bins,
    ``(value + u) / 17``, so that they have a density.  A grey value counts the inked pixels of a
    4x4 block of the original bitmap; larger images undo that by interpolation and contrast, and
    each is turned, scaled, sheared and moved a little.  Every fifth digit is held out.
    """

    size: int = 8
    classes: int = 10

    def __post_init__(self) -> None:
        if self.size < 8:
            raise ValueError(f"digits are 8x8 pixels or larger, but size={self.size} was asked for")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, self.size, self.size)

    def images(self, seeds: Sequence[int]) -> Tensor:
        values, draws = load_digits()[0][self._index(seeds)], generators(seeds)
        if self.size == 8:
            return (values + uniform(draws, 1, 8, 8)) / 17
        return self._enlarge(values / 16, uniform(draws, 6))

    def _enlarge(self, values: Tensor, u: Tensor) -> Tensor:
        """Strokes with edges a pixel or two wide, from ``(batch, 1, 8, 8)`` and six draws each."""
        change = u - 0.5
        turn, shear = 0.25 * change[:, 0], 0.25 * change[:, 1]
        scale = 1 / (1 + 0.2 * change[:, 2:4])
        cos, sin = turn.cos(), turn.sin()
        moved = 0.12 * change[:, 4:6]
        rows = (
            torch.stack([cos * scale[:, 0], (shear * cos - sin) * scale[:, 1], moved[:, 0]]),
            torch.stack([sin * scale[:, 0], (shear * sin + cos) * scale[:, 1], moved[:, 1]]),
        )
        affine = torch.stack(rows).permute(2, 0, 1)
        grid = F.affine_grid(affine, [len(values), 1, self.size, self.size], align_corners=False)
        smooth = F.grid_sample(values, grid, mode="bicubic", align_corners=False)
        return (2.5 * (smooth - 0.5) + 0.5).clamp(0, 1)

    def labels(self, seeds: Sequence[int]) -> Tensor:
        """The class of each image, ``(len(seeds),)`` from 0 to 9."""
        return load_digits()[1][self._index(seeds)]

    def _index(self, seeds: Sequence[int]) -> Tensor:
        every = torch.arange(len(load_digits()[1]))
        held_out, trained = every[every % 5 == 0], every[every % 5 != 0]
        # A large odd stride walks through all images in an order of its own.
        places = [
            held_out[(seed - HELD_OUT_SEED) % len(held_out)]
            if seed >= HELD_OUT_SEED
            else trained[(seed * 7919) % len(trained)]
            for seed in seeds
        ]
        return torch.stack(places)


@cache
def load_digits() -> tuple[Tensor, Tensor]:
    """Grey values ``(1797, 1, 8, 8)`` from 0 to 16 and classes ``(1797,)``."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn, which is missing; "
            "pip install 'tweedie-inverse[train]'"
        ) from error
    bunch = datasets.load_digits()
    return torch.tensor(bunch.images).float()[:, None], torch.tensor(bunch.target)
