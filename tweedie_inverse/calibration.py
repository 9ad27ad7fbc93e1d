"""Do the samples spread as much as they err: coverage and CRPS.

Coverage of a central interval says whether its width is right; CRPS (Gneiting and Raftery 2007) is
a proper score, lowest for the true posterior.
"""

import torch
from torch import Tensor

from .posterior import Posterior


def coverage(posterior: Posterior, truth: Tensor, level: float = 0.9) -> Tensor:
    """Share of pixels inside the central interval of probability `level`, ``(batch,)``.

    With n samples the interval between quantiles is read as a prediction interval for one more
    draw: a calibrated posterior then covers `level` on average for any n >= 2 / (1 - level) - 1,
    and less with fewer samples, where it is cut at the outermost ones.

    Args:
        truth: ``(batch, *shape)``, or without batch like the posterior.
    """
    count = posterior.samples.shape[posterior.weights.ndim - 1]
    # Order statistic k of n has expected rank k / (n + 1): move the ends outward accordingly.
    tail = (1 - level) / 2
    rank = tail * (count + 1)
    lower_q = min(max((rank - 0.5) / count, 0.0), 0.5)
    lower, upper = posterior.quantile(lower_q), posterior.quantile(1 - lower_q)
    inside = ((truth >= lower) & (truth <= upper)).to(truth)
    return inside.flatten(posterior.weights.ndim - 1).mean(-1)


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
