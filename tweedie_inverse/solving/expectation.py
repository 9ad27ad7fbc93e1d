"""The range in which the chi-square of posterior samples is expected."""

import torch
from torch import Tensor

from tweedie_inverse.operators import GaussianNoise, NoiseModel

# Share of measurements whose chi-square lies outside the range, both ends together.
_SHARE = 1e-3
# Of the numbers that a noise model draws to tell its own scatter.
_SEED = 0


def expected_range(noise: NoiseModel, ax: Tensor, observed: Tensor | None) -> tuple[float, float]:
    """Lowest and highest chi-square of a posterior sample, in 999 of 1000 measurements.

    It is that of n squared normal numbers over n, n being the observed entries.  Noise that is not
    Gaussian is drawn a few times about ``ax``, and the same law is scaled to the mean and variance
    of its squared standardized residuals: counts scatter more, saturated values less.

    Args:
        ax: ``(draws, *range_shape)``, noise-free measurements of some samples.
        observed: boolean ``range_shape``, which entries carry information; None is all.
    """
    from scipy.stats import chi2

    numbers = ax[0].numel() if observed is None else int(observed.sum())
    mean, variance = 1.0, 2.0
    if not isinstance(noise, GaussianNoise):
        squares = _squares(noise, ax)
        if observed is not None:
            squares = squares[:, observed.cpu()]
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
