"""Published denoisers, nothing measured; skipped where their weights are not at hand."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import tweedie_inverse as ti
from tweedie_inverse.benchmarks.problems.published import PUBLISHED, published_prior
from tweedie_inverse.benchmarks.problems.suites import photographs
from tweedie_inverse.benchmarks.studies.published import measured_on, tasks
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import formats

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


def kair_stack(state, h):
    places = sorted({int(name.split(".")[1]) for name in state})
    for place in places:
        h = F.conv2d(h, state[f"model.{place}.weight"], state[f"model.{place}.bias"], padding=1)
        h = h.relu() if place != places[-1] else h
    return h


def ffdnet(x, sigma):
    """The authors' forward(), line by line."""
    half = F.pixel_unshuffle(x, 2)
    level = torch.full((len(x), 1, *half.shape[2:]), sigma)
    state = load_file(FOLDER / "ffdnet-color.safetensors")
    return F.pixel_shuffle(kair_stack(state, torch.cat([half, level], 1)), 2)


def dncnn(x, sigma):
    state = torch.load(FOLDER / "kair-dncnn-25.pth", weights_only=True)
    return x - kair_stack(state, x)


def dncnn6n(x, sigma):
    state = load_file(FOLDER / "scico-dncnn6N.safetensors")
    h = torch.cat([x, torch.full_like(x, sigma)], 1)
    for name in ("conv_start", *(f"ConvBNBlock_{k}" for k in range(4)), "conv_end"):
        kernel = state.get(f"params/{name}/kernel", state.get(f"params/{name}/Conv_0/kernel"))
        h = F.conv2d(F.pad(h, (1, 1, 1, 1), mode="circular"), kernel.permute(3, 2, 0, 1))
        if "Block" in name:
            mean, var = (state[f"batch_stats/{name}/BatchNorm_0/{k}"] for k in ("mean", "var"))
            scale, bias = (state[f"params/{name}/BatchNorm_0/{k}"] for k in ("scale", "bias"))
            h = F.batch_norm(h, mean, var, scale, bias)
        h = h if name == "conv_end" else h.relu()
    return x - h[:, :1]


@pytest.mark.parametrize(
    ("file", "formula", "levels"),
    [
        ("ffdnet-color.safetensors", ffdnet, (10, 25, 50)),
        ("kair-dncnn-25.pth", dncnn, (25,)),
        ("scico-dncnn6N.safetensors", dncnn6n, (10, 25, 45)),
    ],
)
@pytest.mark.filterwarnings("ignore:load_prior.*one noise level")
def test_one_line_gives_the_authors_denoiser(file, formula, levels):
    prior = ti.load_prior(FOLDER / file)
    truth = truth_for(prior)
    for level in levels:
        sigma = level / 255
        noisy = truth + sigma * normal((1, level), truth.shape).to(truth)
        found = prior.denoise(noisy, sigma)
        torch.testing.assert_close(found, formula(noisy, sigma), rtol=1e-4, atol=1e-5)
        assert psnr(found, truth) > psnr(noisy, truth) + 5


def test_the_level_of_one_level_is_said():
    with pytest.warns(UserWarning, match=r"that it is 25/255 was taken from the file's name"):
        prior = ti.load_prior(FOLDER / "kair-dncnn-25.pth")
    operator = tasks((1, 64, 64))["blur 1.5"]
    with pytest.raises(ValueError, match="was trained at one noise level"):
        ti.solve(operator.measure(truth_for(prior), seed=0), operator, prior)
    settings = formats.KnownDenoiser(sigma_max=0.1)
    assert ti.load_prior(FOLDER / "kair-dncnn-25.pth", format=settings).sigma_max == 0.1


@pytest.mark.parametrize("name", PUBLISHED)
def test_they_solve_as_they_are(name):
    """With sigma^2 I it is 16 to 22 dB for one, and an explosion for the other."""
    prior = published_prior(name, FOLDER)
    truth = truth_for(prior)
    for operator in tasks((prior.shape[0], 64, 64)).values():
        y = operator.measure(truth, seed=0)
        found = ti.solve(y, operator, prior, num_samples=8, steps=20, seed=0)
        assert psnr(found.mean, truth) > 24
        assert 0.85 < float(found.diagnostics.residual_chi_square.mean()) < 1.25


def test_the_study_measures_on_another_photograph():
    tiles = measured_on("test", count=3)
    assert tiles.shape == (3, 3, 64, 64)
    assert not any(bool((tile == tiles[0]).all()) for tile in tiles[1:])
