"""What a sampler costs, counted at the prior and not by the sampler."""

from collections.abc import Callable

import torch
from torch import Tensor

from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.wrapped import WrappedPrior


class CountedPrior(WrappedPrior):
    """A prior that counts evaluations and vector-Jacobian products, one an image."""

    def __init__(self, prior: Prior):
        super().__init__(prior)
        self.calls = self.vjps = 0

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
