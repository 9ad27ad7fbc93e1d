"""Numbers that move together, a kernel's or a phase's, at one level, the image left out."""

from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.kernel_moves import KernelMoves, kernel_moves
from tweedie_inverse.conditional.phase_guess import PhaseGuess
from tweedie_inverse.conditional.phase_moves import FIRST_STEP, PhaseMoves, phase_moves
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.walks.base import Level
from tweedie_inverse.walks.decoupled import Belief
from tweedie_inverse.walks.level_moves import plain_covariance

# At the first level so many numbers are moved as often as is asked for, and more of them more
# often, because a move of all of them goes no further.
_FEW = 5


def begun_phase(
    problem: Problem,
    instrument: Instrument,
    prior: Prior,
    u: Tensor,
    steps: Tensor,
    streams: Streams,
) -> tuple[Tensor, Tensor]:
    """u and steps, ``(walkers, count)``, with those of the phase, if it is unknown."""
    if instrument.phase is None:
        return u, steps
    numbers = _guess(problem, prior).drawn(streams)
    levels = instrument.levels
    sizes = torch.full_like(numbers, FIRST_STEP)
    return torch.cat([u[:, :levels], numbers], 1), torch.cat([steps[:, :levels], sizes], 1)


def moved_together(
    u: Tensor,
    steps: Tensor,
    belief: Belief,
    level: Level,
    problem: Problem,
    instrument: Instrument,
    prior: Prior,
    streams: Streams,
    moves: int,
) -> tuple[Tensor, Tensor, KernelMoves | PhaseMoves | None]:
    """u and steps after so many moves; as they were where there is no such unknown."""
    if not moves or (instrument.kernel is None and instrument.phase is None):
        return u, steps, None
    if instrument.kernel is None:
        return _moved_phase(u, steps, belief, level, problem, instrument, prior, streams, moves)
    of = slice(instrument.levels, None)
    moved = kernel_moves(
        u[:, of],
        steps[:, instrument.levels],
        belief.denoised,
        belief.covariance,
        problem.y,
        instrument.noise_levels(u),
        instrument.kernel,
        streams,
        moves,
    )
    u, steps = u.clone(), steps.clone()
    u[:, of], steps[:, of] = moved.numbers, moved.step[:, None]
    return u, steps, moved


def _moved_phase(
    u: Tensor,
    steps: Tensor,
    belief: Belief,
    level: Level,
    problem: Problem,
    instrument: Instrument,
    prior: Prior,
    streams: Streams,
    moves: int,
) -> tuple[Tensor, Tensor, PhaseMoves]:
    """After so many moves of the phase of each walker, at the first level for every few numbers."""
    times = 1 if level.index else -(-(u.shape[1] - instrument.levels) // _FEW)
    root = _guess(problem, prior).information_root(prior.denoising_error(level.sigma))
    moved = phase_moves(
        u,
        steps[:, instrument.levels],
        belief.denoised,
        plain_covariance(belief, level, prior),
        instrument,
        streams,
        root,
        moves=times * moves,
        at_first=level.index == 0,
    )
    sizes = moved.step[:, None].expand(-1, root.shape[-1])
    moved = moved._replace(trace=moved.trace[times - 1 :: times])
    return moved.u, torch.cat([steps[:, : instrument.levels], sizes], 1), moved


def _guess(problem: Problem, prior: Prior) -> PhaseGuess:
    """Made once for a problem."""
    found: Any = problem.kept.get("phase guess")
    if found is None:
        found = problem.kept["phase guess"] = PhaseGuess(problem, *prior.moments())
    return found
