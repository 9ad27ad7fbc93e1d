"""Quantities of an image among its fellow samples: distances, and main directions of the spread.

They treat all images of a pool alike, so that their ranks are exchangeable, too.  A mode that the
samples miss shows here: the truths that lie in it are further from all samples than these are from
each other.
"""

import torch
from torch import Tensor

from tweedie_inverse.evaluation.calibrate.families import Family
from tweedie_inverse.numerics.random import normal

DIRECTIONS, REFERENCES = 4, 4

DISTANCES = ("typical distance", "typical distance in deviations")
NEAREST, RANDOM_POINTS = "nearest sample", "distance to random points"


def families() -> tuple[Family, ...]:
    """Those of `relative`, in its order."""
    return (
        Family("distances", (*DISTANCES, "mean in deviations"), False),
        Family(NEAREST, (NEAREST,), False),
        Family(RANDOM_POINTS, tuple(f"point {k + 1}" for k in range(REFERENCES)), True),
        Family("main directions", tuple(f"direction {k + 1}" for k in range(DIRECTIONS)), True),
    )


def relative(points: Tensor, pool: Tensor, allowed: Tensor, key: tuple[int, int]) -> Tensor:
    """Quantities of images relative to a pool, ``(m, statistics)``.

    Distances are means over the others; to random points that lie about the pool as its images do
    (TARP, Lemos et al. 2023); coordinates along the main directions of its spread.

    Args:
        points: ``(m, n)``, float64.
        pool: ``(m, n)``; point k is compared with all of it but number k.
        allowed: ``(m,)``, boolean: which of the pool are there.
        key: of the random numbers: seed and truth.
    """
    there = pool[allowed]
    mean, std = there.mean(0), there.std(0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    others = allowed[None] & ~torch.eye(len(pool), dtype=torch.bool)
    number = others.sum(1)
    distance, scaled = torch.cdist(points, pool), torch.cdist(points / std, pool / std)

    def average(values: Tensor) -> Tensor:
        return torch.where(others, values, torch.zeros_like(values)).sum(1) / number

    nearest = scaled.masked_fill(~others, torch.inf).amin(1)
    bias = ((points - mean) / std).mean(1)
    found = torch.stack([average(distance), average(scaled), bias, nearest], dim=1)
    references = mean + std * normal(("calibrate references", *key), (REFERENCES, len(mean)))
    return torch.cat([found, torch.cdist(points, references), _main(points, there, key)], dim=1)


def _main(points: Tensor, pool: Tensor, key: tuple[int, int]) -> Tensor:
    """Coordinates along the principal directions, zeros where there are fewer than that."""
    mean = pool.mean(0)
    _, values, axes = torch.linalg.svd(pool - mean, full_matrices=False)
    axes = axes[:DIRECTIONS] * (values[:DIRECTIONS, None] > 1e-9 * values.max())
    # The sign of a direction is anybody's choice, and must not be the truth's.
    sign = (axes @ normal(("calibrate signs", *key), (axes.shape[1],))).sign()
    found = (points - mean) @ (axes * sign[:, None]).mT
    return torch.nn.functional.pad(found, (0, DIRECTIONS - found.shape[1]))
