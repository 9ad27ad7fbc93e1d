"""X-ray transform of a parallel or fan beam: line integrals of an image, by Joseph's projector."""

from collections.abc import Sequence

from torch import Tensor

from tweedie_inverse.boundary.arguments import choice
from tweedie_inverse.boundary.warn import warn_user
from tweedie_inverse.numerics.autograd import linear_map
from tweedie_inverse.operators.base import LinearOperator
from tweedie_inverse.operators.noise.base import NoiseModel
from tweedie_inverse.operators.tomography.filtered_backprojection import filtered_backprojection
from tweedie_inverse.operators.tomography.geometry import ScanGeometry, scan_geometry
from tweedie_inverse.operators.tomography.joseph import nonzeros
from tweedie_inverse.operators.tomography.projectors import (
    MATRIX_LIMIT,
    MatrixFree,
    StoredMatrix,
    matrix_bytes,
)


class Tomography(LinearOperator):
    """Line integrals of an image along the rays of a scan, ``(1, angles, detectors)``.

    With x to the right, y up, the origin in the centre of rotation and the detector along ``e =
    (cos a, sin a)``, bin k of D is at ``t = (k - (D - 1) / 2) detector_spacing + detector_offset``:

    - parallel: the ray at angle a and offset t is the line ``x cos a + y sin a = t``;
    - fan: with ``n = (-sin a, cos a)``, the ray goes from the source at ``-source_distance n`` to
      ``detector_distance n + t e`` on a flat detector.  At angle 0 the source is below the image.

    Angles turn counter-clockwise.  Lengths are in one unit of your choice, that of `pixel_size`;
    data are in image units times that unit.

    Args:
        image_shape: ``(1, height, width)``; pixels are square.
        angles: how many, spread evenly over the half turn (fan: the full turn), or the angles in
            degrees, in any order and range.
        detectors: how many bins; default covers the circle around the image (with the default
            spacing: one bin a pixel of the image diagonal), wherever the centre of rotation is.
        geometry: ``"parallel"`` or ``"fan"``.
        pixel_size: side of a pixel.
        detector_spacing: from bin centre to bin centre on the detector; default `pixel_size`, for
            a fan the circle's shadow divided by the number of bins.
        source_distance: fan only, source to rotation centre; default two image diagonals.
        detector_distance: fan only, rotation centre to detector; default `source_distance`.  0 is
            a virtual detector through the centre.
        detector_offset: how far the middle of the detector is shifted along e, a length in the
            unit of `pixel_size`.  Where the rotation axis falls onto column c of the data, as
            other programs say it, this is ``((D - 1) / 2 - c) detector_spacing``.
        centre: of the rotation, ``(row, column)`` in pixels of the image, fractions allowed;
            default its middle, ``((height - 1) / 2, (width - 1) / 2)``.  In a parallel beam a
            centre moved by (rows, columns) is a detector offset of ``columns cos a - rows sin a``
            pixels at angle a.
        angle_offset: degrees that are added to all `angles`.
        storage: ``"matrix"`` keeps the system matrix and its transpose (fast), ``"matrix-free"``
            recomputes the same weights at each call, ``"auto"`` takes the matrix up to 4 GiB in
            float32 and warns beyond.

    Attributes:
        geometry: the checked numbers of the scan, defaults filled in.
        projector: the two products; with a stored matrix, ``projector.pair(dtype, device)``.

    Raises:
        ValueError: sizes or lengths not positive, no angle, a source inside the circle around the
            image, fan distances for a parallel beam, a scan none of whose rays meets the image.

    Warns:
        UserWarning: the default number of bins does not cover the image from this centre.

    Examples:
        >>> scan = ops.Tomography((1, 64, 64), angles=20)
        >>> scan.range_shape
        (1, 20, 91)
        >>> fan = ops.Tomography((1, 64, 64), angles=40, geometry="fan", source_distance=200.0)

    Source: P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images", IEEE
    Trans. Med. Imaging 1, 1982.  Directions are those of ASTRA's 2-D geometries.
    """

    range_name = "sinogram (rows: views, columns: detector bins)"

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        angles: int | Sequence[float] | Tensor,
        detectors: int | None = None,
        *,
        geometry: str = "parallel",
        pixel_size: float = 1.0,
        detector_spacing: float | None = None,
        source_distance: float | None = None,
        detector_distance: float | None = None,
        detector_offset: float = 0.0,
        centre: tuple[float, float] | None = None,
        angle_offset: float = 0.0,
        storage: str = "auto",
        noise: NoiseModel | None = None,
    ):
        self.geometry = scan_geometry(
            image_shape,
            angles,
            detectors,
            geometry,
            pixel_size,
            detector_spacing,
            source_distance,
            detector_distance,
            detector_offset,
            centre,
            angle_offset,
        )
        super().__init__(
            domain_shape=image_shape,
            range_shape=(1, len(self.geometry.angles), self.geometry.detectors),
            noise=noise,
        )
        self.projector = _projector(self.geometry, storage)

    @property
    def angles(self) -> Tensor:
        """In degrees, float64, with the angle offset."""
        return self.geometry.angles

    @property
    def storage(self) -> str:
        """What is used: ``"matrix"`` or ``"matrix-free"``."""
        return self.projector.storage

    def forward(self, x: Tensor) -> Tensor:
        return linear_map(x, self._forward, self._adjoint)

    def adjoint(self, y: Tensor) -> Tensor:
        return linear_map(y, self._adjoint, self._forward)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """Filtered backprojection, in image units: a fast approximate inverse for dense angles.

        With few or missing angles it shows streaks; `least_squares` fits the data better.  See
        `filtered_backprojection` for the weights of irregular angles.
        """
        return filtered_backprojection(y, self.geometry)

    def _forward(self, x: Tensor) -> Tensor:
        return _rows(self.projector.forward(_columns(x)), self.range_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        return _rows(self.projector.adjoint(_columns(y)), self.domain_shape)

    def __repr__(self) -> str:
        beam = "parallel" if self.geometry.source_distance is None else "fan"
        parts = ", ".join([beam, *_alignment(self.geometry), self.storage])
        return f"Tomography({self.domain_shape} -> {self.range_shape}, {parts})"


def _alignment(scan: ScanGeometry) -> list[str]:
    """What differs from a scan around the middle of the image, for `repr`."""
    row, column = scan.centre
    moved = scan.centre != ((scan.height - 1) / 2, (scan.width - 1) / 2)
    found = [f"centre=({row:g}, {column:g})"] if moved else []
    for name in ("detector_offset", "angle_offset"):
        if getattr(scan, name):
            found.append(f"{name}={getattr(scan, name):g}")
    return found


def _columns(values: Tensor) -> Tensor:
    """``(size, batch)``, contiguous."""
    return values.flatten(1).mT.contiguous()


def _rows(columns: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``(batch, *shape)``."""
    return columns.mT.contiguous().reshape(-1, *shape)


def _projector(geometry: ScanGeometry, storage: str) -> StoredMatrix | MatrixFree:
    choice("Tomography", "storage", storage, ("auto", "matrix", "matrix-free"))
    weights = nonzeros(geometry)
    if not weights:
        raise ValueError(
            "Tomography: no ray meets the image; its detector has "
            f"{geometry.detectors} bins, {geometry.detector_spacing:g} apart, around "
            f"{geometry.detector_offset:g}, and the image reaches {geometry.radius:g} from the "
            "centre of rotation. Check detector_offset, centre and the unit of all lengths"
        )
    if storage == "auto":
        size = matrix_bytes(geometry, weights)
        storage = "matrix" if size <= MATRIX_LIMIT else "matrix-free"
        if storage == "matrix-free":
            warn_user(
                f"Tomography: the system matrix and its transpose would take about "
                f"{size / 2**30:.3g} GiB in float32, more than {MATRIX_LIMIT / 2**30:.3g} GiB, so "
                "their weights are recomputed at every call (slower). Say storage='matrix-free' "
                "to accept this without a warning, or storage='matrix' to store them all the same"
            )
    return StoredMatrix(geometry) if storage == "matrix" else MatrixFree(geometry)
