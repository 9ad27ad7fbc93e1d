"""A kernel Stein test of one draw from each of many posteriors, against their scores.

For a density p with score s and any smooth f, ``E_p[s(x) . f(x) + div f(x)] = 0`` (Stein's
identity).  The largest violation over the unit ball of a kernel's function space is a sum over
pairs of draws (Chwialkowski et al. 2016; Liu, Lee and Jordan 2016); with one draw of each of many
conditional densities it tests them all together (Jitkrittum, Kanagawa and Schoelkopf 2020).  Only
differences of scores enter, so that it is blind to the weights of separate modes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import generator

DIRECTIONS = 16
_BOOTSTRAPS = 1999
# Directions of less spread than this, relative to the largest, have none.
_FLAT = 1e-6


class Frame(NamedTuple):
    """Coordinates in which draws of different posteriors are alike.

    Attributes:
        mean: ``(truths, n)``, of each posterior, from other samples than those that are tested.
        axes: ``(n, k)``, orthonormal: the pixels' spread first, then main directions.
        scale: ``(k,)``, spread along each.
    """

    mean: Tensor
    axes: Tensor
    scale: Tensor

    @staticmethod
    def of(others: Tensor) -> "Frame":
        """From samples ``(truths, samples, n)`` that are not tested, pooled over truths."""
        mean, count = others.mean(1), others.shape[1]
        residuals = ((others - mean[:, None]) * (count / (count - 1)) ** 0.5).flatten(0, 1)
        spread = residuals.square().mean(0).sqrt()
        if residuals.shape[1] <= len(residuals):
            main = torch.linalg.eigh(residuals.mT @ residuals)[1].flip(1)[:, :DIRECTIONS]
        else:
            inner = torch.linalg.eigh(residuals @ residuals.mT)[1].flip(1)[:, :DIRECTIONS]
            main = residuals.mT @ inner
        axes = torch.linalg.qr(torch.cat([spread[:, None], main], dim=1)[:, :DIRECTIONS])[0]
        scale = (residuals @ axes).square().mean(0).sqrt()
        some = scale > _FLAT * scale.max()
        return Frame(mean, axes[:, some], scale[some])

    def coordinates(self, x: Tensor) -> Tensor:
        """Of draws ``(truths, n)``, in standard deviations, ``(truths, k)``."""
        return (x - self.mean) @ self.axes / self.scale

    def scores(self, gradient: Tensor) -> Tensor:
        """Gradients ``(truths, n)`` of the log density, along these coordinates."""
        return gradient @ self.axes * self.scale


def stein_p_value(z: Tensor, scores: Tensor, weights: Tensor, seed: int) -> float:
    """How often right draws would violate Stein's identity as much, by a wild bootstrap.

    Args:
        z, scores: ``(truths, k)``, of one draw of each posterior.
        weights: ``(k,)``, of each coordinate in the identity.
    """
    pairs = stein_pairs(z, scores, weights).fill_diagonal_(0)
    random = generator(("calibrate stein", seed))
    signs = torch.from_numpy(2.0 * random.integers(2, size=(_BOOTSTRAPS, len(z))) - 1)
    found = ((signs @ pairs) * signs).sum(1)
    return (1 + int((found >= pairs.sum()).sum())) / (_BOOTSTRAPS + 1)


def stein_pairs(z: Tensor, scores: Tensor, weights: Tensor) -> Tensor:
    """The Stein kernel of all pairs, ``(truths, truths)``.

    The kernel is the inverse multiquadric ``(k + |z - z'|^2)^-1/2``, under which violations in the
    tails count (Gorham and Mackey 2017).
    """
    k, square = z.shape[1], weights.square()
    difference = z[:, None] - z[None]
    distance = difference.square().sum(2)
    base = 1 / (k + distance)
    value, slope = base.sqrt(), base**1.5
    pulled = ((scores[:, None] - scores[None]) * difference * square).sum(2)
    trace = square.sum() * slope - 3 * (difference.square() * square).sum(2) * base**2.5
    return (scores * square) @ scores.mT * value + pulled * slope + trace
