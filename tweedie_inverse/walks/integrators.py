"""Rules that lead from one noise level to the next: the template step, and more elaborate ones.

`Template` is the only one that is a row of the paper's table.  `Heun` and `Churn` evaluate the
network twice in a step, `Multistep` remembers its last evaluation, and the noise of `Coloured` is
not white.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from tweedie_inverse.boundary.arguments import number
from tweedie_inverse.priors.base import Prior, refuse_correlated
from tweedie_inverse.walks.recipes import Recipe, refuse_unmeasured
from tweedie_inverse.walks.template import template_step

Noise = Callable[[], Tensor]  # fresh standard normal numbers like x


class IntegratorState(NamedTuple):
    """What the next step needs."""

    x: Tensor  # (walkers, *shape)
    denoised: Tensor | None = None  # the latest evaluation; None before the first


class Integrator(ABC):
    """A rule for one step; subclasses are frozen dataclasses of their settings.

    Attributes:
        name: for messages.
        order: of convergence in the number of steps; in law where the walk is stochastic.
        evaluations: of the network in a step.  The last step, to sigma 0, makes one.
    """

    name: str
    order: int
    evaluations: int = 1

    def steps_within(self, budget: int) -> int:
        """How many steps a budget of network evaluations allows."""
        return (budget - 1) // self.evaluations + 1

    def cost(self, steps: int) -> int:
        """Network evaluations of a walk of so many steps."""
        return (steps - 1) * self.evaluations + 1

    def refuse(self, prior: Prior) -> None:  # noqa: B027 - most have nothing to refuse
        """Raise a `ValueError` that says what to do where this rule cannot work."""

    @abstractmethod
    def step(
        self,
        state: IntegratorState,
        index: int,
        sigmas: Sequence[float],
        prior: Prior,
        noise: Noise,
    ) -> IntegratorState:
        """From ``sigmas[index]`` to ``sigmas[index + 1]``; `state` is left as it is."""


@dataclass(frozen=True)
class Template(Integrator):
    """The paper's template with the numbers of a recipe: one evaluation, no memory.

    It is of first order where the step of the recipe follows the levels; `ncsn` and `simple` keep a
    fixed step and the bias that comes with it.
    """

    recipe: Recipe

    name = "template"
    order = 1

    def step(
        self,
        state: IntegratorState,
        index: int,
        sigmas: Sequence[float],
        prior: Prior,
        noise: Noise,
    ) -> IntegratorState:
        x, sigma = state.x, sigmas[index]
        tau, temperature = float(self.recipe.taus[index]), float(self.recipe.temperatures[index])
        denoised = prior.denoise(x, sigma)
        fresh = noise() if temperature > 0 else x.new_zeros(())
        return IntegratorState(template_step(x, denoised, fresh, sigma, tau, temperature), denoised)


@dataclass(frozen=True)
class Heun(Integrator):
    """Second-order deterministic sampler of Karras et al. 2022, algorithm 1.

    An Euler step to the next level is repeated with the mean of the slopes at both ends.  The last
    step, to sigma 0, is an Euler step.
    """

    name = "heun"
    order = 2
    evaluations = 2

    def step(
        self,
        state: IntegratorState,
        index: int,
        sigmas: Sequence[float],
        prior: Prior,
        noise: Noise,
    ) -> IntegratorState:
        return _heun(state.x, sigmas[index], sigmas[index + 1], prior)


@dataclass(frozen=True)
class Churn(Integrator):
    """Second-order stochastic sampler of Karras et al. 2022, algorithm 2.

    Fresh noise raises the noise level by a factor ``1 + gamma``, then follows a Heun step.

    Differs from the paper: the raised level never exceeds the first level of the grid, beyond which
    the network may not be evaluated.

    Attributes:
        churn: S_churn; ``gamma = churn / steps``, at most ``sqrt(2) - 1``.
        sigma_min, sigma_max: S_tmin and S_tmax, the levels that are churned, in data units.
        noise_std: S_noise, of the fresh noise.
    """

    churn: float = 40.0
    sigma_min: float = 0.0
    sigma_max: float = math.inf
    noise_std: float = 1.0

    name = "churn"
    order = 2
    evaluations = 2

    def __post_init__(self) -> None:
        for name in ("churn", "noise_std", "sigma_min"):
            number(
                "Churn",
                name,
                getattr(self, name),
                low=0,
                need="a number, which must not be negative",
            )
        number("Churn", "sigma_max", self.sigma_max, low=self.sigma_min, finite=False)

    def step(
        self,
        state: IntegratorState,
        index: int,
        sigmas: Sequence[float],
        prior: Prior,
        noise: Noise,
    ) -> IntegratorState:
        x, sigma = state.x, sigmas[index]
        if self.churn > 0 and self.sigma_min <= sigma <= self.sigma_max:
            gamma = min(self.churn / (len(sigmas) - 1), math.sqrt(2) - 1)
            raised = min(sigma * (1 + gamma), sigmas[0])
            x = x + math.sqrt(raised**2 - sigma**2) * self.noise_std * noise()
            sigma = raised
        return _heun(x, sigma, sigmas[index + 1], prior)


@dataclass(frozen=True)
class Multistep(Integrator):
    """DPM-Solver++(2M) of Lu et al. 2022: second order from the memory of one evaluation.

    D is extrapolated linearly in log sigma to the middle of the step.  The first step and the last,
    to sigma 0, are Euler steps.
    """

    name = "dpm++2m"
    order = 2

    def step(
        self,
        state: IntegratorState,
        index: int,
        sigmas: Sequence[float],
        prior: Prior,
        noise: Noise,
    ) -> IntegratorState:
        sigma, after = sigmas[index], sigmas[index + 1]
        denoised = prior.denoise(state.x, sigma)
        ahead = denoised
        if state.denoised is not None and after > 0:
            ratio = math.log(sigma / after) / math.log(sigmas[index - 1] / sigma)
            ahead = denoised + ratio / 2 * (denoised - state.denoised)
        return IntegratorState(ahead + after / sigma * (state.x - ahead), denoised)


@dataclass(frozen=True)
class Coloured(Integrator):
    """`consistent` with its noise coloured like the prior's denoising error V.

        x' = x + eps (D - x) + N(0, sigma^2 (r^2 - (1 - eps)^2) I + eps^2 V),   eps = 1 - r^power

    It is exact for a Gaussian prior at any number of steps, where white noise can only be right on
    average over the frequencies.  With eps = 1 it is the decoupled walk without a measurement.
    Exact priors know V; that of a network has to be measured.

    Attributes:
        power: at least 1; as in `consistent`.
    """

    power: float = 1.5

    name = "coloured"
    order = 1

    def __post_init__(self) -> None:
        number("Coloured", "power", self.power, low=1, need="at least 1")

    def refuse(self, prior: Prior) -> None:
        refuse_unmeasured(prior, "Coloured")
        refuse_correlated(prior, "Coloured")

    def step(
        self,
        state: IntegratorState,
        index: int,
        sigmas: Sequence[float],
        prior: Prior,
        noise: Noise,
    ) -> IntegratorState:
        x, sigma, after = state.x, sigmas[index], sigmas[index + 1]
        denoised = prior.denoise(x, sigma)
        if after == 0:
            return IntegratorState(denoised, denoised)
        eps = 1 - (after / sigma) ** self.power
        white = max(0.0, after**2 - (1 - eps) ** 2 * sigma**2)
        covariance = prior.denoising_error(sigma).map(lambda v: white + eps**2 * v)
        return IntegratorState(x + eps * (denoised - x) + covariance.colour(noise()), denoised)


def _heun(x: Tensor, sigma: float, after: float, prior: Prior) -> IntegratorState:
    denoised = prior.denoise(x, sigma)
    slope = (x - denoised) / sigma
    there = x + (after - sigma) * slope
    if after == 0:
        return IntegratorState(there, denoised)
    denoised = prior.denoise(there, after)
    slope = (slope + (there - denoised) / after) / 2
    return IntegratorState(x + (after - sigma) * slope, denoised)


INTEGRATORS: dict[str, Integrator] = {
    "churn": Churn(),
    "coloured": Coloured(),
    "dpm++2m": Multistep(),
    "heun": Heun(),
}
