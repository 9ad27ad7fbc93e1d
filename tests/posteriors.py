"""Closed-form posteriors, and the z-scores that hold samples against them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops


class Moments(NamedTuple):
    """Mean ``(n,)`` and covariance ``(n, n)`` of a flattened posterior, float64."""

    mean: Tensor
    covariance: Tensor


def random_field(size: int = 16) -> ti.priors.Gaussian:
    """Periodic field, spectrum ``1 / (f^2 + 0.0375^2)^1.3``, pixel variance 0.25, zero mean.

    Its largest and smallest variances differ by a factor of 1000: a wrong step at large or at
    small noise levels shows.
    """
    f = torch.fft.fftfreq(size, dtype=torch.float64)
    spectrum = (f[:, None] ** 2 + f**2 + 0.0375**2) ** -1.3
    spectrum *= 0.25 / spectrum.mean()
    zero = torch.zeros(1, size, size, dtype=torch.float64)
    return ti.priors.Gaussian(zero, power_spectrum=spectrum)


def prior_covariance(prior: ti.priors.Gaussian) -> Tensor:
    """Dense covariance ``(n, n)``."""
    n = prior.mean.numel()
    units = torch.eye(n, dtype=torch.float64).reshape(n, *prior.shape)
    return prior.covariance.apply(units).reshape(n, n)


def gaussian_posterior(
    prior: ti.priors.Gaussian, operator: ops.LinearOperator, y: Tensor, std: float
) -> Moments:
    """The textbook formula, with dense matrices."""
    matrix, covariance = ops.dense_matrix(operator), prior_covariance(prior)
    system = matrix @ covariance @ matrix.mT + std**2 * torch.eye(len(matrix)).double()
    gain = torch.linalg.solve(system, matrix @ covariance).mT
    mean = prior.mean.double().flatten()
    mean = mean + gain @ (y.double().flatten() - matrix @ mean)
    return Moments(mean, covariance - gain @ matrix @ covariance)


class Agreement(NamedTuple):
    """Samples against exact moments.

    `mean_error`: squared error of the mean over the posterior trace.  `variance_ratio`: trace of
    the sample covariance over the exact one.  `worst_z`: largest z-score of mean and variance
    along the posterior's principal axes.
    """

    mean_error: float
    variance_ratio: float
    worst_z: float


def agreement(samples: Tensor, exact: Moments) -> Agreement:
    """Compare ``(count, *shape)`` samples with the exact posterior."""
    flat = samples.double().flatten(1)
    count = len(flat)
    variances, axes = torch.linalg.eigh(exact.covariance)
    keep = variances > 1e-9 * variances.max()
    centred = (flat - exact.mean) @ axes[:, keep]
    mean_z = centred.mean(0) / (variances[keep] / count).sqrt()
    ratio = centred.var(0) / variances[keep]
    variance_z = (ratio - 1) / math.sqrt(2 / (count - 1))
    trace = float(exact.covariance.trace())
    return Agreement(
        mean_error=float((flat.mean(0) - exact.mean).square().sum()) / trace,
        variance_ratio=float(flat.var(0).sum()) / trace,
        worst_z=float(torch.cat([mean_z, variance_z]).abs().max()),
    )
