"""Guided priors against the densities they define: Gaussians, a line by quadrature, and `solve`."""

import functools
import math

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import Moments, agreement
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.guidance import ClassifierFree, ClassifierGuided, given
from tweedie_inverse.walks import Recipe

CLASS_MEANS = torch.tensor([[-1.0], [1.0], [0.5]]).double()
SHARES, STD = torch.tensor([0.3, 0.5, 0.2]).double(), 0.6


def line():
    """Three overlapping Gaussian classes on a line: all together, and the second alone."""
    everything = ti.priors.GaussianMixture(CLASS_MEANS, SHARES, STD)
    one = ti.priors.Gaussian(CLASS_MEANS[1], covariance=torch.eye(1) * STD**2)
    return one, everything


def classifier(x, sigma):
    """The exact one: ``log p(class) + log p(x | class, sigma)``."""
    total = sigma[:, None] ** 2 + STD**2
    return SHARES.to(x).log() - (x - CLASS_MEANS[:, 0].to(x)) ** 2 / (2 * total)


def guided(kind, scale):
    one, everything = line()
    if kind == "classifier-free":
        return ClassifierFree(one, everything, scale)
    return ClassifierGuided(everything, classifier, 1, scale)


KINDS = ["classifier-free", "classifier"]


def gaussians():
    """A wide Gaussian, and a class that is narrower and elsewhere, in two dimensions."""
    wide = ti.priors.Gaussian(
        torch.zeros(2).double(), covariance=torch.diag(torch.tensor([4.0, 1.0]))
    )
    mean = torch.tensor([1.0, -0.5]).double()
    narrow = ti.priors.Gaussian(mean, covariance=torch.diag(torch.tensor([1.0, 0.5])))
    return narrow, wide


def tilted(scale, sigma=0.0):
    """``N_wide^(1 - scale) N_narrow^scale`` at a noise level, in closed form."""
    c, s = (torch.tensor(v).double() + sigma**2 for v in ([1.0, 0.5], [4.0, 1.0]))
    covariance = 1 / (scale / c + (1 - scale) / s)
    return Moments(covariance * scale / c * torch.tensor([1.0, -0.5]).double(), covariance.diag())


def annealed(high, low, hold, step):
    """Langevin at geometric levels, held at the last: it samples the density of that level."""
    levels = torch.cat([ti.schedules.geometric(60, low, high)[:-1], torch.full((hold,), low)])
    sigmas = torch.cat([levels, torch.zeros(1)]).double()
    temperatures = torch.ones(len(levels)).double()
    temperatures[-1] = 0
    return Recipe(sigmas, step * levels.double() ** 2, temperatures)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_guided_score_is_that_of_the_tilted_density(kind, scale):
    """At each level, by differences of its logarithm: a wrong scale or sign shows."""
    one, everything = line()
    x, step = torch.linspace(-3, 3, 13).double()[:, None], 1e-5
    for sigma in (0.1, 0.7, 5.0):

        def log_tilted(x, sigma=sigma):
            parts = one.log_prob(x, sigma), everything.log_prob(x, sigma)
            return scale * parts[0] + (1 - scale) * parts[1]

        slope = (log_tilted(x + step) - log_tilted(x - step)) / (2 * step)
        score = guided(kind, scale).score(x, sigma)[:, 0]
        torch.testing.assert_close(score, slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_has_its_own_sigma_and_inputs_stay(kind):
    prior, x = guided(kind, 3.0), normal((1,), (4, 1))
    before, sigmas = x.clone(), torch.tensor([0.1, 1.0, 3.0, 9.0]).double()
    together = prior.denoise(x, sigmas)
    for index in range(4):
        alone = prior.denoise(x[index : index + 1], sigmas[index])
        torch.testing.assert_close(together[index : index + 1], alone)
    assert torch.equal(x, before)
    assert not together.requires_grad
    assert prior.denoise(x.float(), 0.5).dtype == torch.float32


@pytest.mark.parametrize("scale", [pytest.param(1.0, marks=pytest.mark.slow), 3.0])
def test_langevin_moves_sample_the_tilted_density_of_gaussian_classes(scale):
    low = 0.35
    prior = ClassifierFree(*gaussians(), scale)
    recipe = annealed(30.0, low, 1500, 0.06)
    samples = ti.sample(prior, 4000, recipe=recipe, dtype=torch.float64, seed=2)
    assert agreement(samples, tilted(scale, low)).worst_z < 5
    # The other laws in question are far away.
    if scale != 1:
        assert agreement(samples, tilted(1.0, low)).worst_z > 10
        assert agreement(samples, deterministic(scale)).worst_z > 10


def deterministic(scale):
    """Where the probability flow of the guided scores ends, from N(0, sigma_max^2)."""
    c, s = torch.tensor([1.0, 0.5]).double(), torch.tensor([4.0, 1.0]).double()
    mean, covariance = flow_moments(scale, c, s)
    return Moments(mean, covariance.diag())


def flow_moments(scale, c, s, high=100.0):
    """``dx/dl = x - D`` is linear: variance by ``c^g s^(1-g)``, mean by quadrature."""
    log_sigma = torch.linspace(math.log(1e-4), math.log(high), 200_001).double()[:, None]
    square = (2 * log_sigma).exp()
    pull = scale * square / (c + square) * torch.tensor([1.0, -0.5]).double()
    growth = ((c + square) / c) ** (scale / 2) * ((s + square) / s) ** ((1 - scale) / 2)
    mean = torch.trapezoid(pull / growth, log_sigma, dim=0)
    return mean, c**scale * s ** (1 - scale)


def test_deterministic_walk_of_guided_scores_ends_where_its_flow_does():
    """Not at the tilted density: the scores of different levels do not belong together."""
    prior = ClassifierFree(*gaussians(), 3.0)
    grid = ti.schedules.karras(60, 0.002, 100.0)
    samples = ti.sample(prior, 4000, recipe="dpm++2m", schedule=grid, dtype=torch.float64, seed=3)
    assert agreement(samples, deterministic(3.0)).worst_z < 5
    assert agreement(samples, tilted(3.0)).worst_z > 10


@pytest.mark.parametrize("kind", [KINDS[0], pytest.param(KINDS[1], marks=pytest.mark.slow)])
def test_langevin_moves_sample_the_tilted_density_of_a_mixture(kind):
    """Not Gaussian: mean, variance and skewness by quadrature on a line."""
    one, everything = line()
    scale, low = 2.0, 0.25
    samples = ti.sample(
        guided(kind, scale), 4000, recipe=annealed(20.0, low, 1500, 0.06), dtype=torch.float64
    )[:, 0]
    x = torch.linspace(-6, 6, 20_001).double()[:, None]
    log_p = scale * one.log_prob(x, low) + (1 - scale) * everything.log_prob(x, low)
    weight = torch.softmax(log_p, dim=0)
    mean = float((weight * x[:, 0]).sum())
    for power in (1, 2, 3):
        found = (samples - (mean if power > 1 else 0)) ** power
        value = (x[:, 0] - (mean if power > 1 else 0)) ** power
        z = (found.mean() - (weight * value).sum()) / (found.std() / len(samples) ** 0.5)
        assert abs(float(z)) < 5


@pytest.mark.parametrize("recipe", ["ddim", "ddpm", "consistent", "heun", "dpm++2m", "churn"])
def test_every_recipe_takes_guided_priors_and_scale_one_is_the_class(recipe):
    options = {"recipe": recipe, "steps": 21, "dtype": torch.float64}
    narrow, wide = gaussians()
    one = ClassifierFree(narrow, wide, 1.0)
    one.centre = narrow.centre
    expected = ti.sample(
        narrow, 3, schedule=ti.schedules.karras(11, 0.01, 50.0), **{**options, "steps": None}
    )
    found = ti.sample(
        one, 3, schedule=ti.schedules.karras(11, 0.01, 50.0), **{**options, "steps": None}
    )
    torch.testing.assert_close(found, expected)
    for kind in KINDS:
        far = ti.sample(guided(kind, 4.0), 200, **options)
        near = ti.sample(guided(kind, 0.0), 200, **options)
        assert float(far.mean()) > float(near.mean()) + 0.5


@pytest.mark.parametrize("scale", [pytest.param(1.0, marks=pytest.mark.slow), 2.0])
def test_langevin_solve_with_class_and_measurement(scale):
    """Tilted prior times likelihood: both the class and the measurement pull."""
    prior = ClassifierFree(*gaussians(), scale)
    operator = ops.MatrixOperator(torch.tensor([[1.0, 1.0]]).double(), noise=ops.GaussianNoise(0.5))
    y = torch.tensor([1.5]).double()
    walk = ti.walks.Langevin(
        step_size=0.05, sigma_min=0.2, sigma_max=10.0, bend=0.15, lipschitz=100.0
    )
    posterior = ti.solve(y, operator, prior, method=walk, num_samples=3000, steps=2000, seed=1)
    before = tilted(scale, 0.2)
    row = torch.tensor([[1.0, 1.0]]).double()
    precision = torch.linalg.inv(before.covariance) + row.mT @ row / 0.25
    covariance = torch.linalg.inv(precision)
    pull = torch.linalg.solve(before.covariance, before.mean) + row[0] * 1.5 / 0.25
    assert agreement(posterior.samples, Moments(covariance @ pull, covariance)).worst_z < 5


@pytest.mark.parametrize("method", ["decoupled", pytest.param("langevin", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_conditional_walks_are_steered(method, kind):
    """An ambiguous measurement is decided by the class."""
    operator = ops.MatrixOperator(torch.ones(1, 1).double(), noise=ops.GaussianNoise(1.0))
    y = torch.tensor([-0.3]).double()
    means = [
        float(ti.solve(y, operator, guided(kind, scale), method=method, num_samples=200).mean)
        for scale in (0.0, 1.0, 4.0)
    ]
    assert means[0] + 0.1 < means[1] < means[2] - 0.1


def test_decoupled_walk_at_scale_one_is_the_walk_of_the_class():
    narrow, wide = gaussians()
    operator = ops.MatrixOperator(torch.tensor([[1.0, 1.0]]).double(), noise=ops.GaussianNoise(0.5))
    solve = functools.partial(
        ti.solve, torch.tensor([1.5]).double(), operator, num_samples=4, steps=9
    )
    one = ClassifierFree(narrow, narrow, 1.0)
    torch.testing.assert_close(solve(one).samples, solve(narrow).samples)
    assert one.error_is_measured
    strong = ClassifierFree(narrow, wide, 2.0)
    assert not strong.error_is_measured
    assert "not measured" in solve(strong).stats.reason
    found = strong.denoising_error(0.3).variance
    assert torch.equal(found, narrow.denoising_error(0.3).variance)


def test_classifier_guidance_has_a_likelihood_by_the_flow():
    """The flow differentiates the guided denoiser: at scale 1 it is that of the class."""
    one, _ = line()
    images = one.draw(10, seed=1)
    # Far out: the flow starts at the centre of all classes, and 1 / sigma_max of that stays.
    method = ti.ProbabilityFlow(trace="exact", tolerance=1e-8, sigma_max=1e4)
    prior = guided("classifier", 1.0)
    found = ti.likelihood(prior, images, method=method)
    torch.testing.assert_close(found.value, one.log_prob(images), rtol=0, atol=2e-3)


def test_wrong_calls_are_refused():
    narrow, wide = gaussians()
    with pytest.raises(ValueError, match="scale=-1"):
        ClassifierFree(narrow, wide, -1.0)
    with pytest.raises(ValueError, match="one shape"):
        ClassifierFree(narrow, line()[1], 1.0)


def test_a_class_that_the_network_does_not_have_is_refused():
    digits, photographs = ti.load_prior("digits-32"), ti.load_prior("photo-64")
    with pytest.raises(ValueError, match="this network has 10 classes, 0 to 9"):
        given(digits, 99)
    with pytest.raises(ValueError, match="this network has no classes"):
        given(photographs, 0)
