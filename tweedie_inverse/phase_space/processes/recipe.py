"""The complete recipe with constant matrices: every linear process that converges to a Gaussian.

Pandey and Mandt 2023, equations 2 to 5, after Ma, Chen and Fox 2015: with D positive semidefinite,
Q skew and S a covariance,

    dz = beta(t) F z dt + sqrt(2 beta(t) D) dw,    F = -(D + Q) S^-1

leaves ``N(0, S)`` as it is, and every linear process with that stationary law has this form.  The
matrices act on the *phases* of one pixel, position and auxiliary variables, and are the same for
all pixels.  With ``b = integral of beta``, the kernel is

    z_t | z_s ~ N(expm(F b) z_s, S - expm(F b) S expm(F b)^T).

Everything here is float64: at small times the covariance is a difference of nearly equal numbers.
The variance-exploding process has no such S (its F is 0): it is a variance-preserving one in
rescaled coordinates, ``x_VE = x_VP / alpha``.  Sub-VP is no instance: its noise is not the D that
its drift asks for, at any finite time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import instance, number
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.phase_space.processes.checks import (
    check_matrices,
    checked_time,
    float64,
    refuse_no_decay,
    rows,
)
from tweedie_inverse.phase_space.processes.observation import Observation, observation

# Smallest time that noise levels are looked up at.
LEAST_TIME = 1e-6
# Each makes an interval of 2.7 % in time about a thousand times shorter.
_REFINEMENTS = 5

# Maps b (...) to expm(F b) - 1 (..., k, k), without cancellation at small b; b may be negative.
Growth = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rate:
    """``beta(t) = first + t (last - first)`` for t from 0 to 1, per unit of time."""

    first: float = 8.0
    last: float = 8.0

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            number("Rate", name, getattr(self, name), low=0, need="a number beta >= 0")
        if not (self.first >= 0 and self.last >= 0 and self.first + self.last > 0):
            raise ValueError(
                f"Rate({self.first}, {self.last}): needs beta >= 0, and not 0 throughout"
            )

    def at(self, t: float | Tensor) -> Tensor:
        """beta(t)."""
        return self.first + float64(t) * (self.last - self.first)

    def total(self, t: float | Tensor) -> Tensor:
        """``b(t)``, the integral of beta from 0 to t."""
        t = float64(t)
        return self.first * t + (self.last - self.first) * t**2 / 2

    def between(self, s: float | Tensor, t: float | Tensor) -> Tensor:
        """The integral from s to t, negative where t < s; exact where they are close."""
        s, t = float64(s), float64(t)
        return (t - s) * (self.first + (self.last - self.first) * (s + t) / 2)


class Transition(NamedTuple):
    """``z' | z ~ N(matrix z, covariance)`` for the phases of a pixel; both ``(..., k, k)``."""

    matrix: Tensor
    covariance: Tensor


@dataclass(frozen=True, eq=False)
class LinearProcess:
    """A forward process of k phases a pixel; phase 0 is the image, the others start from noise.

    Attributes:
        diffusion: D ``(k, k)``, symmetric, positive semidefinite.
        rotation: Q ``(k, k)``, skew.
        stationary: S ``(k, k)``, the covariance at the end, positive definite.
        rate: beta(t), multiplies D and Q.
        start: ``(k, k)``, covariance of the phases at t = 0 given the image: 0 in row and column
            0.  Default 0.
        growth: the closed form of ``expm(F b) - 1``, where one is known; default by matrix
            exponential.
        name: for messages and cards.

    Raises:
        ValueError: the matrices break a condition of the recipe, or the process never forgets its
            start (an eigenvalue of F that does not decay).
    """

    diffusion: Tensor
    rotation: Tensor
    stationary: Tensor
    rate: Rate = field(default_factory=Rate)
    start: Tensor | None = None
    growth: Growth | None = None
    name: str = "linear"

    def __post_init__(self) -> None:
        instance("LinearProcess", "rate", self.rate, Rate, need="Rate(first, last)")
        for label in ("diffusion", "rotation", "stationary"):
            given = real_tensor("LinearProcess", label, getattr(self, label))
            object.__setattr__(self, label, float64(given))
        check_matrices(self.diffusion, self.rotation, self.stationary, self.initial)
        refuse_no_decay("LinearProcess", self.drift)

    @property
    def phases(self) -> int:
        """k, 1 where there is nothing but the image."""
        return len(self.stationary)

    @cached_property
    def initial(self) -> Tensor:
        """`start`, or zeros, ``(k, k)``."""
        return torch.zeros_like(self.stationary) if self.start is None else float64(self.start)

    @cached_property
    def drift(self) -> Tensor:
        """F ``(k, k)``, per unit of b."""
        return -torch.linalg.solve(self.stationary, self.diffusion - self.rotation).mT

    @cached_property
    def noise(self) -> Tensor:
        """G ``(k, k)`` with ``G G^T = 2 D``, per unit of b."""
        values, vectors = torch.linalg.eigh(2 * self.diffusion)
        return vectors * values.clamp(min=0).sqrt() @ vectors.mT

    def transition(self, b: float | Tensor) -> Transition:
        """The kernel over an amount `b` ``(...)`` of integrated rate, ``b >= 0``."""
        b = float64(b)
        if bool((b < 0).any()):
            raise ValueError(
                f"LinearProcess.transition(b={float(b.min()):.3g}): a kernel runs forward in time; "
                "the reverse process needs a score (ti.phase_space.sample)"
            )
        return self._transition(self._growth(b))

    def between(self, s: float | Tensor, t: float | Tensor) -> Transition:
        """The kernel from time s to time t >= s."""
        return self.transition(self.rate.between(s, t))

    def matrix(self, b: float | Tensor) -> Tensor:
        """``expm(F b)`` ``(..., k, k)``, for b of either sign."""
        growth = self._growth(float64(b))
        return growth + torch.eye(self.phases, dtype=torch.float64)

    def given_image(self, t: float | Tensor) -> Observation:
        """``p(z_t | x0)``, the other phases at t = 0 marginalized (hybrid score matching).

        Raises:
            ValueError: t is outside (0, 1].
        """
        t = checked_time(t)
        matrix, covariance = self.between(torch.zeros_like(t), t)
        return observation(matrix[..., 0], covariance + _sandwich(matrix, self.initial), t)

    def given_state(self, t: float | Tensor) -> Observation:
        """``p(z_t | z_0)`` of all phases (plain score matching); its direction is that of x0."""
        t = checked_time(t)
        matrix, covariance = self.between(torch.zeros_like(t), t)
        return observation(matrix[..., 0], covariance, t)

    def time_of(self, sigma: float | Tensor) -> Tensor:
        """The times ``(...)`` at which the effective noise level is `sigma`.

        By false position in logarithms, where level and time are nearly proportional.

        Raises:
            ValueError: the process never has this level.
        """
        sigma = float64(sigma)
        times, levels = self._levels
        low, high = float(levels[0]), float(levels[-1])
        # A grid made from the process's own range may leave it by rounding.
        outside = (sigma < low * (1 - 1e-6)) | (sigma > high * (1 + 1e-6))
        if bool(outside.any()):
            bad = float(sigma[outside].flatten()[0]) if sigma.ndim else float(sigma)
            raise ValueError(
                f"the {self.name} process has noise levels from {low:.3g} to {high:.3g} in its own "
                f"units, never {bad:.4g}"
            )
        # All images of a batch often share one level.
        unique, inverse = torch.unique(sigma.clamp(low, high), return_inverse=True)
        right = torch.searchsorted(levels, unique).clamp(1, len(levels) - 1)
        ends = times[right - 1].log(), times[right].log()
        heights = levels[right - 1].log() - unique.log(), levels[right].log() - unique.log()
        for _ in range(_REFINEMENTS):
            gap = heights[0] - heights[1]
            share = torch.where(gap == 0, 0.5, heights[0] / gap).clamp(0, 1)  # 0: found
            middle = torch.lerp(*ends, share)
            height = self.given_image(middle.exp()).sigma.log() - unique.log()
            above = height > 0
            ends = torch.where(above, ends[0], middle), torch.where(above, middle, ends[1])
            heights = torch.where(above, heights[0], height), torch.where(above, height, heights[1])
        return middle.exp()[inverse]

    @cached_property
    def _levels(self) -> tuple[Tensor, Tensor]:
        """Times, and the effective noise levels there, which rise: noise is added all the time."""
        times = torch.logspace(math.log10(LEAST_TIME), 0, 512, dtype=torch.float64).clamp(max=1)
        return times, self.given_image(times).sigma

    def opposed(self) -> "LinearProcess":
        """The process with Q negated: its reverse in time, at stationarity."""
        inverse = torch.linalg.inv(self.stationary)

        def growth(b: Tensor) -> Tensor:  # (D - Q) = (D + Q)^T, so F becomes S F^T S^-1
            return self.stationary @ self._growth(b).mT @ inverse

        return replace(self, rotation=-self.rotation, growth=growth)

    def by_matrix_exponential(self) -> "LinearProcess":
        """The same process without its closed form."""
        return replace(self, growth=None)

    def _growth(self, b: Tensor) -> Tensor:
        return _expm1(self.drift, b) if self.growth is None else self.growth(b)

    def _transition(self, growth: Tensor) -> Transition:
        """``S - (1 + P) S (1 + P)^T`` expanded, so that S itself never enters."""
        once = growth @ self.stationary
        covariance = -(once + once.mT + _sandwich(growth, self.stationary))
        matrix = growth + torch.eye(self.phases, dtype=torch.float64)
        return Transition(matrix, (covariance + covariance.mT) / 2)


def act(matrix: Tensor, z: Tensor) -> Tensor:
    """Matrices ``(k, k)`` or ``(batch, k, k)`` on the phases of ``(batch, k, *shape)``."""
    matrix = matrix.to(z)
    return (matrix @ z.flatten(2)).reshape(len(z), -1, *z.shape[2:])


def from_sde(
    drift: Tensor, noise: Tensor, *, stationary: Tensor | None = None, rate: Rate | None = None
) -> LinearProcess:
    """The recipe of a linear SDE ``dz = beta F z dt + sqrt(beta) G dw``.

    ``D = G G^T / 2`` and ``Q = -F S - D``, which is skew exactly if ``F S + S F^T + G G^T = 0``.

    Args:
        drift: F ``(k, k)``, all eigenvalues with a negative real part.
        noise: G ``(k, any)``.
        stationary: S ``(k, k)``; None solves the Lyapunov equation for it.

    Raises:
        ValueError: F does not decay, or S is not stationary under F and G; the message says by
            how much.
    """
    drift = float64(real_tensor("from_sde", "drift", drift))
    noise = float64(real_tensor("from_sde", "noise", noise))
    if drift.ndim != 2 or len({*drift.shape, *noise.shape[:1]}) != 1 or noise.ndim != 2:
        raise ValueError(
            f"from_sde: needs drift (k, k) and noise (k, any), got {tuple(drift.shape)} and "
            f"{tuple(noise.shape)}"
        )
    refuse_no_decay("from_sde", drift)
    square = noise @ noise.mT
    if stationary is None:
        from scipy.linalg import solve_continuous_lyapunov

        stationary = torch.from_numpy(solve_continuous_lyapunov(drift.numpy(), -square.numpy()))
        stationary = (stationary + stationary.mT) / 2
    stationary = float64(real_tensor("from_sde", "stationary", stationary))
    residual = drift @ stationary + stationary @ drift.mT + square
    scale = max(float(square.abs().max()), float((drift @ stationary).abs().max()))
    if float(residual.abs().max()) > 1e-6 * scale:
        raise ValueError(
            "from_sde: the given covariance is not stationary: F S + S F^T + G G^T should be 0, "
            f"but is {rows(residual)}. Leave stationary= out to have it computed, or mend F or G"
        )
    diffusion = square / 2
    rotation = -(drift @ stationary) - diffusion
    rotation = (rotation - rotation.mT) / 2  # what is left of the symmetric part is rounding
    return LinearProcess(diffusion, rotation, stationary, Rate() if rate is None else rate)


def _expm1(matrix: Tensor, b: Tensor) -> Tensor:
    """``expm(M b) - 1 = M b phi(M b)``; phi is a block of a larger exponential."""
    size = len(matrix)
    scaled = matrix * b[..., None, None]
    eye = torch.eye(size, dtype=torch.float64).expand(*b.shape, size, size)
    zero = torch.zeros_like(scaled)
    block = torch.cat([torch.cat([scaled, eye], -1), torch.cat([zero, zero], -1)], -2)
    return scaled @ torch.linalg.matrix_exp(block)[..., :size, size:]


def _sandwich(matrix: Tensor, middle: Tensor) -> Tensor:
    return matrix @ middle @ matrix.mT
