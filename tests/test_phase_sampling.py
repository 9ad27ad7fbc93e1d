"""Samplers in phase space, guidance and inpainting: exact laws, orders of convergence, refusals."""

import math

import pytest
import torch

import tweedie_inverse as ti
from tests.phase_laws import MIXTURE, PROCESSES, true_law
from tests.posteriors import random_field
from tweedie_inverse import phase_space
from tweedie_inverse.benchmarks.studies.exact_laws import wasserstein
from tweedie_inverse.benchmarks.studies.phase_laws import (
    DiagonalImages,
    last_variance,
    law_at_end,
)
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.phase_space import ExactPhaseSpace, grids, processes
from tweedie_inverse.phase_space.processes import LinearProcess, act
from tweedie_inverse.phase_space.steps import _half, _noise_transport

STEPPERS = {name: s for name, s in phase_space.SAMPLERS.items() if not s.adaptive}
VARIANCES = torch.tensor([1.0, 0.25, 0.03, 0.002], dtype=torch.float64)


# Samplers on exact scores


@pytest.mark.parametrize("name", ["psld", "vp", "oscillating"])
@pytest.mark.parametrize("sampler", STEPPERS)
def test_samplers_end_at_the_right_law(name, sampler):
    """The sampler's own law on Gaussian pixels, exact: covariance of the phases, and of x0."""
    process, end = PROCESSES[name], 1e-3
    times = grids.quadratic(200, end)
    found = law_at_end(STEPPERS[sampler], process, VARIANCES, times)
    assert wasserstein(last_variance(process, VARIANCES, end, found), VARIANCES) < 3e-3
    wanted = true_law(process, VARIANCES, end)
    # The smallest variance is the last to arrive; all of it is 0.002 of the largest.
    size = wanted.diagonal(dim1=1, dim2=2).sqrt()
    relative = (found - wanted) / (size[:, :, None] * size[:, None, :])
    assert float(relative[:3].abs().max()) < 0.3


@pytest.mark.parametrize("name", ["psld", "vp"])
@pytest.mark.parametrize("sampler", [*STEPPERS.values(), phase_space.Conjugate(shift=0.3)], ids=str)
def test_orders_of_convergence(name, sampler):
    """First order in the law, from an exact start, in the middle of the range."""
    process, s, end = PROCESSES[name], torch.tensor([1.0, 0.25]).double(), 0.1
    errors = []
    for steps in (60, 120):
        times = grids.uniform(steps, end)
        start = true_law(process, s, 1.0)
        found = law_at_end(sampler, process, s, times, start)
        errors.append(float((found - true_law(process, s, end)).abs().max()))
    order = math.log2(errors[0] / errors[1])
    print(f"{sampler} {name}: order {order:.2f}")
    assert 0.85 < order < 2.2


@pytest.mark.parametrize("name", ["psld", "cld", "vp"])
def test_splitting_beats_euler_at_50_evaluations(name):
    """Quadratic grid, 49 steps and the last denoising, as in table 5 of the paper."""
    process, times = PROCESSES[name], grids.quadratic(49, 1e-3)
    distance = {}
    for sampler in ("em", "sscs"):
        law = law_at_end(STEPPERS[sampler], process, VARIANCES, times)
        distance[sampler] = wasserstein(last_variance(process, VARIANCES, 1e-3, law), VARIANCES)
    assert distance["sscs"] < 0.6 * distance["em"]


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_half_a_splitting_step_is_the_kernel_with_q_negated(process):
    negated = LinearProcess(process.diffusion, -process.rotation, process.stationary)
    for b in (0.02, 0.4, 2.0):
        half, wanted = _half(process, b), negated.transition(b / 2)
        assert float((half.matrix - wanted.matrix).abs().max()) < 1e-12
        assert float((half.factor @ half.factor.mT - wanted.covariance).abs().max()) < 1e-12


def test_gddim_is_exact_on_a_point_mass_in_one_step():
    """Against the probability flow by an adaptive solver; noise kept by Cholesky is far off."""
    process, t, earlier = PROCESSES["psld"], 1.0, 0.05
    point = ExactPhaseSpace(DiagonalImages(torch.zeros(3).double()), process)
    z = normal((8,), (2, 2, 3))
    flow = phase_space.AdaptiveFlow(tolerance=1e-9)
    wanted = flow.step(z, t, earlier, point, None)
    one = phase_space.GDDIM().step(z, t, earlier, point, None)
    torch.testing.assert_close(one, wanted, rtol=1e-6, atol=1e-7)
    kept = act(process.given_image(earlier).factor, point.epsilon(z, t))
    assert float((kept - wanted).abs().max()) > 0.3
    after, before = (process.given_image(s).factor for s in (earlier, t))
    moved = _noise_transport(process, t, earlier) @ before
    torch.testing.assert_close(moved @ moved.mT, after @ after.mT, rtol=1e-7, atol=1e-9)


class Constant(ExactPhaseSpace):
    """Predicts the same noise everywhere: the conjugate integrator is then exact."""

    def epsilon(self, z, t):
        return normal(("constant",), z.shape)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_conjugate_step_is_exact_for_constant_noise(name):
    prior = Constant(MIXTURE, PROCESSES[name])
    z = normal((8,), (3, prior.process.phases, 2))
    wanted = phase_space.AdaptiveFlow(tolerance=1e-10).step(z, 0.9, 0.3, prior, None)
    found = phase_space.Conjugate().step(z, 0.9, 0.3, prior, None)
    # The flow back in time grows a hundredfold, and the solver's errors with it.
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_of_one_phase_both_exponential_steps_are_ddim():
    prior, z = ExactPhaseSpace(MIXTURE, processes.vp()), normal((8,), (3, 1, 2))
    found = phase_space.Conjugate().step(z, 0.9, 0.3, prior, None)
    other = phase_space.GDDIM().step(z, 0.9, 0.3, prior, None)
    torch.testing.assert_close(found, other, rtol=1e-7, atol=1e-8)
    after = prior.process.given_image(0.3)
    x0 = prior.denoise_phases(z, 0.9)
    ddim = after.direction * x0[:, None] + after.factor * prior.epsilon(z, 0.9)
    torch.testing.assert_close(other, ddim, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", ["psld", "cld", "vp"])
def test_the_adaptive_flow_keeps_the_law(name):
    """It is linear on Gaussian pixels: the images of unit states give its law."""
    process, s, end = PROCESSES[name], VARIANCES[:3], 0.01
    prior, k = ExactPhaseSpace(DiagonalImages(s), process), process.phases
    units = torch.eye(k).double()[:, :, None].expand(k, k, 3).contiguous()
    flow = phase_space.AdaptiveFlow(tolerance=1e-8)
    matrix = flow.step(units, 1.0, end, prior, None).permute(2, 1, 0)
    found = matrix @ true_law(process, s, 1.0) @ matrix.mT
    torch.testing.assert_close(found, true_law(process, s, end), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [700, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("sampler", "name"), [*((name, "psld") for name in phase_space.SAMPLERS), ("sscs", "vp")]
)
def test_samplers_draw_from_a_mixture(name, sampler, count):
    """Mean and covariance of three modes, and that nothing depends on the batch."""
    prior = ExactPhaseSpace(MIXTURE, PROCESSES[name])
    settings = {"sampler": sampler, "steps": 200, "dtype": torch.float64, "seed": 4}
    if sampler == "ode":
        settings = {**settings, "sampler": phase_space.AdaptiveFlow(1e-5), "steps": None}
    samples = phase_space.sample(prior, count, **settings)
    mean, covariance = MIXTURE.moments()
    exact = covariance.apply(torch.eye(2).double())
    spread = exact.diagonal()
    assert float(((samples.mean(0) - mean) / (spread / count).sqrt()).abs().max()) < 5
    centred = samples - mean
    products = centred[:, :, None] * centred[:, None, :]
    z = (products.mean(0) - exact) / (products.std(0) / count**0.5)
    assert float(z.abs().max()) < 5
    if sampler != "ode":
        few = phase_space.sample(prior, 5, batch_size=2, **settings)
        torch.testing.assert_close(few, samples[:5])


def test_trajectory_is_the_walk_of_sample_and_counts_its_cost():
    prior = ExactPhaseSpace(MIXTURE, PROCESSES["psld"])
    steps = list(phase_space.trajectory(prior, 3, steps=12, grid="uniform", seed=2))
    assert [step.evaluations for step in steps] == list(range(1, 13))
    assert steps[-1].time == 0
    assert steps[-2].time == pytest.approx(1e-3)
    assert steps[0].z.shape == (3, 2, 2)
    drained = phase_space.sample(prior, 3, steps=12, grid="uniform", seed=2)
    assert torch.equal(steps[-1].x, drained)


def test_ordinary_recipes_take_phase_space_priors():
    """They see its denoiser alone: on one grid, the samples are those of the image prior."""
    field = random_field(8)
    prior = ExactPhaseSpace(field, PROCESSES["psld"])
    grid = ti.schedules.karras(21, max(0.01, prior.sigma_min), min(20.0, prior.sigma_max))
    for recipe in ("heun", "ddpm"):
        settings = {"recipe": recipe, "schedule": grid, "dtype": torch.float64, "seed": 2}
        found, wanted = ti.sample(prior, 20, **settings), ti.sample(field, 20, **settings)
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    assert wanted.std() > 0.3  # of a field of variance 0.25


# Conditional synthesis


def class_priors(process):
    """Two classes of one shape, and both together."""
    whole = ti.priors.GaussianMixture(MIXTURE.means[:2], torch.tensor([0.4, 0.6]).double(), 0.3)
    one = ti.priors.GaussianMixture(MIXTURE.means[:1], torch.ones(1).double(), 0.3)
    return tuple(ExactPhaseSpace(prior, process) for prior in (whole, one))


def exact_classifier(process):
    """``log p(class | z, t)`` of the two classes, from the law of all phases."""
    means, logs = MIXTURE.means[:2], torch.tensor([0.4, 0.6]).double().log()

    def classify(z, t):
        seen = process.given_image(float(t[0]))
        outer = seen.direction[:, None] * seen.direction[None, :]
        precision = torch.linalg.inv(seen.covariance + 0.09 * outer)
        offsets = z[:, None] - means[None, :, None, :] * seen.direction[:, None]
        return logs - torch.einsum("bcin,ij,bcjn->bc", offsets, precision, offsets) / 2

    return classify


@pytest.mark.parametrize("name", PROCESSES)
def test_an_exact_classifier_at_scale_one_gives_the_class(name):
    """On all phases at forward time: reverse time, or one half alone, is another score."""
    process = PROCESSES[name]
    whole, one = class_priors(process)
    guided = phase_space.ClassifierGuided(whole, exact_classifier(process), 0, 1.0)
    z = normal((9,), (6, process.phases, 2))
    for t in (0.02, 0.3, 0.9):
        torch.testing.assert_close(guided.epsilon(z, t), one.epsilon(z, t), rtol=1e-7, atol=1e-9)
    unguided = phase_space.ClassifierGuided(whole, exact_classifier(process), 0, 0.0)
    assert torch.equal(unguided.epsilon(z, 0.3), whole.epsilon(z, 0.3))


def test_classifier_free_guidance_mixes_the_scores():
    whole, one = class_priors(PROCESSES["psld"])
    z = normal((9,), (6, 2, 2))
    guided = phase_space.PhaseClassifierFree(one, whole, 2.5)
    score = 2.5 * one.phase_score(z, 0.3) - 1.5 * whole.phase_score(z, 0.3)
    torch.testing.assert_close(guided.phase_score(z, 0.3), score)
    at_one = phase_space.PhaseClassifierFree(one, whole, 1.0)
    assert torch.equal(at_one.epsilon(z, 0.3), one.epsilon(z, 0.3))
    with pytest.raises(ValueError, match="one process"):
        phase_space.PhaseClassifierFree(one, class_priors(processes.cld())[0], 1.0)
    with pytest.raises(ValueError, match="scale=-1"):
        phase_space.PhaseClassifierFree(one, whole, -1)


def test_guided_samples_are_of_the_class():
    """Scale 1: mean and variance of the class, by the splitting sampler."""
    process, count = PROCESSES["psld"], 2000
    whole, _ = class_priors(process)
    guided = phase_space.ClassifierGuided(whole, exact_classifier(process), 0, 1.0)
    samples = phase_space.sample(guided, count, steps=150, dtype=torch.float64)
    z = (samples.mean(0) - MIXTURE.means[0]) / (0.3 / count**0.5)
    assert float(z.abs().max()) < 5
    ratio = samples.var(0) / 0.09 - 1
    assert float((ratio / (2 / count) ** 0.5).abs().max()) < 5


def test_known_pixels_are_kept_and_the_rest_follows():
    """Two pixels that agree in every image: knowing one settles the other, roughly."""
    covariance = torch.tensor([[1.0, 0.95], [0.95, 1.0]]).double()
    pair = ti.priors.Gaussian(torch.zeros(2).double(), covariance=covariance)
    prior = ExactPhaseSpace(pair, PROCESSES["psld"])
    known = phase_space.Known(torch.tensor([1.5, math.nan]).double(), torch.tensor([1, 0]))
    samples = phase_space.sample(prior, 1000, steps=100, known=known, dtype=torch.float64)
    assert bool((samples[:, 0] == 1.5).all())
    # An approximation: exact are 1.42 and 0.31, without the known pixel 0 and 1.
    assert 0.9 < float(samples[:, 1].mean()) < 1.5
    assert 0.2 < float(samples[:, 1].std()) < 0.6


def test_known_pixels_are_drawn_at_the_time_of_arrival():
    """All phases of ``p(z_t | x0)``: mean and covariance of the pixels put in."""
    prior, t, count = ExactPhaseSpace(MIXTURE, PROCESSES["psld"]), 0.2, 20000
    known = phase_space.Known(torch.tensor([0.8, 0.0]), torch.tensor([True, False]))
    z = torch.full((count, 2, 2), 7.0).double()
    put = known.put(z, t, prior, lambda: normal(("put",), z.shape))
    assert bool((put[:, :, 1] == 7).all())
    seen = prior.process.given_image(t)
    white = (put[:, :, 0] - 0.8 * seen.direction) @ seen.whiten.mT
    assert float((white.mean(0) * count**0.5).abs().max()) < 5
    square = white.mT @ white / count - torch.eye(2)
    assert float((square * (count / 2) ** 0.5).abs().max()) < 5


# Refusals


def test_refusals_of_the_sampler():
    prior = ExactPhaseSpace(MIXTURE, PROCESSES["psld"])
    with pytest.raises(TypeError, match=r"ti\.sample takes every other prior"):
        phase_space.sample(MIXTURE, 2)
    with pytest.raises(ValueError, match="choose one of conjugate, em"):
        phase_space.sample(prior, 2, sampler="heun")
    with pytest.raises(ValueError, match="choose one of quadratic, uniform"):
        phase_space.sample(prior, 2, grid="karras")
    with pytest.raises(ValueError, match="at least two network evaluations"):
        phase_space.sample(prior, 2, steps=1)
    with pytest.raises(ValueError, match=r"fall and stay in \(0, 1\]"):
        phase_space.sample(prior, 2, grid=torch.tensor([1.0, 0.5, 0.0]))
    with pytest.raises(ValueError, match="made for times from"):
        phase_space.sample(prior, 2, time_min=1e-6)
    with pytest.raises(ValueError, match="times given make 3"):
        phase_space.sample(prior, 2, grid=torch.tensor([1.0, 0.5, 0.1]), steps=7)
    with pytest.raises(ValueError, match="needs at least one"):
        phase_space.sample(prior, 0)
    with pytest.raises(ValueError, match="must have the prior's shape"):
        phase_space.sample(prior, 2, known=phase_space.Known(torch.zeros(3), torch.ones(3)))
    with pytest.raises(ValueError, match="tolerance"):
        phase_space.AdaptiveFlow(tolerance=0)


def test_a_walk_that_diverges_says_where():
    class Broken(ExactPhaseSpace):
        def epsilon(self, z, t):
            return z / 0

    with pytest.raises(ti.WalkDivergedError, match="step 1 of 5"):
        phase_space.sample(Broken(MIXTURE, PROCESSES["psld"]), 2, steps=5)
