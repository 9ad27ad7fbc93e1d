"""What a sampler costs, counted at the prior and not by the sampler."""

from collections.abc import Callable

import torch
from torch import Tensor

from tweedie_inverse.covariance import Covariance
from tweedie_inverse.priors.base import Prior


class CountedPrior(Prior):
    """A prior that counts evaluations and vector-Jacobian products, one an image."""

    def __init__(self, prior: Prior):
        self.prior = prior
        self.calls = self.vjps = 0
        self.shape, self.centre, self.any_sigma = prior.shape, prior.centre, prior.any_sigma
        self.sigma_min, self.sigma_max = prior.sigma_min, prior.sigma_max

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        denoised = _Counted.apply(self.prior.denoise(x, sigma), self)
        self.calls += len(x)  # what ran out of memory is not counted
        return denoised

    def denoise_drawing(
        self, x: Tensor, sigma: float | Tensor, noise: Callable[[tuple[int, ...]], Tensor]
    ) -> Tensor:
        denoised = _Counted.apply(self.prior.denoise_drawing(x, sigma, noise), self)
        self.calls += len(x)
        return denoised

    def denoising_error(self, sigma: float) -> Covariance:
        return self.prior.denoising_error(sigma)

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        return self.prior.conditional_covariance(sigma, denoised)

    def moments(self) -> tuple[Tensor, Covariance]:
        return self.prior.moments()

    @property
    def error_is_measured(self) -> bool:
        return self.prior.error_is_measured


class _Counted(torch.autograd.Function):
    """The identity; its backward pass counts."""

    @staticmethod
    def forward(denoised: Tensor, prior: CountedPrior) -> Tensor:
        return denoised.view_as(denoised)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.prior = inputs[1]

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        ctx.prior.vjps += len(gradient)
        return gradient, None
