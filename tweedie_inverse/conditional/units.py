"""Draws and pulls where each walker has its own noise level: images are counted in units of it.

With ``x = s u``, s the noise level of a walker, ``y = A x + s n`` is ``y / s = A u + n``: the same
operator and the same unit noise for all walkers, and the noise level has gone into the covariance
``V / s^2`` of u.  So a spectrum, a preconditioner and a Cholesky block serve all noise levels.
"""

from dataclasses import replace

from torch import Tensor

from tweedie_inverse.conditional.linear_gaussian import (
    Draw,
    Pull,
    conditional_draw,
    pull_of_data,
)
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance


def in_units(covariance: Covariance, problem: Problem) -> Covariance:
    """The covariance of images counted in ``problem.unit``, one for each walker.

    What tells a shared covariance, which few measurements let be factored, from those of walkers
    is this axis; so it is made where the operators differ, too.
    """
    if covariance.variance.ndim == 0:  # isotropic: take the basis that suits the operator
        covariance = replace(covariance, basis=problem.basis)
    unit = problem.y.new_ones(len(problem.y)) if problem.unit is None else problem.unit
    zeros = problem.y.new_zeros((1, *problem.operator.domain_shape))
    axes = covariance.basis.transform(zeros).ndim - 1
    squared = unit.double().square().reshape(-1, *[1] * axes)
    return replace(covariance, variance=covariance.variance.to(squared) / squared)


def draw(
    mean: Tensor,
    covariance: Covariance,
    problem: Problem,
    prior_noise: Tensor,
    data_noise: Tensor,
    *,
    noise_after: float = 0.0,
    start: Tensor | None = None,
) -> Draw:
    """`conditional_draw`, with images in data units.

    Where walkers have units of their own it is solved as exactly as at a last level.
    """
    unit = problem.unit
    if unit is not None or problem.differs:
        covariance = in_units(covariance, problem)
    found = conditional_draw(
        mean if unit is None else mean / unit,
        covariance,
        problem,
        prior_noise,
        data_noise,
        noise_after=noise_after if unit is None else 0.0,
        start=start,
    )
    return found if unit is None else found._replace(x=found.x * unit)


def pull(mean: Tensor, covariance: Covariance, problem: Problem) -> Pull:
    """`pull_of_data`, with images in data units."""
    if problem.unit is None:
        covariance = in_units(covariance, problem) if problem.differs else covariance
        return pull_of_data(mean, covariance, problem)
    found = pull_of_data(mean / problem.unit, in_units(covariance, problem), problem)
    return Pull(found.direction / problem.unit, found.change * problem.unit, found.start)
