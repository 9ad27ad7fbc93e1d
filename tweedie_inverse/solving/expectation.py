"""The range in which the chi-square of posterior samples is expected."""

import torch
from torch import Tensor

from tweedie_inverse.operators import GaussianNoise, NoiseModel, Operator

# Share of measurements whose chi-square lies outside the range, both ends together.
_SHARE = 1e-3
# Of the numbers that a noise model draws to tell its own scatter.
_SEED = 0


def expected_range(noise: NoiseModel, operator: Operator, x: Tensor) -> tuple[float, float]:
    """Lowest and highest chi-square of a posterior sample, in 999 of 1000 measurements.

    It is that of n squared normal numbers over n, n being the observed entries.  Noise that is not
    Gaussian is drawn about ``A(x)``, and the same law is scaled to the mean and variance of its
    squared standardized residuals: counts scatter more, saturated values less.

    Args:
        x: ``(draws, *domain_shape)``, some samples.
    """
    from scipy.stats import chi2

    seen = torch.ones(operator.range_shape, dtype=torch.bool)
    if operator.observed is not None:
        seen = operator.observed.cpu().expand(operator.range_shape)
    numbers = int(seen.sum())
    mean, variance = 1.0, 2.0
    if not isinstance(noise, GaussianNoise):
        squares = _squares(noise, operator.forward(x))[:, seen]
        if squares.numel() > 1 and bool(squares.isfinite().all()):
            mean, variance = float(squares.mean()), float(squares.var())
    # The multiple of a chi-square variable with this mean and variance (Satterthwaite 1946).
    freedom = 2 * mean**2 * numbers / max(variance, 1e-12)
    low, high = chi2.ppf([_SHARE / 2, 1 - _SHARE / 2], freedom) * mean / freedom
    return float(low), float(high)


def _squares(noise: NoiseModel, ax: Tensor) -> Tensor:
    """Squared standardized residuals of measurements drawn about `ax`; NaN where none can be."""
    try:
        return noise.standardize(noise.sample(ax, seed=_SEED), ax).cpu().double().square()
    except (NotImplementedError, ValueError):  # a user's own model may not sample, or not so far
        return torch.full_like(ax, torch.nan)
