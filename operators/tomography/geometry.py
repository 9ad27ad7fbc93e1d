"""Where the rays of a tomography scan run: parallel beam, and fan beam on a flat detector.

x points right and y up, the origin is the centre of the image, angles turn counter-clockwise.  At
angle a the detector runs along ``e = (cos a, sin a)`` and the rays along ``n = (-sin a, cos a)``:
at angle 0 they go up, and bin 0 is at the left end of the detector.  The directions are ASTRA's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import choice, count, number, positive, sizes
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.boundary.warn import warn_user
from tweedie_inverse.numerics.residence import resident_on

# Default source to rotation centre of a fan, in image diagonals: a fan of 29 degrees.
_SOURCE_DIAGONALS = 2


@dataclass(frozen=True, eq=False)
class ScanGeometry:
    """Checked numbers of one scan; lengths in the user's unit, angles ``(angles,)`` in degrees.

    `source_distance` is None for a parallel beam.
    """

    height: int
    width: int
    angles: Tensor
    detectors: int
    pixel_size: float
    detector_spacing: float
    source_distance: float | None = None
    detector_distance: float = 0.0

    @property
    def radius(self) -> float:
        """Radius of the circle around the image."""
        return self.pixel_size * math.hypot(self.height, self.width) / 2

    def bins(self, device: torch.device | str = "cpu") -> Tensor:
        """Where the bin centres are along the detector, ``(detectors,)`` float64."""
        number = torch.arange(self.detectors, dtype=torch.float64, device=device)
        return (number - (self.detectors - 1) / 2) * self.detector_spacing

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
) -> ScanGeometry:
    """Check the arguments of `Tomography` and fill in its defaults."""
    choice("Tomography", "geometry", geometry, ("parallel", "fan"))
    image_shape = sizes("Tomography", "image_shape", image_shape, need="(1, height, width)")
    if len(image_shape) != 3 or image_shape[0] != 1 or min(image_shape) < 1:
        raise ValueError(f"Tomography(image_shape={tuple(image_shape)}): needs (1, height, width)")
    height, width = (int(size) for size in image_shape[1:])
    pixel_size = _length("pixel_size", pixel_size)
    diagonal = math.hypot(height, width)  # in pixels
    covered = diagonal * pixel_size
    fan = geometry == "fan"
    if fan:
        source_distance, detector_distance = _fan_distances(
            source_distance, detector_distance, covered
        )
        covered = _fan_shadow(source_distance, detector_distance, covered / 2)
    elif source_distance is not None or detector_distance is not None:
        raise ValueError(
            "Tomography(source_distance=, detector_distance=): a parallel beam has neither; leave "
            "them out or say geometry='fan'"
        )
    if detector_spacing is None and not fan:
        detector_spacing = pixel_size
    detectors, detector_spacing = _detector(detectors, detector_spacing, covered, diagonal)
    return ScanGeometry(
        height,
        width,
        _angle_list(angles, 360.0 if fan else 180.0),
        detectors,
        float(pixel_size),
        float(detector_spacing),
        source_distance,
        detector_distance or 0.0,
    )


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
    source: float | None, detector: float | None, diagonal: float
) -> tuple[float, float]:
    if source is None:
        source = _SOURCE_DIAGONALS * diagonal
    source = _length("source_distance", source)
    if source <= diagonal / 2:
        raise ValueError(
            f"Tomography(source_distance={source:g}): the source must turn outside the image, "
            f"whose corners are {diagonal / 2:g} from the centre (pixel_size times pixels). Move "
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


def _length(name: str, value: float) -> float:
    return positive("Tomography", name, value, need="a positive, finite length")
