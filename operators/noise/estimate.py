"""An estimate of the noise level of a measurement, for users who do not know it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.boundary.arrays import real_tensor

# High-pass filter of the Daubechies wavelet with two vanishing moments: it removes linear ramps.
_HIGH_PASS = (-0.12940952255126, -0.22414386804201, 0.83651630373781, -0.48296291314453)


def estimate_noise(y: Tensor) -> float:
    """Standard deviation of white noise in images or sinograms ``(..., height, width)``.

    It is the median magnitude of the finest diagonal wavelet details, divided by 0.6745, because
    few of these details are edges (Donoho and Johnstone 1994).  The estimate is too high where y is
    rich in texture.  Values that are exactly 0 are taken as unobserved.

    Raises:
        ValueError: less than 4x4 entries, or hardly a 4x4 window fully observed.
    """
    y = real_tensor("estimate_noise", "y", y)
    if y.ndim < 2 or min(y.shape[-2:]) < 4:
        raise ValueError(
            f"estimate_noise: needs at least 4x4 neighbouring values, got {tuple(y.shape)}; "
            "measure the noise on repeated or blank exposures instead"
        )
    images = y.double().reshape(-1, 1, *y.shape[-2:])
    high = torch.tensor(_HIGH_PASS, dtype=torch.float64, device=y.device)
    window = torch.outer(high, high)[None, None]
    details = F.conv2d(images, window, stride=2)
    observed = F.conv2d((images != 0).double(), torch.ones_like(window), stride=2) == 16
    found = details[observed]
    if len(found) < 16:
        raise ValueError(
            f"estimate_noise: only {len(found)} of the 4x4 windows of y are fully observed, too "
            "few to estimate from; measure the noise on repeated or blank exposures instead"
        )
    return float(found.abs().median() / torch.special.ndtri(torch.tensor(0.75).double()))
