"""Where the rays of a tomography scan run: parallel beam, and fan beam on a flat detector.

x points right and y up, the origin is the centre of rotation, angles turn counter-clockwise.  At
angle a the detector runs along ``e = (cos a, sin a)`` and the rays along ``n = (-sin a, cos a)``:
at angle 0 they go up, and bin 0 is at the left end of the detector.  The directions are ASTRA's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import choice, count, number, pair, positive, sizes
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.boundary.warn import warn_user
from tweedie_inverse.numerics.residence import resident_on

# Default source to rotation centre of a fan, in image diagonals: a fan of 29 degrees.
_SOURCE_DIAGONALS = 2


@dataclass(frozen=True, eq=False)
class ScanGeometry:
    """Checked numbers of one scan; lengths in the user's unit, angles ``(angles,)`` in degrees.

    `source_distance` is None for a parallel beam.  `angles` have the `angle_offset` added already;
    `centre` is where the rotation axis is, as a row and a column, in pixels.
    """

    height: int
    width: int
    angles: Tensor
    detectors: int
    pixel_size: float
    detector_spacing: float
    centre: tuple[float, float]
    source_distance: float | None = None
    detector_distance: float = 0.0
    detector_offset: float = 0.0
    angle_offset: float = 0.0

    @property
    def radius(self) -> float:
        """Radius of the smallest circle around the centre of rotation that holds the image."""
        return self.pixel_size * _reach(self.height, self.width, self.centre)

    def bins(self, device: torch.device | str = "cpu") -> Tensor:
        """Where the bin centres are along the detector, ``(detectors,)`` float64."""
        number = torch.arange(self.detectors, dtype=torch.float64, device=device)
        return (number - (self.detectors - 1) / 2) * self.detector_spacing + self.detector_offset

    def fan_angles(self) -> Tensor:
        """Each bin's angle from the central ray of a fan, ``(detectors,)`` in radians."""
        assert self.source_distance is not None
        return (self.bins() / (self.source_distance + self.detector_distance)).atan()

    def shadow(self) -> tuple[float, float]:
        """Ends, over all views, of the shadow that the largest disk in the image casts."""
        row, column = self.centre
        x = ((self.width - 1) / 2 - column) * self.pixel_size
        y = (row - (self.height - 1) / 2) * self.pixel_size
        radius = self.pixel_size * min(self.height, self.width) / 2
        along, across = (axis @ axis.new_tensor([x, y]) for axis in self.axes())
        if self.source_distance is None:
            return float(along.min()) - radius, float(along.max()) + radius
        depth = self.source_distance + across
        middle = torch.atan2(along, depth)
        half = (radius / torch.hypot(along, depth)).clamp(max=1).asin()
        distance = self.source_distance + self.detector_distance
        low, high = (distance * (middle + sign * half).tan() for sign in (-1, 1))
        return float(low.min()), float(high.max())

    def axes(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """The unit vectors e (detector) and n (central ray), ``(angles, 2)`` float64."""
        angle = resident_on(self.angles, torch.device(device)).deg2rad()
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)

    def rays(self, first: int, stop: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """A point on each ray and its direction, ``(rays, 2)`` float64 each.

        Rays are numbered as the entries of a sinogram, ``angle * detectors + bin``.
        """
        number = torch.arange(first, stop, device=device)
        angle = number // self.detectors
        offset = self.bins(device)[number % self.detectors, None]
        along, across = (axis[angle] for axis in self.axes(device))
        if self.source_distance is None:
            return offset * along, across
        return (
            -self.source_distance * across,
            (self.source_distance + self.detector_distance) * across + offset * along,
        )


def scan_geometry(
    image_shape: Sequence[int],
    angles: int | Sequence[float] | Tensor,
    detectors: int | None,
    geometry: str,
    pixel_size: float,
    detector_spacing: float | None,
    source_distance: float | None,
    detector_distance: float | None,
    detector_offset: float = 0.0,
    centre: tuple[float, float] | None = None,
    angle_offset: float = 0.0,
) -> ScanGeometry:
    """Check the arguments of `Tomography` and fill in its defaults.

    Sizes that are not given depend on the image alone, and not on where the axis and the detector
    are, so that scans of one instrument whose alignment is unknown have data of one shape.
    """
    choice("Tomography", "geometry", geometry, ("parallel", "fan"))
    image_shape = sizes("Tomography", "image_shape", image_shape, need="(1, height, width)")
    if len(image_shape) != 3 or image_shape[0] != 1 or min(image_shape) < 1:
        cure = ""
        if len(image_shape) == 4:
            cure = "; slices of a volume are ops.slicewise(ops.Tomography(...), depth)"
        raise ValueError(
            f"Tomography(image_shape={tuple(image_shape)}): needs (1, height, width){cure}"
        )
    height, width = (int(size) for size in image_shape[1:])
    pixel_size = _length("pixel_size", pixel_size)
    middle = ((height - 1) / 2, (width - 1) / 2)
    centre = middle if centre is None else _pair("centre", centre)
    diagonal = math.hypot(height, width)  # in pixels
    covered = diagonal * pixel_size
    fan = geometry == "fan"
    if fan:
        radius = pixel_size * _reach(height, width, centre)
        source_distance, detector_distance = _fan_distances(
            source_distance, detector_distance, covered, radius
        )
        covered = _fan_shadow(source_distance, detector_distance, covered / 2)
    elif source_distance is not None or detector_distance is not None:
        raise ValueError(
            "Tomography(source_distance=, detector_distance=): a parallel beam has neither; leave "
            "them out or say geometry='fan'"
        )
    if detector_spacing is None and not fan:
        detector_spacing = pixel_size
    given = detectors
    detectors, detector_spacing = _detector(detectors, detector_spacing, covered, diagonal)
    need = "a finite number of degrees"
    angle_offset = number("Tomography", "angle_offset", angle_offset, need=need)
    need = "a finite length, in the unit of pixel_size"
    detector_offset = number("Tomography", "detector_offset", detector_offset, need=need)
    scan = ScanGeometry(
        height,
        width,
        _angle_list(angles, 360.0 if fan else 180.0) + angle_offset,
        detectors,
        float(pixel_size),
        float(detector_spacing),
        centre,
        source_distance,
        detector_distance or 0.0,
        detector_offset,
        angle_offset,
    )
    if given is None:
        _warn_of_what_is_cut(scan)
    return scan


def _warn_of_what_is_cut(scan: ScanGeometry) -> None:
    """A detector whose size the user did not choose should see what lies within the image."""
    low, high = scan.shadow()
    half = scan.detectors * scan.detector_spacing / 2
    if low < scan.detector_offset - half - 1e-9 or high > scan.detector_offset + half + 1e-9:
        warn_user(
            f"Tomography: the default detector of {scan.detectors} bins covers the circle around "
            "the image from its middle; with this centre and detector_offset it misses parts of "
            "the image in some views. Say detectors=, the number of bins of your data"
        )


def _reach(height: int, width: int, centre: tuple[float, float]) -> float:
    """From the centre of rotation to the farthest corner of the image, in pixels."""
    sides = zip((height, width), centre, strict=True)
    return math.hypot(*(size / 2 + abs(place - (size - 1) / 2) for size, place in sides))


def _detector(
    detectors: int | None, spacing: float | None, covered: float, diagonal: float
) -> tuple[int, float]:
    """Number and spacing of the bins; what is None is chosen to cover the length `covered`."""
    if detectors is not None:
        detectors = count("Tomography", "detectors", detectors, need="a positive count")
    if spacing is None:
        bins = math.ceil(diagonal) if detectors is None else detectors
        return bins, covered / bins
    spacing = _length("detector_spacing", spacing)
    if detectors is None:
        # Less a rounding error, so that an exact fit does not get one bin more.
        detectors = max(1, math.ceil(covered / spacing - 1e-9))
    return detectors, spacing


def _fan_distances(
    source: float | None, detector: float | None, diagonal: float, radius: float
) -> tuple[float, float]:
    if source is None:
        source = _SOURCE_DIAGONALS * diagonal
    source = _length("source_distance", source)
    if source <= radius:
        raise ValueError(
            f"Tomography(source_distance={source:g}): the source must turn outside the image, "
            f"whose corners are {radius:g} from the centre (pixel_size times pixels). Move "
            "it out, or give all lengths in one unit"
        )
    if detector is None:
        detector = source
    need = "a finite distance from the rotation centre, 0 or more"
    return source, number("Tomography", "detector_distance", detector, low=0, need=need)


def _fan_shadow(source: float, detector: float, radius: float) -> float:
    """Length of the shadow on the detector of a disk around the rotation centre."""
    return 2 * (source + detector) * radius / math.sqrt(source**2 - radius**2)


def _angle_list(angles: int | Sequence[float] | Tensor, turn: float) -> Tensor:
    """Angles in degrees, float64; a count is spread evenly over [0, turn)."""
    if isinstance(angles, Integral):
        several = count(
            "Tomography", "angles", angles, need="at least one angle, a million at most", most=10**6
        )
        return torch.arange(several, dtype=torch.float64) * (turn / several)
    given = real_tensor("Tomography", "angles", angles, finite=False, dtype=torch.float64)
    degrees = given.detach().cpu().clone()
    if degrees.ndim != 1 or not len(degrees):
        raise ValueError(
            f"Tomography(angles=): needs a count or a list of degrees, got {tuple(degrees.shape)}"
        )
    if not degrees.isfinite().all():
        raise ValueError("Tomography(angles=): needs finite degrees, got NaN or infinity")
    span = float(degrees.max() - degrees.min())
    if len(degrees) >= 8 and 2.5 < span < 6.3 and float(degrees.abs().max()) < 6.3:
        warn_user(
            f"Tomography(angles=): {len(degrees)} angles within {span:.3g} degrees; if they are "
            "radians, use np.rad2deg(angles)"
        )
    return degrees


def _pair(name: str, value: Any) -> tuple[float, float]:
    return pair("Tomography", name, value, need="a row and a column, in pixels, such as (31.5, 33)")


def _length(name: str, value: float) -> float:
    return positive("Tomography", name, value, need="a positive, finite length")
