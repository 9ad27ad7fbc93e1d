"""Our operators against deepinv's own values, and ours as deepinv's."""

import warnings

import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal

pytest.importorskip("deepinv")
from deepinv import physics as dp

from tests.deepinv_physics import CASES, KERNEL, LINEAR, MASK, NONLINEAR, images, physics_of
from tests.registry import OPERATORS


def operator_of(name):
    return ops.from_deepinv(
        physics_of(name), domain_shape=CASES[name].domain_shape, noise=ops.GaussianNoise(0.1)
    )


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


def test_nonlinear_ours_in_deepinv():
    operator = ops.Operator.from_function(lambda x: x**2, (1, 3, 3), noise=ops.GaussianNoise(0.1))
    physics = ops.to_deepinv(operator)
    x, v = normal((3,), (2, 1, 3, 3)), normal((4,), (2, 1, 3, 3))
    torch.testing.assert_close(physics.A_vjp(x, v), 2 * x * v)
    assert ops.from_deepinv(physics) is operator


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
