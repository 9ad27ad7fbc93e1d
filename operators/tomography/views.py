"""How much each view and each ray counts, so that every line through the image counts once.

Angles may be spread in any way, a fan or a full turn sees lines twice, and a detector that is
offset sees some of them once only.
"""

import math

import torch
from torch import Tensor

from tweedie_inverse.operators.tomography.geometry import ScanGeometry

# A gap is a wedge without data if it is this many times the next widest one: many equal gaps are a
# coarse scan.
_WEDGE = 4.0
# Parallel beams only, in degrees.  Measured on ellipses of 96 pixels, with views every 1 and 3
# degrees: a gap of 5 to 60 degrees is better filled by the two views beside it (errors smaller by
# a tenth to a third), one of 90 degrees is not (larger by a sixth).
_NARROWEST_WEDGE = 60.0


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


def redundancy(geometry: ScanGeometry) -> Tensor:
    """What `view_weights` are multiplied by, for the lines that are seen twice or once.

    It broadcasts against ``(angles, detectors)``.  A parallel view and the one half a turn on have
    their arc together, so that theirs is 1 where both see a line.
    """
    if geometry.source_distance is not None:
        return _of_fan(geometry, geometry.fan_angles())
    if not is_half_seen(geometry):
        return torch.ones(1, dtype=torch.float64)
    return 2 * _share_of_opposite(geometry, geometry.bins())


def is_half_seen(geometry: ScanGeometry) -> bool:
    """Whether views are all round, and one side of the image is seen in half of them only."""
    gap = _gaps((geometry.angles % 360.0).unique(), 360.0)
    if float(gap.max()) >= 180.0 - 1e-9 or _wedge(gap, 0.0) is not None:
        return False
    half = geometry.detectors * geometry.detector_spacing / 2
    low, high = geometry.detector_offset - half, geometry.detector_offset + half
    begin, end = geometry.shadow()
    return (low > begin or high < end) and not math.isclose(low, -high, abs_tol=1e-9 * half)


def _share_of_opposite(geometry: ScanGeometry, place: Tensor) -> Tensor:
    """Share of each ray in its line where `is_half_seen`, ``(detectors,)``.

    Args:
        place: of the bins, ``(detectors,)``, in a length or an angle; the opposite ray of the one
            at p is at -p.
    """
    offset = geometry.detector_offset
    if offset < 0:
        place = -place
    # Lines up to so far from the centre are seen from both sides.
    both = -place[0 if offset > 0 else -1]
    if both <= 0:
        return torch.ones_like(place)
    return _smooth((1 + (place / both).clamp(-1, 1)) / 2)


def _of_fan(geometry: ScanGeometry, fan: Tensor) -> Tensor:
    """Share of each ray in its line, ``(angles, detectors)``: opposite rays make 1 together.

    Args:
        fan: each bin's angle from the central ray, ``(detectors,)`` in radians.
    """
    assert geometry.source_distance is not None
    if is_half_seen(geometry):
        return _share_of_opposite(geometry, fan)
    degrees, image_fan = geometry.angles, math.asin(geometry.radius / geometry.source_distance)
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
