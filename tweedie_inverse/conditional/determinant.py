"""``log det K`` of ``K = I + R V R^T``, where conjugate gradients solve with K.

A dense factor has it exactly; where that would take too long, random probes estimate it.  The draws
and the weights do without it; only the evidence needs it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tweedie_inverse.numerics.lanczos import log_trace, signs

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


class EstimatedDeterminant:
    """Of K for any diagonal V, by stochastic Lanczos quadrature.

    ``log det K = log det D + tr log (D^-1/2 M D^-1/2)`` with ``M = I + V^1/2 R^T R V^1/2`` and D
    nearly its diagonal: the probes are random signs of coefficients, and what is diagonal costs
    them no error.  They are the same for every V, so that most of their error drops out of the
    difference of two.

    Args:
        normal: ``R^T R``, on coefficients ``(probes, *shape)``.
        curvature: its diagonal, or nearly so, ``(*shape)``.
    """

    def __init__(self, normal: Callable[[Tensor], Tensor], curvature: Tensor):
        self._normal, self._curvature = normal, curvature
        self._probes = signs(curvature)  # once: on a device they are sent once

    def log(self, variance: Tensor) -> Tensor:
        """``log det K``, ``()`` float64, where V has the diagonal `variance`, one a coefficient."""
        variance = variance.to(self._curvature).reshape_as(self._curvature)
        diagonal = 1 + variance * self._curvature
        weight, deviation = diagonal.rsqrt(), variance.sqrt()

        def system(q: Tensor) -> Tensor:
            q = weight * q
            return weight * (q + deviation * self._normal(deviation * q))

        rest = log_trace(system, self._probes).value
        return diagonal.log().sum(dtype=torch.float64) + rest.to(diagonal.device)
