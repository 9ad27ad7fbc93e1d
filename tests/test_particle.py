"""The particle walk: exact posteriors and exact evidence."""

import math

import pytest
import torch

import tweedie_inverse as ti
from tests.particle_problems import (
    FIELD,
    NOISE,
    OPERATORS,
    arrived,
    bimodal,
    gaussian_log_evidence,
    measured,
)
from tests.posteriors import agreement, gaussian_posterior, prior_covariance
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.studies.mixture_problems import mixture_prior, mixture_problem
from tweedie_inverse.walks import Particle


@pytest.mark.parametrize("path", ["tweedie", "wiener"])
@pytest.mark.parametrize("name", ["inpainting", "deblurring", "super-resolution"])
def test_a_gaussian_posterior_is_exact_with_equal_weights_and_exact_evidence(name, path):
    """Prior and bridges are Gaussian: any factor lost in a weight or a determinant shows."""
    operator = OPERATORS[name]
    y = measured(operator)
    walk = Particle(path=path)
    posterior = ti.solve(y, operator, FIELD, method=walk, num_samples=2000, steps=6)
    assert agreement(posterior.samples, gaussian_posterior(FIELD, operator, y, 0.2)).worst_z < 5
    weights = posterior.diagnostics.population.weights
    spread = weights.max() / weights.min() - 1
    assert float(spread) < 1e-9
    exact = gaussian_log_evidence(operator, y)
    assert float(posterior.log_evidence) == pytest.approx(exact, abs=1e-9)
    assert int(posterior.diagnostics.population.resamplings) == 0


def repeated(y, operator, prior, walk, *, repeats, num_samples, steps):
    """Means, second moments and log-evidences of independent populations."""
    found = populations(y, operator, prior, walk, repeats, num_samples=num_samples, steps=steps)
    flat, weights = found.walkers.flatten(2), found.weights[:, :, None]
    return (weights * flat).sum(1), (weights * flat.square()).sum(1), found.log_evidence


def populations(y, operator, prior, walk, repeats, **settings):
    """Each measurement has a population of its own: the same one `repeats` times."""
    many = y.expand(repeats, *y.shape)
    return arrived(many, operator, prior, walk, **settings)


def z_scores(values, expected):
    """Of the mean of independent repeats ``(repeats, ...)``."""
    return (values.mean(0) - expected) / (values.std(0) / len(values) ** 0.5)


@pytest.mark.parametrize(
    "walk",
    [
        Particle(path="tweedie", correctors=1, threshold=0.9),
        Particle(path="wiener", correctors=1),
        Particle(path="flat", threshold=0.9),
    ],
    ids=["tweedie", "wiener", "flat"],
)
def test_weighted_and_resampled_populations_keep_a_gaussian_posterior(walk):
    """Weights scatter here, and ancestors coincide: z-scores are those of independent populations.

    The plain samples of a population with degenerate weights, or a corrector that is not
    invariant, fail.
    """
    prior = ti.priors.Gaussian(
        torch.tensor([1.0, -1.0, 0.0]).double(),
        covariance=torch.tensor([[2.0, 0.8, 0.3], [0.8, 1.0, -0.2], [0.3, -0.2, 0.5]]).double(),
    )
    operator = ops.MatrixOperator(torch.tensor([[1.0, 1.0, 0.5]]).double(), noise=NOISE)
    y = torch.tensor([1.5]).double()
    exact = gaussian_posterior(prior, operator, y, 0.2)
    means, squares, evidences = repeated(
        y, operator, prior, walk, repeats=24, num_samples=200, steps=14
    )
    assert float(z_scores(means, exact.mean).abs().max()) < 5
    expected = exact.covariance.diagonal() + exact.mean**2
    assert float(z_scores(squares, expected).abs().max()) < 5
    matrix = operator.matrix
    scale = (matrix @ prior_covariance(prior) @ matrix.mT + 0.04).sqrt()[0]
    law = torch.distributions.Normal(matrix @ prior.mean, scale)
    errors = evidences - float(law.log_prob(y))
    if walk.path == "wiener":  # knows the prior: nothing scatters
        assert float(errors.abs().max()) < 1e-9
    else:
        assert abs(float(z_scores(errors.exp(), 1.0))) < 5


@pytest.mark.parametrize("path", ["tweedie", "wiener"])
def test_both_modes_get_their_share(path):
    """Shares, the moments inside a mode, and the evidence: z-scores of independent populations.

    Walkers of one population share ancestors, so that they are not independent draws.
    """
    (prior, operator, y, share, log_evidence), repeats = bimodal(), 24
    walk = Particle(path=path)
    found = populations(y, operator, prior, walk, repeats, num_samples=500, steps=50)
    shares = (found.weights * (found.walkers.sum(2) < 0)).sum(1)
    # The bias of 50 levels is below the noise of one population of 500; both are allowed here.
    assert abs(float(shares.mean() - share)) < 0.01 + 5 * float(shares.std()) / repeats**0.5
    # Twice the scatter of independent draws: seven times its own standard error.
    assert float(shares.std()) < 2 * float(share * (1 - share) / 500) ** 0.5
    error = found.log_evidence - log_evidence
    assert abs(float(error.mean())) < 0.02 + 5 * float(error.std()) / repeats**0.5
    weights = found.weights * (found.walkers.sum(2) > 0)
    weights = (weights / weights.sum(1, keepdim=True))[:, :, None]
    gain = 0.25 / (0.25 + 9)
    mean = torch.tensor([2 + gain * (-1 - 2), 2.0]).double()
    variance = torch.tensor([0.25 * (1 - gain), 0.25]).double()
    offset = found.walkers - mean
    assert float(z_scores((weights * offset).sum(1), 0.0).abs().max()) < 5
    squares = (weights * offset.square()).sum(1)
    assert float(z_scores(squares, variance).abs().max()) < 5


@pytest.mark.parametrize("dimensions", [8, pytest.param(80, marks=pytest.mark.slow)])
def test_log_evidence_of_the_mixture_benchmark(dimensions):
    """Within 0.1 nat on average, and unbiased as an estimate of the evidence."""
    prior = mixture_prior(dimensions)
    errors = []
    for seed in range(500, 510):
        problem = mixture_problem(prior, 1 + seed % 2, seed)
        found = ti.solve(
            problem.y,
            problem.operator,
            prior,
            method="particle",
            num_samples=400,
            steps=60,
            seed=seed,
        )
        errors.append(float(found.log_evidence) - problem.log_evidence)
    errors = torch.tensor(errors, dtype=torch.float64)
    assert float(errors.abs().mean()) < 0.1
    assert abs(float(z_scores(errors.exp(), 1.0))) < 5


def test_more_walkers_are_nearer():
    """Error of a mode's share falls like the root of the number of walkers."""
    prior, operator, y, share, _ = bimodal()

    def error(count, repeats):
        found = populations(y, operator, prior, "particle", repeats, num_samples=count, steps=30)
        low = (found.weights * (found.walkers.sum(2) < 0)).sum(1)
        return float((low - share).square().mean().sqrt())

    repeats = {50: 60, 1200: 24}
    few, many = (error(count, repeats[count]) for count in repeats)
    # A root mean square of n has the relative standard error 1 / sqrt(2 n): no gain is refused.
    scatter = math.sqrt(sum(1 / (2 * count) for count in repeats.values()))
    assert abs(math.log(few / many) - math.log(1200 / 50) / 2) < 5 * scatter


def test_class_probabilities_of_digits_with_half_the_pixels_missing():
    """An empirical posterior is a list of images with known probabilities."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images[:200, None] / 16.0)
    labels = torch.from_numpy(digits.target[:200])
    prior = ti.priors.Empirical(images, std=0.05)
    mask = (torch.arange(8) < 4).expand(8, 8)[None].clone()
    operator = ops.Mask(mask, noise=ops.GaussianNoise(0.9))
    y, count = operator.measure(images[[77, 134]], seed=1), 1000
    found = ti.solve(y, operator, prior, method="particle", num_samples=count, steps=30, seed=1)
    variance, largest = 0.9**2 + 0.05**2, []
    for index in range(2):
        misfit = ((y[index] - images) * mask).flatten(1).square().sum(1)
        exact = torch.softmax(-misfit / (2 * variance), 0)
        distance = torch.cdist(found.samples[index].flatten(1), images.flatten(1))
        chosen = labels[distance.argmin(1)]
        for k in range(10):
            share = float(exact[labels == k].sum())
            error = float((chosen == k).double().mean()) - share
            # Populations that resample scatter up to twice as much as independent draws.
            assert abs(error) < 0.005 + 5 * 2 * math.sqrt(share * (1 - share) / count)
        largest.append(max(float(exact[labels == k].sum()) for k in range(10)))
    assert min(largest) < 0.95, "the posterior must leave a choice"
