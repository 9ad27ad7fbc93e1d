"""Populations as users meet them: chunks, budgets, what is saved, and what is refused."""

import pytest
import torch

import tweedie_inverse as ti
from tests.particle_problems import FIELD, NOISE, OPERATORS, bimodal, measured
from tests.posteriors import prior_covariance
from tweedie_inverse import operators as ops
from tweedie_inverse.walks import Particle


@pytest.mark.parametrize("correctors", [0, 1])
def test_populations_depend_on_neither_chunks_nor_neighbours(correctors):
    """Weights differ, so every step is resampled: a wrong offset of indices shows."""
    operator = OPERATORS["inpainting"]
    walk = Particle(path="flat", threshold=1.0, correctors=correctors)
    y = operator.measure(FIELD.draw(3, seed=1), seed=2)

    def run(y, **options):
        return ti.solve(y, operator, FIELD, method=walk, num_samples=20, steps=5, **options)

    together = run(y)
    assert int(together.diagnostics.population.resamplings.min()) > 0
    close = {"rtol": 1e-9, "atol": 1e-9}
    for other in (run(y, batch_size=7), run(y, batch_size=45)):
        torch.testing.assert_close(other.samples, together.samples, **close)
        mine, theirs = other.diagnostics.population, together.diagnostics.population
        torch.testing.assert_close(mine.weights, theirs.weights, **close)
        assert torch.equal(mine.chosen, theirs.chosen)
        torch.testing.assert_close(other.log_evidence, together.log_evidence, **close)
        assert other.stats.denoiser_calls == together.stats.denoiser_calls == 5
    alone = run(y[0])
    torch.testing.assert_close(alone.samples, together.samples[0], **close)
    torch.testing.assert_close(alone.log_evidence, together.log_evidence[0], **close)
    assert alone.diagnostics.population.effective_sizes.shape == (5,)


class Chunked(ti.priors.Gaussian):
    largest = 0

    def denoise(self, x, sigma):
        self.largest = max(self.largest, len(x))
        return super().denoise(x, sigma)


def test_a_population_larger_than_the_batch_evaluates_the_prior_in_parts():
    prior = Chunked(FIELD.mean, covariance=prior_covariance(FIELD))
    operator = OPERATORS["inpainting"]
    ti.solve(
        measured(operator),
        operator,
        prior,
        method="particle",
        num_samples=50,
        steps=3,
        batch_size=8,
    )
    assert prior.largest == 8


def test_weights_evidence_and_ancestry_are_saved(tmp_path):
    operator = OPERATORS["inpainting"]
    walk = Particle(path="flat")
    y = operator.measure(FIELD.draw(2, seed=1), seed=2)
    posterior = ti.solve(y, operator, FIELD, method=walk, num_samples=30, steps=4)
    posterior.save(tmp_path / "a.safetensors")
    again = ti.Posterior.load(tmp_path / "a.safetensors")
    assert float(again.diagnostics.population.weights.std()) > 0
    for mine, theirs in zip(
        posterior.diagnostics.population, again.diagnostics.population, strict=True
    ):
        assert torch.equal(mine, theirs)
    population = again.diagnostics.population
    assert population.effective_sizes.shape == (2, 4)
    assert population.ancestors.shape == (2, 30)
    assert population.resamplings.shape == (2,)


def test_samples_are_the_walkers_as_often_as_they_weigh():
    """Systematic resampling: floor or ceil of the weight times the number of walkers.

    The walkers as they arrived come from the loop, which `solve` drains.
    """
    operator, count = OPERATORS["inpainting"], 200
    y = operator.measure(FIELD.draw(2, seed=1), seed=2)
    walk = Particle(path="flat", threshold=0)
    settings = {"method": walk, "num_samples": count, "steps": 5, "seed": 4}
    found = ti.solve(y, operator, FIELD, **settings)
    walkers = [step.x for step in ti.iterate(y, operator, FIELD, **settings)][-1]
    walkers = walkers.reshape(2, count, *walkers.shape[1:])
    population = found.diagnostics.population
    for own, weights, samples, chosen in zip(
        walkers, population.weights, found.samples, population.chosen, strict=True
    ):
        torch.testing.assert_close(samples, own[chosen], rtol=1e-9, atol=1e-9)
        times = chosen.bincount(minlength=count)
        assert float((times - count * weights).abs().max()) < 1
        assert int(times.max()) > 1
    assert not torch.equal(population.chosen[0], population.chosen[1])
    alone = ti.solve(y[0], operator, FIELD, **settings)
    torch.testing.assert_close(alone.samples, found.samples[0], rtol=1e-9, atol=1e-9)
    size = 1 / population.weights.square().sum(1)
    torch.testing.assert_close(found.diagnostics.effective_sample_size, size)


def test_other_walks_have_no_evidence():
    operator = OPERATORS["inpainting"]
    posterior = ti.solve(measured(operator), operator, FIELD, num_samples=2, steps=2)
    with pytest.raises(AttributeError, match="method='particle'"):
        _ = posterior.log_evidence
    assert posterior.diagnostics.population is None


def test_auto_takes_a_population_where_it_pays():
    prior, operator, y, *_ = bimodal()
    many = ti.solve(y, operator, prior, num_samples=200, steps=2)
    assert many.stats.method == "particle"
    assert "200 walkers" in many.stats.reason
    assert ti.solve(y, operator, prior, num_samples=16, steps=2).stats.method == "decoupled"
    operator = OPERATORS["inpainting"]
    field = ti.solve(measured(operator), operator, FIELD, num_samples=200, steps=1)
    assert field.stats.method == "decoupled"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"noise": ops.PoissonNoise(), "y": torch.ones(1, 8, 8)}, "linear operator with Gaussian"),
        ({"operator": ops.Operator.from_function(torch.square, (1, 8, 8), noise=NOISE)}, "linear"),
    ],
)
def test_what_it_cannot_do_is_refused(call, message):
    operator = OPERATORS["inpainting"]
    arguments = {"y": measured(operator), "operator": operator, "prior": FIELD, **call}
    with pytest.raises(ValueError, match=message):
        ti.solve(**arguments, method="particle")


@pytest.mark.parametrize(
    "settings",
    [{"path": "magic"}, {"correctors": -1}, {"threshold": 2.0}, {"corrector_time": 0.0}],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match="Particle"):
        Particle(**settings)


def test_the_budget_holds_correctors():
    walk = Particle(path="wiener", correctors=2)
    for steps in (1, 2, 7, 9):
        sigmas = walk.sigmas(FIELD, steps)
        assert len(sigmas) == steps + 1
        assert sigmas[-1] == 0
        assert bool((sigmas.diff() <= 0).all())
