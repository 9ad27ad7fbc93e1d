"""The decoupled walk: denoise, draw the clean image given the measurement, noise it again.

    m  = D(x, sigma)
    x0 ~ N(m, V_sigma) p(y | x0)                 exact likelihood, exact draw
    x' = x0 + sigma' n

If ``x ~ p(x_sigma | y)`` and ``p(x0 | x_sigma) = N(m, V_sigma)`` then ``x' ~ p(x_sigma' | y)``: no
``p(y | x_sigma)`` appears.  V is the prior's measured denoising error; with it the walk is exact
for a Gaussian prior at any number of steps.  With ``V = sigma^2 I`` it is DAPS (Zhang et al. 2024)
with a one-step denoiser.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from operators.random import Streams

from ..covariance import Covariance, isotropic
from ..gaussian import conditional_draw
from ..priors.base import Prior
from ..problem import Problem
from ..schedules import karras
from .base import Info, Level, Walk


@dataclass(frozen=True)
class Decoupled(Walk):
    """Settings of the walk.

    Cost: one network evaluation a step, and one linear solve.

    Attributes:
        rho: of the Karras schedule over the prior's range of noise levels.
        sigma_max, sigma_min: ends of the schedule in data units; None is the prior's own.
        error: covariance V of the draw. ``"measured"`` is the prior's ``conditional_covariance``:
            its denoising error, weighted towards the places where errors sit; ``"average"`` is
            the plain denoising error, ``"isotropic"`` ``sigma^2 I``.
    """

    rho: float = 7.0
    sigma_max: float | None = None
    sigma_min: float | None = None
    error: str = "measured"

    name = "decoupled"
    default_steps = 50

    def __post_init__(self) -> None:
        if self.error not in ("measured", "average", "isotropic"):
            raise ValueError(
                f"Decoupled(error={self.error!r}): choose 'measured', 'average' or 'isotropic'"
            )

    def sigmas(self, prior: Prior, steps: int) -> Tensor:
        low, high = self.sigma_min or prior.sigma_min, self.sigma_max or prior.sigma_max
        return karras(steps, low, high, rho=self.rho)

    def refuse(self, problem: Problem, prior: Prior) -> None:
        if not problem.is_linear_gaussian:
            raise ValueError(
                "the decoupled walk draws exactly for a linear operator with Gaussian noise; got "
                f"{problem.operator!r} with {problem.noise!r}. Use method=ti.walks.Langevin(...)"
            )

    def start(self, problem: Problem, prior: Prior, sigma: float, streams: Streams) -> Tensor:
        noise = streams.normal(prior.shape, like=problem.y)
        return torch.as_tensor(prior.centre).to(noise) + sigma * noise

    def step(
        self, x: Tensor, level: Level, problem: Problem, prior: Prior, streams: Streams
    ) -> tuple[Tensor, Info]:
        denoised = prior.denoise(x, level.sigma)
        draw = conditional_draw(
            denoised,
            self._covariance(prior, level.sigma),
            problem,
            streams.normal(prior.shape, like=x),
            streams.normal(problem.operator.range_shape, like=x),
        )
        noise = streams.normal(prior.shape, like=x)
        info = Info(denoised, draw.iterations, draw.error)
        return draw.x + level.sigma_next * noise, info

    def _covariance(self, prior: Prior, sigma: float) -> Covariance:
        match self.error:
            case "isotropic":
                return isotropic(sigma**2)
            case "average":
                return prior.denoising_error(sigma)
        return prior.conditional_covariance(sigma)
