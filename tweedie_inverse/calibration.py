"""Do the samples spread as much as they err: coverage and CRPS.

Coverage of a central interval says whether its width is right; CRPS (Gneiting and Raftery 2007) is
a proper score, lowest for the true posterior.
"""

import math

import torch
from torch import Tensor

from .posterior import Posterior


def coverage(posterior: Posterior, truth: Tensor, level: float = 0.9) -> Tensor:
    """Share of pixels inside the central interval of probability `level`, ``(batch,)``.

    The interval is a prediction interval for one more draw, so that a calibrated posterior
    covers `level` on average whatever the number of samples: between order statistics of rank
    ``(n + 1) (1 - level) / 2`` where there are enough samples for that, else mean and standard
    deviation with Student's quantile (exact for Gaussian posteriors).  Equal weights.

    Args:
        truth: ``(batch, *shape)``, or without batch like the posterior.
    """
    axis = posterior.weights.ndim - 1
    count = posterior.samples.shape[axis]
    rank = (count + 1) * (1 - level) / 2
    if rank >= 1:
        place = (rank - 0.5) / count  # where Posterior.quantile puts that order statistic
        lower, upper = posterior.quantile(place), posterior.quantile(1 - place)
    else:
        from scipy.stats import t

        factor = float(t.ppf((1 + level) / 2, count - 1)) * math.sqrt(1 + 1 / count)
        mean, reach = posterior.mean, factor * posterior.std
        lower, upper = mean - reach, mean + reach
    inside = ((truth >= lower) & (truth <= upper)).to(truth)
    return inside.flatten(axis).mean(-1)


def crps(posterior: Posterior, truth: Tensor) -> Tensor:
    """Continuous ranked probability score averaged over pixels, ``(batch,)``, in data units.

    ``E|x - truth| - E|x - x'| / 2``, with x and x' independent draws (the fair estimate, which
    does not punish small ensembles); equal weights.
    """
    axis = posterior.weights.ndim - 1
    samples = posterior.samples.movedim(axis, 0)
    count = len(samples)
    accuracy = (samples - truth).abs().mean(0)
    ordered = samples.sort(dim=0).values
    rank = torch.arange(count, dtype=samples.dtype, device=samples.device)
    weight = (2 * rank - count + 1).reshape(-1, *[1] * (samples.ndim - 1))
    spread = (weight * ordered).sum(0) / (count * max(count - 1, 1))
    return (accuracy - spread).flatten(axis).mean(-1)
