"""Counting noise: Poisson, and Poisson with Gaussian read-out noise; exact likelihoods."""

import math
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary import arguments
from tweedie_inverse.numerics.random import generator
from tweedie_inverse.operators.noise.base import NoiseModel, refuse_flag, white_noise
from tweedie_inverse.operators.noise.unknown_counts import UnknownCountingNoise

# Below this many expected counts the rate is continued smoothly (`_rate`).
FLOOR = 1e-2
# Largest read-out noise in units of one count: the exact sum has 12 terms a unit.
_MOST_COUNTS = 100


class PoissonNoise(NoiseModel):
    """``y = gain * k``, ``k ~ Poisson(Ax / gain)``: k photons, `gain` units of y each.

    A rate has to be positive, but an image in the middle of a walk may make ``Ax`` negative.  Below
    0.01 expected counts the rate is therefore continued by an exponential with the same slope;
    sampling and likelihood agree there too.

    Args:
        gain: units of y that one count makes; 1 where y holds the counts themselves.

    Raises:
        ValueError: a gain that is not positive and finite.

    Examples:
        >>> counts = ops.PoissonNoise(1.0).sample(torch.full((1, 1, 8, 8), 20.0), seed=0)
        >>> bool((counts == counts.round()).all())
        True
    """

    def __init__(self, gain: float = 1.0):
        self.gain = _positive("PoissonNoise", "gain", gain)

    @staticmethod
    def unknown(gain: Any = None) -> UnknownCountingNoise:
        """Counts of unknown gain, which `solve` draws with each sample.

        y is taken as a number that may lie between two multiples of the gain, as it does after
        dark frames, flat fields or averages; its scatter tells the gain, and not its steps.

        Args:
            gain: its range, in units of y, flat in its logarithm; or a `ScalarPrior`.  None is
                from 1e-4 to 1 times the largest entry of y.

        Raises:
            TypeError, ValueError: no range of positive numbers.
        """
        return UnknownCountingNoise("PoissonNoise.unknown", {"gain": gain})

    def __repr__(self) -> str:
        return f"PoissonNoise({self.gain:g})"

    def scaled(self, factor: float) -> "PoissonNoise":
        return PoissonNoise(self.gain * factor)

    def sample(self, ax: Tensor, *, seed: int = 0) -> Tensor:
        return self.gain * _counts(_rate(ax, self.gain), seed)

    def log_prob(self, y: Tensor, ax: Tensor) -> Tensor:
        return self.entries(y, ax).flatten(1).sum(1)

    def entries(self, y: Tensor, ax: Tensor) -> Tensor:
        """Logarithm of the probability of each entry of y, like it."""
        return _log_poisson(y / self.gain, _rate(ax, self.gain))

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        rate = _rate(ax, self.gain)
        return (y / self.gain / rate - 1) * _slope(rate) / self.gain

    def variance(self, ax: Tensor) -> Tensor:
        return self.gain**2 * _rate(ax, self.gain)

    def curvature(self, y: Tensor, ax: Tensor) -> Tensor:
        rate = _rate(ax, self.gain)
        return _slope(rate).square() / (_spread(y / self.gain, rate) * self.gain**2)

    def standardize(self, y: Tensor, ax: Tensor) -> Tensor:
        rate = _rate(ax, self.gain)
        # A count where hardly any is expected must not outweigh the rest of an image.
        return (y / self.gain - rate) / rate.clamp(min=FLOOR).sqrt()

    def refuse(self, y: Tensor) -> None:
        if bool((y < 0).any()):
            raise ValueError(
                f"{self!r}: counts cannot be negative, but y goes down to {float(y.min()):.4g}; "
                "was a background subtracted? Add it to the forward map instead, or use "
                "PoissonGaussianNoise(gain, std) where the detector adds read-out noise"
            )


class PoissonGaussianNoise(NoiseModel):
    """``y = gain * k + std * n``, ``k ~ Poisson(Ax / gain)``: photons, then read-out noise.

    The likelihood is the exact sum over k, ``sum_k Poisson(k) N(y; gain k, std^2)``, over the
    terms within six standard deviations of the largest.

    Cost: ``12 std / gain`` passes over y.

    Args:
        gain: units of y that one count makes.
        std: standard deviation of the read-out noise, in units of y.

    Raises:
        ValueError: a number that is not positive and finite, or std above 100 counts: then the
            photons no longer matter one by one, and GaussianNoise with a standard deviation for
            each pixel is the better model.
    """

    def __init__(self, gain: float, std: float):
        self.gain = _positive("PoissonGaussianNoise", "gain", gain)
        self.std: Any = _positive("PoissonGaussianNoise", "std", std)  # or (batch, 1, ...)
        counts = self.std / self.gain
        if counts > _MOST_COUNTS:
            raise ValueError(
                f"PoissonGaussianNoise(gain={self.gain}, std={self.std}): the read-out noise is "
                f"worth {counts:.0f} counts, and the exact likelihood would need "
                f"{12 * counts:.0f} terms; use GaussianNoise((gain * y + std**2) ** 0.5)"
            )

    @staticmethod
    def unknown(gain: Any = None, std: Any = None) -> UnknownCountingNoise:
        """Photons and read-out noise of which one or both numbers are drawn by `solve`.

        Args:
            gain: as of `PoissonNoise.unknown`; a number where it is known.
            std: the same of the read-out noise; None is from 1e-4 to 1 times the root mean square
                of y.  Read-out noise above 20 counts is taken to be impossible.

        Raises:
            TypeError, ValueError: no range of positive numbers, or both are known.
        """
        numbers = {"gain": gain, "std": std}
        return UnknownCountingNoise("PoissonGaussianNoise.unknown", numbers)

    @classmethod
    def of_walkers(cls, std: Tensor) -> "PoissonGaussianNoise":
        """With gain 1, and for each image of a batch its own std, ``(batch, 1, ...)``."""
        made = object.__new__(cls)
        made.gain, made.std = 1.0, std
        return made

    def __repr__(self) -> str:
        if isinstance(self.std, Tensor):
            return f"PoissonGaussianNoise({self.gain:g}, of each walker)"
        return f"PoissonGaussianNoise({self.gain:g}, {self.std:g})"

    def scaled(self, factor: float) -> "PoissonGaussianNoise":
        return PoissonGaussianNoise(self.gain * factor, self.std * factor)

    def sample(self, ax: Tensor, *, seed: int = 0) -> Tensor:
        counts = _counts(_rate(ax, self.gain), seed)
        return self.gain * counts + self.std * white_noise(ax, seed, "read-out noise")

    def log_prob(self, y: Tensor, ax: Tensor) -> Tensor:
        return self.entries(y, ax).flatten(1).sum(1)

    def entries(self, y: Tensor, ax: Tensor) -> Tensor:
        """Logarithm of the density of each entry of y, like it."""
        return self._sum(y, _rate(ax, self.gain))[0]

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        rate = _rate(ax, self.gain)
        _, mean_count = self._sum(y, rate)
        return (mean_count / rate - 1) * _slope(rate) / self.gain

    def variance(self, ax: Tensor) -> Tensor:
        return self.gain**2 * _rate(ax, self.gain) + self.std**2

    def curvature(self, y: Tensor, ax: Tensor) -> Tensor:
        rate, width = _rate(ax, self.gain), self.std / self.gain
        spread = _spread(y / self.gain - 3 * width, rate) + width**2
        return _slope(rate).square() / (spread * self.gain**2)

    def standardize(self, y: Tensor, ax: Tensor) -> Tensor:
        rate = _rate(ax, self.gain)
        return (y / self.gain - rate) / (rate + (self.std / self.gain) ** 2).sqrt()

    def _sum(self, y: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """``log p(y | rate)`` and ``E[k | y, rate]``, entry by entry.

        One term is computed in full, at the most likely k; each neighbour is its ratio to the
        last one, so that a term costs a few products.
        """
        width = self.std / self.gain
        variance = width**2
        widest = float(width.max()) if isinstance(width, Tensor) else width
        seen = y / self.gain
        centre = _likely_count(seen, rate, variance)
        lead = _log_poisson(centre, rate) - 0.5 * (seen - centre).square() / variance
        total, moment = torch.ones_like(rate), torch.zeros_like(rate)
        up, down = torch.ones_like(rate), torch.ones_like(rate)
        for offset in range(1, math.ceil(6 * widest) + 3):
            # The exponents are cut where float32 would overflow: there the other factor is 0.
            rise = ((seen - centre + 0.5 - offset) / variance).clamp(max=60).exp()
            fall = ((centre - seen + 0.5 - offset) / variance).clamp(max=60).exp()
            up = up * rise * rate / (centre + offset)
            down = down * fall * (centre + 1 - offset).clamp(min=0) / rate
            total, moment = total + up + down, moment + offset * (up - down)
        whole = self.std * math.sqrt(2 * math.pi)
        constant = whole.log() if isinstance(whole, Tensor) else math.log(whole)
        return lead + total.log() - constant, centre + moment / total


def _likely_count(seen: Tensor, rate: Tensor, variance: float | Tensor) -> Tensor:
    """A whole number close to the k with the largest ``Poisson(k; rate) N(seen; k, variance)``.

    Where the derivative vanishes, ``k = variance u`` with ``u + log u = a``, which is Lambert's
    function; u comes from Newton's method.
    """
    a = (rate / variance).log() + seen / variance
    a = a.clamp(min=-20)  # so low that k is 0, and u is still a number
    u = torch.where(a > 1, a.clamp(min=1) - a.clamp(min=1).log(), a.clamp(max=1).exp() / 2)
    for _ in range(5):
        u = (u * (1 + a - u.log()) / (1 + u)).clamp(min=1e-30)
    return (variance * u).round()


def _rate(ax: Tensor, gain: float) -> Tensor:
    """Expected counts: ``ax / gain``, continued below `FLOOR` by an exponential."""
    r = ax / gain
    return torch.where(r > FLOOR, r, FLOOR * ((r / FLOOR).clamp(max=1) - 1).exp().clamp(min=1e-30))


def _slope(rate: Tensor) -> Tensor:
    """Derivative of `_rate` with respect to ``ax / gain``, in terms of the rate."""
    return (rate / FLOOR).clamp(max=1)


def _spread(k: Tensor, rate: Tensor) -> Tensor:
    """Squared uncertainty of a rate, in counts: the rate itself, but at least 1 where k is 0.

    At rates near 0 the Fisher information grows without bound, while a count of 0 only says that
    the rate is of the order of 1 or less.
    """
    return torch.where(k > 0.5, rate, rate.clamp(min=1))


def _log_poisson(k: Tensor, rate: Tensor) -> Tensor:
    """``k log(rate) - rate - log k!``, arranged so that large counts do not cancel."""
    some = k.clamp(min=1e-30)
    excess = (rate - k) / some
    ratio = torch.where(excess > -0.5, torch.log1p(excess), rate.log() - some.log())
    deviance = torch.where(k > 0, k * ratio - (rate - k), -rate)
    # k log k - k - log k!, through Stirling's series where the terms are large.
    stirling = -0.5 * torch.log(2 * math.pi * some) - 1 / (12 * some) + 1 / (360 * some**3)
    small = torch.special.xlogy(k, k) - k - torch.lgamma(k + 1)
    return deviance + torch.where(k > 20, stirling, small)


def _counts(rate: Tensor, seed: int) -> Tensor:
    rows = rate.cpu().double().numpy()
    drawn = [generator(("counts", seed, i)).poisson(row) for i, row in enumerate(rows)]
    return torch.stack([torch.from_numpy(row) for row in drawn]).to(rate)


def _positive(model: str, name: str, value: float) -> float:
    refuse_flag(model, name, value)
    return arguments.positive(model, name, value, need="a positive, finite number, in units of y")
