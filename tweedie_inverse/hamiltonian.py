"""Moves that leave ``N(x0; m, V) p(y | x0)`` as it is, for any differentiable likelihood.

Hamiltonian Monte Carlo (Duane et al. 1987) about a Gaussian reference ``N(c, P^-1)``, the Laplace
approximation of the target: with P as the mass, the reference's share of the dynamics is a rotation
of position and velocity, done exactly, and only the rest of the force kicks (Shahbaba et al. 2014;
Beskos et al. 2011).  Every move is accepted or refused by the true likelihood, so the reference,
and even the gradient, affect the effort and not the law.

For a linear operator with Gaussian noise the reference is the target: nothing kicks, and a quarter
turn is an independent draw.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from operators.random import Streams

from .covariance import Covariance
from .laplace import Reference, Target, choose, dot, laplace
from .problem import Problem

# Moves take these fractions of a quarter turn in rotation: the whole where the reference is good,
# less where it is not.  They are fixed because angles that follow each walker's own acceptance
# settle where it is stuck, and change the law: 40 % too much variance on a staircase likelihood.
_FRACTIONS = (1.0, 0.3, 0.1)


class Moved(NamedTuple):
    """``x0 (walkers, *shape)`` after the moves, and the share of them that was accepted."""

    x0: Tensor
    acceptance: Tensor  # (walkers,)


class _Point(NamedTuple):
    """A walker: position, velocity, U, and ``P^-1`` times the gradient of U."""

    u: Tensor
    velocity: Tensor
    energy: Tensor
    pull: Tensor


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
    """`moves` Hamiltonian trajectories of `leapfrogs` steps in every walker's target.

    Args:
        x0: where to begin, ``(walkers, *shape)``; None draws from the reference.
        mean: m, ``(walkers, *shape)``.
        covariance: V.
        newton: Gauss-Newton steps from m to the reference's centre.
    """
    if covariance.variance.ndim == 0:  # isotropic: take the basis that suits the operator
        covariance = Covariance(problem.basis, covariance.variance)
    target = Target(mean, covariance, problem)
    reference = laplace(target, target.coordinates(mean), iterations=newton)
    if x0 is None:
        u = reference.mode + reference.curvature.draw(streams, mean)
    else:
        u = target.coordinates(x0)
    point = _at(target, reference, u, torch.zeros_like(u))
    total = mean.new_zeros(len(mean))
    for index in range(moves):
        point = point._replace(velocity=reference.curvature.draw(streams, u))
        jitter, level = torch.special.ndtr(streams.normal((2,), like=mean)).unbind(1)
        turn = _FRACTIONS[index % len(_FRACTIONS)] * math.pi / 2 * (0.8 + 0.4 * jitter)
        end = _trajectory(target, reference, point, turn / leapfrogs, leapfrogs)
        gained = _hamiltonian(reference, point) - _hamiltonian(reference, end)
        # Not a number: the trajectory left the region where the likelihood is defined.
        probability = gained.nan_to_num(nan=-math.inf).clamp(max=0).exp().to(mean)
        accepted = level < probability
        point = _Point(*(choose(accepted, new, old) for new, old in zip(end, point, strict=True)))
        total += probability
    return Moved(target.place(point.u), total / moves)


def _trajectory(
    target: Target, reference: Reference, point: _Point, turn: Tensor, leapfrogs: int
) -> _Point:
    """Half a kick, a rotation by `turn`, half a kick, `leapfrogs` times."""
    half = turn.reshape(-1, *[1] * (point.u.ndim - 1)) / 2
    cos, sin, mode = (2 * half).cos(), (2 * half).sin(), reference.mode
    for _ in range(leapfrogs):
        offset = point.u - mode
        velocity = point.velocity - half * (point.pull - offset)
        u = mode + cos * offset + sin * velocity
        velocity = cos * velocity - sin * offset
        point = _at(target, reference, u, velocity)
        point = point._replace(velocity=velocity - half * (point.pull - (u - mode)))
    return point


def _at(target: Target, reference: Reference, u: Tensor, velocity: Tensor) -> _Point:
    energy, gradient = target.energy_and_gradient(u)
    # A walker that flew off would stall the solver for all; it is refused by its energy anyway.
    gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
    return _Point(u, velocity, energy, reference.curvature.solve(gradient))


def _hamiltonian(reference: Reference, point: _Point) -> Tensor:
    kinetic = 0.5 * dot(point.velocity, reference.curvature.apply(point.velocity))
    return point.energy + kinetic
