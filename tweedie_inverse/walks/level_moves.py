"""The moves of an instrument's unknowns at one level, the image left out."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tweedie_inverse.conditional.collapsed import Moved, collapsed_moves
from tweedie_inverse.conditional.first_guess import WIDER
from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.kernel_moves import KernelMoves
from tweedie_inverse.conditional.phase_moves import PhaseMoves
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.walks.base import Level
from tweedie_inverse.walks.decoupled import Belief


def moved_at(
    level: Level,
    u: Tensor,
    steps: Tensor,
    belief: Belief,
    instrument: Instrument,
    prior: Prior,
    streams: Streams,
    *,
    order: Sequence[int],
    geometric: Collection[int],
) -> Moved:
    """After the moves of `order`, those of geometric numbers with a V of their own."""
    plain = belief.covariance
    if len(instrument.singly):
        plain = plain_covariance(belief, level, prior)
    wider = 1.0 if prior.error_is_exact else WIDER
    parts = [
        ([which for which in order if which not in geometric], plain),
        ([which for which in order if which in geometric], plain.map(lambda v: wider * v)),
    ]
    found: list[Tensor] = []
    accepted = torch.zeros_like(u[:, 0])
    for part, covariance in parts:
        moved = collapsed_moves(
            u,
            steps,
            belief.denoised,
            covariance,
            instrument,
            streams,
            instrument.y,
            order=part,
            at_first=level.index == 0,
        )
        u, steps, found = moved.u, moved.steps, [*found, moved.trace]
        accepted = accepted + moved.accepted * len(part) / max(len(order), 1)
    return Moved(u, steps, torch.cat(found), accepted)


def chain(moved: Moved, kernels: KernelMoves | PhaseMoves | None, levels: int) -> Tensor:
    """Coordinates after each move of the first level, ``(walkers, moves, count)``.

    A kernel or a phase is moved as often as the noise level there.
    """
    trace = moved.trace
    if kernels is not None:
        trace = torch.cat([trace[..., :levels], kernels.trace], -1) if levels else kernels.trace
    return trace.movedim(0, 1)


def plain_covariance(belief: Belief, level: Level, prior: Prior) -> Covariance:
    """V for moves without the image: the error where it is, and of the size that it has.

    The tables by place that draws use are 2 to 4 times as large as the error, so that the data may
    correct it where it is larger still; taken at their word they make instruments too blurred, by
    0.1 pixels and more at high noise levels.  The same average everywhere is too sure by a half.
    A secant along the pull of the data depends on the unknowns as they were, and would count the
    data twice.
    """
    if prior.error_is_exact:
        return belief.covariance
    if prior.error_is_measured:
        return of_average_size(prior.conditional_covariance(level.sigma, belief.denoised))
    return replace(belief.covariance, secants=())


def of_average_size(covariance: Covariance) -> Covariance:
    """With the same variance by place in each channel on average as if it had no scale."""
    scale = covariance.scale
    if scale is None:
        return covariance
    size = scale.square().mean(dim=tuple(range(2, scale.ndim)), keepdim=True).sqrt()
    return replace(covariance, scale=scale / size)
