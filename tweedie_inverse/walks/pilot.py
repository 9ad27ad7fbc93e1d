"""Where the numbers of an operator begin, and the short walk that looks for them.

`begun` puts each walker's numbers about the most probable ones, as far off as this guess is wrong;
what a walk then has not forgotten of it is in the spread of its samples, too.

Where the images are not Gaussian, what high noise levels say of a PSF is confident and wrong: there
``N(m, V)`` takes the edges of an image for those of all images.  `levels` therefore come down in a
few draws with the numbers held, and spend the rest at 0.15 to 0.4 units of the prior, where a step
keeps 0.6 to 0.8 of what was there before, and what a level says is nearly right.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from tweedie_inverse.conditional.counting import CountingInstrument
from tweedie_inverse.conditional.first_guess import WIDER, first_guess
from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.walks.base import Level
from tweedie_inverse.walks.covariance_sources import SOURCES, longest_schedule
from tweedie_inverse.walks.decoupled import Decoupled

# The fewest evaluations of a pilot.
SHORTEST = 5
# Levels after the first draw, in units of the prior: two coarse ones, and the ends of the fine
# ones.  Numbers are moved below `HELD`.
_LADDER, HELD = (3.0, 1.0, 0.4, 0.15), 0.6
# Of an unknown kernel they go from so many units to so many, and it is moved at all of them.
_KERNEL_LADDER = (3.0, 0.1)
# Numbers begin so many standard deviations about the guess of them: the Gaussian of the prior's
# moments is four to five times too sure of a width, and right about offsets.
_SPREAD = 5.0


def is_sought(instrument: Instrument, prior: Prior) -> bool:
    """Whether there are numbers to be looked for, and moments of the prior to do it with."""
    counting = isinstance(instrument, CountingInstrument)
    return bool(len(instrument.singly)) and prior.error_is_measured and not counting


def begun(
    problem: Problem,
    instrument: Instrument,
    prior: Prior,
    steps: Tensor,
    streams: Streams,
    geometric: Sequence[int],
    followed: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:
    """Coordinates ``(walkers, count)`` to begin with, and standard deviations of first proposals.

    Args:
        steps: those of what is not looked for, ``(walkers, count)``.
        geometric: which of the numbers are.
        followed: which of the numbers the image can follow; they are drawn from their prior.
    """
    u = instrument.start()
    if not is_sought(instrument, prior):
        return u, steps
    wider = 1.0 if prior.error_is_exact else WIDER
    found = first_guess(problem, *prior.moments(), u, geometric, wider)
    spread = torch.full_like(u[0], 1.0 if prior.error_is_exact else _SPREAD)
    spread[list(geometric)] = 1.0
    low, high = instrument.unknowns.low, instrument.unknowns.high
    widest = instrument.unknowns.deviation
    white = streams.normal(u.shape[1:], like=problem.y).double()
    u = found.u + torch.minimum(spread * found.deviation, widest) * white
    u = torch.where(u < low, 2 * low - u, torch.where(u > high, 2 * high - u, u)).clamp(low, high)
    if followed:
        uniform = streams.uniform(u.shape[1:], like=problem.y).double()
        u[:, list(followed)] = instrument.unknowns.drawn(uniform)[:, list(followed)]
    sizes = 2 * torch.minimum(found.deviation, widest)
    return u, torch.where(found.deviation > 0, sizes, steps)


def highest(walk: Decoupled, prior: Prior) -> float:
    """The noise level at which a walk begins."""
    return prior.sigma_max if walk.sigma_max is None else walk.sigma_max


def going_on(walk: Decoupled, prior: Prior, units: float) -> Decoupled:
    """The walk after a pilot, which begins with the pilot's images, at so many `units` or less."""
    return replace(walk, sigma_max=min(highest(walk, prior), units * prior.unit))


def levels(evaluations: int, sigma: float, prior: Prior) -> list[Level]:
    """Noise levels of a pilot that begins at `sigma`; the last one leads to 0."""
    low = max(_LADDER[-1] * prior.unit, prior.sigma_min)
    high = max(_LADDER[-2] * prior.unit, low)
    coarse = [sigma, *(units * prior.unit for units in _LADDER[:-2])]
    fine = torch.logspace(math.log10(high), math.log10(low), evaluations - len(coarse)).tolist()
    return _paired([min(value, sigma) for value in (*coarse, *fine)])


def kernel_levels(
    evaluations: int, sigma: float, prior: Prior, problem: Problem, walk: Decoupled
) -> tuple[list[Level], Decoupled]:
    """The same for an unknown kernel, and the `walk` with as few secants as they have room for.

    Args:
        problem: with a guess of what is unknown.
    """
    high, low = (units * prior.unit for units in _KERNEL_LADDER)
    low = max(low, prior.sigma_min)

    def make(count: int) -> Tensor:
        ends = math.log10(min(high, sigma)), math.log10(low)
        fine = torch.logspace(*ends, max(count - 1, 1)).double()
        return torch.cat([fine.new_tensor([sigma]), fine[: count - 1], fine.new_zeros(1)])

    source, sigmas = longest_schedule(
        evaluations, SOURCES[walk.error](walk.secants), prior, problem, make
    )
    taken = replace(walk, error=source.name, secants=source.secants)
    return _paired(sigmas[:-1].tolist()), taken


def _paired(sigmas: Sequence[float]) -> list[Level]:
    pairs = enumerate(pairwise([*sigmas, 0.0]))
    return [Level(i, len(sigmas), *pair) for i, pair in pairs]
