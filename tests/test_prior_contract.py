"""Contract of priors without a closed form: networks of every kind, in every walk."""

import pytest
import torch

import tweedie_inverse as ti
from tests.registry import NETWORKS, WALKS
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal


@pytest.fixture(params=NETWORKS)
def prior(request):
    return NETWORKS[request.param]()


def test_shapes_dtypes_and_inputs(prior):
    x = normal((1,), (3, *prior.shape))
    for dtype in (torch.float32, torch.float64):
        given = x.to(dtype)
        before = given.clone()
        for sigma in (0.3, torch.tensor(0.3), torch.tensor([0.3, 0.3, 0.3])):
            denoised = prior.denoise(given, sigma)
            assert denoised.shape == given.shape
            assert denoised.dtype == dtype
        assert torch.equal(given, before)


def test_each_image_has_its_own_sigma(prior):
    """A level that is taken from the first image, or from the next, shows."""
    x = normal((1,), (3, *prior.shape)).float()
    sigmas = torch.tensor([0.1, 1.0, 5.0])
    together = prior.denoise(x, sigmas)
    for image, sigma, denoised in zip(x, sigmas, together, strict=True):
        alone = prior.denoise(image[None], sigma)[0]
        torch.testing.assert_close(alone, denoised, rtol=1e-4, atol=1e-4)
    swapped = prior.denoise(x, sigmas.flip(0))
    assert not torch.allclose(swapped[0], together[0], rtol=1e-3, atol=1e-3)


def test_score_is_tweedie(prior):
    x = normal((1,), (3, *prior.shape))
    score = (prior.denoise(x, 0.4) - x) / 0.4**2
    torch.testing.assert_close(prior.score(x, 0.4), score)


@pytest.mark.parametrize("walk", WALKS)
def test_every_walk_takes_it(prior, walk):
    """Samples of each measurement are those it has alone; a seed gives the same bits again.

    A walk that takes the error from a table needs one, and says so.
    """
    operator = ops.Mask(ops.random_mask(prior.shape, 0.5), noise=ops.GaussianNoise(0.3))
    y = operator.measure(normal((2,), (2, *prior.shape)).float(), seed=1)

    def run(y, seed=3):
        settings = {"method": WALKS[walk](), "num_samples": 2, "steps": 6}
        return ti.solve(y, operator, prior, seed=seed, **settings).samples

    method = WALKS[walk]()
    if getattr(method, "error", "auto") == "average" and not prior.error_is_measured:
        with pytest.raises(ValueError, match="denoising error"):
            run(y)
        return
    together = run(y)
    assert together.shape == (2, 2, *prior.shape)
    assert together.dtype == torch.float32
    assert bool(together.isfinite().all())
    assert torch.equal(together, run(y))
    torch.testing.assert_close(together[:1], run(y[:1]), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(together, run(y, seed=4))
