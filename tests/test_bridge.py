"""Our operators against deepinv's own values, and deepinv's algorithms on our operators."""

import functools
import warnings

import numpy as np
import pytest
import torch

import operators as ops
import tweedie_inverse as ti
from operators.random import normal

deepinv = pytest.importorskip("deepinv")
from deepinv import physics as dp  # noqa: E402

from tests.deepinv_physics import KERNEL, LINEAR, MASK, NONLINEAR  # noqa: E402
from tests.registry import OPERATORS  # noqa: E402

CASES = LINEAR | NONLINEAR


@functools.cache
def build(name):
    # Some of deepinv's constructors draw from the global generator, and warn about defaults.
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CASES[name].build()


def physics_of(name):
    try:
        return build(name)
    except ImportError as error:
        pytest.skip(str(error))


def operator_of(name):
    return ops.from_deepinv(
        physics_of(name), domain_shape=CASES[name].domain_shape, noise=ops.GaussianNoise(0.1)
    )


def images(operator, count, dtype):
    return torch.special.ndtr(normal((9,), (count, *operator.domain_shape))).to(dtype)


def theirs(physics, x, is_complex):
    """``physics.A(x)`` on one image, in deepinv's own layout on the way in and out."""
    if is_complex:
        x = torch.complex(*x.chunk(2, 1))
    try:
        y = physics.A(x)
    except RuntimeError:  # wants complex numbers
        y = physics.A(x.to(torch.cfloat))
    parts = [y] if isinstance(y, torch.Tensor) else list(y)
    parts = [torch.cat([p.real, p.imag], 1) if p.is_complex() else p for p in parts]
    return parts[0] if isinstance(y, torch.Tensor) else torch.cat([p.flatten(1) for p in parts], 1)


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_physics(name):
    physics, operator = physics_of(name), operator_of(name)
    x = images(operator, 2, torch.float32)
    before = x.clone()
    is_complex = "complex" in name and CASES[name].domain_shape is not None
    is_complex |= name.endswith(("complex-images", "linear-complex"))
    expected = torch.cat([theirs(physics, image[None], is_complex) for image in x])
    y = operator.forward(x)
    assert tuple(y.shape) == (2, *operator.range_shape)
    torch.testing.assert_close(y, expected.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(operator.forward(x[1:]), y[1:], rtol=1e-5, atol=1e-5)
    assert torch.equal(x, before)
    double = operator.forward(x.double())
    assert (y.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(double.float(), y, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", LINEAR)
def test_adjoint(name):
    operator, dtype = operator_of(name), CASES[name].dtype
    assert isinstance(operator, ops.LinearOperator)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert ops.adjoint_error(operator) < tolerance
    assert ops.linearity_error(operator) < tolerance
    assert ops.adjoint_error(operator, dtype=torch.float32) < 1e-5
    y = normal((8,), (2, *operator.range_shape)).to(dtype)
    derived = ops.LinearOperator.adjoint(operator, y)
    torch.testing.assert_close(operator.adjoint(y), derived, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NONLINEAR)
def test_gradient_is_the_slope(name):
    operator = operator_of(name)
    assert not isinstance(operator, ops.LinearOperator)
    x = images(operator, 1, torch.float64).requires_grad_()
    v, step = normal((5,), x.shape), 1e-5
    loss = operator.forward(x).square().sum()
    (gradient,) = torch.autograd.grad(loss, x)
    with torch.no_grad():
        up, down = (operator.forward(x + s * v).square().sum() for s in (step, -step))
    assert float((gradient * v).sum()) == pytest.approx(float((up - down) / (2 * step)), rel=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_round_trip_is_the_identity(name):
    physics, shape = physics_of(name), CASES[name].domain_shape
    operator = ops.from_deepinv(physics, domain_shape=shape)
    assert ops.to_deepinv(operator) is physics


def test_round_trip_of_ours():
    operator = ops.Mask(MASK, noise=ops.GaussianNoise(0.1))
    physics = ops.to_deepinv(operator)
    assert ops.from_deepinv(physics) is operator
    assert ops.from_deepinv(physics, domain_shape=(1, 8, 8)) is operator
    assert float(ops.from_deepinv(physics, noise=ops.GaussianNoise(0.2)).noise.std) == 0.2
    physics.update(sigma=torch.tensor(0.5))
    changed = ops.from_deepinv(physics)
    assert float(changed.noise.std) == 0.5
    assert torch.equal(changed.observed, operator.observed)
    assert float(operator.noise.std) == 0.1


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_of_ours_runs_in_deepinv(name):
    operator = OPERATORS[name]()
    physics = ops.to_deepinv(operator)
    x = images(operator, operator.images or 2, torch.float64)
    y = operator.forward(x)
    torch.testing.assert_close(physics.A(x), y, rtol=0, atol=0)
    torch.testing.assert_close(physics.A_adjoint(y), operator.adjoint(y), rtol=0, atol=0)
    assert physics(x).shape == y.shape
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(physics.A(x).square().sum(), x)
    torch.testing.assert_close(gradient, 2 * operator.adjoint(y), rtol=1e-9, atol=1e-9)
    assert ops.from_deepinv(physics) is operator


def test_ours_among_theirs():
    """A clone, and a stack with a physics of deepinv's."""
    operator = ops.Mask(MASK, noise=ops.GaussianNoise(0.1))
    physics = ops.to_deepinv(operator)
    x = images(operator, 1, torch.float64)
    torch.testing.assert_close(physics.clone().A(x), operator.forward(x))
    stacked = ops.from_deepinv(dp.stack(physics, dp.Denoising(dp.GaussianNoise(0.2))))
    assert stacked.range_shape == (128,)
    assert torch.equal(stacked.observed[:64], operator.observed.flatten())
    assert stacked.noise.std.unique().tolist() == pytest.approx([0.1, 0.2])
    assert ops.adjoint_error(stacked) < 1e-12


def test_replaced_noise_survives_the_way_to_deepinv():
    operator = ops.from_deepinv(physics_of("denoising"), domain_shape=(1, 5, 6))
    operator.noise = ops.GaussianNoise(0.3)
    assert float(ops.to_deepinv(operator).noise_model.sigma) == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["tomography", "dynamic-mri", "downsampling-any-size", "stack"])
def test_the_physics_is_left_alone(name):
    physics = physics_of(name)
    before = {key: value.clone() for key, value in physics.state_dict().items()}
    attributes = {key: id(value) for key, value in vars(physics).items()}
    operator = operator_of(name)
    operator.adjoint(operator.forward(images(operator, 3, torch.float64)))
    assert {key: id(value) for key, value in vars(physics).items()} == attributes
    assert all(torch.equal(value, before[key]) for key, value in physics.state_dict().items())


def test_a_physics_that_was_used_before():
    """Tomography keeps the adjoint of its last call, in float32 and for that batch."""
    physics = dp.Tomography(angles=5, img_width=10, normalize=False)
    physics.A_adjoint(physics.A(torch.ones(1, 1, 10, 10)))
    assert ops.adjoint_error(ops.from_deepinv(physics)) < 1e-12


def test_haze_as_a_function():
    """It takes a list (image, depth, airlight): the recipe for a physics of several images."""
    physics = dp.Haze()
    operator = ops.Operator.from_function(
        lambda x: physics.A([x[:, :3], x[:, 3:4], x[:, 4:5]]), (5, 6, 6)
    )
    x = images(operator, 2, torch.float64)
    depth = torch.exp(-0.1 * x[:, 3:4])
    expected = depth * x[:, :3] + (1 - depth) * x[:, 4:5]
    torch.testing.assert_close(operator.forward(x), expected)


# Noise: ours against deepinv's own draws.


def moments(samples):
    return samples.mean(0), samples.var(0)


def assert_same_law(operator, physics, x, count=4000):
    """Mean and variance of every entry, by z-scores of `count` draws of each."""
    repeated = x.expand(count, *x.shape[1:])
    ours = operator.measure(repeated.double(), seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ops.from_deepinv(3), "needs a deepinv.physics.Physics"),
        (lambda: ops.to_deepinv(3), "needs an Operator"),
        (lambda: ops.from_deepinv(dp.Blur(filter=KERNEL)), "pass domain_shape="),
        (lambda: ops.from_deepinv(dp.Decolorize(), domain_shape=(2, 4, 4)), "failed on an image"),
        (lambda: ops.from_deepinv(dp.Haze(), domain_shape=(3, 4, 4)), "failed on an image"),
        (
            lambda: ops.from_deepinv(
                dp.Blur(filter=KERNEL.expand(3, -1, -1, -1), padding="circular"),
                domain_shape=(1, 8, 8),
            ),
            "ops.per_image",
        ),
        (
            lambda: ops.from_deepinv(
                dp.Tomography(4, 10, normalize=False, adjoint_via_backprop=False)
            ),
            "needs an exact adjoint",
        ),
        (
            lambda: ops.from_deepinv(dp.LinearPhysics(A=lambda x: x + 1, img_size=(1, 4, 4))),
            "from_function",
        ),
        (lambda: _denoising(dp.LaplaceNoise()), "LaplaceNoise has no counterpart.*Pass noise="),
        (lambda: _denoising(dp.GaussianNoise(torch.tensor([0.1, 0.2]))), "2 values"),
        (
            lambda: ops.from_deepinv(
                dp.Physics(noise_model=dp.GaussianNoise(), sensor_model=torch.sign),
                domain_shape=(2,),
            ),
            "sensor model",
        ),
        (
            lambda: ops.from_deepinv(
                dp.SpatialUnwrapping(noise_model=dp.GaussianNoise()), domain_shape=(1, 4, 4)
            ),
            "forward.. of its own",
        ),
        (
            lambda: ops.from_deepinv(dp.Pansharpen((3, 8, 8), noise_color=dp.GaussianNoise())),
            "different kinds",
        ),
        (
            lambda: ops.from_deepinv(ops.to_deepinv(ops.Mask(MASK)), domain_shape=(1, 4, 4)),
            "leave domain_shape out",
        ),
    ],
)
def test_what_is_refused(make, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((TypeError, ValueError), match=message):
            make()


def _denoising(noise_model):
    return ops.from_deepinv(dp.Denoising(noise_model), domain_shape=(1, 4, 4))


def test_solve_gives_the_same_samples_by_either_implementation():
    prior = ti.priors.Gaussian(torch.zeros(2, 8, 8), power_spectrum=torch.ones(2, 8, 8))
    noise = ops.GaussianNoise(0.1)
    ours = ops.Mask(MASK, channels=2, noise=noise)
    physics = dp.Inpainting((2, 8, 8), MASK.expand(2, 8, 8), noise_model=dp.GaussianNoise(0.1))
    bridged = ops.from_deepinv(physics)
    y = ours.measure(normal((3,), (1, 2, 8, 8)), seed=1)
    torch.testing.assert_close(bridged.measure(normal((3,), (1, 2, 8, 8)), seed=1), y)
    one, two = (ti.solve(y, op, prior, num_samples=2, steps=5, seed=2) for op in (ours, bridged))
    torch.testing.assert_close(one.samples, two.samples, rtol=1e-5, atol=1e-5)


# deepinv's algorithms on ours.


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
        torch.manual_seed(0)
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
        torch.manual_seed(0)
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
        torch.manual_seed(0)
        found = sampler(y, physics, seed=1)
    assert found.shape == x.shape
    assert float((physics.A(found) - y).square().mean().sqrt()) < 0.1


def test_gradients_flow_through_an_operator_outside_torch():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    matrix = normal((2,), (3, 5))
    operator = ops.from_scipy(scipy_sparse.csr_array(matrix.numpy()))
    physics = ops.to_deepinv(operator)
    x = normal((3,), (1, 5)).requires_grad_()
    (gradient,) = torch.autograd.grad(physics.A(x).square().sum(), x)
    torch.testing.assert_close(gradient, 2 * x.detach() @ matrix.mT @ matrix)
    v = normal((4,), (1, 3))
    torch.testing.assert_close(physics.A_vjp(x, v), v @ matrix)


def test_nonlinear_ours_in_deepinv():
    operator = ops.Operator.from_function(lambda x: x**2, (1, 3, 3), noise=ops.GaussianNoise(0.1))
    physics = ops.to_deepinv(operator)
    x, v = normal((3,), (2, 1, 3, 3)), normal((4,), (2, 1, 3, 3))
    torch.testing.assert_close(physics.A_vjp(x, v), 2 * x * v)
    assert ops.from_deepinv(physics) is operator


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
        torch.manual_seed(0)
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
