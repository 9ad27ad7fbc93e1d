"""A checked call of `solve`: everything that can be wrong with the input is found here.

The network is not evaluated before everything else has been checked, and then on two images.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.modes import autocast_is_on, of_a_walk
from tweedie_inverse.conditional.instrument import has_unknowns
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.operators import GaussianNoise, LinearOperator, NoiseModel, Operator
from tweedie_inverse.priors.analytic import Gaussian, GaussianMixture
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.contract import hold_contracts
from tweedie_inverse.priors.named import PriorLike, prior_of
from tweedie_inverse.priors.wrapped import UnderAutocast
from tweedie_inverse.solving.validation import (
    check_measurement,
    check_noise,
    check_operator,
    resolve_noise,
)
from tweedie_inverse.walks import Decoupled, Langevin, Particle, UnknownInstrument, Walk

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
    guard_calls: int  # images that the network was tried on

    @property
    def total(self) -> int:
        """Walkers: one for each sample of each measurement."""
        return self.y.shape[0] * self.num_samples

    def key(self, measurement: int, sample: int) -> tuple[str, int, int, int]:
        """Name of a walker's random stream."""
        if isinstance(self.seed, tuple):
            return "walk", self.seed[measurement], 0, sample
        return "walk", self.seed, measurement, sample


@torch.inference_mode(False)
def prepare(
    y: Any,
    operator: Operator,
    prior: PriorLike,
    method: str | Walk,
    num_samples: int,
    steps: int | None,
    seed: int | Sequence[int],
    noise: NoiseModel | float | str | None,
    before: Callable[[Run], None] | None = None,
) -> Run:
    """Check the arguments of `solve`, described there, and choose the walk.

    Args:
        before: called with the run when all else is checked, before the network is evaluated.
    """
    if not isinstance(operator, Operator):
        raise TypeError(
            f"solve: operator must derive from ops.Operator or ops.LinearOperator, got "
            f"{type(operator).__name__}"
        )
    prior = prior_of("solve", prior, like=y)
    num_samples = count("solve", "num_samples", num_samples, need="at least one sample")
    if steps is not None:
        steps = count("solve", "steps", steps, need="at least one network evaluation")
    y, single = check_measurement(y, operator)
    seeds = _seeds(seed, len(y))
    model = resolve_noise(noise, operator, y)
    prior = prior.for_shape(operator.domain_shape)
    with of_a_walk(y.device):
        walk, sigmas, reason = _planned(y, operator, model, prior, method, num_samples, steps)
    run = Run(y, single, operator, model, prior, walk, reason, sigmas, num_samples, seeds, 0)
    if before is not None:
        before(run)
    spent = hold_contracts(prior, y)
    if spent:
        reason = f"{reason}; {spent} evaluations before the walk showed that the network is sound"
    if autocast_is_on(y.device):
        prior = UnderAutocast(prior, y.device)
    return replace(run, prior=prior, reason=reason, guard_calls=spent)


def _seeds(given: int | Sequence[int], measurements: int) -> int | tuple[int, ...]:
    """A checked seed, or one for each measurement."""
    if not isinstance(given, Sequence | np.ndarray | Tensor) or isinstance(given, str):
        return checked_seed("solve", "seed", given)
    if isinstance(given, np.ndarray | Tensor) and given.ndim == 0:
        return checked_seed("solve", "seed", given)
    if len(given) != measurements:
        raise ValueError(
            f"solve(seed=): needs one integer, or one for each of {measurements} measurements, got "
            f"{len(given)}"
        )
    return tuple(checked_seed("solve", "seed", one) for one in given)


def _planned(
    y: Tensor,
    operator: Operator,
    model: NoiseModel,
    prior: Prior,
    method: str | Walk,
    num_samples: int,
    steps: int | None,
) -> tuple[Walk, Tensor, str]:
    """Operator and noise checked, the walk chosen, its noise levels, and the reason."""
    seen = check_operator(operator, y, _images(prior, y))
    check_noise(model, y[[0, -1]], seen)
    if has_unknowns(operator, model):
        walk, reason = _for_unknowns(method, operator, model)
    else:
        walk, reason = _choose(method, operator, model, prior, num_samples)
    first = Problem(y[:1], operator.select(0), model)
    walk.refuse(first, prior)
    walk, sigmas, note = walk.plan(first, prior, walk.default_steps if steps is None else steps)
    return walk, sigmas, f"{reason}; {note}" if note else reason


def _images(prior: Prior, like: Tensor) -> Tensor:
    """Two images like those of the prior, ``(2, *shape)``: walks go where they are, and beyond."""
    if isinstance(prior, Gaussian | GaussianMixture):
        return prior.draw(2, seed=0).to(like)
    spread = prior.unit * normal(("images of the prior",), (2, *prior.shape))
    return torch.as_tensor(prior.centre).to(like) + spread.to(like)


def _for_unknowns(method: str | Walk, operator: Operator, noise: NoiseModel) -> tuple[Walk, str]:
    """The walk that draws the unknowns of an instrument, and the reason."""
    if not isinstance(operator, LinearOperator):
        raise ValueError(
            f"solve: unknowns of the instrument are drawn for linear operators only, and "
            f"{operator!r} is not linear; pass its noise level"
        )
    names = {
        tuple(getattr(operator.select(index), "unknowns", ()))
        for index in range(operator.images or 1)
    }
    if len(names) > 1:
        raise ValueError(
            f"solve: {operator!r} has operators with different unknown numbers; solve the "
            "measurements one by one"
        )
    reason = "the unknowns of the instrument are drawn with each sample"
    if isinstance(method, UnknownInstrument):
        return method, f"given; {reason}"
    if isinstance(method, Decoupled):
        return UnknownInstrument(method), f"given; {reason}"
    if method in ("auto", "decoupled"):
        return UnknownInstrument(), f"{'auto' if method == 'auto' else 'asked for'}: {reason}"
    shown = repr(method) if isinstance(method, str) else type(method).__name__
    raise ValueError(
        f"solve(method={shown}): unknowns of the instrument ({operator!r}, {noise!r}) are drawn by "
        "the decoupled walk only; use method='decoupled', or pass what is known"
    )


def _choose(
    method: str | Walk, operator: Operator, noise: NoiseModel, prior: Prior, num_samples: int
) -> tuple[Walk, str]:
    """The walk of a call and the reason, for `posterior.stats`."""
    if isinstance(method, UnknownInstrument):
        raise ValueError(
            "solve(method=UnknownInstrument): neither noise nor operator has unknowns; pass "
            "noise='estimate', an ops.parametric operator, or another method"
        )
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
