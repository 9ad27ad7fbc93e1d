"""Nonlinear operators and noise that is not Gaussian, through `solve`, against long plain MCMC."""

import pytest
import torch

import tweedie_inverse as ti
from tests.nonlinear_posteriors import CASES, load_references, long_mcmc, positive_field
from tests.posteriors import Moments, agreement

REFERENCES = load_references()


@pytest.mark.parametrize("count", [300, pytest.param(1200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_posterior_moments_agree_with_long_mcmc(name, count):
    """A variance off by 40 % in any direction shows in 300 samples, by 20 % in 1,200.

    The reference has the information of some 10,000 samples or more, so its own error adds less
    than a twentieth to the standard errors here.
    """
    prior, operator, reference = positive_field(), CASES[name](), REFERENCES[name]
    posterior = ti.solve(reference.y, operator, prior, num_samples=count, steps=15, seed=1)
    assert posterior.stats.method == "decoupled"
    assert "Hamiltonian" in posterior.stats.reason
    exact = Moments(reference.mean, reference.covariance)
    assert agreement(posterior.samples, exact).worst_z < 5


@pytest.mark.parametrize("name", CASES)
def test_references_are_precise(name):
    """Their standard errors are below a hundredth of what they are compared with."""
    reference = REFERENCES[name]
    variance = reference.covariance.diagonal()
    assert float((reference.mean_error.square() / variance).max()) < 1e-3
    assert float((reference.covariance_error.diagonal() / variance).max()) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_references_are_made_anew(name):
    """Other numbers, fewer steps: z-scores of every mean and every covariance."""
    reference = REFERENCES[name]
    prior, operator = positive_field(), CASES[name]()
    again = long_mcmc(prior, operator, reference.y, chains=300, burn=500, keep=1500, seed=1)
    for part in ("mean", "covariance"):
        found, wanted = getattr(again, part), getattr(reference, part)
        error = torch.hypot(getattr(again, f"{part}_error"), getattr(reference, f"{part}_error"))
        assert float(((found - wanted) / error).abs().max()) < 5
