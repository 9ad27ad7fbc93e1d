"""Scores for intervals that cover what they say: measured here, used in `solving.recalibrated`."""

import torch
from torch import Tensor

from tweedie_inverse.priors.scaling import GRID


def below(scores: Tensor) -> Tensor:
    """Share of the scores that are at most each of `GRID`, ``(len(GRID),)``; NaN of none."""
    found = torch.searchsorted(scores.flatten().sort().values, GRID, side="right").double()
    return found / scores.numel() if scores.numel() else torch.full_like(found, torch.nan)


def scores_of(truth: Tensor, samples: Tensor) -> Tensor:
    """``|truth - mean| / std`` of every value; 0 where all agree, infinite where only samples do.

    Args:
        truth: ``(...)``.
        samples: ``(S, ...)``.
    """
    error, std = (truth - samples.mean(0)).abs(), samples.std(0)
    return torch.where(error > 0, error / std, torch.zeros_like(error))
