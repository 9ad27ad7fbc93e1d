"""Blur kernels: Gaussian, round or not, and motion: straight, or a shake."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count as whole_number
from tweedie_inverse.boundary.arguments import number, pair, positive
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.numerics.random import normal


def gaussian_kernel(
    std: float | tuple[float, float], size: int | None = None, *, angle: float | None = None
) -> Tensor:
    """A normalized Gaussian ``(size, size)``, centred on the pixel ``(size // 2, size // 2)``.

    With a `size` it is a smooth function of widths and angle; the default size follows the width.

    Args:
        std: in pixels; a pair is the width along `angle` and the one across it.
        size: pixels a side; default 6 std + 1, of the larger width, odd.
        angle: of a pair, in degrees counter-clockwise from the right; default 0.
    """
    widths = _widths(std, angle)
    default = 2 * math.ceil(3 * max(widths)) + 1
    size = default if size is None else whole_number("gaussian_kernel", "size", size)
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    if widths[0] == widths[1]:
        line = torch.exp(-0.5 * (offset / widths[0]) ** 2)
        kernel = line[:, None] * line
    else:
        degrees = 0.0 if angle is None else number("gaussian_kernel", "angle", angle)
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        x, y = offset, -offset[:, None]  # y is up
        along, across = (x * cos + y * sin) / widths[0], (y * cos - x * sin) / widths[1]
        kernel = torch.exp(-0.5 * (along**2 + across**2))
    return kernel / kernel.sum()


def _widths(std: Any, angle: Any) -> tuple[float, float]:
    need = "a positive width in pixels, or two: along the angle and across it"
    if isinstance(std, tuple | list) or (isinstance(std, np.ndarray | Tensor) and std.ndim):
        along, across = pair("gaussian_kernel", "std", std, need=need)
        return (
            positive("gaussian_kernel", "std", along, need=need),
            positive("gaussian_kernel", "std", across, need=need),
        )
    width = positive("gaussian_kernel", "std", std, need="a positive width in pixels")
    if angle is not None:
        raise ValueError(
            f"gaussian_kernel(std={width:g}, angle=): a round kernel has no angle; give two "
            "widths, std=(along, across), or leave the angle out"
        )
    return width, width


def motion_kernel(
    size: int | None = None,
    *,
    length: float | None = None,
    angle: float | None = None,
    seed: int | None = None,
) -> Tensor:
    """A normalized kernel ``(size, size)`` of motion: straight with an `angle`, else a shake.

    **Straight**, ``motion_kernel(length=7.5, angle=30)``: the exposure moves at constant speed
    along a line of this length.  Its points are spread over the pixels with bilinear weights and
    integrated exactly, so that with a `size` the kernel is a smooth function of length and angle;
    a length of 0 is one pixel.  The covariance of its directions is ``length^2 / 12 cos(angle)
    sin(angle)``; the weights add at most 1/4 to the variances, ``length^2 / 12`` along the line.

    **Shake**, ``motion_kernel(15, seed=1)``: a smooth random path.  The camera's velocity is an
    Ornstein-Uhlenbeck process that forgets in a third of the exposure; the path is scaled to its
    extent and drawn with bilinear weights.

    Args:
        size: pixels a side.  Straight: default the smallest odd one that holds the line at any
            angle, and the line is centred on the pixel ``(size // 2, size // 2)``.  Shake: 3 or
            more, and the path is centred.
        length: straight: in pixels, 0 or more.  Shake: largest extent of the path, in units of
            `size`, in (0, 1], default 0.6.
        angle: of a straight motion, in degrees counter-clockwise from the right.
        seed: fixes the path of a shake, default 0.

    Raises:
        ValueError: the line is longer than the size holds; a size or a length outside its range.
        TypeError: neither a size nor an angle; an angle without a length, or with a seed.
    """
    if angle is not None:
        return _straight(size, length, angle, seed)
    if size is None:
        raise TypeError(
            "motion_kernel: needs a length in pixels and an angle in degrees for a straight "
            "motion, motion_kernel(length=7.5, angle=30), or a size for a shake, motion_kernel(15)"
        )
    return _shake(size, 0.6 if length is None else length, 0 if seed is None else seed)


def _straight(size: Any, length: Any, angle: Any, seed: Any) -> Tensor:
    if length is None or seed is not None:
        raise TypeError(
            "motion_kernel(angle=): a straight motion needs length=, in pixels, and no seed"
        )
    need = "a length in pixels, 0 or more"
    length = number("motion_kernel", "length", length, low=0.0, need=need)
    radians = math.radians(number("motion_kernel", "angle", angle, need="a number of degrees"))
    default = 2 * math.ceil(length / 2) + 1
    size = default if size is None else whole_number("motion_kernel", "size", size)
    reach = size - 1 - size // 2
    if length / 2 > reach:
        raise ValueError(
            f"motion_kernel(size={size}, length={length:g}): a line around the pixel {size // 2} "
            f"may be {2 * reach} pixels long; take a size of {default} or more"
        )
    s, share = _nodes(length, math.cos(radians), math.sin(radians))
    x, y = s * math.cos(radians), -s * math.sin(radians)  # columns and rows; y is up
    return _bilinear(torch.stack([y, x], 1) + size // 2, share, size)


def _nodes(length: float, cos: float, sin: float) -> tuple[Tensor, Tensor]:
    """Where the line is evaluated, ``(nodes,)``, and weights of sum 1.

    Bilinear weights are polynomials of second degree between the places where the line crosses
    rows and columns of pixel centres, so that two Gauss nodes for each piece are exact.
    """
    half = torch.tensor([-length / 2, length / 2], dtype=torch.float64)
    cuts = [half]
    for slope in (abs(cos), abs(sin)):
        lines = torch.arange(math.floor(length / 2 * slope) + 1, dtype=torch.float64)
        if slope > 0:
            cuts += [lines / slope, -lines / slope]
    cut = torch.cat(cuts).clamp(*half.tolist()).sort().values
    middle, width = (cut[1:] + cut[:-1]) / 2, cut.diff()
    nodes = torch.cat([middle - width / math.sqrt(12), middle + width / math.sqrt(12)])
    if length == 0:
        return nodes, torch.full_like(nodes, 1 / len(nodes))
    return nodes, torch.cat([width, width]) / (2 * length)


def _shake(size: Any, length: Any, seed: Any) -> Tensor:
    size = whole_number("motion_kernel", "size", size)
    length = number("motion_kernel", "length", length)
    seed = checked_seed("motion_kernel", "seed", seed)
    if size < 3 or not 0 < length <= 1:
        hint = "; a straight motion of so many pixels needs angle=" if length > 1 else ""
        raise ValueError(
            f"motion_kernel(size={size}, length={length}): needs 3 pixels or more a side, and a "
            f"length in (0, 1] of them{hint}"
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
    return _bilinear(place, torch.ones(steps, dtype=torch.float64), size)


def _bilinear(place: Tensor, share: Tensor, size: int) -> Tensor:
    """Points at `place` ``(points, 2)``, row and column, spread over four pixels each; sum 1."""
    lower = place.floor().clamp(0, max(0, size - 2))
    fraction = place - lower
    kernel = torch.zeros(size, size, dtype=torch.float64)
    if size == 1:
        return kernel + 1
    for row in (0, 1):
        for column in (0, 1):
            weight = (fraction[:, 0] if row else 1 - fraction[:, 0]) * (
                fraction[:, 1] if column else 1 - fraction[:, 1]
            )
            index = (lower[:, 0].long() + row, lower[:, 1].long() + column)
            kernel.index_put_(index, weight * share, accumulate=True)
    return kernel / kernel.sum()
