"""The products with Joseph's system matrix: stored, or rebuilt piece by piece at every call.

Both multiply ``(columns, batch)`` operands and use the same weights, so they agree to rounding.
"""

import torch
from torch import Tensor

from .ct_geometry import ScanGeometry
from .joseph import chunks, joseph_rows, nonzeros
from .sparse import nbytes, stack_rows, transpose

# Above this many bytes in float32, matrix and transpose together, `Tomography` does not store them.
MATRIX_LIMIT = 4 * 2**30


def matrix_bytes(geometry: ScanGeometry) -> int:
    """About how much the matrix and its transpose take in float32, told without building them."""
    pixels = geometry.height * geometry.width
    rows = len(geometry.angles) * geometry.detectors
    return 2 * nonzeros(geometry) * (4 + 4) + 4 * (pixels + rows)


class StoredMatrix:
    """The matrix and its transpose, built at first use, one pair a dtype and device."""

    storage = "matrix"

    def __init__(self, geometry: ScanGeometry):
        self._geometry = geometry
        self._pairs: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(x.dtype, x.device)[0] @ x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.pair(y.dtype, y.device)[1] @ y

    def pair(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        key = (dtype, device)
        if key not in self._pairs:
            matrix = stack_rows(
                [
                    joseph_rows(self._geometry, *rays, dtype, device)
                    for rays in chunks(self._geometry)
                ]
            )
            self._pairs[key] = (matrix, transpose(matrix))
        return self._pairs[key]

    def nbytes(self) -> int:
        """What is stored so far."""
        return sum(nbytes(matrix) for pair in self._pairs.values() for matrix in pair)


class MatrixFree:
    """The same products through pieces of the matrix that are built, used and forgotten."""

    storage = "matrix-free"

    def __init__(self, geometry: ScanGeometry):
        self._geometry = geometry

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [
                joseph_rows(self._geometry, *rays, x.dtype, x.device) @ x
                for rays in chunks(self._geometry)
            ]
        )

    def adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(self._geometry.height * self._geometry.width, y.shape[1])
        for first, stop in chunks(self._geometry):
            piece = joseph_rows(self._geometry, first, stop, y.dtype, y.device)
            x = torch.addmm(x, transpose(piece), y[first:stop])
        return x

    def nbytes(self) -> int:
        return 0
