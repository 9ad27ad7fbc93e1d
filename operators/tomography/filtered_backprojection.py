"""Filtered backprojection of parallel and flat-detector fan data (Kak and Slaney, chapter 3).

    f(r) = sum over views of  w q(u(r)) / U(r)^2,    q = ramp * (p cosine redundancy)

with the Ram-Lak ramp, linear interpolation on the detector, and for the fan ``U = 1 + r.n / S``,
the distance of the pixel from the source along the central ray in units of S, and the detector
moved into the rotation centre.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.operators.tomography.geometry import ScanGeometry

# A gap is a wedge without data if it is this many times the next widest one: many equal gaps are a
# coarse scan.
_WEDGE = 4.0
# Parallel beams only, in degrees.  Measured on ellipses of 96 pixels, with views every 1 and 3
# degrees: a gap of 5 to 60 degrees is better filled by the two views beside it (errors smaller by
# a tenth to a third), one of 90 degrees is not (larger by a sixth).
_NARROWEST_WEDGE = 60.0
# Interpolation weights computed at once, at some 50 bytes each: bounds the memory.
_CHUNK = 2**21


def filtered_backprojection(y: Tensor, geometry: ScanGeometry) -> Tensor:
    """Image ``(batch, 1, height, width)`` of the sinogram ``(batch, 1, angles, detectors)``.

    A view is weighted by half the gaps to its two neighbours on the half turn (fan: full turn), so
    that the brightness does not depend on how the angles are spread.  The widest gap is a missing
    wedge where it is more than four times the next one, and for a parallel beam more than 60
    degrees: it is not filled, so that the ends of a limited arc do not dominate, and the image is
    darker by its share.  A fan with such a gap is weighted for redundancy after Parker (1982),
    generalised to any arc by Silver (2000), if it sees every line, and not at all if it does not.
    """
    step, source = geometry.detector_spacing, geometry.source_distance
    weight = view_weights(geometry.angles, 180.0 if source is None else 360.0)[:, None]
    if source is not None:
        step *= source / (source + geometry.detector_distance)
        fan = (geometry.bins() / (source + geometry.detector_distance)).atan()
        share = _redundancy(geometry.angles, fan, math.asin(geometry.radius / source))
        weight = weight * share * fan.cos()  # (angles, detectors)
    q = _ramp(y[:, 0] * weight.to(y), step)  # (batch, angles, detectors)
    table = q.flatten(1).mT.contiguous()  # (angles * detectors, batch)
    image = y.new_zeros(geometry.height * geometry.width, y.shape[0])
    views = max(1, _CHUNK // (2 * len(image)))
    for first in range(0, len(geometry.angles), views):
        index, share = _footprints(geometry, step, first, first + views, y.device)
        image = image + F.embedding_bag(
            index, table, mode="sum", per_sample_weights=share.to(y.dtype)
        )
    return image.mT.contiguous().reshape(-1, 1, geometry.height, geometry.width)


def view_weights(degrees: Tensor, turn: float) -> Tensor:
    """The arc each view stands for, in radians, ``(angles,)`` float64; together `turn` if full.

    Args:
        degrees: ``(angles,)``.
        turn: 180 for a parallel beam, 360 for a fan.
    """
    # Rounded, so that an angle and the same one a turn on share their arc.
    position = ((degrees % turn) * 1e9).round() % (turn * 1e9) / 1e9
    distinct, which, count = position.unique(return_inverse=True, return_counts=True)
    gap = _gaps(distinct, turn)
    after, before = gap.clone(), gap.roll(1)
    wedge = _wedge(gap, _NARROWEST_WEDGE if turn < 360 else 0.0)
    if wedge is not None:
        # On the side of the wedge, its two neighbours reach as far as on their other side.
        first = (wedge + 1) % len(gap)
        after[wedge], before[first] = gap[wedge - 1], gap[first]
    return ((before + after) / 2 / count)[which].deg2rad()


def _gaps(position: Tensor, turn: float) -> Tensor:
    """From each sorted position to the next, the last one round the turn to the first."""
    return torch.cat([position[1:], position[:1] + turn]) - position


def _wedge(gap: Tensor, narrowest: float) -> int | None:
    """Which of the gaps, ``(views,)`` in degrees, is a wedge without data; None if none is."""
    if len(gap) == 1:
        return None
    (widest, next_), (which, _) = gap.topk(2)
    return int(which) if widest > max(_WEDGE * float(next_), narrowest) else None


def _redundancy(degrees: Tensor, fan: Tensor, image_fan: float) -> Tensor:
    """Share of each ray in its line, ``(angles, detectors)``: opposite rays make 1 together.

    Args:
        degrees: ``(angles,)``.
        fan: each bin's angle from the central ray, ``(detectors,)`` in radians.
        image_fan: the same of the outermost ray through the image.
    """
    position = (degrees % 360.0).unique()
    gap = _gaps(position, 360.0)
    wedge = _wedge(gap, 0.0)
    if wedge is None:
        return torch.full((len(degrees), len(fan)), 0.5, dtype=torch.float64)
    first = (wedge + 1) % len(gap)
    # The arc goes half a gap beyond the first and the last view.
    arc = math.radians(360.0 - float(gap[wedge] - (gap[first] + gap[wedge - 1]) / 2))
    beta = ((degrees - position[first]) % 360.0).deg2rad()[:, None]
    beta = beta + gap[first].deg2rad() / 2
    excess = (arc - math.pi) / 2
    if excess < image_fan:
        return torch.ones(len(degrees), len(fan), dtype=torch.float64)
    # The ray at (beta, fan) runs against the one at (beta + pi - 2 fan, -fan); of the two ramps
    # only one is below 1 at a time.
    rise = beta / (2 * (excess + fan)).clamp(min=1e-9)
    fall = (arc - beta) / (2 * (excess - fan)).clamp(min=1e-9)
    return _smooth(rise) * _smooth(fall)


def _smooth(share: Tensor) -> Tensor:
    return (share.clamp(0, 1) * (math.pi / 2)).sin().square()


def _ramp(p: Tensor, step: float) -> Tensor:
    """Convolve the last axis with the Ram-Lak filter of bin width `step`, without wrapping."""
    size = p.shape[-1]
    padded = 2 ** math.ceil(math.log2(2 * size))
    number = torch.arange(padded, dtype=torch.float64, device=p.device)
    number = torch.minimum(number, padded - number)
    # The band-limited ramp's samples (Kak and Slaney, eq. 61) times the bin width: sampling the
    # ramp in frequency instead would lose the mean.
    kernel = torch.where(number % 2 == 1, -1 / (math.pi * number).square(), 0.0)
    kernel[0] = 0.25
    spectrum = torch.fft.rfft(kernel / step).real.to(p.dtype)
    return torch.fft.irfft(torch.fft.rfft(p, padded) * spectrum, padded)[..., :size]


def _footprints(
    geometry: ScanGeometry, step: float, first: int, stop: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Which filtered values make up each pixel: rows of the table and weights, ``(pixels, k)``."""
    rows = torch.arange(geometry.height, dtype=torch.float64, device=device)
    columns = torch.arange(geometry.width, dtype=torch.float64, device=device)
    x = (columns - (geometry.width - 1) / 2).repeat(geometry.height)
    y = ((geometry.height - 1) / 2 - rows).repeat_interleave(geometry.width)
    pixel = torch.stack([x, y], 1) * geometry.pixel_size
    along, across = (axis[first:stop] for axis in geometry.axes(device))
    offset = pixel @ along.mT  # (pixels, views)
    share = torch.ones_like(offset)
    if geometry.source_distance is not None:
        depth = 1 + pixel @ across.mT / geometry.source_distance
        offset, share = offset / depth, depth**-2
    place = offset / step + (geometry.detectors - 1) / 2
    lower = place.floor()
    place, fraction = torch.stack([lower, lower + 1]), place - lower  # (2, pixels, views)
    seen = (place >= 0) & (place < geometry.detectors)
    share = torch.stack([1 - fraction, fraction]) * share * seen
    row = torch.arange(first, first + len(along), device=device) * geometry.detectors
    index = row + place.clamp(0, geometry.detectors - 1).long()
    return torch.cat(list(index), 1), torch.cat(list(share), 1)
