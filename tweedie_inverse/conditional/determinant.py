"""``log det K`` of ``K = I + R V R^T`` by a dense factor, where conjugate gradients solve with K.

The draws and the weights do without it; only the evidence needs it.
"""

import torch
from torch import Tensor

# Multiplications in float64 that one determinant may take: a second on a few CPU cores.  A walk
# takes two at each level.
_MULTIPLICATIONS = 2.5e10
_NUMBERS = 2**26  # of the matrix R: half a gigabyte in float64


def is_affordable(measurements: int, coefficients: int) -> bool:
    """Whether a determinant for so many measurements of so many coefficients is worked out."""
    work = min(_work_on_data(measurements, coefficients), _work_on_image(coefficients))
    return work <= _MULTIPLICATIONS and measurements * coefficients <= _NUMBERS


def _work_on_data(measurements: int, coefficients: int) -> float:
    return measurements**2 * (coefficients + measurements / 3)


def _work_on_image(coefficients: int) -> float:
    return coefficients**3 / 3


class Determinant:
    """Of K for any diagonal V.

    Args:
        matrix: R, ``(measurements, coefficients)``.
    """

    def __init__(self, matrix: Tensor):
        self._matrix = matrix.double()
        self._on_data = _work_on_data(*matrix.shape) <= _work_on_image(matrix.shape[1])
        # det (I + R V R^T) = det (I + V^1/2 R^T R V^1/2), whose R^T R is the same for every V.
        self._square = None if self._on_data else self._matrix.mT @ self._matrix

    def log(self, variance: Tensor) -> Tensor:
        """``log det K``, ``()``, where V has the diagonal `variance`, ``(coefficients,)``."""
        deviations = variance.to(self._matrix).sqrt()
        if self._square is None:
            scaled = self._matrix * deviations
            system = scaled @ scaled.mT
        else:
            system = deviations[:, None] * self._square * deviations
        system.diagonal().add_(1)
        return 2 * torch.linalg.cholesky(system).diagonal().log().sum()
