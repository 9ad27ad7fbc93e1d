"""The linear systems of a draw, ``(T^-2 + W^T W) q = rhs``, as conjugate gradients take them.

``V = F T^2 F^T`` is the covariance and ``W = S^-1/2 A F``.  Where all channels are measured alike
and V mixes them at most, every channel of every walker is a system of its own.  Of a photograph the
differences of colours vary little and are found in a few iterations, brightness takes many; the
channels that are done need not be transformed any more.
"""

import math
from typing import NamedTuple, Protocol

from torch import Tensor

from tweedie_inverse.conditional.preconditioner import (
    OfPlanes,
    Preconditioner,
    all_planes,
    preconditioner,
)
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.krylov import Systems
from tweedie_inverse.numerics.residence import derived, resident
from tweedie_inverse.numerics.spectral import Basis

# Share of the coefficients that count as not hidden however large the noise is.
_FEWEST_SEEN = 0.1


def _inverse_square(std: Tensor) -> Tensor:
    return std.reshape(()) ** -2


class Measure(NamedTuple):
    """How the error of a solution counts, where white noise is added to the draw.

    An error d of a coefficient counts as ``d^2 / (posterior variance + noise^2)``, and the mean
    goes over the coefficients that the noise does not hide.
    """

    weights: Tensor
    size: Tensor  # (systems,)


class Made(Protocol):
    """Systems of one solve."""

    rhs: Tensor

    def measure(self, noise_after: float) -> Measure: ...

    def systems(self, weights: Tensor | None) -> Systems: ...

    def of_walkers(self, q: Tensor) -> Tensor: ...

    def of_systems(self, q: Tensor) -> Tensor: ...


def made(problem: Problem, covariance: Covariance, residual: Tensor) -> Made:
    """The systems whose right-hand side pulls a whitened residual back."""
    pulled = pull(problem, covariance, residual)
    near = preconditioner(problem, covariance, pulled)
    scale = covariance.scale
    is_planar = (
        problem.is_planar
        and covariance.basis.unmixed().is_planar
        and not covariance.secants
        and (scale is None or (scale.ndim == 4 and scale.shape[1] == 1))
    )
    kind = Planes if is_planar else Walkers
    return kind(problem, covariance, near, pulled)


def pull(problem: Problem, covariance: Covariance, z: Tensor) -> Tensor:
    """``W^T z``, coefficients."""
    back = problem.adjoint(problem.gaussian_noise.whiten_transposed(z))
    return covariance.filter_transposed(back)


class Walkers:
    """One system a walker."""

    def __init__(self, problem: Problem, covariance: Covariance, near: Preconditioner, rhs: Tensor):
        self._problem, self._covariance, self._near, self.rhs = problem, covariance, near, rhs

    def measure(self, noise_after: float) -> Measure:
        v = resident(self._covariance.variance, self.rhs)
        weights = v / (v * self._near.diagonal + noise_after**2)
        seen = (v / (v + noise_after**2)).expand_as(self.rhs).flatten(1).mean(1)
        return Measure(weights, seen.clamp(min=_FEWEST_SEEN) * math.prod(self.rhs.shape[1:]))

    def systems(self, weights: Tensor | None) -> Systems:
        return Systems(self._apply, self._near.apply, weights)

    def of_walkers(self, q: Tensor) -> Tensor:
        return q

    def of_systems(self, q: Tensor) -> Tensor:
        return q

    def _apply(self, q: Tensor) -> Tensor:
        return self._covariance.precision(q) + self._measured(q)

    def _measured(self, q: Tensor) -> Tensor:
        """``W^T W q``."""
        problem, noise = self._problem, self._problem.gaussian_noise
        image = self._covariance.filter(q)
        if not noise.is_white:
            return pull(problem, self._covariance, noise.whiten(problem.forward(image)))
        back = problem.normal(image) * derived(resident(noise.std, q), _inverse_square)
        return self._covariance.filter_transposed(back)


class Planes:
    """One system a channel of a walker, ``(planes, 1, height, width)``."""

    def __init__(self, problem: Problem, covariance: Covariance, near: Preconditioner, rhs: Tensor):
        self._problem, self._covariance, self._near = problem, covariance, near
        self._shape, self._places = rhs.shape, all_planes(rhs)
        self.rhs = self.of_systems(rhs)

    def measure(self, noise_after: float) -> Measure:
        v = resident(self._covariance.variance, self.rhs).expand(self._shape)
        weights = v / (v * self._near.diagonal + noise_after**2)
        seen = (v / (v + noise_after**2)).mean((-2, -1)).flatten()
        size = seen.clamp(min=_FEWEST_SEEN) * math.prod(self._shape[-2:])
        return Measure(self.of_systems(weights), size)

    def systems(self, weights: Tensor | None) -> Systems:
        walker, channel = self._places
        covariance, walkers = self._covariance, self._shape[0]
        deviation, precision = covariance.deviation(self.rhs).expand(self._shape), None
        if covariance.scale is not None:
            scale = resident(covariance.scale, self.rhs)
            precision = scale.expand(walkers, *scale.shape[1:])[walker] ** -2
        return _Some(
            self._problem,
            covariance.basis.unmixed(),
            deviation[walker, channel][:, None],
            precision,
            self._near.of_planes(walker, channel, walkers),
            weights,
        ).systems()

    def of_walkers(self, q: Tensor) -> Tensor:
        return q.reshape(self._shape)

    def of_systems(self, q: Tensor) -> Tensor:
        return q.flatten(0, 1)[:, None]


class _Some(NamedTuple):
    """Some channels of some walkers, ``(planes, 1, height, width)`` all."""

    problem: Problem
    basis: Basis
    deviation: Tensor
    precision: Tensor | None  # T^-2, of the image
    near: OfPlanes
    weights: Tensor | None

    def systems(self) -> Systems:
        return Systems(
            self.apply, self.near.apply, self.weights, lambda kept: self.of(kept).systems()
        )

    def of(self, kept: Tensor) -> "_Some":
        return self._replace(
            deviation=self.deviation[kept],
            precision=None if self.precision is None else self.precision[kept],
            near=self.near.of(kept),
            weights=None if self.weights is None else self.weights[kept],
        )

    def apply(self, q: Tensor) -> Tensor:
        image = self.basis.inverse(q * self.deviation)
        back = self.problem.normal_of_planes(image)
        std = self.problem.gaussian_noise.std
        back = back * derived(resident(std, q), _inverse_square)
        measured = self.basis.transform(back).mul_(self.deviation)
        if self.precision is None:
            return measured.add_(q)
        return measured.add_(self.basis.transform(self.basis.inverse(q) * self.precision))
