"""The learned schedule: monotone, its gradients the two objectives', trained, exported, walked."""

import math

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.seeds import salted, torch_generator
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.zoo import load_prior
from tweedie_inverse.training import learned_noise
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.export import export
from tweedie_inverse.training.learned_noise import LearnedLevels, bound_loss, descend, even_times
from tweedie_inverse.training.noise_levels import LogUniform
from tweedie_inverse.training.trainer import build_task, load_run, load_trained, train

DIGITS = TrainingConfig(
    seed=salted(0),
    data="digits",
    size=8,
    steps=8,
    batch=16,
    widths=(8, 16),
    blocks=(1, 1),
    warmup=2,
)


def bent():
    """A schedule with random shape."""
    levels = LearnedLevels().double()
    with torch.no_grad():
        levels.heights.copy_(4 * torch.linspace(0, 9, 32).sin())
        levels.steepness.copy_(5 + 5 * torch.linspace(0, 4, 32).cos())
    return levels


def test_curve_rises_between_its_ends_with_the_slope_it_says():
    levels, t = bent().requires_grad_(False), torch.linspace(0, 1, 501).double()
    curve = levels.at(t)
    assert float(curve.gamma.diff().min()) > 0
    assert levels.sigma_min == pytest.approx(0.01)
    assert levels.sigma_max == pytest.approx(50.0)
    torch.testing.assert_close(curve.gamma[[0, -1]], levels.ends)
    step = 1e-6
    slope = (levels.at(t + step).gamma - levels.at(t - step).gamma) / (2 * step)
    torch.testing.assert_close(curve.slope, slope, rtol=1e-6, atol=1e-6)
    assert float(curve.slope.max() / curve.slope.min()) > 3  # bent indeed


def test_a_fresh_curve_is_log_linear_within_a_few_percent():
    table = LearnedLevels().table().log()
    line = torch.linspace(math.log(0.01), math.log(50.0), 1000).double()
    assert float((table - line).abs().max()) < 0.05 * float(line[-1] - line[0])


def test_levels_drawn_follow_the_table():
    levels = bent().float()
    draws = levels.sample(20_000, torch_generator(1)).double().log()
    found = draws.quantile(torch.tensor([0.1, 0.5, 0.9]).double())
    expected = levels.table(1001).log()[[100, 500, 900]]
    width = math.log(levels.sigma_max / levels.sigma_min)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 * width)


class Exact(torch.nn.Module):
    """The denoiser of N(0, s), s a vector; one parameter that changes it."""

    def __init__(self, variance):
        super().__init__()
        self.variance = variance
        self.gain = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x, sigma):
        square = sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2
        return self.gain * self.variance / (self.variance + square) * x


def exact_prior():
    variance = torch.logspace(-2, 1, 8).double().reshape(1, 2, 4)
    prior = ti.priors.NetworkPrior(Exact(variance), "x0", shape=(1, 2, 4))
    images = variance.sqrt() * normal((3,), (256, 1, 2, 4))
    return prior, images, variance


def test_bound_of_any_schedule_is_the_same_and_the_likelihood():
    """The mean over time knows nothing of the shape between the ends, the variance does."""
    prior, images, variance = exact_prior()
    exact = -(images**2 / variance + (2 * math.pi * variance).log()).flatten(1).mean(1) / 2
    totals = []
    for levels in (LearnedLevels().double(), bent()):
        with torch.no_grad():  # far ends: the prior matching of a start without the data's spread
            levels.ends.copy_(2 * torch.tensor([1e-3, 200.0]).double().log())
        with torch.no_grad():
            losses = [
                bound_loss(
                    prior,
                    levels,
                    images,
                    normal((5, repeat), images.shape),
                    even_times(256, torch_generator(repeat)).double(),
                ).total
                for repeat in range(40)
            ]
        losses = torch.stack(losses) + math.log(2 * math.pi) / 2
        error = losses.std() / len(losses) ** 0.5
        # The reconstruction sees the last quarter of the images only; it is the same for all.
        assert abs(float(losses.mean() + exact.mean())) < 5 * float(error)
        totals.append(losses.mean())
        assert float(error) < 0.1  # its terms are tens of nats


def test_gradients_are_of_the_bound_and_of_its_variance():
    """The network and the ends descend on the bound, the shape on the square, as by hand."""
    prior, images, _ = exact_prior()
    levels, noise = bent(), normal((6,), images.shape)
    t = even_times(256, torch_generator(1)).double()
    # Clipping keeps directions only.
    descend(prior, levels, images, noise, t)
    loss = bound_loss(prior, levels, images, noise, t)
    gain, ends = torch.autograd.grad(
        loss.total, [prior.module.gain, levels.ends], retain_graph=True
    )
    torch.testing.assert_close(prior.module.gain.grad, gain)
    direction = torch.nn.functional.normalize(levels.ends.grad, dim=0)
    torch.testing.assert_close(direction, torch.nn.functional.normalize(ends, dim=0))
    shape = [levels.line, levels.heights, levels.steepness]
    square = torch.autograd.grad(loss.matching.square().mean(), shape)
    whole = torch.cat([g.flatten() for g in square])
    found = torch.cat([p.grad.flatten() for p in shape])
    cosine = torch.nn.functional.cosine_similarity(whole, found, dim=0)
    assert float(cosine) == pytest.approx(1, abs=1e-9)


def unevenness(levels, variance):
    """Relative spread over time of ``gamma' E error``, which a perfect schedule makes constant."""
    with torch.no_grad():
        curve = levels.at(torch.linspace(0, 1, 201).double())
    square = curve.gamma.exp()[:, None]
    error = (variance.flatten() / (variance.flatten() + square)).mean(1)
    level = (curve.slope * error)[error > 0.05]
    return float(level.std() / level.mean())


def test_descent_lowers_the_variance_of_the_estimate():
    """Of a fixed exact denoiser: towards ``gamma' E error = constant``, which is known."""
    prior, images, variance = exact_prior()
    levels = LearnedLevels().double()
    optimizer = torch.optim.Adam([levels.line, levels.heights, levels.steepness], lr=0.05)

    def spread(levels):
        t = torch.rand(20_000, generator=torch_generator(5)).double()
        repeated = images.repeat(80, 1, 1, 1)[:20_000]
        with torch.no_grad():
            found = bound_loss(prior, levels, repeated, normal((9,), repeated.shape), t).matching
        return float(found.var())

    before = spread(levels)
    for step in range(150):
        noise = normal((8, step), images.shape)
        descend(prior, levels, images, noise, even_times(256, torch_generator(step)))
        optimizer.step()
    after = spread(levels)
    assert unevenness(levels, variance) < 0.5 * unevenness(LearnedLevels().double(), variance)
    assert after < 0.8 * before


def test_learned_levels_train_resume_and_export(tmp_path):
    config = TrainingConfig(
        **{**DIGITS.__dict__, "noise_levels": "learned", "weight": "inverse-square"}
    )
    list(train(config, tmp_path / "a", report_every=1, save_every=1))
    broken = train(config, tmp_path / "b", report_every=1, save_every=1)
    for _ in range(4):
        next(broken)
    broken.close()
    list(train(config, tmp_path / "b", report_every=1, save_every=1))
    one, two = (load_run(tmp_path / name).task.levels for name in "ab")
    prior = load_trained(tmp_path / "a")
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, two.state_dict()[name])
    fresh = LearnedLevels().state_dict()
    assert not torch.equal(one.ends.detach(), fresh["ends"])
    assert not torch.equal(one.heights.detach(), fresh["heights"])
    assert prior.sigma_min == pytest.approx(0.5 * one.sigma_min)

    path = export(tmp_path / "a", "tiny", count=16)
    table = torch.from_numpy(np.load(path.with_suffix(".schedule.npy")))
    torch.testing.assert_close(table, one.table() * 0.5)
    schedule, loaded = ti.schedules.from_table(table), load_prior(path)
    grid = schedule(6, loaded.sigma_min, loaded.sigma_max)
    assert float(grid[0]) == pytest.approx(loaded.sigma_max, rel=1e-6)
    assert float(grid[-2]) == pytest.approx(loaded.sigma_min, rel=1e-6)
    for recipe in ("ddim", "heun", "dpm++2m"):
        samples = ti.sample(loaded, 2, recipe=recipe, schedule=schedule, steps=6)
        assert bool(samples.isfinite().all())
    operator = ops.Mask(ops.random_mask((1, 8, 8), 0.5), noise=ops.GaussianNoise(0.1))
    y = operator.measure(samples[:1], seed=0)
    for walk in (ti.walks.Decoupled(schedule=schedule), ti.walks.Langevin(schedule=schedule)):
        assert torch.equal(walk.sigmas(loaded, 6), schedule(6, *_range(walk, loaded)))
        posterior = ti.solve(y, operator, loaded, method=walk, num_samples=2, steps=6)
        assert bool(posterior.samples.isfinite().all())
    method = ti.Bound(steps=8, schedule=schedule, levels=4, repeats=2)
    assert math.isfinite(ti.likelihood(loaded, samples, method=method).mean)


def _range(walk, prior):
    if isinstance(walk, ti.walks.Langevin):
        return max(walk.sigma_min, prior.sigma_min), min(walk.sigma_max, prior.sigma_max)
    return prior.sigma_min, prior.sigma_max


def test_other_weights_and_tables_are_refused():
    with pytest.raises(ValueError, match="weight is 'inverse-square'"):
        build_task(TrainingConfig(**{**DIGITS.__dict__, "noise_levels": "learned"}))
    with pytest.raises(ValueError, match="increasing"):
        ti.schedules.from_table(torch.tensor([2.0, 1.0]))
    assert learned_noise.LearnedLevels().sigma_min == pytest.approx(LogUniform().sigma_min)
