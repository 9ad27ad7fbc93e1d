"""What a prior round another prior passes on: everything but the denoiser."""

import torch
from torch import Tensor

from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.priors.base import Prior


class WrappedPrior(Prior):
    """Answers as `prior` does; a subclass says what happens when the denoiser is called."""

    def __init__(self, prior: Prior):
        self.prior = prior
        self.shape, self.centre, self.any_sigma = prior.shape, prior.centre, prior.any_sigma
        self.sigma_min, self.sigma_max, self.unit = prior.sigma_min, prior.sigma_max, prior.unit
        self.value_range, self.units = prior.value_range, prior.units
        self.error_is_exact = prior.error_is_exact

    def denoising_error(self, sigma: float) -> Covariance:
        return self.prior.denoising_error(sigma)

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        return self.prior.conditional_covariance(sigma, denoised)

    def moments(self) -> tuple[Tensor, Covariance]:
        return self.prior.moments()

    @property
    def device(self) -> torch.device:
        return self.prior.device

    @property
    def error_is_measured(self) -> bool:
        return self.prior.error_is_measured
