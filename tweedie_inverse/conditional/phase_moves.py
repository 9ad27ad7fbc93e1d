"""Moves of an unknown phase given y, in which the image is integrated out.

With ``x0 ~ N(m, V)`` for the image without its phase, ``y ~ N(A_t m, K_t)``, where ``A_t`` is A
after the phase of the numbers t, and ``K_t = S + A_t V A_t^T``.  All numbers of a walker move at
once, by the exchange algorithm of `collapsed`, which leaves ``p(t | m, V, y)`` as it is and needs
no determinant.  Its simulated data refuse moves that are longer than about two posterior
deviations, however many numbers there are, so that moves must have the shape of the posterior:
steps are normal with a multiple of I^-1, I being what y tells of the numbers
(`PhaseGuess.information_root`).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.collapsed import Scene, exchange
from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.phase_guess import steps_of
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.streams import Streams

# The acceptance that steps are tuned for, and how far one move changes their logarithm: at a walk's
# first level, and later.
_WANTED = 0.3
_GAIN_AT_FIRST, _GAIN = 0.7, 0.3
# Steps in standard deviations of each number: the first, and the longest.
FIRST_STEP, _LONGEST = 0.5, 3.0


class PhaseMoves(NamedTuple):
    """The numbers of the phases after some moves."""

    u: Tensor  # (walkers, count) float64, all unknowns
    step: Tensor  # (walkers,), size of the steps from now on, in posterior deviations
    accepted: Tensor  # (walkers,), share of the moves
    trace: Tensor  # (moves, walkers, numbers), after each of them


def phase_moves(
    u: Tensor,
    step: Tensor,
    mean: Tensor,
    covariance: Covariance,
    instrument: Instrument,
    streams: Streams,
    root: Tensor,
    *,
    moves: int,
    at_first: bool,
) -> PhaseMoves:
    """Move the phase of each walker.

    Args:
        u: ``(walkers, count)`` float64, coordinates of all unknowns; noise levels stay.
        step: ``(walkers,)``.
        mean, covariance: m ``(walkers, *domain_shape)`` and V.
        root: Cholesky factor of I, ``(walkers, numbers, numbers)``.

    Cost: three linear solves for each move.
    """
    scene = Scene(mean, covariance, instrument, instrument.y)
    of, here = slice(instrument.levels, None), scene.at(u)
    accepted, visited = torch.zeros_like(step), []
    gain = _GAIN_AT_FIRST if at_first else _GAIN
    for _ in range(moves):
        white = streams.normal((root.shape[-1],), like=instrument.y).double()
        longer = 0.5 + streams.uniform((1,), like=instrument.y).double()
        proposed = here.u.clone()
        proposed[:, of] += step[:, None] * longer * steps_of(root, white)
        here, taken = exchange(here, proposed, scene, streams)
        step = (step * torch.exp(gain * (taken - _WANTED))).clamp(max=_LONGEST)
        accepted = accepted + taken / moves
        visited.append(here.u[:, of])
    return PhaseMoves(here.u, step, accepted, torch.stack(visited))
