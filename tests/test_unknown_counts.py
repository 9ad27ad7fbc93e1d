"""Gain and read-out noise that are drawn with the image."""

import math

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import prior_covariance, random_field
from tweedie_inverse import operators as ops

SHAPE, GAINS = (1, 8, 8), (0.02, 0.5)
BRIGHT = 8.0
UNKNOWN = ops.PoissonNoise.unknown(GAINS)


def field():
    """Bright, so that counts are nearly Gaussian: 16 to 400 of them."""
    mean = torch.full(SHAPE, BRIGHT).double()
    return ti.priors.Gaussian(mean, covariance=prior_covariance(random_field(8)))


OPERATOR = ops.Blur(ops.gaussian_kernel(1.0, 5), SHAPE)


def drawn_gains(count):
    low, high = map(math.log, GAINS)
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(3)).double()
    return (low + (high - low) * uniform).exp()


def measured(gains, std=None):
    clean = OPERATOR.forward(field().draw(len(gains), seed=5).double()).split(1)
    models = [
        ops.PoissonNoise(g) if std is None else ops.PoissonGaussianNoise(g, std)
        for g in gains.tolist()
    ]
    pairs = enumerate(zip(models, clean, strict=True))
    return torch.cat([model.sample(one, seed=i) for i, (model, one) in pairs])


def exact(y, grid):
    """Weights ``(batch, grid)`` of log gains: as Gaussian noise of variance ``gain * 8``.

    Of counts that the field scatters by 0.5 of 8: an error of some hundredths of the spread.
    """
    matrix = ops.dense_matrix(OPERATOR).double()
    covariance = matrix @ prior_covariance(random_field(8)).double() @ matrix.mT
    values, axes = torch.linalg.eigh(covariance)
    variances = values.clamp(min=0) + BRIGHT * grid.exp()[:, None]
    squares = ((y.flatten(1) - BRIGHT) @ axes).square() @ (1 / variances).mT
    return torch.softmax(-0.5 * (squares + variances.log().sum(1)), 1)


def test_the_gain_has_its_law():
    gains, grid = drawn_gains(30), torch.linspace(*map(math.log, GAINS), 150).double()
    y = measured(gains)
    found = ti.solve(y, OPERATOR, field(), noise=UNKNOWN, num_samples=10, steps=4)
    gain = found.noise.gain
    assert gain.shape == (30, 10)
    weights, drawn = exact(y, grid), gain.samples.log()
    mean = weights @ grid
    variance = weights @ grid.square() - mean**2
    z = (drawn.mean(1) - mean) / (variance / 10).sqrt()
    assert abs(float(z.sum()) / math.sqrt(30)) < 5
    ratio = ((drawn - mean[:, None]).square().mean(1) / variance).mean()
    assert abs(float(ratio) - 1) < 5 * math.sqrt(2 / 300)
    low, high = gain.interval()
    inside = int(((gains >= low) & (gains <= high)).sum())
    assert 22 <= inside <= 30  # 27 expected, binomial
    assert abs(float(found.diagnostics.chi_square.mean()) - 1) < 0.15


def test_read_out_noise_and_a_known_gain(tmp_path):
    y = measured(torch.full((4,), 0.1), std=0.3)
    noise = ops.PoissonGaussianNoise.unknown(gain=0.1, std=(0.05, 1.0))
    found = ti.solve(y, OPERATOR, field(), noise=noise, num_samples=8, steps=3)
    std = found.noise.std
    assert bool(((std.mean - 0.3).abs() < 5 * std.std).all())
    with pytest.raises(AttributeError, match=r"noise.gain: it was not drawn, only std"):
        _ = found.noise.gain
    found.save(tmp_path / "a.safetensors")
    again = ti.Posterior.load(tmp_path / "a.safetensors")
    assert torch.equal(again.noise.std.samples, std.samples)
    assert repr(again.noise) == repr(found.noise)


def test_both_are_drawn():
    y = measured(torch.full((2,), 0.1), std=0.3)
    noise = ops.PoissonGaussianNoise.unknown((0.05, 0.3), (0.1, 0.5))
    given = {"noise": noise, "num_samples": 4, "steps": 2}
    given["method"] = ti.walks.UnknownInstrument(first_moves=4)
    found = ti.solve(y, OPERATOR, field(), **given)
    assert [one.name for one in found.noise.drawn] == ["noise gain", "noise std"]
    total = found.noise.gain.samples * BRIGHT + found.noise.std.samples.square()
    assert bool((total.log() - math.log(0.1 * BRIGHT + 0.09)).abs().mean() < 0.5)


def test_a_sample_depends_on_no_other():
    y, given = measured(drawn_gains(2)), {"noise": UNKNOWN, "steps": 2}
    both = ti.solve(y, OPERATOR, field(), num_samples=3, **given)
    one = ti.solve(y[:1], OPERATOR, field(), num_samples=2, **given)
    assert torch.allclose(both.instrument.u[:1, :2], one.instrument.u, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.PoissonNoise.unknown((0.0, 1.0)), r"PoissonNoise.unknown\(gain=.*positive"),
        (lambda: ops.PoissonNoise.unknown(0.5), r"all numbers are known; use PoissonNoise\(gain\)"),
        (
            lambda: ops.PoissonGaussianNoise.unknown(0.5, 0.1),
            r"use PoissonGaussianNoise\(gain, std\)",
        ),
        (lambda: ops.PoissonGaussianNoise.unknown(std=-1.0), "positive number where it is known"),
        (lambda: UNKNOWN.sample(torch.ones(1, 2)), "the level is not known"),
        (
            lambda: ti.solve(
                torch.ones(SHAPE),
                ops.compose(OPERATOR, noise=ops.PoissonNoise(0.1)),
                field(),
                noise="estimate",
            ),
            r"pass noise=ops.PoissonNoise.unknown\(\) for counts",
        ),
        (
            lambda: ti.solve(-torch.ones(SHAPE), OPERATOR, field(), noise=UNKNOWN),
            "counts cannot be negative",
        ),
    ],
)
def test_what_is_no_unknown_is_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
