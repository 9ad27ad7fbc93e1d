"""Noise across the bridge: ours against deepinv's own draws."""

import warnings

import pytest
import torch

from tests.seeds import salted
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal

pytest.importorskip("deepinv")
from deepinv import physics as dp

from tests.deepinv_physics import MASK, images, physics_of


def moments(samples):
    return samples.mean(0), samples.var(0)


def assert_same_law(operator, physics, x, count=4000):
    """Mean and variance of every entry, by z-scores of `count` draws of each."""
    repeated = x.expand(count, *x.shape[1:])
    ours = operator.measure(repeated.double(), seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(salted(0))
        y = physics(repeated)
    parts = [y] if isinstance(y, torch.Tensor) else list(y)
    parts = [torch.cat([p.real, p.imag], 1) if p.is_complex() else p for p in parts]
    other = torch.cat([p.flatten(1) for p in parts], 1).double()
    (mean, variance), (mean_2, variance_2) = moments(ours.flatten(1)), moments(other)
    seen = variance_2 > 0
    assert torch.equal(seen, variance > 0)
    # A Poisson number's fourth moment is 3 variance^2 + variance (in counts): allow for it.
    fourth = ((other - mean_2) ** 4).mean(0)
    z = (mean - mean_2)[seen] / (2 * variance_2[seen] / count).sqrt()
    w = (variance - variance_2)[seen] / (2 * (fourth - variance_2**2)[seen] / count).sqrt()
    assert float(z.abs().max()) < 5
    assert float(w.abs().max()) < 5


NOISY = {
    "gaussian": lambda: dp.Denoising(dp.GaussianNoise(0.3)),
    "gaussian-masked": lambda: dp.Inpainting(
        img_size=(1, 8, 8), mask=MASK[None], noise_model=dp.GaussianNoise(0.3)
    ),
    "gaussian-mri": lambda: dp.MRI(mask=MASK, img_size=(8, 8), noise_model=dp.GaussianNoise(0.3)),
    "gaussian-complex": lambda: dp.PtychographyLinearOperator(
        img_size=(1, 8, 8),
        probe=torch.ones(1, 4, 4, dtype=torch.cfloat),
        shifts=torch.zeros(1, 2, dtype=torch.int32),
        noise_model=dp.GaussianNoise(0.3),
    ),
    "poisson": lambda: dp.Denoising(dp.PoissonNoise(0.2)),
    "poisson-counts": lambda: dp.Denoising(dp.PoissonNoise(0.2, normalize=False)),
    "poisson-gaussian": lambda: dp.Denoising(dp.PoissonGaussianNoise(0.2, 0.1)),
    "poisson-gaussian-without": lambda: dp.Denoising(dp.PoissonGaussianNoise(0.2, 0.0)),
    "poisson-stacked": lambda: dp.Pansharpen(
        img_size=(3, 8, 8), noise_color=dp.PoissonNoise(0.2), noise_gray=dp.PoissonNoise(0.2)
    ),
    "gaussian-stacked": lambda: dp.Pansharpen(
        img_size=(3, 8, 8), noise_color=dp.GaussianNoise(0.1), noise_gray=dp.GaussianNoise(0.4)
    ),
}


@pytest.mark.parametrize("name", NOISY)
def test_noise_has_the_same_law(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        physics = NOISY[name]()
    shape = (1, 8, 8) if isinstance(physics, dp.Denoising) else None
    operator = ops.from_deepinv(physics, domain_shape=shape)
    x = images(operator, 1, torch.float32)
    assert_same_law(operator, physics, x)


def test_noise_back_in_deepinv():
    operator = ops.Mask(MASK, noise=ops.GaussianNoise(0.3))
    physics = ops.to_deepinv(operator)
    assert float(physics.noise_model.sigma) == pytest.approx(0.3)
    x = images(operator, 1, torch.float32)
    assert torch.equal(physics.A(x), operator.forward(x))
    assert_same_law(operator, physics, x)
    assert torch.equal(physics(x, seed=2), physics(x, seed=2))
    assert not torch.equal(physics(x, seed=2), physics(x, seed=3))


@pytest.mark.parametrize("noise", [ops.PoissonNoise(0.2), ops.PoissonGaussianNoise(0.2, 0.1)])
def test_counting_noise_back_in_deepinv(noise):
    operator = ops.Mask(MASK, noise=noise)
    physics = ops.to_deepinv(operator)
    assert_same_law(operator, physics, images(operator, 1, torch.float32))
    assert ops.from_deepinv(physics) is operator


def test_counts_stay_in_the_units_of_y():
    physics = dp.Denoising(dp.PoissonNoise(0.2, normalize=False))
    operator = ops.from_deepinv(physics, domain_shape=(1, 4, 4))
    x = images(operator, 1, torch.float64)
    torch.testing.assert_close(operator.forward(x), x / 0.2)
    assert ops.adjoint_error(operator) < 1e-12
    assert ops.to_deepinv(operator) is physics
    known = ops.from_deepinv(physics, domain_shape=(1, 4, 4), noise=ops.GaussianNoise(0.1))
    torch.testing.assert_close(known.forward(x), x)


def test_coloured_noise_back_in_deepinv():
    spectrum = torch.full((4, 4), 0.01)
    spectrum[0, 0] = 4.0
    operator = ops.Mask(torch.ones(4, 4), noise=ops.GaussianNoise.stationary(spectrum))
    y = ops.to_deepinv(operator)(torch.zeros(4000, 1, 4, 4))
    z = (y.mean((1, 2, 3)).var() * 16 / 4.0 - 1) / (2 / 4000) ** 0.5  # the lowest frequency
    assert abs(float(z)) < 5


def test_own_noise_back_in_deepinv():
    stds = torch.tensor([0.1, 0.2, 0.4])
    operator = ops.MatrixOperator(normal((2,), (3, 5)), noise=ops.GaussianNoise(stds))
    physics = ops.to_deepinv(operator)
    assert_same_law(operator, physics, images(operator, 1, torch.float32))
    assert ops.from_deepinv(physics) is operator


def test_no_noise_is_unknown_noise():
    physics = dp.Denoising(dp.ZeroNoise())
    operator = ops.from_deepinv(physics, domain_shape=(1, 4, 4))
    assert operator.noise is None
    assert isinstance(ops.to_deepinv(ops.MatrixOperator(torch.eye(3))).noise_model, dp.ZeroNoise)


def test_replaced_noise_survives_the_way_to_deepinv():
    operator = ops.from_deepinv(physics_of("denoising"), domain_shape=(1, 5, 6))
    operator.noise = ops.GaussianNoise(0.3)
    assert float(ops.to_deepinv(operator).noise_model.sigma) == pytest.approx(0.3)
