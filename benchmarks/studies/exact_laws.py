"""Exact laws of discretized walks on Gaussian priors: no sampling error.

For ``x0 ~ N(0, s)`` the denoiser is ``s x / (s + sigma^2)``, every step is affine in state and
noise, and the variance of the walk follows a recursion.  The step that is analysed is the
integrator's own.
"""

import torch
from torch import Tensor

from tweedie_inverse.numerics.covariance import Covariance, Pixels
from tweedie_inverse.priors import Prior
from tweedie_inverse.walks import Heun, Integrator, Multistep
from tweedie_inverse.walks.integrators import IntegratorState


class Diagonal(Prior):
    """``N(0, s)``, every pixel with a variance of its own."""

    def __init__(self, s: Tensor):
        self.s, self.shape = s, tuple(s.shape)

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self.s / (self.s + sigma**2) * x

    def denoising_error(self, sigma: float) -> Covariance:
        return Covariance(Pixels(), self.s * sigma**2 / (self.s + sigma**2))


def walk_variances(integrator: Integrator, sigmas: Tensor, s: Tensor, start: Tensor) -> Tensor:
    """Variance of the state at every level, ``(steps + 1, *s.shape)``, from variance `start`."""
    levels, prior = sigmas.tolist(), Diagonal(s)

    def quiet() -> Tensor:
        return torch.zeros_like(s)[None]

    def loud() -> Tensor:
        return torch.ones_like(s)[None]

    variances = [start]
    if isinstance(integrator, Multistep | Heun):  # deterministic, and the first has a memory
        state = IntegratorState(start.sqrt()[None])
        for index in range(len(levels) - 1):
            state = integrator.step(state, index, levels, prior, quiet)
            variances.append(state.x[0] ** 2)
        return torch.stack(variances)
    for index in range(len(levels) - 1):
        gain = integrator.step(IntegratorState(loud()), index, levels, prior, quiet).x
        noise = integrator.step(IntegratorState(quiet()), index, levels, prior, loud).x
        variances.append(gain[0] ** 2 * variances[-1] + noise[0] ** 2)
    return torch.stack(variances)


def final_variance(integrator: Integrator, sigmas: Tensor, s: Tensor) -> Tensor:
    """Variance of the samples of `ti.sample`, which start from ``N(0, sigma_0^2)``."""
    start = torch.full_like(s, float(sigmas[0]) ** 2)
    return walk_variances(integrator, sigmas, s, start)[-1]


def wasserstein(variance: Tensor, s: Tensor) -> float:
    """Squared 2-Wasserstein distance of ``N(0, variance)`` from ``N(0, s)``, over the trace."""
    return float((variance.sqrt() - s.sqrt()).square().sum() / s.sum())
