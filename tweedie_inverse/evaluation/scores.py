"""Proper scores of an ensemble, as formulas on tensors; `calibration` applies them to posteriors.

The terms that compare the samples with each other are the fair estimates, ``sum_ij / (n (n - 1))``,
which do not punish small ensembles (Ferro 2014).
"""

import math

import torch
from torch import Tensor


def crps_of(samples: Tensor, truth: Tensor) -> Tensor:
    """``E|x - truth| - E|x - x'| / 2`` of every value (Gneiting and Raftery 2007), ``(...)``.

    Args:
        samples: ``(count, ...)``.
        truth: ``(...)``.
    """
    count = len(samples)
    accuracy = (samples - truth).abs().mean(0)
    rank = torch.arange(count, dtype=samples.dtype, device=samples.device)
    factor = (2 * rank - count + 1).reshape(-1, *[1] * (samples.ndim - 1))
    spread = (factor * samples.sort(dim=0).values).sum(0) / (count * max(count - 1, 1))
    return accuracy - spread


def energy_score_of(samples: Tensor, truth: Tensor) -> Tensor:
    """``E|x - truth| - E|x - x'| / 2`` with Euclidean norms of whole images, a scalar.

    Args:
        samples: ``(count, n)``.
        truth: ``(n,)``.
    """
    count = len(samples)
    accuracy = (samples - truth).norm(dim=1).mean()
    spread = torch.cdist(samples, samples).sum() / (2 * count * max(count - 1, 1))
    return accuracy - spread


def spread_over_skill_of(variance: Tensor, squared_error: Tensor, count: int) -> Tensor:
    """Spread over root mean square error of the mean: 1 where the samples spread as they err.

    The mean of `count` samples errs by ``sqrt(1 + 1 / count)`` times the spread (Fortin et al.
    2014), which is taken out.

    Args:
        variance: unbiased variance of the samples, any shape; averaged.
        squared_error: of their mean, likewise.
        count: number of samples.
    """
    factor = math.sqrt(1 + 1 / count)
    return factor * (variance.double().mean() / squared_error.double().mean()).sqrt()
