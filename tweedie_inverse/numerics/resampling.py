"""Weights of populations: normalizing, effective sizes, and systematic resampling.

Arrays are ``(populations, walkers)``; populations do not influence each other.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Weighted(NamedTuple):
    """Normalized weights of populations, and the sums that they were divided by."""

    log_weights: Tensor  # (populations, walkers); the weights of a population sum to 1
    log_mean: Tensor  # (populations,), logarithm of the sum that was divided by


def normalize(log_weights: Tensor) -> Weighted:
    """Divide the weights ``(populations, walkers)`` by the sum of each population, in float64."""
    total = torch.logsumexp(log_weights, dim=1)
    return Weighted(log_weights - total[:, None], total)


def effective_size(log_weights: Tensor) -> Tensor:
    """``1 / sum(w^2)`` of normalized weights, ``(populations,)`` (Kong, Liu and Wong 1994)."""
    return (-torch.logsumexp(2 * log_weights, dim=1)).exp()


def systematic(weights: Tensor, uniform: Tensor, count: int | None = None) -> Tensor:
    """Indices ``(populations, count)`` of a systematic resampling (Kitagawa 1996).

    Walker i is chosen ``floor`` or ``ceil`` of ``count * weights[i]`` times, on average exactly
    that often.

    Args:
        weights: ``(populations, walkers)``, float64, sum 1.
        uniform: ``(populations,)``, one number in (0, 1) for each population.
        count: as many as there are walkers by default.
    """
    walkers = weights.shape[1]
    count = count or walkers
    edges = weights.cumsum(1)
    edges = edges / edges[:, -1:]
    grid = torch.arange(count, dtype=torch.float64, device=weights.device)
    places = (grid + uniform[:, None].to(grid)) / count
    return torch.searchsorted(edges, places).clamp(max=walkers - 1)


def systematic_along(place: Tensor, weights: Tensor, uniform: Tensor) -> Tensor:
    """`systematic` with walkers in the order of their place: neighbours stand for each other.

    Where places separate the modes of a population, the shares of the modes then scatter less
    than in any other order (Gerber, Chopin and Whiteley 2019).

    Args:
        place: ``(populations, walkers)``, where each walker stands on a line.
        weights, uniform: as in `systematic`.

    Returns:
        Indices ``(populations, walkers)``: whose place each walker takes.
    """
    order = place.argsort(dim=1, stable=True)
    return order.gather(1, systematic(weights.gather(1, order), uniform))
