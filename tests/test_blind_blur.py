"""A blur with an unknown kernel: image and kernel have their joint law under the model."""

import math

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import generator, normal

SIDE, SHAPE, STD = 12, (1, 12, 12), 0.05
FIELD = random_field(SIDE)
NOISE = ops.GaussianNoise(STD)
BLIND = ops.BlindBlur(SHAPE, 3, noise=NOISE)


def kernels(count):
    """Kernels of the prior, its centring included."""
    numbers = normal(("numbers",), (40 * count, 9))
    drawn = BLIND.prior.kernels(numbers)
    chance = torch.from_numpy(generator(("accepted",)).random(len(drawn)))
    accepted = chance < BLIND.prior.log_centring(drawn).exp()
    assert int(accepted.sum()) >= count
    return drawn[accepted][:count]


def simulated(count):
    """Images, kernels and measurements, all from the model."""
    images, drawn = FIELD.draw(count, seed=5).double(), kernels(count)
    blurred = [ops.Blur(k, SHAPE).forward(x[None]) for k, x in zip(drawn, images, strict=True)]
    return images, drawn, torch.cat(blurred) + STD * normal(("noise",), (count, *SHAPE))


def z_scores(samples, truths):
    """Of mean and variance of the ranks of truths among samples ``(count, samples)``."""
    size = samples.shape[1]
    rank = (samples < truths[:, None]).double().sum(1) - size / 2
    places = torch.arange(size + 1).double() - size / 2
    variance, fourth = places.square().mean(), places.pow(4).mean()
    root = math.sqrt(len(truths))
    of_mean = float(rank.mean() * root / variance.sqrt())
    spread = (fourth - variance**2).sqrt()
    return of_mean, float((rank.square().mean() - variance) * root / spread)


@pytest.mark.parametrize("count", [25, pytest.param(150, marks=pytest.mark.slow)])
def test_truths_rank_among_the_samples_as_samples_do(count):
    """Of entries, of the kernel's width, and of the image: they share one law."""
    images, truths, y = simulated(count)
    found = ti.solve(y, BLIND, FIELD, num_samples=8, steps=6)
    assert found.stats.denoiser_calls == 6
    samples = found.parameters["kernel"].samples
    assert samples.shape == (count, 8, 3, 3)
    torch.testing.assert_close(samples.sum((-2, -1)), torch.ones(count, 8).double())
    wide = BLIND.prior.offsets.square().sum(1).reshape(3, 3)
    asked = {
        "centre": (samples[..., 1, 1], truths[..., 1, 1]),
        "corner": (samples[..., 0, 2], truths[..., 0, 2]),
        "edge": (samples[..., 1, 0], truths[..., 1, 0]),
        "width": ((samples * wide).sum((-2, -1)), (truths * wide).sum((-2, -1))),
        "pixel": (found.samples[..., 0, 3, 4].double(), images[:, 0, 3, 4]),
    }
    for name, (drawn, truth) in asked.items():
        assert max(map(abs, z_scores(drawn, truth))) < 5, name
    # The data tell: without them an entry would be as wide as its prior.
    assert float(samples.std(1).mean()) < 0.7 * float(BLIND.prior.deviation.mean())


def test_a_sample_depends_on_no_other_and_is_kept(tmp_path):
    _, _, y = simulated(2)
    settings = {"prior": FIELD, "steps": 3, "noise": "estimate"}
    settings["method"] = ti.walks.UnknownInstrument(operator_moves=1, first_moves=8)
    both = ti.solve(y, BLIND, num_samples=2, **settings)
    alone = ti.solve(y[0], BLIND, num_samples=1, **settings)
    kernel = both.parameters["kernel"]
    assert torch.allclose(kernel.samples[0, :1], alone.parameters["kernel"].samples, atol=1e-9)
    assert kernel.trace.shape == (2, 2, 3, 3, 3)
    assert kernel.r_hat.shape == kernel.is_told.shape == (2, 3, 3)
    low, high = kernel.interval()
    assert bool((low <= high).all())
    assert both.noise.std.shape == (2, 2)
    # At the first level the noise moves as the kernel does.
    start = both.instrument.start
    assert start.shape == (2, 2, 8, 10)
    assert float(start[..., 0].std(2).min()) > 0
    both.save(tmp_path / "both.safetensors")
    again = ti.Posterior.load(tmp_path / "both.safetensors")
    assert torch.equal(again.parameters["kernel"].samples, kernel.samples)
    assert len(kernel.plot(index=1, truth=torch.eye(3) / 3).axes) == 7  # 5 pictures, 2 scales


def test_a_kernel_has_a_pilot_where_there_are_evaluations_for_it():
    _, _, y = simulated(1)
    walk = ti.walks.UnknownInstrument(pilot=5, operator_moves=1, first_moves=4)
    found = ti.solve(y, BLIND, FIELD, method=walk, num_samples=2, steps=8)
    assert "a pilot of 5 evaluations" in found.stats.reason
    assert found.parameters["kernel"].samples.isfinite().all()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: ops.BlindBlur(SHAPE, 4), "odd"),
        (lambda: ops.BlindBlur(SHAPE, 13), "no larger"),
        (lambda: ops.BlindBlur(SHAPE, 3, contrast=0), "contrast"),
        (lambda: ops.BlindBlur((12, 12), 3), "image_shape"),
        (lambda: BLIND.forward(torch.zeros(1, *SHAPE)), r"operator.at\(kernel=...\)"),
        (lambda: ti.solve(torch.zeros(SHAPE), BLIND, FIELD, method="langevin"), "decoupled"),
        (
            lambda: ti.solve(
                torch.zeros(SHAPE), BLIND, FIELD, noise=ops.GaussianNoise(torch.full(SHAPE, 0.1))
            ),
            "white noise",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(call, named):
    with pytest.raises((ValueError, TypeError), match=named):
        call()


@pytest.mark.parametrize("size", [3, 15])
def test_kernels_of_the_prior(size):
    prior = ops.BlindBlur((1, 32, 32), size).prior
    drawn = prior.kernels(normal((1,), (50, size**2)))
    assert bool((drawn > 0).all())
    torch.testing.assert_close(drawn.sum((-2, -1)), torch.ones(50).double())
    assert float(prior.log_centring(drawn).max()) <= 0
    known, x = ops.BlindBlur((1, 32, 32), size).at(kernel=drawn[0]), normal((2,), (1, 1, 32, 32))
    torch.testing.assert_close(known.forward(x), ops.Blur(drawn[0], (1, 32, 32)).forward(x))


def test_a_kernel_that_is_not_moved_stays_as_it_began():
    still = ti.walks.UnknownInstrument(operator_moves=0, first_moves=0)
    found = ti.solve(simulated(1)[2], BLIND, FIELD, method=still, num_samples=2, steps=2)
    expected = BLIND.prior.kernels(torch.zeros(9).double())
    torch.testing.assert_close(
        found.parameters["kernel"].samples, expected.expand(1, 2, 3, 3), rtol=1e-9, atol=1e-9
    )
