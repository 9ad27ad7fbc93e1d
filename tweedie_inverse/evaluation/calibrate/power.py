"""How likely this calibration would have been to see each fault of a stated list."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.evaluation.calibrate.families import Family
from tweedie_inverse.evaluation.calibrate.faults import FAULTS, NONE, Planted
from tweedie_inverse.evaluation.calibrate.null import Null
from tweedie_inverse.evaluation.calibrate.record import Record
from tweedie_inverse.numerics.random import generator

REPEATS, _PERMUTATIONS = 200, 999
_NEVER = -1e30


class Power(NamedTuple):
    """Share of repeats in which a fault was seen.

    Attributes:
        fault: what was planted; "none" is the false alarm.
        seen: share with ``p <= level``.
        error: its standard error over the repeats.
    """

    fault: str
    seen: float
    error: float


def power(record: Record, families: Sequence[Family], level: float, seed: int) -> tuple[Power, ...]:
    """Plant every fault `REPEATS` times, each with other samples in the place of the truths.

    The repeats share the measurements of this run.  One sample fewer is left than the run has.
    """
    if not record.planted:
        return ()
    null = Null(record.planted[NONE].ranks.long(), families, seed, _PERMUTATIONS)
    return tuple(
        _power(fault, null, record.planted[fault], level, seed)
        for fault in (NONE, *FAULTS)
        if fault in record.planted
    )


def _power(fault: str, null: Null, planted: Planted, level: float, seed: int) -> Power:
    chosen = _choices(planted.log_weights, seed)
    p = null.judge(null.sums(planted.ranks.long(), chosen)).combined
    seen = float((p <= level).double().mean())
    return Power(fault, seen, (seen * (1 - seen) / len(p)) ** 0.5)


def _choices(log_weights: Tensor, seed: int) -> Tensor:
    """Stand-ins by their weights, ``(repeats, truths)``."""
    # A sample that neither law could have made has no ratio.
    weights = log_weights.nan_to_num(nan=_NEVER, posinf=-_NEVER, neginf=_NEVER)
    shares = torch.softmax(weights, dim=1).cumsum(1)
    uniform = generator(("calibrate stand-ins", seed)).random((REPEATS, len(shares)))
    places = torch.searchsorted(shares, torch.from_numpy(uniform).mT.contiguous())
    return places.clamp(max=shares.shape[1] - 1).mT
