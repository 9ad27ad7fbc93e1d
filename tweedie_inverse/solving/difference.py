"""The posterior of a difference, before and after, from the samples of two posteriors.

Two solves with the same seed share their random numbers: sample i of one is no independent draw
beside sample i of the other, and ``x_i - x'_i`` would scatter too little.  Only samples of
different numbers are paired.
"""

import torch
from torch import Tensor

from tweedie_inverse.solving.functional import Functional

# Pairs of samples that are made where there are samples enough.
_PAIRS = 128


def difference_of(first: Functional, second: Functional) -> Functional:
    """``first - second`` with samples ``(batch, pairs, ...)``, each of two different numbers.

    Sample i of one goes with ``i + shift`` of the other, cyclically, for some shifts; where one has
    fewer samples, these are used again.  The pairs are worth as many independent ones as the
    smaller of the two.

    Raises:
        ValueError: shapes, batches or units that differ, or a single sample on both sides.
    """
    axis = first.effective_sample_size.ndim
    theirs = second.effective_sample_size.ndim
    shapes = [
        (tuple(one.samples.shape[:ndim]), tuple(one.samples.shape[ndim + 1 :]))
        for one, ndim in ((first, axis), (second, theirs))
    ]
    if shapes[0] != shapes[1]:
        (batch, shape), (batches, other) = shapes
        raise ValueError(
            f"difference(other): needs a posterior of the same shape, {batch + shape}, got "
            f"{batches + other}{'; posterior[0] is one of a batch' if axis != theirs else ''}"
        )
    if first.units and second.units and first.units != second.units:
        raise ValueError(
            f"difference(other): needs values in the same units, got {first.units!r} and "
            f"{second.units!r}"
        )
    mine, others = _pairs(first.samples.shape[axis], second.samples.shape[axis])
    device = first.samples.device
    named = [
        one.sources.to(device).index_select(axis, places.to(device))
        for one, places in ((first, mine), (second, others))
    ]
    return Functional(
        first.samples.index_select(axis, mine.to(device))
        - second.samples.to(first.samples).index_select(axis, others.to(device)),
        torch.minimum(
            first.effective_sample_size,
            second.effective_sample_size.to(first.effective_sample_size),
        ),
        torch.cat(named, dim=-1),
        first.units or second.units,
    )


def _pairs(first: int, second: int) -> tuple[Tensor, Tensor]:
    """Numbers of the samples of each pair, never the same number twice."""
    most, least = max(first, second), min(first, second)
    if most < 2 or least < 1:
        raise ValueError(
            "difference(other): needs two samples or more of either posterior, because samples of "
            "the same number share their random numbers; got 1 and 1"
        )
    if least == 1:  # all but the first of the larger one
        many = torch.arange(1, most)
        one = torch.zeros_like(many)
        return (many, one) if first > second else (one, many)
    # A shift and its opposite would give pairs that are mirror images of each other.  Shifts of
    # nearly half the way also part the copies of one walker, which lie close in a population.
    longest = max((least - 1) // 2, 1)
    shifts = range(longest, max(longest + (-_PAIRS // most), 0), -1)
    place = torch.arange(most)
    longer = torch.cat([place] * len(shifts))
    shorter = torch.cat([(place + shift) % least for shift in shifts])
    return (longer, shorter) if first >= second else (shorter, longer)
