"""Faults that are planted in finished samples, to say what this calibration would have seen.

One of a truth's samples takes the place of the truth, so that the rest are right by construction;
then the rest are spoilt, or the stand-in is chosen as if another law had made it.  It costs no
network evaluation.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.evaluation.calibrate.quantities import Likelihood, Quantities, moved
from tweedie_inverse.evaluation.calibrate.ranks import ranks_among
from tweedie_inverse.evaluation.calibrate.relative import relative
from tweedie_inverse.operators import GaussianNoise

NARROW, BIAS, MISSING = 0.9, 0.1, 0.2
_NARROW = "intervals 10 % too narrow"
_BIAS = "bias of 0.1 standard deviations"
_MISSING = "20 % of the mass missing at one end of the main direction"
_NOISY, _QUIET = "noise 20 % above what the solver is told", "noise 20 % below it"
_DOUBLED, _MOVED = "noise twice what the solver is told", "operator off by half a pixel"
NONE = "none"
FAULTS = (_NARROW, _BIAS, _MISSING, _NOISY, _QUIET, _DOUBLED, _MOVED)


class Planted(NamedTuple):
    """Samples of one truth under a fault.

    Attributes:
        ranks: ``(S, statistics)``, of each sample as a stand-in of the truth among the others.
        log_weights: ``(S,)``, how likely each is to be the stand-in.
    """

    ranks: Tensor
    log_weights: Tensor


def plant(
    x: Tensor, y: Tensor, own: Tensor, quantities: Quantities, key: tuple[int, int]
) -> dict[str, Planted]:
    """Every fault in the samples ``(S, *shape)`` of one truth, and none.

    Args:
        own: ``(S, statistics)``, quantities of the samples.
    """
    everyone, evenly = torch.ones(len(x), dtype=torch.bool), torch.zeros(len(x)).double()
    mean, std = x.mean(0), x.std(0)
    flat = x.double().cpu().flatten(1)

    def spoilt(samples: Tensor) -> Planted:
        pool = samples.double().cpu().flatten(1)
        points = torch.cat([own, relative(flat, pool, everyone, key)], dim=1)
        others = torch.cat([quantities(samples, y), relative(pool, pool, everyone, key)], dim=1)
        return Planted(ranks_among(points, others, everyone, key), evenly)

    def without(allowed: Tensor) -> Tensor:
        values = torch.cat([own, relative(flat, flat, allowed, key)], dim=1)
        return ranks_among(values, values, allowed, key)

    whole = without(everyone)
    tilts = _tilts(quantities.likelihood, x, y, quantities.axes)
    return {
        NONE: Planted(whole, evenly),
        _NARROW: spoilt(mean + NARROW * (x - mean)),
        _BIAS: spoilt(x + BIAS * std),
        _MISSING: Planted(without(_kept(flat)), evenly),
        **{name: Planted(whole, weights) for name, weights in tilts.items()},
    }


def unplanted(likelihood: Likelihood) -> dict[str, str]:
    """Faults that are not planted with this noise model, and why."""
    if isinstance(likelihood.noise, GaussianNoise):
        return {}
    why = "its level is a part of the Gaussian model only"
    return dict.fromkeys((_NOISY, _QUIET, _DOUBLED), why)


def _kept(flat: Tensor) -> Tensor:
    """All but a fifth of the samples, at the end of the main direction where they lie farther."""
    centred = flat - flat.mean(0)
    coordinate = centred @ torch.linalg.svd(centred, full_matrices=False)[2][0]
    skewed = coordinate * (1 if float((coordinate**3).sum()) >= 0 else -1)
    number = max(1, math.ceil(MISSING * len(flat)))
    kept = torch.ones(len(flat), dtype=torch.bool)
    kept[skewed.topk(number).indices] = False
    return kept


def _tilts(likelihood: Likelihood, x: Tensor, y: Tensor, axes: int) -> dict[str, Tensor]:
    """Log-weights of the samples as truths of another measurement model.

    They are the ratio of the two likelihoods, exact with many samples.  With few, one sample takes
    all the weight, which moves less than the fault would: the power is then a lower bound.
    """
    told = likelihood.log_prob(y, x)
    found = {}
    if isinstance(likelihood.noise, GaussianNoise):
        for name, factor in ((_NOISY, 1.2), (_QUIET, 1 / 1.2), (_DOUBLED, 2.0)):
            other = Likelihood(likelihood.operator, likelihood.noise.scaled(factor))
            found[name] = other.log_prob(y, x) - told
    shifted = x
    for k in range(axes):
        shifted = moved(shifted, x.ndim - 1 - k, 0.5)
    found[_MOVED] = likelihood.log_prob(y, shifted) - told
    return found
