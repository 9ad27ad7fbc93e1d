"""The order of convergence of a walk on a Gaussian prior, from its exact law."""

import torch
from torch import Tensor

from tweedie_inverse.benchmarks.studies.exact_laws import walk_variances
from tweedie_inverse.numerics.schedules import karras


def measured_order(integrator_for, s: Tensor, *, steps: tuple[int, ...]) -> float:
    """Slope of the error at the smallest level against the step length, from an exact start.

    The error is the worst relative error of the variance.  `integrator_for` makes the integrator
    of a grid; the last step, to 0, is left out: its error depends on sigma_min, not on `steps`.
    """
    errors = []
    for count in steps:
        sigmas = karras(count, 0.05, 20.0)
        start = s + float(sigmas[0]) ** 2
        reached = walk_variances(integrator_for(sigmas), sigmas, s, start)[-2]
        errors.append(float((reached / (s + 0.05**2) - 1).abs().max()))
    # karras(count) has count - 1 steps from its first level to its smallest.
    lengths = torch.tensor([1 / (count - 1) for count in steps], dtype=torch.float64).log()
    heights = torch.tensor(errors, dtype=torch.float64).log()
    lengths, heights = lengths - lengths.mean(), heights - heights.mean()
    return float((lengths * heights).sum() / lengths.square().sum())
