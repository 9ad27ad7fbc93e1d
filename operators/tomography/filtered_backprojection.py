"""Filtered backprojection of parallel and flat-detector fan data (Kak and Slaney, chapter 3).

    f(r) = sum over views of  w q(u(r)) / U(r)^2,    q = ramp * (p cosine redundancy)

with the Ram-Lak ramp, linear interpolation on the detector, and for the fan ``U = 1 + r.n / S``,
the distance of the pixel from the source along the central ray in units of S, and the detector
moved into the rotation centre.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.operators.tomography.geometry import ScanGeometry
from tweedie_inverse.operators.tomography.views import is_half_seen, redundancy, view_weights

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
    Over a full turn, a detector that is offset so far that it sees one side of the image only in
    opposite views is weighted after Wang (2002).
    """
    step, source = geometry.detector_spacing, geometry.source_distance
    weight = view_weights(geometry.angles, 180.0 if source is None else 360.0)[:, None]
    weight = weight * redundancy(geometry)  # (angles, detectors)
    if source is not None:
        step *= source / (source + geometry.detector_distance)
        weight = weight * geometry.fan_angles().cos()
    p = y[:, 0] * weight.to(y)
    if is_half_seen(geometry):
        p, geometry = _completed(p, geometry)
    q = _ramp(p, step)  # (batch, angles, detectors)
    table = q.flatten(1).mT.contiguous()  # (angles * detectors, batch)
    image = y.new_zeros(geometry.height * geometry.width, y.shape[0])
    views = max(1, _CHUNK // (2 * len(image)))
    for first in range(0, len(geometry.angles), views):
        index, share = _footprints(geometry, step, first, first + views, y.device)
        image = image + F.embedding_bag(
            index, table, mode="sum", per_sample_weights=share.to(y.dtype)
        )
    return image.mT.contiguous().reshape(-1, 1, geometry.height, geometry.width)


def _completed(p: Tensor, geometry: ScanGeometry) -> tuple[Tensor, ScanGeometry]:
    """A detector that reaches as far to both sides: filtered views are not 0 beyond their data."""
    spacing, offset = geometry.detector_spacing, geometry.detector_offset
    more = math.ceil(2 * abs(offset) / spacing)
    wide = replace(
        geometry,
        detectors=geometry.detectors + more,
        detector_offset=offset - math.copysign(more * spacing / 2, offset),
    )
    return F.pad(p, (more, 0) if offset > 0 else (0, more)), wide


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
    top, left = geometry.centre
    x = (columns - left).repeat(geometry.height)
    y = (top - rows).repeat_interleave(geometry.width)
    pixel = torch.stack([x, y], 1) * geometry.pixel_size
    along, across = (axis[first:stop] for axis in geometry.axes(device))
    offset = pixel @ along.mT  # (pixels, views)
    share = torch.ones_like(offset)
    if geometry.source_distance is not None:
        depth = 1 + pixel @ across.mT / geometry.source_distance
        offset, share = offset / depth, depth**-2
    # The detector's offset shrinks with its bins where it is moved into the centre.
    first_bin = geometry.detector_offset / geometry.detector_spacing - (geometry.detectors - 1) / 2
    place = offset / step - first_bin
    lower = place.floor()
    place, fraction = torch.stack([lower, lower + 1]), place - lower  # (2, pixels, views)
    seen = (place >= 0) & (place < geometry.detectors)
    share = torch.stack([1 - fraction, fraction]) * share * seen
    row = torch.arange(first, first + len(along), device=device) * geometry.detectors
    index = row + place.clamp(0, geometry.detectors - 1).long()
    return torch.cat(list(index), 1), torch.cat(list(share), 1)
