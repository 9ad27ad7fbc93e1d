"""On an accelerator the same seed gives the same samples, up to rounding."""

import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.slices import CTSlices, texture_std
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.learned_noise import LearnedLevels
from tweedie_inverse.training.trainer import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("method", ["decoupled", "langevin"])
def test_samples_agree_with_the_cpu(method):
    x = CTSlices(64).images([HELD_OUT_SEED])
    operator = ops.Tomography((1, 64, 64), angles=10, noise=ops.GaussianNoise(0.5))
    y = operator.measure(x, seed=1)

    def run(device):
        prior = ti.load_prior("phantom-64", device=device)
        return ti.solve(
            y.to(device), operator, prior, method=method, num_samples=2, steps=5
        ).samples.cpu()

    torch.testing.assert_close(run("cuda"), run("cpu"), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("geometry", ["parallel", "fan"])
@pytest.mark.parametrize("storage", ["matrix", "matrix-free"])
def test_tomography_agrees_with_the_cpu(geometry, storage):
    x = CTSlices(64).images([HELD_OUT_SEED]).double()
    operator = ops.Tomography((1, 64, 64), angles=40, geometry=geometry, storage=storage)
    y = operator.forward(x)
    torch.testing.assert_close(operator.forward(x.cuda()).cpu(), y)
    torch.testing.assert_close(operator.adjoint(y.cuda()).cpu(), operator.adjoint(y))
    torch.testing.assert_close(operator.pseudo_inverse(y.cuda()).cpu(), operator.pseudo_inverse(y))


@pytest.mark.parametrize("recipe", ["ddpm", "heun", "coloured"])
def test_unconditional_samples_agree_with_the_cpu(recipe):
    def run(device):
        prior = ti.load_prior("phantom-64", device=device)
        return ti.sample(prior, 2, recipe=recipe, steps=9, device=device).cpu()

    torch.testing.assert_close(run("cuda"), run("cpu"), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("given", [True, False])
def test_a_prior_is_checked_where_it_is(given):
    images = CTSlices(64).images(range(HELD_OUT_SEED, HELD_OUT_SEED + 8)).cuda()
    prior = ti.load_prior("phantom-64", device="cuda")
    report = ti.check_prior(prior, images if given else None)
    assert report.passed, str(report)


def test_samples_are_drawn_where_the_prior_is():
    assert ti.sample(ti.load_prior("phantom-64", device="cuda"), 1, steps=2).is_cuda
    prior = ti.load_prior("digits-32-psld", device="cuda")
    assert ti.phase_space.sample(prior, 1, steps=3).is_cuda


def test_learned_noise_levels_train_on_the_device(tmp_path):
    config = TrainingConfig(
        size=16, steps=3, batch=4, widths=(8, 16), blocks=(1, 1), noise_levels="learned",
        weight="inverse-square",
    )  # fmt: skip
    assert [report.step for report in train(config, tmp_path, device="cuda", report_every=3)] == [3]
    levels = LearnedLevels().cuda()
    assert not levels.sample(4, torch.Generator().manual_seed(0)).is_cuda
    assert not levels.table(5).is_cuda


def test_texture_of_slices_on_the_device():
    hounsfield = torch.linspace(-1000, 1000, 64)
    torch.testing.assert_close(texture_std(hounsfield.cuda()).cpu(), texture_std(hounsfield))
