"""A checked call of `solve`: everything that can be wrong with the input is found here.

The network is not evaluated before everything has been checked.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.operators import GaussianNoise, LinearOperator, NoiseModel, Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.solving.validation import check_measurement, check_operator, resolve_noise
from tweedie_inverse.walks import Decoupled, Langevin, Particle, Walk

# `auto` takes the particle walk up to this many numbers an image, from this many samples on: a
# small population is a poor one.
_FEW_NUMBERS, _POPULATION = 1024, 200


@dataclass(frozen=True)
class Run:
    """A checked call of `solve`: what is the same for all parts of its walkers."""

    y: Tensor
    single: bool
    operator: Operator
    noise: NoiseModel
    prior: Prior
    walk: Walk
    reason: str
    sigmas: Tensor
    num_samples: int
    seed: int | tuple[int, ...]

    @property
    def total(self) -> int:
        """Walkers: one for each sample of each measurement."""
        return self.y.shape[0] * self.num_samples

    def key(self, measurement: int, sample: int) -> tuple[str, int, int, int]:
        """Name of a walker's random stream."""
        if isinstance(self.seed, tuple):
            return "walk", self.seed[measurement], 0, sample
        return "walk", self.seed, measurement, sample


def prepare(
    y: Tensor,
    operator: Operator,
    prior: Prior,
    method: str | Walk,
    num_samples: int,
    steps: int | None,
    seed: int | Sequence[int],
    noise: NoiseModel | float | None,
) -> Run:
    """Check the arguments of `solve`, described there, and choose the walk."""
    if not isinstance(operator, Operator):
        raise TypeError(
            f"solve: operator must derive from ops.Operator or ops.LinearOperator, got "
            f"{type(operator).__name__}"
        )
    if not isinstance(prior, Prior):
        raise TypeError(
            f"solve: prior must be a prior such as ti.load_prior('phantom-64'), got "
            f"{type(prior).__name__}; wrap a network in ti.priors.NetworkPrior"
        )
    if num_samples < 1:
        raise ValueError(f"solve(num_samples={num_samples}): needs at least one sample")
    y, single = check_measurement(y, operator)
    seed = tuple(seed) if isinstance(seed, Sequence) else seed
    if isinstance(seed, tuple) and len(seed) != len(y):
        raise ValueError(
            f"solve(seed=): needs one integer, or one for each of {len(y)} measurements, got "
            f"{len(seed)}"
        )
    model = resolve_noise(noise, operator, y)
    prior = prior.for_shape(operator.domain_shape)
    check_operator(operator, y)
    walk, reason = _choose(method, operator, model, prior, num_samples)
    first = Problem(y[:1], operator.select(0), model)
    walk.refuse(first, prior)
    count = walk.default_steps if steps is None else steps
    if count < 1:
        raise ValueError(f"solve(steps={steps}): needs at least one network evaluation")
    walk, sigmas, note = walk.plan(first, prior, count)
    reason = f"{reason}; {note}" if note else reason
    return Run(y, single, operator, model, prior, walk, reason, sigmas, num_samples, seed)


def _choose(
    method: str | Walk, operator: Operator, noise: NoiseModel, prior: Prior, num_samples: int
) -> tuple[Walk, str]:
    """The walk of a call and the reason, for `posterior.stats`."""
    if isinstance(method, Walk):
        return method, "given"
    if method == "decoupled":
        return Decoupled(), "asked for"
    if method == "langevin":
        return Langevin(), "asked for"
    if method == "particle":
        return Particle(), "asked for"
    if method != "auto":
        raise ValueError(
            f"solve(method={method!r}): choose 'auto', 'decoupled', 'langevin' or 'particle', or "
            "pass a walk such as ti.walks.Langevin(step_size=0.2)"
        )
    if isinstance(operator, LinearOperator) and isinstance(noise, GaussianNoise):
        numbers = math.prod(prior.shape)
        if prior.suits_populations and numbers <= _FEW_NUMBERS and num_samples >= _POPULATION:
            return Particle(), (
                f"auto: {type(prior).__name__} is cheap to evaluate and has {numbers} dimensions, "
                f"so a population of {num_samples} walkers can be exact"
            )
        return Decoupled(), "auto: linear operator with Gaussian noise"
    cause = "nonlinear operator" if not isinstance(operator, LinearOperator) else f"{noise!r}"
    return Decoupled(), f"auto: {cause}, so the draws are Hamiltonian moves"
