"""Joseph's projector (IEEE Trans. Med. Imaging 1, 1982): the weights of the pixels along a ray.

A ray crosses each row (or, when it is rather flat, each column) of pixel centres once; its value
there is interpolated linearly between the two neighbours, times the length of the step.
"""

import torch
from torch import Tensor

from tweedie_inverse.numerics.sparse import csr
from tweedie_inverse.operators.tomography.geometry import ScanGeometry

# Candidate weights computed at once, at some 100 bytes each: bounds the memory.
CHUNK = 2**18
# Rays along the grid touch the next pixel by a rounding error, which must not become a weight.
_ROUNDING = 1e-12


def chunks(geometry: ScanGeometry) -> list[tuple[int, int]]:
    """Ranges of rays, ``(first, stop)``, with at most `CHUNK` candidate weights (or one ray)."""
    rays = len(geometry.angles) * geometry.detectors
    step = max(1, CHUNK // (2 * max(geometry.height, geometry.width)))
    return [(first, min(first + step, rays)) for first in range(0, rays, step)]


def joseph_weights(
    geometry: ScanGeometry, first: int, stop: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels that rays `first` to `stop` may cross, and their weights.

    Returns:
        pixel, weight: ``(rays, 2 lines)`` each; outside the image the weight is 0, the pixel too.
        steep: ``(rays,)``, whether the ray crosses rows: then its pixels are in order.
    """
    height, width = geometry.height, geometry.width
    start, slope, length, steep = _crossings(geometry, *geometry.rays(first, stop, device))
    number = torch.arange(max(height, width), dtype=torch.float64, device=device)
    place = start[:, None] + slope[:, None] * number  # (rays, lines)
    lower = place.floor()
    fraction = place - lower
    place = torch.stack([lower, lower + 1], 2)  # (rays, lines, 2)
    weight = torch.stack([1 - fraction, fraction], 2)
    size = torch.where(steep, width, height)[:, None, None]
    keep = (place >= 0) & (place < size) & (weight > _ROUNDING)
    if height != width:
        keep &= (number < torch.where(steep, height, width)[:, None])[..., None]
    line_stride = torch.where(steep, float(width), 1.0)[:, None, None]
    place_stride = torch.where(steep, 1.0, float(width))[:, None, None]
    pixel = (number[:, None] * line_stride + place * place_stride) * keep
    weight = weight * length[:, None, None] * keep
    return pixel.int().flatten(1), weight.to(dtype).flatten(1), steep


def joseph_rows(
    geometry: ScanGeometry, first: int, stop: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Rows `first` to `stop` of the system matrix, ``(rays, pixels)`` compressed, of `dtype`."""
    pixels = geometry.height * geometry.width
    pixel, weight, steep = joseph_weights(geometry, first, stop, dtype, device)
    flat = (~steep).nonzero()[:, 0]
    # Compressed rows want their pixels in order; those outside go last.
    ordered, order = torch.where(weight[flat] != 0, pixel[flat], pixels).sort(1)
    pixel[flat], weight[flat] = ordered, weight[flat].gather(1, order)
    kept = weight.flatten().nonzero()[:, 0]
    return csr((weight != 0).sum(1), pixel.flatten()[kept], weight.flatten()[kept], pixels)


def joseph_columns(
    geometry: ScanGeometry, first: int, stop: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The transpose of `joseph_rows`, ``(pixels, rays)`` compressed, without building the rows."""
    pixel, weight, _ = joseph_weights(geometry, first, stop, dtype, device)
    kept = weight.flatten().nonzero()[:, 0]
    ordered, order = pixel.flatten()[kept].sort(stable=True)
    kept = kept[order]
    counts = torch.bincount(ordered, minlength=geometry.height * geometry.width)
    return csr(counts, kept // weight.shape[1], weight.flatten()[kept], stop - first)


def nonzeros(geometry: ScanGeometry) -> int:
    """About how many weights the system matrix has, from where each ray enters and leaves."""
    total, rays = 0.0, len(geometry.angles) * geometry.detectors
    for first in range(0, rays, 4 * CHUNK):
        points, directions = geometry.rays(first, min(first + 4 * CHUNK, rays), torch.device("cpu"))
        start, slope, _, steep = _crossings(geometry, points, directions)
        size = torch.where(steep, geometry.width, geometry.height)
        lines = torch.where(steep, geometry.height, geometry.width)
        # The lines k with -1/2 < start + slope k < size - 1/2; a slope of 0 would make 0 / 0.
        slope = torch.where(slope.abs() < 1e-9, 1e-9, slope)
        ends = torch.stack([(-0.5 - start) / slope, (size - 0.5 - start) / slope])
        enter, leave = ends.amin(0).clamp(min=-0.5), torch.minimum(ends.amax(0), lines - 0.5)
        total += 2 * float((leave - enter).clamp(min=0).sum())
    return round(total)


def _crossings(
    geometry: ScanGeometry, point: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where rays cross the rows or columns of pixel centres, ``(rays,)`` each.

    Returns:
        start, slope: line number k (a row for steep rays, else a column) is crossed at place
            ``start + slope k`` (a column, else a row), in pixels.
        length: of the ray from one line to the next, in the geometry's unit.
        steep: whether the ray crosses rows.
    """
    px, py = (point / geometry.pixel_size).unbind(1)
    dx, dy = direction.unbind(1)
    steep = dy.abs() >= dx.abs()
    # Row i lies at y = top - i, column j at x = j - right.
    top, right = geometry.centre
    main, other = torch.where(steep, dy, dx), torch.where(steep, dx, dy)
    slope = -other / main
    start = torch.where(steep, px + right - slope * (top - py), top - py - slope * (right + px))
    length = direction.norm(dim=1) / main.abs() * geometry.pixel_size
    return start, slope, length, steep
