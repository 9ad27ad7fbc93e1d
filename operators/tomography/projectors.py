"""The products with Joseph's system matrix: stored, or rebuilt piece by piece at every call.

Both multiply ``(columns, batch)`` operands and use the same weights, so they agree to rounding.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.numerics.sparse import nbytes, stack_rows, transpose
from tweedie_inverse.operators.tomography.geometry import ScanGeometry
from tweedie_inverse.operators.tomography.joseph import (
    chunks,
    joseph_columns,
    joseph_rows,
    joseph_weights,
    nonzeros,
)

# Above this many bytes in float32, matrix and transpose together, `Tomography` does not store them.
MATRIX_LIMIT = 4 * 2**30


def matrix_bytes(geometry: ScanGeometry, weights: int | None = None) -> int:
    """About how many bytes the matrix and its transpose take in float32, without building them.

    Args:
        weights: the `nonzeros` of the geometry, where they are known.
    """
    pixels = geometry.height * geometry.width
    rows = len(geometry.angles) * geometry.detectors
    weights = nonzeros(geometry) if weights is None else weights
    return 2 * weights * (4 + 4) + 4 * (pixels + rows)


class StoredMatrix:
    """The matrix and its transpose, built at first use, a pair for each dtype and device."""

    storage = "matrix"

    def __init__(self, geometry: ScanGeometry):
        self._geometry = geometry
        self._pairs: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A copy builds its own: torch has no deep copy of compressed rows.
        return {**vars(self), "_pairs": {}}

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
        """Bytes that are stored so far."""
        return sum(nbytes(matrix) for pair in self._pairs.values() for matrix in pair)


class MatrixFree:
    """The same products from weights that are computed, used and forgotten, chunk by chunk."""

    storage = "matrix-free"

    def __init__(self, geometry: ScanGeometry):
        self._geometry = geometry

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for rays in chunks(self._geometry):
            pixel, weight, _ = joseph_weights(self._geometry, *rays, x.dtype, x.device)
            parts.append(F.embedding_bag(pixel, x, mode="sum", per_sample_weights=weight))
        return torch.cat(parts)

    def adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(self._geometry.height * self._geometry.width, y.shape[1])
        for first, stop in chunks(self._geometry):
            piece = joseph_columns(self._geometry, first, stop, y.dtype, y.device)
            x = torch.addmm(x, piece, y[first:stop])
        return x

    def nbytes(self) -> int:
        return 0
