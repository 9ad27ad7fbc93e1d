"""Contract of every nonlinear operator."""

import pytest
import torch

from tests.registry import NONLINEAR
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.random import normal


@pytest.fixture(params=NONLINEAR)
def operator(request):
    return NONLINEAR[request.param]()


def images(operator, count=3):
    return normal(("images",), (count, *operator.domain_shape))


def test_is_not_declared_linear_and_is_not(operator):
    assert not isinstance(operator, ops.LinearOperator)
    assert ops.linearity_error(operator) > 1e-3


def test_batch_of_three_is_three_of_one(operator):
    x = images(operator)
    one_by_one = torch.cat([operator.forward(image[None]) for image in x])
    torch.testing.assert_close(operator.forward(x), one_by_one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_dtype_and_inputs(operator, dtype):
    x = images(operator).to(dtype)
    before = x.clone()
    y = operator.forward(x)
    assert y.dtype == dtype
    assert tuple(y.shape) == (3, *operator.range_shape)
    assert torch.equal(x, before)


def test_wrong_shapes_are_refused(operator):
    with pytest.raises(ValueError, match=r"needs shape \(batch, "):
        operator.forward(images(operator)[0])


def test_measure_is_reproducible(operator):
    x = images(operator).abs()
    y = operator.measure(x, seed=4)
    assert torch.equal(y, operator.measure(x, seed=4))
    assert not torch.equal(y, operator.measure(x, seed=5))
    torch.testing.assert_close(y[:1], operator.measure(x[:1], seed=4), rtol=1e-12, atol=1e-12)


def test_products_with_the_jacobian_are_transposes_and_its_differences(operator):
    """Quantization hands its gradient on as if nothing were rounded: differences do not apply."""
    x = images(operator)
    problem = Problem(operator.measure(x.abs()), operator, operator.noise)
    at = problem.linearize(x)
    v, w = normal(("v",), x.shape), normal(("w",), at.ax.shape)
    left, right = (at.push(v) * w).sum(), (v * at.pull(w)).sum()
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)
    if not isinstance(operator, ops.Quantization):
        step = 1e-6
        rise = operator.forward(x + step * v) - operator.forward(x - step * v)
        torch.testing.assert_close(at.push(v), rise / (2 * step), rtol=1e-4, atol=1e-4)


def test_phase_retrieval_is_the_padded_fourier_magnitude():
    x = normal(("images",), (2, 3, 5, 6))
    operator = ops.PhaseRetrieval((3, 5, 6), intensity=True)
    padded = torch.zeros(2, 3, 10, 12).double()
    padded[..., :5, :6] = x
    expected = torch.fft.fft2(padded, norm="ortho").abs().square()
    torch.testing.assert_close(
        operator.forward(x), torch.fft.fftshift(expected, dim=(-2, -1)), rtol=1e-10, atol=1e-10
    )


def test_phase_retrieval_of_a_complex_image():
    x = normal(("images",), (1, 2, 4, 4))
    operator = ops.PhaseRetrieval((2, 4, 4), oversampling=1, complex_image=True)
    turned = torch.stack([-x[:, 1], x[:, 0]], 1)  # times i: nobody can tell
    torch.testing.assert_close(operator.forward(x), operator.forward(turned))


def test_transmission_is_exponential_attenuation():
    line = ops.Tomography((1, 6, 6), angles=4)
    x = images(line).abs() * 0.1
    found = ops.Transmission(line, 50.0).forward(x)
    torch.testing.assert_close(found, 50 * torch.exp(-line.forward(x)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ops.PhaseRetrieval((5, 5)), "channels, height, width"),
        (lambda: ops.PhaseRetrieval((1, 5, 5), oversampling=0.5), "oversampling of 1 or more"),
        (lambda: ops.PhaseRetrieval((3, 5, 5), complex_image=True), "two channels"),
        (lambda: ops.PhaseRetrieval((1, 5, 5), codes=torch.ones(2, 4, 4)), r"codes, 5, 5\)"),
        (lambda: ops.Clipping((4,), low=1, high=1), "low < high"),
        (lambda: ops.Quantization((4,), 0), "positive step"),
        (lambda: ops.Transmission(ops.Tomography((1, 4, 4), 2), 0.0), "positive counts"),
        (
            lambda: ops.compose(ops.Clipping((1, 4, 4)), ops.Tomography((1, 4, 4), 2)),
            "applied last is named first",
        ),
        (lambda: ops.compose(), "at least one"),
        (lambda: ops.stack(ops.Clipping((4,)), ops.Clipping((5,))), "images of one shape"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
