"""On an accelerator the same seed gives the same samples, up to rounding."""

import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.slices import CTSlices

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
