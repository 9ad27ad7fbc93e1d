"""What a prior round another prior passes on: everything but the denoiser."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.contracts import Contract
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.priors.base import ROUNDOFF, Prior
from tweedie_inverse.priors.scaling import Scaled, Scaling
from tweedie_inverse.runtime.ranks import Ranks


class WrappedPrior(Prior):
    """Answers as `prior` does; a subclass says what happens when the denoiser is called."""

    def __init__(self, prior: Prior):
        self.prior = prior
        self.shape, self.centre, self.any_sigma = prior.shape, prior.centre, prior.any_sigma
        self.sigma_min, self.sigma_max, self.unit = prior.sigma_min, prior.sigma_max, prior.unit
        self.value_range, self.units = prior.value_range, prior.units
        self.noise_covariance, self.probe_basis = prior.noise_covariance, prior.probe_basis

    def denoising_error(self, sigma: float) -> Covariance:
        return self.prior.denoising_error(sigma)

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        return self.prior.conditional_covariance(sigma, denoised)

    @property
    def calibration(self) -> Mapping[str, Scaling]:
        return self.prior.calibration

    def with_calibration(self, calibration: Scaled | Scaling | None) -> "WrappedPrior":
        other = copy.copy(self)
        other.prior = self.prior.with_calibration(calibration)
        return other

    def plain(self) -> "WrappedPrior":
        other = copy.copy(self)
        other.prior = self.prior.plain()
        return other

    def moments(self) -> tuple[Tensor, Covariance]:
        return self.prior.moments()

    def contracts(self, x: Tensor, sigma: float) -> list[tuple[object, Contract]]:
        return self.prior.contracts(x, sigma)

    @property
    def device(self) -> torch.device:
        return self.prior.device

    @property
    def ranks(self) -> Ranks:
        return self.prior.ranks

    @property
    def rounding(self) -> float:
        return self.prior.rounding

    @property
    def error_is_measured(self) -> bool:
        return self.prior.error_is_measured

    @property
    def error_is_exact(self) -> bool:
        return self.prior.error_is_exact


class UnderAutocast(WrappedPrior):
    """A prior whose network runs under the autocast that its caller had switched on.

    The walk round it does not: its own products need all their digits.
    """

    def __init__(self, prior: Prior, device: torch.device):
        super().__init__(prior)
        kind = device.type
        self._mode: dict[str, Any] = {"device_type": kind, "dtype": torch.get_autocast_dtype(kind)}

    @property
    def rounding(self) -> float:
        return max(self.prior.rounding, self.unit * ROUNDOFF[self._mode["dtype"]])

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        with torch.autocast(**self._mode):
            return self.prior.denoise(x, sigma)

    def denoise_drawing(
        self, x: Tensor, sigma: float | Tensor, noise: Callable[[tuple[int, ...]], Tensor]
    ) -> Tensor:
        with torch.autocast(**self._mode):
            return self.prior.denoise_drawing(x, sigma, noise)
