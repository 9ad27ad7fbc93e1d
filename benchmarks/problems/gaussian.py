"""Exact draws of the posterior under a Gaussian model of the images, for linear instruments."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tweedie_inverse.benchmarks.problems.task import Task
from tweedie_inverse.conditional.linear_gaussian import conditional_draw
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.analytic import Gaussian
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.wrapped import WrappedPrior


def posterior_is_known(task: Task, prior: Prior) -> bool:
    """Whether `gaussian_samples` are draws of the true posterior, under white Gaussian noise."""
    return isinstance(_inner(prior), Gaussian) and task.is_linear and task.std is not None


def gaussian_samples(
    y: Tensor,
    task: Task,
    prior: Prior,
    seeds: Sequence[Sequence[int]],
    *,
    noise: float = 1.0,
) -> Tensor:
    """Samples ``(measurements, samples, *shape)``; the mean of the posterior with `noise` 0.

    The covariance is that of a Gaussian prior; for a network it is its denoising error at the
    largest noise level, where it knows nothing but the statistics of the images.

    Args:
        y: measurements ``(measurements, *range_shape)``.
        seeds: for each measurement, the seeds of its samples; as many for each.
    """
    assert task.operator.noise is not None
    each, inner = len(seeds[0]), _inner(prior)
    covariance = (
        inner.covariance if isinstance(inner, Gaussian) else prior.denoising_error(prior.sigma_max)
    )
    problem = Problem(y.repeat_interleave(each, 0), task.operator, task.operator.noise)
    streams = Streams([("gaussian model", seed) for mine in seeds for seed in mine])
    centre = torch.as_tensor(prior.centre).to(y).expand(len(streams), *prior.shape)
    white = noise * streams.normal(prior.shape, like=y)
    error = noise * streams.normal(task.operator.range_shape, like=y)
    draws = conditional_draw(centre, covariance, problem, white, error).x
    return draws.reshape(len(y), each, *prior.shape)


def _inner(prior: Prior) -> Prior:
    return prior.prior if isinstance(prior, WrappedPrior) else prior
