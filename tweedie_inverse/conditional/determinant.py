"""``log det K`` of ``K = I + R V R^T``, where conjugate gradients solve with K.

A dense factor has it exactly; where that would take too long, random probes estimate it.  The draws
and the weights do without it; only the evidence needs it.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.numerics.lanczos import LogTrace, log_trace, signs

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


class _View(NamedTuple):
    """One way to see the determinant: ``constant + tr log M``.

    Attributes:
        name: of the way.
        apply: M.
        probes: signs, in the space of M.
        least: a lower bound of the spectrum of M.
        constant: ``()``.
    """

    name: str
    apply: Callable[[Tensor], Tensor]
    probes: Tensor
    least: float
    constant: Tensor


class EstimatedDeterminant:
    """Of K for any diagonal V, by stochastic Lanczos quadrature.

    Random signs scatter by what is not diagonal in the logarithm, and that differs with the side
    from which K is seen: among coefficients, ``I + V^1/2 R^T R V^1/2``, as it is or with nearly its
    diagonal D taken out, or among data, ``I + R V R^T``.  The first V decides which side it is.
    The probes are the same for every V, so that most of their error drops out of the difference of
    two.

    Args:
        push, pull: R and its transpose, on coefficients ``(probes, *shape)`` and whitened data.
        curvature: the diagonal of ``R^T R``, or nearly so, ``(*shape)``.
        observed: which entries the data have, ``(*range_shape)``, boolean.
    """

    def __init__(
        self,
        push: Callable[[Tensor], Tensor],
        pull: Callable[[Tensor], Tensor],
        curvature: Tensor,
        observed: Tensor,
    ):
        self._push, self._pull, self._curvature = push, pull, curvature
        # Made once: on a device they are sent once.
        self._probes = signs(curvature)
        self._data_probes: Tensor | None = None
        if int(observed.sum()) <= curvature.numel():
            seen = observed.to(curvature)
            self._data_probes = signs(seen) * seen
        self._chosen: str | None = None

    def log(self, variance: Tensor) -> Tensor:
        """``log det K``, ``()`` float64, where V has the diagonal `variance`, one a coefficient."""
        variance = variance.to(self._curvature).reshape_as(self._curvature)
        views = [view for view in self._views(variance) if self._chosen in (None, view.name)]
        found = [log_trace(view.apply, view.probes, view.least) for view in views]
        best = min(range(len(found)), key=lambda place: found[place].error)
        if self._chosen is None and found[best].unsettled:
            warnings.warn(_unsettled(found[best]), RuntimeWarning, stacklevel=2)
        self._chosen = views[best].name
        return views[best].constant + found[best].value.to(variance.device)

    def _views(self, variance: Tensor) -> Iterator[_View]:
        deviation, zero = variance.sqrt(), variance.new_zeros((), dtype=torch.float64)

        def system(q: Tensor) -> Tensor:
            return q + deviation * self._pull(self._push(deviation * q))

        def of_data(z: Tensor) -> Tensor:
            return z + self._push(variance * self._pull(z))

        diagonal = 1 + variance * self._curvature
        root = diagonal.rsqrt()
        constant = diagonal.log().sum(dtype=torch.float64)
        least = 1 / float(diagonal.max())
        yield _View("scaled", lambda q: root * system(root * q), self._probes, least, constant)
        if variance.dtype == torch.float64:  # else rounding blurs what is 1 beside what is large
            yield _View("coefficients", system, self._probes, 1.0, zero)
        if self._data_probes is not None:
            yield _View("data", of_data, self._data_probes, 1.0, zero)


def _unsettled(found: LogTrace) -> str:
    """What is said where the steps ran out."""
    return (
        f"the log evidence is known within {found.unsettled / 2:.2g} nats only, because "
        f"{found.steps} steps of the quadrature of its determinant are too few for data with so "
        "little noise. Samples and weights do not need it, and other random probes do not show it"
    )
