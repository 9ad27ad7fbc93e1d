"""Blur kernels: Gaussian, and camera shake."""

import math

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count as whole_number
from tweedie_inverse.boundary.arguments import number, positive
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.numerics.random import normal


def gaussian_kernel(std: float, size: int | None = None) -> Tensor:
    """A normalized Gaussian ``(size, size)``; `std` in pixels, default size 6 std + 1, odd."""
    std = positive("gaussian_kernel", "std", std, need="a positive width in pixels")
    default = 2 * math.ceil(3 * std) + 1
    size = default if size is None else whole_number("gaussian_kernel", "size", size)
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    line = torch.exp(-0.5 * (offset / std) ** 2)
    kernel = line[:, None] * line
    return kernel / kernel.sum()


def motion_kernel(size: int, *, length: float = 0.6, seed: int = 0) -> Tensor:
    """A normalized camera-shake kernel ``(size, size)``: a smooth random path, centred.

    The camera's velocity is an Ornstein-Uhlenbeck process that forgets in a third of the exposure;
    the path is scaled to its extent and drawn with bilinear weights.

    Args:
        size: pixels a side, 3 or more.
        length: largest extent of the path, in units of `size`, in (0, 1].
        seed: fixes the path.
    """
    size = whole_number("motion_kernel", "size", size)
    length = number("motion_kernel", "length", length)
    seed = checked_seed("motion_kernel", "seed", seed)
    if size < 3 or not 0 < length <= 1:
        raise ValueError(
            f"motion_kernel(size={size}, length={length}): needs 3 pixels or more a side, and a "
            "length in (0, 1] of them"
        )
    steps = 64 * size  # several to a pixel, so that the line has no gaps
    forget = 3.0 / steps
    kicks = normal(("motion kernel", seed), (steps, 2))
    powers = (1 - forget) ** torch.arange(steps, dtype=torch.float64)
    # v_k = (1 - forget) v_{k-1} + kick_k, as a convolution; the FFT makes it one line.
    count = 2 * steps
    spectrum = torch.fft.rfft(powers[:, None], count, dim=0) * torch.fft.rfft(kicks, count, dim=0)
    path = torch.fft.irfft(spectrum, count, dim=0)[:steps].cumsum(0)
    extent = path.max(0).values - path.min(0).values
    path = (path - (path.max(0).values + path.min(0).values) / 2) / extent.max()
    place = path * length * (size - 1) + (size - 1) / 2
    lower = place.floor().clamp(0, size - 2)
    fraction = place - lower
    kernel = torch.zeros(size, size, dtype=torch.float64)
    for row in (0, 1):
        for column in (0, 1):
            weight = (fraction[:, 0] if row else 1 - fraction[:, 0]) * (
                fraction[:, 1] if column else 1 - fraction[:, 1]
            )
            index = (lower[:, 0].long() + row, lower[:, 1].long() + column)
            kernel.index_put_(index, weight, accumulate=True)
    return kernel / kernel.sum()
