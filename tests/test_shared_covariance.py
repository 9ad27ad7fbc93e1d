"""Populations of a prior without a table: the denoising error is read from the network."""

import pytest
import torch

import tweedie_inverse as ti
from tests.particle_problems import FIELD, OPERATORS, gaussian_log_evidence, measured
from tests.posteriors import agreement, gaussian_posterior
from tests.test_network_covariance import Bare
from tweedie_inverse.benchmarks.studies.separate_modes import problem, shares_of
from tweedie_inverse.walks import Particle


@pytest.mark.parametrize("path", ["tweedie", "wiener"])
@pytest.mark.parametrize("name", ["inpainting", "super-resolution"])
def test_a_gaussian_posterior_is_exact_without_a_table(name, path):
    """Equal weights say that bridges and likelihoods agree with the prior at every level."""
    operator = OPERATORS[name]
    y = measured(operator)
    posterior = ti.solve(
        y, operator, Bare(FIELD), method=Particle(path=path), num_samples=1000, steps=12
    )
    assert agreement(posterior.samples, gaussian_posterior(FIELD, operator, y, 0.2)).worst_z < 5
    size = float(1 / posterior.diagnostics.population.weights.square().sum())
    assert size > 999  # of 1000
    evidence = gaussian_log_evidence(operator, y)
    assert float(posterior.log_evidence) == pytest.approx(evidence, abs=1e-2)
    assert posterior.stats.denoiser_calls <= 12
    assert "read from the network" in posterior.stats.reason


def test_separate_modes_get_their_shares():
    """The decoupled walk is wrong by 0.1 and more here: its draws know one Gaussian."""
    for seed in (0, 1):
        one = problem(seed)
        # The shares of one population scatter by 0.035 in problem 1, those of four by half of it.
        populations = [
            ti.solve(
                one.y,
                one.operator,
                one.prior,
                method="particle",
                num_samples=2000,
                steps=50,
                seed=own,
            ).samples
            for own in range(4)
        ]
        drawn = torch.cat(populations)
        assert float((shares_of(drawn) - one.shares).abs().max()) < 5 * 0.035 / 2
        floor = ti.calibration.sliced_wasserstein(one.exact(2000, 1), one.exact(2000, 2))
        distance = ti.calibration.sliced_wasserstein(one.exact(2000, 1), drawn)
        assert distance < floor + 0.15


def test_the_posterior_of_separate_modes_is_that_of_weighted_prior_samples():
    one = problem(1)
    count = 400_000
    random = torch.Generator().manual_seed(0)
    modes = torch.randint(3, (count,), generator=random)
    white = torch.randn(count, 10, generator=random, dtype=torch.float64)
    factors = torch.linalg.cholesky(one.prior.covariances)[modes]
    prior = one.prior.means[modes] + torch.einsum("bnm,bm->bn", factors, white)
    logs = one.operator.noise.log_prob(one.y, one.operator.forward(prior))
    weights = torch.softmax(logs, 0)
    exact = one.exact(100_000, 3)
    assert torch.allclose(weights @ prior, exact.mean(0), atol=0.1)
    expected = torch.bincount(modes, weights, minlength=3)
    torch.testing.assert_close(one.shares, expected, atol=0.01, rtol=0)
    # The denoiser is the mean of that mixture: identity A, noise sigma.
    sigma = 3.0
    noisy = prior[:1] + sigma
    near = torch.softmax(-(prior - noisy).square().sum(1) / (2 * sigma**2), 0)
    torch.testing.assert_close(one.prior.denoise(noisy, sigma)[0], near @ prior, atol=0.1, rtol=0)


def test_measurements_do_not_share_what_they_read():
    operator = OPERATORS["inpainting"]
    y = torch.stack([measured(operator), 0.5 * measured(operator)])
    settings = {"method": "particle", "num_samples": 8, "steps": 12}
    together = ti.solve(y, operator, Bare(FIELD), **settings, seed=[1, 2])
    alone = ti.solve(y[1:], operator, Bare(FIELD), **settings, seed=[2])
    torch.testing.assert_close(together.samples[1:], alone.samples)


@pytest.mark.parametrize(
    ("walk", "steps", "message"),
    [
        (Particle(error="measured"), 20, "is not measured.*error='auto'"),
        (Particle(), 3, "leave no room to read the denoising error.*Take 4 steps or more"),
    ],
)
def test_what_cannot_be_read_is_refused(walk, steps, message):
    operator = OPERATORS["inpainting"]
    with pytest.raises(ValueError, match=message):
        ti.solve(measured(operator), operator, Bare(FIELD), method=walk, steps=steps)


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="choose one of 'auto', 'measured', 'network'"):
        Particle(error="average")
