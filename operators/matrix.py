"""A matrix as an operator on vectors."""

import torch
from torch import Tensor

from .base import LinearOperator
from .noise import NoiseModel


class MatrixOperator(LinearOperator):
    """``y = matrix @ x`` for vectors ``(batch, n)``.

    Args:
        matrix: ``(m, n)``.
    """

    def __init__(self, matrix: Tensor, *, noise: NoiseModel | None = None):
        matrix = torch.as_tensor(matrix)
        if matrix.ndim != 2:
            raise ValueError(f"MatrixOperator: needs a matrix (m, n), got {tuple(matrix.shape)}")
        super().__init__(
            domain_shape=(matrix.shape[1],), range_shape=(matrix.shape[0],), noise=noise
        )
        self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.to(x).mT

    def adjoint(self, y: Tensor) -> Tensor:
        return y @ self.matrix.to(y)
