"""deepinv's algorithms on our operators."""

import numpy as np
import pytest
import torch

from tests.seeds import salted
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal

deepinv = pytest.importorskip("deepinv")
from tests.registry import OPERATORS  # noqa: E402


class Wiener(deepinv.models.Denoiser):
    """The exact denoiser of independent pixels, mean 0.5 and standard deviation 0.2."""

    def forward(self, x, sigma, **kwargs):
        sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        return 0.5 + 0.04 / (0.04 + sigma**2) * (x - 0.5)


def problem():
    operator = ops.Downsampling((1, 16, 16), 2, kernel="block_mean", noise=ops.GaussianNoise(0.05))
    x = 0.5 + 0.2 * normal((4,), (2, 1, 16, 16)).float()
    return operator, ops.to_deepinv(operator), x, operator.measure(x, seed=1)


def test_linear_solvers_of_deepinv():
    operator, physics, _, y = problem()
    matrix = ops.dense_matrix(operator).float()
    with torch.random.fork_rng():
        torch.manual_seed(salted(0))
        assert float(physics.adjointness_test()) < 1e-4  # float32, and the sum may nearly cancel
        norm = physics.compute_norm(torch.ones(1, 1, 16, 16), squared=False, verbose=False)
    assert float(norm) == pytest.approx(ops.operator_norm(operator), rel=1e-2)
    least = (torch.linalg.pinv(matrix) @ y.flatten(1).mT).mT
    torch.testing.assert_close(physics.A_dagger(y).flatten(1), least, rtol=1e-3, atol=1e-3)
    z, gamma = torch.full((2, 1, 16, 16), 0.5), 3.0
    rhs = (gamma * operator.adjoint(y) + z).flatten(1).mT
    expected = torch.linalg.solve(gamma * matrix.mT @ matrix + torch.eye(256), rhs).mT
    found = physics.prox_l2(z, y, gamma, max_iter=100, tol=1e-6)
    torch.testing.assert_close(found.flatten(1), expected, rtol=1e-3, atol=1e-3)


def test_posterior_sampling_by_deepinv():
    """Their unadjusted Langevin walk, on our operator, finds the closed-form mean and variance."""
    operator, physics, _, y = problem()
    prior = deepinv.optim.ScorePrior(denoiser=Wiener())
    sampler = deepinv.sampling.ULA(
        prior=prior,
        data_fidelity=deepinv.optim.L2(sigma=0.05),
        step_size=0.002,
        sigma=0.05,
        max_iter=600,
        burnin_ratio=0.3,
        thinning=2,
        verbose=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(salted(0))
        mean, variance = sampler(y, physics, seed=0)
    # Pixels have variance 0.2^2, and the denoiser's own 0.05^2; a block mean has a quarter of it.
    prior_variance = 0.2**2 + 0.05**2
    shrinkage = 0.05**2 / (prior_variance / 4 + 0.05**2)
    residual, pull = operator.forward(mean) - y, 0.5 - y
    assert float((residual * pull).sum() / pull.square().sum()) == pytest.approx(
        shrinkage, abs=0.03
    )
    expected = prior_variance * (1 - (1 - shrinkage) / 4)
    assert float(variance.mean()) == pytest.approx(expected, rel=0.15)


def test_diffusion_by_deepinv():
    _, physics, x, y = problem()
    sampler = deepinv.sampling.DiffPIR(
        Wiener(), deepinv.optim.L2(), sigma=0.05, max_iter=10, verbose=False
    )
    with torch.random.fork_rng():
        torch.manual_seed(salted(0))
        found = sampler(y, physics, seed=1)
    assert found.shape == x.shape
    assert float((physics.A(found) - y).square().mean().sqrt()) < 0.1


@pytest.mark.parametrize(
    "name", ["mask", "blur", "block-mean", "compressed-sensing", "greyscale", "demosaicing", "mri"]
)
def test_ddrm_runs_on_operators_with_a_spectrum(name):
    """Needs U, V and the singular values; its samples must fit the data, whatever its calibration.

    Noise 0.02 and 50 levels: a wrong factor would leave residuals of the order of the image.
    """
    operator = OPERATORS[name]()
    operator.noise = ops.GaussianNoise(0.02)
    physics = ops.to_deepinv(operator)
    x = 0.5 + 0.2 * normal((4,), (1, *operator.domain_shape)).float()
    y = operator.measure(x, seed=1)
    sampler = deepinv.sampling.DDRM(
        Wiener(), sigmas=np.linspace(1, 0, 50).tolist(), eta=0.85, verbose=False
    )
    with torch.random.fork_rng():
        torch.manual_seed(salted(0))
        state = np.random.get_state()
        found = sampler(y, physics, seed=1)
        np.random.set_state(state)
    residual = (operator.forward(found) - y).square().mean().sqrt()
    assert found.shape == x.shape
    assert float(residual) < 0.06 * max(1.0, ops.operator_norm(operator))


def test_exact_proximal_step_by_the_spectrum():
    operator, _, _, y = problem()
    physics = ops.to_deepinv(operator)
    assert isinstance(physics, deepinv.physics.DecomposablePhysics)
    plain = deepinv.physics.LinearPhysics(
        A=operator.forward, A_adjoint=operator.adjoint, img_size=operator.domain_shape
    )
    z = torch.full((2, 1, 16, 16), 0.5)
    expected = plain.prox_l2(z, y, 3.0, max_iter=200, tol=1e-8)
    torch.testing.assert_close(physics.prox_l2(z, y, 3.0), expected, rtol=1e-4, atol=1e-4)
