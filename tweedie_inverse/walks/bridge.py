"""The Gaussian algebra of one particle step: where a walker goes, and the image it has behind it.

A `Bridge` leads from x to x' at the next level; a `Model` says which clean image x0 to expect
behind x'.  Together they are a joint Gaussian law of ``(x', x0)`` given x, in which the measurement
of x0 is weighed and drawn from.

Everything is diagonal in one basis; arrays are coefficients there.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


class Model(NamedTuple):
    """``x0 | x' ~ N(slope x' + offset, variance)`` at the level walked to."""

    slope: Tensor
    offset: Tensor
    variance: Tensor

    def mean(self, x: Tensor) -> Tensor:
        """``E[x0 | x' = x]``."""
        return self.slope * x + self.offset


@dataclass(frozen=True, eq=False)
class Bridge:
    """A step ``x' = x0 + keep (x - x0) + spread n``, of a walker with ``x0 ~ N(denoised, error)``.

    ``keep = sigma'^2 / sigma^2`` is the reverse of the noising process; less of it renews more
    of the noise, down to ``keep = 0``, which forgets x altogether.
    """

    x: Tensor
    denoised: Tensor
    error: Tensor  # variances of the denoising error, V
    keep: float
    spread: float

    @classmethod
    def around(cls, mean: Tensor, error: Tensor, sigma: float) -> "Bridge":
        """``x' ~ N(mean, error + sigma^2)``, whatever x is."""
        return cls(x=mean, denoised=mean, error=error, keep=0.0, spread=sigma)

    @cached_property
    def mean(self) -> Tensor:
        """``E[x' | x]``."""
        return self.denoised + self.keep * (self.x - self.denoised)

    @cached_property
    def variance(self) -> Tensor:
        """``Var(x' | x)``."""
        return self.spread**2 + (1 - self.keep) ** 2 * self.error


@dataclass(frozen=True, eq=False)
class Joint:
    """The law of ``(x', x0)`` given x: x' from the bridge, x0 from the model at x'."""

    bridge: Bridge
    model: Model

    @cached_property
    def clean_mean(self) -> Tensor:
        """``E[x0 | x]``."""
        return self.model.mean(self.bridge.mean)

    @cached_property
    def clean_variance(self) -> Tensor:
        """``Var(x0 | x)``."""
        return self.model.slope**2 * self.bridge.variance + self.model.variance

    def mean_given_clean(self, x0: Tensor) -> Tensor:
        """``E[x' | x0, x]``."""
        slope = _ratio(self.bridge.variance * self.model.slope, self.clean_variance)
        return self.bridge.mean + slope * (x0 - self.clean_mean)

    @cached_property
    def deviation_given_clean(self) -> Tensor:
        """Standard deviations of x' given x0 and x."""
        return _ratio(self.bridge.variance * self.model.variance, self.clean_variance).sqrt()


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """``a / b``, 0 where both vanish: along directions that the prior does not know."""
    return torch.where(b > 0, a / b.clamp(min=torch.finfo(b.dtype).tiny), torch.zeros_like(b))
