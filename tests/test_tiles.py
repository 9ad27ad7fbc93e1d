"""A prior in tiles is the prior: same numbers where it can be, no seams, bounded memory."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.networks import save_pipeline, seeded, small_unet
from tests.posteriors import agreement, gaussian_posterior
from tweedie_inverse import operators as ops
from tweedie_inverse.app.cli import main
from tweedie_inverse.benchmarks.studies.tiles import border_jump
from tweedie_inverse.datasets.photographs import load_photo
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.tiles import TiledNetwork, starts, windows

SIZES = [(64, 64, 16), (65, 64, 16), (112, 64, 16), (113, 64, 32), (512, 64, 16), (97, 8, 4),
         (20, 8, 1), (40, 64, 16)]  # fmt: skip


@pytest.mark.parametrize(("length", "tile", "overlap"), SIZES)
def test_windows_are_a_smooth_partition_of_unity(length, tile, overlap):
    tile = min(tile, length)
    places, weights = starts(length, tile, overlap), windows(length, tile, overlap)
    assert weights.shape == (len(places), tile)
    assert (places[0], places[-1]) == (0, length - tile)
    assert all(b - a <= tile - overlap for a, b in pairwise(places))
    total = torch.zeros(length, dtype=torch.float64)
    whole = torch.zeros(len(places), length, dtype=torch.float64)
    for row, weight, start in zip(whole, weights, places, strict=True):
        assert bool((weight > 0).all())
        row[start : start + tile] = weight
        total += row
    torch.testing.assert_close(total, torch.ones(length).double(), rtol=0, atol=1e-15)
    # Between tiles nothing rises faster than the sine, from zero outside to one.
    steps = whole.diff(dim=1).abs().flatten().tolist() if len(places) > 1 else [0.0]
    assert max(steps) <= math.pi / overlap


class Pointwise(nn.Module):
    """Any function of the pixel and the label."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.7))

    def forward(self, x, label):
        return torch.tanh(self.gain * x) + label.reshape(-1, 1, 1, 1) * x**2


@pytest.mark.parametrize("kind", ["x0", "epsilon", "v", "score", "edm", "flow"])
def test_a_pointwise_network_does_not_notice_tiles(kind):
    """Every parameterization, each image with its own sigma, correction by a measured gain."""
    prior = ti.priors.NetworkPrior(
        Pointwise().double(), kind, shape=(2, 8, 8), sigma_min=0.01, sigma_max=5
    )
    images = 0.3 * normal((1,), (20, 2, 8, 8))
    prior.error = ti.measure_denoising_error(prior, images, levels=3)
    prior.fully_convolutional = True
    x, sigma = normal((2,), (3, 2, 21, 34)), torch.tensor([0.1, 0.5, 2.0])
    whole, tiled = (p.for_shape(x.shape[1:]) for p in (prior, prior.tiled(overlap=3, pixels=200)))
    torch.testing.assert_close(tiled.denoise(x, sigma), whole.denoise(x, sigma))
    for ours, theirs in zip(
        (tiled.denoising_error(0.5), tiled.conditional_covariance(0.5, x)),
        (whole.denoising_error(0.5), whole.conditional_covariance(0.5, x)),
        strict=True,
    ):
        torch.testing.assert_close(ours.variance, theirs.variance, rtol=0, atol=0)
    one = torch.cat([tiled.denoise(x[i : i + 1], sigma[i]) for i in range(3)])
    torch.testing.assert_close(tiled.denoise(x, sigma), one)


def test_gradients_pass_through_tiles():
    network, x = Pointwise(), normal((2,), (2, 1, 13, 9)).float()
    tiled = TiledNetwork(network, (8, 8), 3, 100)
    label, weight = torch.tensor([0.1, 0.7]), normal((3,), x.shape).float()
    gradients = []
    for module in (network, tiled):
        given = x.clone().requires_grad_()
        (module(given, label) * weight).sum().backward()
        gradients.append(given.grad)
    torch.testing.assert_close(*gradients)


def test_a_convolution_differs_by_no_more_than_the_window_lets_through():
    """Beyond its border a tile sees zeros; a reach of one pixel spoils the last pixel alone."""
    network = seeded(lambda: nn.Conv2d(1, 1, 3, padding=1, bias=False))

    class Convolution(nn.Module):
        def forward(self, x, label):
            return network(x)

    x = normal((2,), (1, 1, 50, 50)).float()
    tiled = TiledNetwork(Convolution(), (16, 16), 8, 10**6)
    difference = (tiled(x, torch.ones(1)) - network(x)).abs()
    most = float(network.weight.abs().sum() * x.abs().max())
    assert 0 < float(difference.max()) <= 2 * math.sin(math.pi / 2 * 0.5 / 8) ** 2 * most


class OfItsSize(nn.Module):
    """Takes 6 x 8 and nothing else, and remembers how many pixels it was given at once."""

    def __init__(self):
        super().__init__()
        self.layer, self.pixels = nn.Linear(48, 48), []

    def forward(self, x, label):
        assert x.shape[1:] == (1, 6, 8)
        self.pixels.append(x.numel())
        return self.layer(x.flatten(1)).reshape(x.shape) * label.reshape(-1, 1, 1, 1)


def test_a_network_of_fixed_size_serves_larger_images_in_bounded_memory():
    network = seeded(OfItsSize)
    prior = ti.priors.NetworkPrior(network, "x0", shape=(1, 6, 8))
    with pytest.raises(ValueError, match="is a prior for images of shape"):
        prior.for_shape((1, 17, 20))
    tiled = prior.tiled(overlap=2, pixels=5 * 48)
    x, sigma = normal((2,), (2, 1, 17, 20)).float(), torch.tensor([0.3, 2.0])
    found = tiled.for_shape((1, 17, 20)).denoise(x, sigma)
    assert max(network.pixels) == 5 * 48
    assert tiled.shape == (1, 6, 8)
    expected = torch.zeros_like(x)
    for i, down in zip(starts(17, 6, 2), windows(17, 6, 2).float(), strict=True):
        for j, across in zip(starts(20, 8, 2), windows(20, 8, 2).float(), strict=True):
            tile = network(x[..., i : i + 6, j : j + 8], sigma)
            expected[..., i : i + 6, j : j + 8] += torch.outer(down, across) * tile
    torch.testing.assert_close(found, expected)
    small = x[..., :6, :8]
    torch.testing.assert_close(tiled.denoise(small, sigma), prior.denoise(small, sigma))


def test_tiles_that_do_not_suit_are_told():
    prior = ti.priors.NetworkPrior(Pointwise(), "x0", shape=(1, 6, 8))
    with pytest.raises(ValueError, match=r"not fully convolutional, so tiles have its own shape"):
        prior.tiled(16)
    for overlap in (0, 4):
        with pytest.raises(ValueError, match=rf"overlap={overlap}\): needs 1 to 3 pixels"):
            prior.tiled(overlap=overlap)
    with pytest.raises(ValueError, match="not tiled yet"):
        prior.tiled().tiled()
    prior.fully_convolutional = True
    assert prior.tiled(16).module.tile == (16, 16)
    with pytest.raises(ValueError, match="images of shape"):
        prior.tiled().for_shape((1, 5, 8))


def test_the_posterior_through_tiles_is_right():
    """An exact denoiser of white images, 4 x 4 at a time: mean and variance along every axis."""
    std, shape = 0.3, (1, 6, 7)

    class Exact(nn.Module):
        def forward(self, x, sigma):
            return std**2 / (std**2 + sigma.reshape(-1, 1, 1, 1) ** 2) * x

    class WithExactError(ti.priors.Prior):
        def __init__(self, tiled, exact):
            self.tiled, self.exact, self.shape = tiled, exact, shape
            self.sigma_min, self.sigma_max = 0.005, 20.0

        def denoise(self, x, sigma):
            return self.tiled.denoise(x, sigma)

        def denoising_error(self, sigma):
            return self.exact.denoising_error(sigma)

    covariance = std**2 * torch.eye(42).double()
    exact = ti.priors.Gaussian(torch.zeros(shape).double(), covariance=covariance)
    tiled = ti.priors.NetworkPrior(Exact(), "x0", shape=(1, 4, 4)).tiled(overlap=2, pixels=16)
    operator = ops.compose(
        ops.MatrixOperator(normal((2,), (9, 42)), noise=ops.GaussianNoise(0.1)),
        ops.LinearOperator.from_function(lambda x: x.flatten(1), shape),
    )
    y = operator.forward(exact.draw(1, seed=3)) + 0.1 * normal((4,), (1, 9))
    posterior = ti.solve(
        y, operator, WithExactError(tiled.for_shape(shape), exact),
        method="decoupled", num_samples=400, steps=8, noise=ops.GaussianNoise(0.1),
    )  # fmt: skip
    found = agreement(posterior.samples[0], gaussian_posterior(exact, operator, y[0], 0.1))
    assert found.worst_z < 5


def test_no_seams_on_a_photograph():
    """Side by side without blending, tiles jump at their borders; blended, they do not."""
    prior = ti.load_prior("photo-64")
    clean = load_photo("astronaut")[None, :, 20:212, 130:322]
    noisy, shape = clean + normal((7,), clean.shape).float(), clean.shape[1:]
    whole = prior.for_shape(shape).denoise(noisy, 1.0)
    excess, square = {}, {}
    for overlap in (1, 16):
        denoised = prior.tiled(overlap=overlap).for_shape(shape).denoise(noisy, 1.0)
        excess[overlap] = border_jump(denoised, clean, 64, overlap) - border_jump(
            whole, clean, 64, overlap
        )
        square[overlap] = float((denoised - clean).square().mean())
    # Over noises: 0.18 +- 0.03 against 0.005 +- 0.007.
    assert excess[1] > 0.05, excess
    assert excess[16] < 0.04, excess
    assert excess[1] - excess[16] > 0.05
    # Tiles are of the size on which the network was trained: no worse than the whole at once.
    # The ratio scatters by 0.8 % over noises.
    assert square[16] < 1.04 * float((whole - clean).square().mean())


def test_a_network_with_attention_solves_larger_images_from_the_command_line(tmp_path, capsys):
    """A diffusers pipeline of 16 x 16 images, for one of 24 x 20."""
    diffusers = pytest.importorskip("diffusers")
    folder = save_pipeline(tmp_path / "ddpm", small_unet(), diffusers.DDPMScheduler())
    (tmp_path / "op.py").write_text(
        "from tweedie_inverse import operators as ops\n"
        "mask = ops.Mask(ops.random_mask((1, 24, 20), 0.5))\n"
    )
    np.save(tmp_path / "y.npy", np.full((1, 24, 20), 0.5, dtype=np.float32))
    command = ["solve", str(tmp_path / "y.npy"), "--operator", f"{tmp_path / 'op.py'}:mask"]
    command += ["--noise", "0.1", "--steps", "2", "--samples", "2", "--prior", str(folder)]
    command += ["--out", str(tmp_path / "posterior.safetensors")]
    with pytest.raises(SystemExit):
        main(command)
    assert "is a prior for images of shape (1, 16, 16)" in capsys.readouterr().err
    main([*command, "--tiled"])
    found = ti.Posterior.load(tmp_path / "posterior.safetensors")
    assert found.samples.shape == (2, 1, 24, 20)
