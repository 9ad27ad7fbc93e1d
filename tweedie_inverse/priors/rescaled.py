"""A prior in other units: the same images, with other numbers for black and white."""

import copy
from collections.abc import Callable

from torch import Tensor

from tweedie_inverse.boundary.arguments import pair
from tweedie_inverse.boundary.contracts import Contract
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.wrapped import WrappedPrior


class Rescaled(WrappedPrior):
    """``a + b D((x - a) / b, sigma / b)``, b > 0: a prior for images in units of the user's.

    Noise levels, the denoising error and the samples are in these units, too.

    Args:
        prior: one whose value range is known.
        value_range: what the ends of its value range become, such as (-1000, 1000) for HU where
            the prior's are (0, 1).

    Raises:
        ValueError: an empty range, or a prior whose value range is not known.
    """

    def __init__(self, prior: Prior, value_range: tuple[float, float]):
        super().__init__(prior)
        low, high = pair("Rescaled", "value_range", value_range, need="two numbers, low and high")
        if not low < high:
            raise ValueError(f"Rescaled(value_range=({low:g}, {high:g})): needs low < high")
        if prior.value_range is None:
            raise ValueError(
                f"Rescaled: {prior!r} does not say what black and white are in its own units"
            )
        black, white = prior.value_range
        self._scale = (high - low) / (white - black)
        self._offset = low - self._scale * black
        self.name = getattr(prior, "name", "")
        self.centre = self._offset + self._scale * prior.centre
        self.sigma_min, self.sigma_max = (
            self._scale * prior.sigma_min,
            self._scale * prior.sigma_max,
        )
        self.unit, self.value_range, self.units = self._scale * prior.unit, (low, high), ""

    def __repr__(self) -> str:
        assert self.value_range is not None
        return "{!r} in [{:g}, {:g}]".format(self.prior, *self.value_range)

    def _own(self, x: Tensor) -> Tensor:
        return (x - self._offset) / self._scale

    def _level(self, sigma: float | Tensor) -> float | Tensor:
        return sigma / self._scale

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self._offset + self._scale * self.prior.denoise(self._own(x), self._level(sigma))

    def denoise_drawing(
        self, x: Tensor, sigma: float | Tensor, noise: Callable[[tuple[int, ...]], Tensor]
    ) -> Tensor:
        found = self.prior.denoise_drawing(self._own(x), self._level(sigma), noise)
        return self._offset + self._scale * found

    def _widened(self, covariance: Covariance) -> Covariance:
        return covariance.map(lambda variance: self._scale**2 * variance)

    def denoising_error(self, sigma: float) -> Covariance:
        return self._widened(self.prior.denoising_error(sigma / self._scale))

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        own = self.prior.conditional_covariance(sigma / self._scale, self._own(denoised))
        return self._widened(own)

    def moments(self) -> tuple[Tensor, Covariance]:
        mean, covariance = self.prior.moments()
        return self._offset + self._scale * mean, self._widened(covariance)

    def contracts(self, x: Tensor, sigma: float) -> list[tuple[object, Contract]]:
        return self.prior.contracts(self._own(x), sigma / self._scale)

    def for_shape(self, shape: tuple[int, ...]) -> "Rescaled":
        other = copy.copy(self)
        other.prior = self.prior.for_shape(shape)
        other.shape = other.prior.shape
        return other

    @property
    def rounding(self) -> float:
        return self._scale * self.prior.rounding
