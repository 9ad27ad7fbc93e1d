"""A matrix as an operator on vectors."""

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.boundary.arrays import real_tensor, tensor_of
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.numerics.spectral import Dense, Spectrum
from tweedie_inverse.operators.base import LinearOperator
from tweedie_inverse.operators.noise.base import NoiseModel

# A decomposition of more columns than this takes minutes; the walks then iterate instead.
_LARGEST_DECOMPOSED = 4096


class MatrixOperator(LinearOperator):
    """``y = matrix @ x`` for vectors ``(batch, n)``.

    Args:
        matrix: ``(m, n)``.
    """

    def __init__(self, matrix: Tensor, *, noise: NoiseModel | None = None):
        matrix = tensor_of("MatrixOperator", "matrix", matrix)
        if matrix.is_complex():
            raise TypeError(
                "MatrixOperator(matrix=): needs real numbers; ops.from_scipy takes a complex "
                "matrix, whose measurements are real parts, then imaginary parts"
            )
        matrix = real_tensor("MatrixOperator", "matrix", matrix)
        if matrix.ndim != 2:
            raise ValueError(f"MatrixOperator: needs a matrix (m, n), got {tuple(matrix.shape)}")
        super().__init__(
            domain_shape=(matrix.shape[1],), range_shape=(matrix.shape[0],), noise=noise
        )
        self.matrix = matrix

    @cached_property
    def _decomposition(self) -> Spectrum:
        modes, values, basis = torch.linalg.svd(self.matrix.double(), full_matrices=True)
        rank = int((values > 1e-13 * values.max()).sum())
        modes, unseen = modes[:, :rank], (0, basis.shape[0] - rank)
        return Spectrum(
            Dense(basis.mT, self.domain_shape),
            F.pad(values[:rank], unseen),
            to_modes=lambda y: F.pad(y @ resident(modes, y), unseen),
            from_modes=lambda c: c[:, :rank] @ resident(modes, c).mT,
        )

    @property
    def spectrum(self) -> Spectrum | None:
        return self._decomposition if max(self.matrix.shape) <= _LARGEST_DECOMPOSED else None

    def forward(self, x: Tensor) -> Tensor:
        return x @ resident(self.matrix, x).mT

    def adjoint(self, y: Tensor) -> Tensor:
        return y @ resident(self.matrix, y)
