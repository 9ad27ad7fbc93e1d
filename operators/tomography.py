"""Parallel-beam X-ray transform as a sparse matrix (Joseph 1982); its adjoint is the transpose."""

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import LinearOperator
from .noise import NoiseModel


class Tomography(LinearOperator):
    """Line integrals of an image in units of one pixel side, ``(1, angles, detectors)``.

    A ray at angle a and detector offset t runs along ``x cos a + y sin a = t``, with x to the
    right, y up and the origin in the image centre.

    Args:
        image_shape: ``(1, height, width)``.
        angles: how many, spread evenly over the half turn, or the angles in degrees.
        detectors: how many, one pixel side apart; default covers the image diagonal.
        geometry: ``"parallel"``.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        angles: int | Sequence[float] | Tensor,
        detectors: int | None = None,
        *,
        geometry: str = "parallel",
        noise: NoiseModel | None = None,
    ):
        if geometry != "parallel":
            raise ValueError(
                f"Tomography(geometry={geometry!r}): only 'parallel' exists so far; for a fan beam "
                "rebin to parallel rays or subclass LinearOperator"
            )
        if len(image_shape) != 3 or image_shape[0] != 1:
            raise ValueError(
                f"Tomography(image_shape={tuple(image_shape)}): needs (1, height, width)"
            )
        degrees = angle_list(angles)
        height, width = image_shape[1:]
        detectors = detectors or math.ceil(math.hypot(height, width))
        super().__init__(
            domain_shape=image_shape, range_shape=(1, len(degrees), detectors), noise=noise
        )
        self.angles = degrees
        rows, columns, values = _joseph(height, width, degrees.deg2rad(), detectors)
        size = (len(degrees) * detectors, height * width)
        self._coo = torch.sparse_coo_tensor(
            torch.stack([rows, columns]), values, size, check_invariants=True
        ).coalesce()
        self._pairs: dict[tuple, tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        return self._multiply(self._pair(x)[0], x, self.range_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._multiply(self._pair(y)[1], y, self.domain_shape)

    def _pair(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The matrix and its transpose in compressed rows, one copy a dtype and device."""
        key = (like.dtype, like.device)
        if key not in self._pairs:
            coo = self._coo.to(device=like.device, dtype=like.dtype)
            self._pairs[key] = (_csr(coo), _csr(coo.t().coalesce()))
        return self._pairs[key]

    @staticmethod
    def _multiply(matrix: Tensor, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return (matrix @ x.flatten(1).mT).mT.reshape(x.shape[0], *shape)


def angle_list(angles: int | Sequence[float] | Tensor) -> Tensor:
    """Angles in degrees, float64; a count is spread evenly over [0, 180)."""
    if isinstance(angles, int):
        if angles < 1:
            raise ValueError(f"Tomography(angles={angles}): needs at least one angle")
        return torch.arange(angles, dtype=torch.float64) * (180.0 / angles)
    degrees = torch.as_tensor(angles, dtype=torch.float64)
    if degrees.ndim != 1 or not len(degrees):
        raise ValueError(
            f"Tomography(angles=): needs a count or a list of degrees, got {tuple(degrees.shape)}"
        )
    return degrees


def _joseph(
    height: int, width: int, angles: Tensor, detectors: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Row, column and value of every nonzero.

    A ray crosses each row (or, when it is rather flat, each column) of pixel centres once; its
    value there is interpolated linearly between the two neighbours, times the step length.
    """
    offset = torch.arange(detectors, dtype=torch.float64) - (detectors - 1) / 2
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    y = (height - 1) / 2 - torch.arange(height, dtype=torch.float64)  # up
    parts = []
    for number, angle in enumerate(angles):
        cos, sin = float(angle.cos()), float(angle.sin())
        if abs(cos) >= abs(sin):  # steep: one crossing a row
            crossing = (offset[:, None] - y[None, :] * sin) / cos + (width - 1) / 2
            line, length, size = torch.arange(height).expand_as(crossing), 1 / abs(cos), width
        else:  # flat: one crossing a column
            crossing = (height - 1) / 2 - (offset[:, None] - x[None, :] * cos) / sin
            line, length, size = torch.arange(width).expand_as(crossing), 1 / abs(sin), height
        lower = crossing.floor()
        fraction = crossing - lower
        ray = (number * detectors + torch.arange(detectors))[:, None].expand_as(crossing)
        for place, weight in ((lower.long(), 1 - fraction), (lower.long() + 1, fraction)):
            keep = (place >= 0) & (place < size) & (weight > 0)
            steep = abs(cos) >= abs(sin)
            pixel = line * width + place if steep else place * width + line
            parts.append((ray[keep], pixel[keep], weight[keep] * length))
    rows, columns, values = (torch.cat(part) for part in zip(*parts, strict=True))
    return rows, columns, values


def _csr(coo: Tensor) -> Tensor:
    with warnings.catch_warnings():  # torch tells once a process that CSR tensors are in beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return coo.to_sparse_csr()
