"""Large images and volumes: memory in images, long cosine transforms, progress within a step."""

import math

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.networks import seeded
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.studies import large
from tweedie_inverse.numerics import cosine_transform
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Cosines, cosine_matrix
from tweedie_inverse.priors import batches
from tweedie_inverse.priors.contract import hold_contracts
from tweedie_inverse.runtime import notebook
from tweedie_inverse.runtime.live_memory import LiveBytes, peak_bytes
from tweedie_inverse.solving import blocks, progress

SIDE = 96
IMAGE = 4 * SIDE**2


class Small(nn.Module):
    """A network that holds little, and counts its images."""

    def __init__(self):
        super().__init__()
        self.conv, self.seen = nn.Conv2d(1, 1, 3, padding=1), 0

    def forward(self, x, label):
        self.seen += len(x)
        return 0.1 * self.conv(x)


@pytest.fixture(scope="module")
def prior():
    """Small, with the tables of a shipped prior, in tiles."""
    known = ti.load_prior("texture-64")
    small = ti.priors.NetworkPrior(
        seeded(Small), "edm", shape=(1, 64, 64), sigma_min=0.004, sigma_max=20.0, error=known.error,
        scale=known.scale, offset=known.offset, fully_convolutional=True,
    )  # fmt: skip
    return small.tiled()


def scan(side):
    """Blurred, with missing pixels: every draw is an iterative solve."""
    shape = (1, side, side)
    seen = ops.Mask(ops.random_mask(shape, 0.5, seed=0))
    blur = ops.Blur(ops.gaussian_kernel(1.0), shape)
    operator = ops.compose(seen, blur, noise=ops.GaussianNoise(0.05))
    return operator.measure(torch.full((1, *shape), 0.5), seed=0), operator


def peak_of(function):
    with LiveBytes() as live:
        result = function()
    return live.peak / IMAGE, result


@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
def test_memory_does_not_grow_with_the_samples_in_a_file(tmp_path):
    operator = ops.Blur(ops.gaussian_kernel(1.0), (1, SIDE, SIDE), noise=ops.GaussianNoise(0.05))
    prior = ti.priors.Gaussian(torch.zeros(1, SIDE, SIDE), power_spectrum=torch.ones(SIDE, SIDE))
    y = operator.measure(torch.full((1, 1, SIDE, SIDE), 0.5), seed=0)

    def peak(count, file=None):
        def solve():
            return ti.solve(
                y, operator, prior, num_samples=count, steps=2, batch_size=1, samples_to=file
            )

        return peak_of(solve)

    peak(1)  # constants are made and kept
    few, _ = peak(2, tmp_path / "few.h5")
    many, posterior = peak(5, tmp_path / "many.h5")
    assert many < few + 0.5
    assert posterior.samples.shape[1] == 5
    asked = {
        "mean": lambda: posterior.mean,
        "std": lambda: posterior.std,
        "save": lambda: posterior.save(tmp_path / "saved.safetensors"),
        "load": lambda: ti.Posterior.load(tmp_path / "many.h5"),
    }
    for name, ask in asked.items():
        assert peak_of(ask)[0] < 2.5, name


def test_questions_to_many_large_images_copy_few_of_them(monkeypatch):
    monkeypatch.setattr(blocks, "_NUMBERS", 2**18)
    samples = normal(("many",), (24, 1, 256, 256)).float()
    posterior = ti.Posterior(
        samples,
        ti.solving.diagnostics.Diagnostics(torch.ones(24), torch.tensor(24.0)),
        ti.solving.stats.Stats("test", "", 1, 1.0, 1.0, 0.0),
    )
    asked = {
        "interval": lambda: posterior.interval(0.9),
        "quantiles": lambda: posterior.quantile([0.1, 0.9]),
        "of": lambda: posterior.functional(lambda x: x.mean((1, 2, 3))).std,
        "error": lambda: posterior.functional().standard_error_of_std,
    }
    for name, ask in asked.items():
        with LiveBytes() as live:
            ask()
        # A block is four of these images, and sorting takes four times as much.
        assert live.peak < 5 * 4 * 2**18, name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
def test_a_walker_takes_some_thirty_images(prior):
    """The large problems fit 24 GB: 4096 x 4096 numbers are 64 MiB, and 256^3 as many."""
    side = 1024
    y, operator = scan(side)
    with LiveBytes() as live:
        for _ in ti.iterate(y, operator, prior, steps=6):
            pass
    assert live.peak < 45 * 4 * side**2


@pytest.mark.parametrize("size", [5, 6, 513, 640])
@pytest.mark.parametrize("block", [50, 2**18])
def test_long_cosine_transforms_are_those_of_the_matrix(size, block, monkeypatch):
    monkeypatch.setattr(cosine_transform, "_BLOCK_CPU", block)
    x = normal(("cosines",), (2, 3, size))
    matrix = cosine_matrix(size, x.dtype, x.device)
    for axis in (-1, -2):
        given = x if axis == -1 else x.mT
        found = cosine_transform.cosines(given, axis)
        expected = given @ matrix.mT if axis == -1 else matrix @ given
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
        torch.testing.assert_close(cosine_transform.of_cosines(found, axis), given)


@pytest.mark.parametrize("block", [500, 2**18])
def test_long_axes_are_transformed_so_and_short_ones_as_before(block, monkeypatch):
    monkeypatch.setattr(cosine_transform, "_BLOCK_CPU", block)
    x = normal(("cosines",), (1, 1, 520, 6)).requires_grad_()
    long, short = (cosine_matrix(size, x.dtype, x.device) for size in (520, 6))
    found = Cosines().transform(x)
    torch.testing.assert_close(found, long @ x @ short.mT, rtol=0, atol=1e-11)
    (gradient,) = torch.autograd.grad(found, x, torch.ones_like(x))
    torch.testing.assert_close(gradient, Cosines().inverse(torch.ones_like(x)))


def test_a_tiled_network_is_tried_on_a_tile(prior):
    resized = prior.for_shape((1, 300, 300))
    network = prior.module.network
    network.seen = 0
    spent = hold_contracts(resized, torch.zeros(1))
    assert (spent, network.seen) in ((3, 3), (0, 0))  # once for each network


def test_how_many_walk_together_is_found_on_few_tiles(prior):
    resized, like = prior.for_shape((1, 1024, 1024)), torch.zeros(1)
    network = prior.module.network
    network.seen = 0
    each, all_together = batches._measured(resized, like)
    assert network.seen < 100
    x = torch.zeros(2, *resized.shape)
    peak = peak_bytes(lambda: resized.denoise(x, 0.5), x.device)
    assert 0.4 * (2 * each + all_together) < peak < 2 * each + all_together


class Bar:
    """What a bar of tqdm is told."""

    def __init__(self, total, **settings):
        self.total, self.n, self.initial, self.moves = total, 0, 0, []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, more):
        self.n += more
        self.moves.append(self.n)


@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
def test_the_bar_moves_within_a_step_of_many_tiles(prior, monkeypatch):
    bars = []
    monkeypatch.setattr(
        notebook, "progress_bar", lambda **given: bars.append(Bar(**given)) or bars[-1]
    )
    y, operator = scan(256)
    ti.solve(y, operator, prior, num_samples=2, steps=2, batch_size=1, progress=True)
    (bar,) = bars
    assert bar.total == 4
    assert bar.n == pytest.approx(4)
    assert bar.moves == sorted(bar.moves)
    # 25 tiles, 16 in the first call.
    assert bar.moves[:3] == pytest.approx([16 / 25, 0.9, 1.0])
    assert not prior.module.network._forward_hooks


def test_pieces_of_images_and_volumes(prior):
    assert progress.pieces_of(prior) is None
    assert progress.pieces_of(prior.for_shape((1, 256, 112))).inputs == 10
    whole = ti.priors.Slices(ti.load_prior("texture-64"), depth=5, correlation=1.0)
    assert progress.pieces_of(whole).inputs == 5
    tiled = ti.priors.Slices(prior.for_shape((1, 112, 112)), depth=5, correlation=1.0)
    assert progress.pieces_of(tiled).inputs == 20
    assert (
        progress.pieces_of(ti.priors.Gaussian(torch.zeros(1, 4), covariance=torch.eye(4))) is None
    )
    assert math.prod(tiled.shape) == 5 * 112**2


@pytest.mark.slow
@pytest.mark.parametrize("problem", large.CASES)
def test_the_study_says_what_it_measured(problem, tmp_path, capsys):
    large.run(large.asked([problem, "--smoke"]), tmp_path / "a.h5")
    said = capsys.readouterr().out
    assert "peak memory of the process" in said
    assert "2 evaluations" in said
    assert ti.Posterior.load(tmp_path / "a.h5").samples.shape[1] == 2


def test_a_limit_of_memory_is_one_of_cuda(tmp_path):
    with pytest.raises(ValueError, match="say --device cuda as well"):
        large.run(large.asked(["image", "--limit-gb", "24"]), tmp_path / "a.h5")
