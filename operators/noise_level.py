"""How noisy is a measurement: an estimate for users who do not know."""

import torch
from torch import Tensor


def estimate_noise(y: Tensor) -> float:
    """Standard deviation of white noise in images or sinograms ``(..., height, width)``.

    The median magnitude of the finest diagonal Haar details over 0.6745: edges are few among them
    (Donoho and Johnstone 1994).  An upper guess where y is rich in texture; entries that are
    exactly 0 in a whole 2x2 block are taken as unobserved.

    Raises:
        ValueError: less than 2x2 entries, or hardly any observed.
    """
    if y.ndim < 2 or min(y.shape[-2:]) < 2:
        raise ValueError(
            f"estimate_noise: needs at least 2x2 neighbouring values, got {tuple(y.shape)}; "
            "measure the noise on repeated or blank exposures instead"
        )
    height, width = (size // 2 * 2 for size in y.shape[-2:])
    y = y[..., :height, :width].double()
    a, b = y[..., ::2, ::2], y[..., ::2, 1::2]
    c, d = y[..., 1::2, ::2], y[..., 1::2, 1::2]
    details = ((a - b - c + d) / 2)[(a != 0) & (b != 0) & (c != 0) & (d != 0)]
    if len(details) < 16:
        raise ValueError(
            f"estimate_noise: only {len(details)} of the 2x2 blocks of y are fully observed, too "
            "few to estimate from; measure the noise on repeated or blank exposures instead"
        )
    return float(details.abs().quantile(0.5) / torch.special.ndtri(torch.tensor(0.75).double()))
