"""Problems with known posteriors and evidences, for the tests of populations."""

from typing import NamedTuple

import torch

import tweedie_inverse as ti
from tests.posteriors import prior_covariance, random_field
from tweedie_inverse import operators as ops

FIELD = random_field(8)
NOISE = ops.GaussianNoise(0.2)
OPERATORS = {
    "inpainting": ops.Mask(ops.random_mask((1, 8, 8), 0.3, seed=1), noise=NOISE),
    "deblurring": ops.Blur(ops.gaussian_kernel(0.9), (1, 8, 8), noise=NOISE),
    "super-resolution": ops.Downsampling((1, 8, 8), 2, kernel="block_mean", noise=NOISE),
    "coloured-noise": ops.Blur(
        ops.gaussian_kernel(0.9),
        (1, 8, 8),
        noise=ops.GaussianNoise.stationary(0.04 * (1 + torch.fft.fftfreq(8).abs().expand(8, 8))),
    ),
}


def measured(operator):
    return operator.measure(FIELD.draw(1, seed=3)[0], seed=5)


def gaussian_log_evidence(operator, y):
    """The textbook formula over the observed entries, white noise of std 0.2."""
    matrix = ops.dense_matrix(operator)
    covariance = matrix @ prior_covariance(FIELD) @ matrix.mT
    covariance += 0.04 * torch.eye(len(matrix)).double()
    keep = torch.ones(len(matrix), dtype=torch.bool)
    if operator.observed is not None:
        keep = operator.observed.expand(operator.range_shape).flatten()
    law = torch.distributions.MultivariateNormal(
        torch.zeros(int(keep.sum())).double(), covariance[keep][:, keep]
    )
    return float(law.log_prob(y.flatten()[keep]))


def bimodal():
    """Modes at -2 and 2 in both coordinates, the first seen with much noise."""
    means = torch.tensor([[-2.0, -2.0], [2.0, 2.0]]).double()
    weights, std, noise = torch.tensor([0.3, 0.7]).double(), 0.5, 3.0
    prior = ti.priors.GaussianMixture(means, weights, std)
    operator = ops.MatrixOperator(
        torch.tensor([[1.0, 0.0]]).double(), noise=ops.GaussianNoise(noise)
    )
    y = torch.tensor([-1.0]).double()
    law = torch.distributions.Normal(means[:, 0], (std**2 + noise**2) ** 0.5)
    joint = weights.log() + law.log_prob(y)
    return prior, operator, y, torch.softmax(joint, 0)[0], torch.logsumexp(joint, 0)


class Arrived(NamedTuple):
    """The walkers of all populations as they arrive, before `solve` resamples them."""

    walkers: torch.Tensor  # (populations, walkers of one, *shape)
    weights: torch.Tensor  # (populations, walkers of one)
    log_evidence: torch.Tensor  # (populations,)


def arrived(y, operator, prior, walk, **settings):
    """The weighted populations of a batch of measurements, from the loop itself."""
    *_, last = ti.iterate(y, operator, prior, method=walk, **settings)
    population = last.info.population
    walkers = last.x.reshape(*population.weights.shape, *last.x.shape[1:])
    return Arrived(walkers, population.weights, population.log_evidence)
