"""Moves that leave ``N(x0; m, V) p(y | x0)`` as it is, for any differentiable likelihood.

Hamiltonian Monte Carlo (Duane et al. 1987) about a Gaussian reference ``N(c, P^-1)``, such as the
Laplace approximation of the target: with P as the mass, the reference's share of the dynamics is a
rotation of position and velocity, done exactly, and only the rest of the force kicks (Shahbaba et
al. 2014; Beskos et al. 2011).  Every move is accepted or refused by the true likelihood, so the
reference, and even the gradient, affect the effort and not the law.

For a linear operator with Gaussian noise the reference is the target: there is no force left to
kick with, and a quarter turn is an independent draw.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.laplace import (
    Reference,
    Target,
    UnitPrecision,
    choose,
    dot,
    laplace,
)
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.streams import Streams

# Moves take these fractions of a quarter turn one after the other: the whole turn suits a good
# reference, less suits a poor one.  They are fixed, because angles that adapt to the acceptance of
# each walker stop adapting where it is stuck, which changes the law: on a staircase likelihood the
# variance came out 40 % too large.
_FRACTIONS = (1.0, 0.3, 0.1)
# An x0 whose energy is this many standard deviations above that of a fresh draw is replaced.
_STALE = 4.0


class Moved(NamedTuple):
    """What the moves led to."""

    x0: Tensor  # (walkers, *shape)
    acceptance: Tensor  # (walkers,), mean probability of moves about the Laplace approximation
    error: float  # of the linear solver's draws, in standard deviations of that approximation


class _Point(NamedTuple):
    """Where the walkers are in the coordinates u."""

    u: Tensor
    velocity: Tensor
    energy: Tensor
    gradient: Tensor


def conditional_moves(
    x0: Tensor | None,
    mean: Tensor,
    covariance: Covariance,
    problem: Problem,
    streams: Streams,
    *,
    moves: int,
    leapfrogs: int,
    newton: int,
) -> Moved:
    """`moves` pairs of Hamiltonian trajectories in every walker's target.

    The first of a pair turns about the Laplace approximation, the second about ``N(m, V)``: where
    the likelihood is a plateau with edges, its curvature says nothing about its width.

    Args:
        x0: where to begin, ``(walkers, *shape)``.  Without it, walkers begin at a draw from the
            Laplace approximation; so does every walker whose x0 is far less likely than such a
            draw.
        mean: m, ``(walkers, *shape)``.
        covariance: V.
        leapfrogs: integrator steps of a trajectory.
        newton: Gauss-Newton steps from m to the centre of the Laplace approximation.
    """
    if covariance.variance.ndim == 0:  # isotropic: take the basis that suits the operator
        covariance = Covariance(problem.basis, covariance.variance)
    target = Target(mean, covariance, problem)
    zero = torch.zeros_like(target.coordinates(mean))
    near, wide = laplace(target, zero, iterations=newton), Reference(zero, UnitPrecision())
    u = near.mode + near.precision.draw(streams, zero)
    point = _Point(u, zero, *_force(target, u))
    if x0 is not None:
        u = target.coordinates(x0)
        kept = _Point(u, zero, *_force(target, u))
        # Energies of samples of the target differ by about sqrt(size); one that is far higher does
        # not belong to a sample.
        stale = kept.energy > point.energy + _STALE * u[0].numel() ** 0.5
        both = zip(point, kept, strict=True)
        point = _Point(*(choose(stale, fresh, old) for fresh, old in both))
    total = mean.new_zeros(len(mean))
    for index in range(moves):
        for reference in (near, wide):
            turn = _FRACTIONS[index % len(_FRACTIONS)] * math.pi / 2
            point, probability = _move(target, reference, point, turn, leapfrogs, streams)
            total += probability if reference is near else 0
    return Moved(target.place(point.u), total / moves, near.precision.error)


def _move(
    target: Target,
    reference: Reference,
    point: _Point,
    turn: float,
    leapfrogs: int,
    streams: Streams,
) -> tuple[_Point, Tensor]:
    """Where the walkers are after a trajectory, accepted or not, and the acceptance probability."""
    point = point._replace(velocity=reference.precision.draw(streams, point.u))
    jitter, level = torch.special.ndtr(streams.normal((2,), like=point.u)).unbind(1)
    end = _trajectory(target, reference, point, turn * (0.8 + 0.4 * jitter) / leapfrogs, leapfrogs)
    gained = _hamiltonian(reference, point) - _hamiltonian(reference, end)
    # It is not a number where the trajectory left the region in which the likelihood is defined.
    probability = gained.nan_to_num(nan=-math.inf).clamp(max=0).exp().to(point.u)
    accepted = level < probability
    chosen = (choose(accepted, new, old) for new, old in zip(end, point, strict=True))
    return _Point(*chosen), probability


def _trajectory(
    target: Target, reference: Reference, point: _Point, turn: Tensor, leapfrogs: int
) -> _Point:
    """Half a kick, a rotation by `turn`, half a kick, `leapfrogs` times."""
    half = turn.reshape(-1, *[1] * (point.u.ndim - 1)) / 2
    cos, sin = (2 * half).cos(), (2 * half).sin()
    u, velocity, energy, gradient = point
    pull = reference.precision.solve(gradient)
    for _ in range(leapfrogs):
        offset = u - reference.mode
        velocity = velocity - half * (pull - offset)
        offset, velocity = cos * offset + sin * velocity, cos * velocity - sin * offset
        u = reference.mode + offset
        energy, gradient = _force(target, u)
        pull = reference.precision.solve(gradient)
        velocity = velocity - half * (pull - offset)
    return _Point(u, velocity, energy, gradient)


def _force(target: Target, u: Tensor) -> tuple[Tensor, Tensor]:
    energy, gradient = target.energy_and_gradient(u)
    # A walker that diverged would stall the solver for all; its energy lets it be refused anyway.
    return energy, gradient.nan_to_num(0.0, 0.0, 0.0)


def _hamiltonian(reference: Reference, point: _Point) -> Tensor:
    kinetic = 0.5 * dot(point.velocity, reference.precision.apply(point.velocity))
    return point.energy + kinetic
