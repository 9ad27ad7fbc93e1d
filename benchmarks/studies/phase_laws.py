"""Exact laws of samplers in phase space on Gaussian images: no sampling error.

For independent pixels ``x0 ~ N(0, s)`` every step is affine in the phases of a pixel and in the
noise it draws, so the covariance of each pixel's phases follows a recursion.  The step that is
analysed is the sampler's own.
"""

from itertools import pairwise

import torch
from torch import Tensor

from tweedie_inverse.benchmarks.studies.exact_laws import Diagonal
from tweedie_inverse.numerics.covariance import Covariance, Pixels
from tweedie_inverse.phase_space import ExactPhaseSpace
from tweedie_inverse.phase_space.processes import LinearProcess


class DiagonalImages(Diagonal):
    """As `Diagonal`, for batches of images ``(pixels,)``."""

    sigma_min, sigma_max, any_sigma = 1e-4, 1e3, True

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level = torch.as_tensor(sigma).reshape(-1, 1).to(x) ** 2
        return self.s / (self.s + level) * x

    def denoising_error(self, sigma: float) -> Covariance:
        return Covariance(Pixels(), self.s * sigma**2 / (self.s + sigma**2))


class Draws:
    """Hands out noise that is 0 but for one draw, where one phase is 1."""

    def __init__(self, z: Tensor, chosen: int | None, phase: int = 0):
        self.z, self.chosen, self.phase, self.count = z, chosen, phase, 0

    def __call__(self) -> Tensor:
        noise = torch.zeros_like(self.z)
        if self.count == self.chosen:
            noise[:, self.phase] = 1
        self.count += 1
        return noise


def step_matrices(sampler, prior, t: float, earlier: float) -> list[Tensor]:
    """What a step does to the state, then to each draw of noise: ``(pixels, k, k)`` each."""
    k, pixels = prior.process.phases, prior.shape[0]
    zero = torch.zeros(1, k, pixels, dtype=torch.float64)

    def columns(states: Tensor, noise: Draws) -> Tensor:
        return sampler.step(states, t, earlier, prior, noise)

    units = torch.eye(k, dtype=torch.float64)[:, :, None].expand(k, k, pixels).contiguous()
    counter = Draws(units, None)
    found = [columns(units, counter).permute(2, 1, 0)]
    for draw in range(counter.count):
        parts = [columns(zero, Draws(zero, draw, phase)) for phase in range(k)]
        found.append(torch.cat(parts).permute(2, 1, 0))
    return found


def law_at_end(
    sampler, process: LinearProcess, s: Tensor, times: Tensor, start: Tensor | None = None
) -> Tensor:
    """Covariance of the phases at the last time, ``(pixels, k, k)``.

    Starts from the stationary law, as `phase_space.sample` does, or from `start`.
    """
    prior = ExactPhaseSpace(DiagonalImages(s), process)
    k = process.phases
    covariance = process.stationary.expand(len(s), k, k) if start is None else start
    values = times.tolist()
    for t, earlier in pairwise(values):
        matrix, *noises = step_matrices(sampler, prior, t, earlier)
        covariance = matrix @ covariance @ matrix.mT
        for noise in noises:
            covariance = covariance + noise @ noise.mT
    return covariance


def last_variance(process: LinearProcess, s: Tensor, t: float, covariance: Tensor) -> Tensor:
    """Variance of ``E[x0 | z]`` for states of `covariance` at time t, ``(pixels,)``."""
    prior = ExactPhaseSpace(DiagonalImages(s), process)
    k = process.phases
    units = torch.eye(k, dtype=torch.float64)[:, :, None].expand(k, k, len(s)).contiguous()
    row = prior.denoise_phases(units, t).mT[:, None, :]
    return (row @ covariance @ row.mT)[:, 0, 0]
