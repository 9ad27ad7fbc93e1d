"""The conditional walk of Park et al. 2024: the template plus the gradient of log p(y | x).

    x' = x + tau (D(x, sigma) - x) / sigma^2 + tau grad log p(y | x) + sqrt(2 tau T) n

At every level it targets ``p_sigma(x) p(y | x)`` with the exact likelihood of the clean image, so
that only the limit sigma -> 0 is the posterior; nothing approximates ``p(y | x_sigma)``.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import number, pair, positive
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.schedules import Schedule, check_schedule, sigmoid
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.operators import GaussianNoise, LinearOperator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.walks.base import Info, Level, Walk, check_levels
from tweedie_inverse.walks.template import template_step


class LangevinState(NamedTuple):
    """What the next step needs."""

    x: Tensor  # (walkers, *shape)


@dataclass(frozen=True)
class Langevin(Walk[LangevinState]):
    """Settings of the walk; the defaults are those of the paper's first version.

    Differs from the paper: the Lipschitz constant of the likelihood is ``||A||^2 / std^2`` with
    the norm measured, where the paper takes ``||A|| <= 1`` (`norm=1`).

    Cost: each step takes one network evaluation, one forward and one adjoint.

    Attributes:
        step_size: eps in ``tau = min(eps sigma^2, 1 / L)``.
        temperature: T of the first and of the last step, linear in between; (1, 1) in version 1,
            (0, 1) in the settings of 2025.
        sigma_max, sigma_min: the schedule's ends in data units, cut to the prior's range.
        bend: temperature of the sigmoid schedule; 0.5 in version 1, 0.3 in 2025.
        schedule: a schedule to use instead, ``(steps, sigma_min, sigma_max)``.
        initial_std: the walk starts from N(prior.centre, initial_std^2), in data units.  It does
            not start at sigma_max, because the capped step hardly contracts at large sigma and
            would keep that noise.
        norm: ``||A||``; None measures it.  Required for operators that are not linear, as a
            bound on the norm of their Jacobian.
        lipschitz: L itself, in inverse squared data units, where the noise is not Gaussian.
    """

    step_size: float = 0.38
    temperature: tuple[float, float] = (1.0, 1.0)
    sigma_max: float = 157.407
    sigma_min: float = 0.01
    bend: float = 0.5
    initial_std: float = 1.0
    norm: float | None = None
    lipschitz: float | None = None
    schedule: Schedule | None = None

    name = "langevin"
    default_steps = 1000

    def __post_init__(self) -> None:
        check_levels("Langevin", self.sigma_min, self.sigma_max, self.schedule)
        for name in ("step_size", "bend"):
            positive("Langevin", name, getattr(self, name))
        for name in ("norm", "lipschitz"):
            if getattr(self, name) is not None:
                positive("Langevin", name, getattr(self, name))
        number("Langevin", "initial_std", self.initial_std, low=0)
        need = "two numbers, 0 or more: those of the first and of the last step"
        pair("Langevin", "temperature", self.temperature, low=0, need=need)

    def sigmas(self, prior: Prior, steps: int) -> Tensor:
        low, high = max(self.sigma_min, prior.sigma_min), min(self.sigma_max, prior.sigma_max)
        if self.schedule is not None:
            return check_schedule(self.schedule(steps, low, high))
        return sigmoid(steps, low, high, temperature=self.bend)

    def refuse(self, problem: Problem, prior: Prior) -> None:
        if self.lipschitz is not None:
            return
        if not isinstance(problem.noise, GaussianNoise):
            raise ValueError(
                "the langevin walk knows the largest curvature of the likelihood for GaussianNoise "
                f"only; got {problem.noise!r}. Pass method=ti.walks.Langevin(lipschitz=...), or "
                "use the decoupled walk"
            )
        if self.norm is None and not isinstance(problem.operator, LinearOperator):
            raise ValueError(
                f"the langevin walk cannot measure ||A|| of {problem.operator!r}, which is not "
                "linear; pass method=ti.walks.Langevin(norm=...), a bound on its Jacobian's norm"
            )

    def start(
        self, problem: Problem, prior: Prior, sigma: float, streams: Streams
    ) -> LangevinState:
        noise = streams.normal(prior.shape, like=problem.y)
        noise = self.initial_std * prior.coloured(noise)
        return LangevinState(torch.as_tensor(prior.centre).to(noise) + noise)

    def step(
        self,
        state: LangevinState,
        level: Level,
        problem: Problem,
        prior: Prior,
        streams: Streams,
    ) -> tuple[LangevinState, Info]:
        x = state.x
        tau = min(self.step_size * level.sigma**2, 1 / self._lipschitz(problem, prior))
        denoised = prior.denoise(x, level.sigma)
        first, last = self.temperature
        temperature = first + (last - first) * level.index / max(1, level.steps - 1)
        if level.sigma_next == 0:
            temperature, noise = 0.0, x.new_zeros(())
        else:
            noise = prior.coloured(streams.normal(prior.shape, like=x))
        walked = template_step(x, denoised, noise, level.sigma, tau, temperature)
        pull = problem.gradient(x)
        if prior.noise_covariance is not None:  # the same walk, in coordinates where noise is white
            pull = prior.noise_covariance.apply(pull)
        return LangevinState(walked + tau * pull), Info(denoised)

    def _lipschitz(self, problem: Problem, prior: Prior) -> float:
        if self.lipschitz is not None:
            return self.lipschitz
        assert isinstance(problem.noise, GaussianNoise)
        norm = self.norm if self.norm is not None else problem.operator_norm
        most = 1.0
        if prior.noise_covariance is not None:
            most = float(prior.noise_covariance.variance.max())
        return most * (norm / float(problem.noise.std.min())) ** 2
