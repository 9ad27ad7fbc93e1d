"""Paths of a particle walk: what a walker at noise level sigma expects of the measurement.

A path models the clean image behind a walker, ``x0 | x ~ N(slope x + offset, variance)``, and with
it the likelihood ``l(x) = integral N(x0; ...) p(y | x0)``.  At sigma 0 every path is ``p(y | x)``:
the path changes how much the weights scatter, and never what they converge to.

Everything is diagonal in one basis; arrays are coefficients there.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.walks.bridge import Bridge, Model


class Moments(NamedTuple):
    """Mean and variances of the prior."""

    mean: Tensor  # like the coefficients of one image
    variance: Tensor


class Path(ABC):
    """A rule for the model at each level; subclasses are frozen dataclasses without settings.

    Attributes:
        remembers: whether the model at the next level depends on the present walker.  Where it
            does not, l is a Gaussian function of x, and walkers can be moved at a fixed level.
    """

    name: str
    remembers: bool = False

    @abstractmethod
    def model(self, bridge: Bridge, sigma: float, prior: Moments) -> Model:
        """The model of x0 behind a walker at the level `sigma` that `bridge` leads to."""


@dataclass(frozen=True)
class FlatPrior(Path):
    """No preference: ``x0 | x ~ N(x, sigma^2)``, so that ``l = N(y; A x, S + sigma^2 A A^T)``."""

    name = "flat"

    def model(self, bridge: Bridge, sigma: float, prior: Moments) -> Model:
        one = torch.ones_like(bridge.error)
        return Model(one, torch.zeros_like(one), sigma**2 * one)


@dataclass(frozen=True)
class Wiener(Path):
    """The prior's mean and variance P: ``x0 | x ~ N(m + P (P + sigma^2)^-1 (x - m), ...)``."""

    name = "wiener"

    def model(self, bridge: Bridge, sigma: float, prior: Moments) -> Model:
        total = prior.variance + sigma**2
        slope = torch.where(total > 0, prior.variance / total, torch.ones_like(total))
        if sigma == 0:
            slope = torch.ones_like(slope)
        return Model(slope, (1 - slope) * prior.mean, slope * sigma**2)


@dataclass(frozen=True)
class Tweedie(Path):
    """The denoiser and its error: ``x0 | x ~ N(D(x), V)``, without its gradient.

    D at the next level is not known before the step; it is predicted from the present walker,
    whose ``x0 ~ N(D, V)`` is then also seen through x'.  The next weight puts the prediction right.
    """

    name = "tweedie"
    remembers = True

    def model(self, bridge: Bridge, sigma: float, prior: Moments) -> Model:
        if sigma == 0:
            one = torch.ones_like(bridge.error)
            return Model(one, torch.zeros_like(one), torch.zeros_like(one))
        # x' - keep x = (1 - keep) x0 + spread n is a second look at x0.
        shared = (1 - bridge.keep) * bridge.error  # Cov(x0, x')
        slope = shared / (bridge.spread**2 + (1 - bridge.keep) * shared)
        offset = bridge.denoised - slope * bridge.mean
        return Model(slope, offset, bridge.error * (1 - (1 - bridge.keep) * slope))


PATHS: dict[str, Path] = {path.name: path for path in (FlatPrior(), Wiener(), Tweedie())}
