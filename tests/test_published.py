"""Published denoisers, nothing measured; skipped where their weights are not at hand."""

from pathlib import Path

import pytest

import tweedie_inverse as ti
from tweedie_inverse.benchmarks.problems.published import PUBLISHED, published_prior
from tweedie_inverse.benchmarks.problems.suites import photographs
from tweedie_inverse.benchmarks.studies.published import measured_on, tasks
from tweedie_inverse.numerics.random import normal

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "checkpoints"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no published weights")


def truth_for(prior):
    photo = photographs(64, 1, "validation")
    return photo if prior.shape[0] == 3 else photo.mean(1, keepdim=True)


def psnr(x, truth):
    return -10 * float((x - truth).square().mean().log10())


@pytest.mark.parametrize(("name", "sigma", "least"), [("ffdnet", 0.1, 31), ("dncnn6n", 0.05, 31)])
def test_they_denoise(name, sigma, least):
    """Wrong channel orders, borders or signs of the residual cost 5 dB and more."""
    prior = published_prior(name, FOLDER)
    truth = truth_for(prior)
    noisy = truth + sigma * normal((1,), truth.shape).to(truth)
    assert psnr(prior.denoise(noisy, sigma), truth) > least


@pytest.mark.parametrize("name", PUBLISHED)
def test_they_solve_as_they_are(name):
    """With sigma^2 I it is 16 to 22 dB for one, and an explosion for the other."""
    prior = published_prior(name, FOLDER)
    truth = truth_for(prior)
    for operator in tasks((prior.shape[0], 64, 64)).values():
        y = operator.measure(truth, seed=0)
        found = ti.solve(y, operator, prior, num_samples=2, steps=20, seed=0)
        assert psnr(found.mean, truth) > 24
        assert 0.85 < float(found.diagnostics.residual_chi_square.mean()) < 1.25


def test_the_study_measures_on_another_photograph():
    tiles = measured_on("test", count=3)
    assert tiles.shape == (3, 3, 64, 64)
    assert not any(bool((tile == tiles[0]).all()) for tile in tiles[1:])
