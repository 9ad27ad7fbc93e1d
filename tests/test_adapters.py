"""Operators from functions, SciPy and PyLops."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal

pylops = pytest.importorskip("pylops")

MATRIX = normal((2,), (6, 12)).numpy()


class Duck:
    """No base class: what a package of somebody's own may offer."""

    shape, dtype = MATRIX.shape, MATRIX.dtype

    def matvec(self, x):
        return MATRIX @ x

    def rmatvec(self, y):
        return MATRIX.T @ y


@pytest.mark.parametrize(
    "operator",
    [
        MATRIX,
        MATRIX.astype(np.float32),
        scipy.sparse.csr_array(MATRIX),
        scipy.sparse.coo_matrix(MATRIX),
        aslinearoperator(MATRIX),
        pylops.MatrixMult(MATRIX),
        Duck(),
    ],
    ids=["dense", "float32", "sparse", "sparse-matrix", "linear-operator", "pylops", "duck"],
)
def test_equals_the_matrix(operator):
    ours = ops.from_scipy(operator, domain_shape=(1, 3, 4), range_shape=(2, 3))
    x = normal((3,), (3, 1, 3, 4))
    expected = (x.flatten(1) @ torch.from_numpy(MATRIX).mT).reshape(3, 2, 3)
    torch.testing.assert_close(ours.forward(x), expected, rtol=1e-6, atol=1e-6)
    assert ops.adjoint_error(ours) < 1e-12
    single = ours.forward(x.float())
    assert single.dtype == ours.adjoint(single).dtype == torch.float32


def test_complex_values_become_two_halves():
    matrix = MATRIX + 1j * MATRIX[::-1]
    operator = ops.from_scipy(matrix, range_shape=(2, 3))
    assert operator.range_shape == (4, 3)
    x = normal((3,), (1, 12))
    y = operator.forward(x)
    expected = (matrix @ x[0].numpy()).reshape(2, 3)
    np.testing.assert_allclose(y[0, :2].numpy(), expected.real)
    np.testing.assert_allclose(y[0, 2:].numpy(), expected.imag)
    assert ops.adjoint_error(operator) < 1e-12


@pytest.mark.parametrize(
    "make",
    [
        lambda: pylops.FirstDerivative((6, 5), axis=1),
        lambda: pylops.signalprocessing.FFT2D((6, 5), real=True),
        lambda: pylops.signalprocessing.Convolve2D((6, 5), h=np.arange(6.0).reshape(2, 3)),
        lambda: pylops.Restriction((6, 5), [0, 2, 3], axis=0),
    ],
    ids=["derivative", "fourier", "convolution", "restriction"],
)
def test_pylops(make):
    theirs = make()
    operator = ops.from_pylops(theirs, noise=ops.GaussianNoise(0.1))
    x = normal((3,), (2, *theirs.dims))
    y = operator.forward(x)
    for image, measurement in zip(x, y, strict=True):
        expected = theirs @ image.numpy()
        if np.iscomplexobj(expected):
            expected = np.concatenate([expected.real, expected.imag])
        np.testing.assert_allclose(measurement.numpy(), expected, rtol=1e-12, atol=1e-12)
    assert ops.adjoint_error(operator) < 1e-12
    assert operator.measure(x).shape == y.shape


def test_pylops_with_a_channel_axis():
    theirs = pylops.FirstDerivative((6, 5), axis=1)
    operator = ops.from_pylops(theirs, domain_shape=(1, 6, 5))
    assert (operator.domain_shape, operator.range_shape) == ((1, 6, 5), (6, 5))
    x = normal((3,), (2, 1, 6, 5))
    assert torch.equal(operator.forward(x), ops.from_pylops(theirs).forward(x[:, 0]))
    assert ops.from_pylops(theirs, range_shape=(30,)).range_shape == (30,)
    with pytest.raises(ValueError, match="needs 30 entries there, that shape has 25"):
        ops.from_pylops(theirs, domain_shape=(1, 5, 5))


def test_gradients_flow_both_ways_and_twice():
    operator = ops.from_scipy(MATRIX)
    matrix = torch.from_numpy(MATRIX)
    x = normal((3,), (2, 12)).requires_grad_()

    def loss(x):
        return operator.adjoint(operator.forward(x).tanh()).square().sum()

    (gradient,) = torch.autograd.grad(loss(x), x)
    (expected,) = torch.autograd.grad(((x @ matrix.mT).tanh() @ matrix).square().sum(), x)
    torch.testing.assert_close(gradient, expected)
    with torch.random.fork_rng():
        assert torch.autograd.gradcheck(loss, x)
        assert torch.autograd.gradgradcheck(loss, x)
    (_, tangent) = torch.func.jvp(operator.forward, (x.detach(),), (x.detach(),))
    torch.testing.assert_close(tangent, x.detach() @ matrix.mT)


def test_inputs_of_an_impolite_operator_are_kept():
    def matvec(x):
        x *= 2
        return x

    impolite = LinearOperator((4, 4), matvec=matvec, rmatvec=matvec, dtype=float)
    x = normal((3,), (2, 4))
    before = x.clone()
    torch.testing.assert_close(ops.from_scipy(impolite).forward(x), 2 * before)
    assert torch.equal(x, before)


def test_linear_function():
    operator = ops.LinearOperator.from_function(
        lambda x: x.cumsum(-1)[..., ::2], (2, 3, 5), noise=ops.GaussianNoise(0.1)
    )
    assert isinstance(operator, ops.LinearOperator)
    assert operator.range_shape == (2, 3, 3)
    assert ops.adjoint_error(operator) < 1e-12
    assert operator.measure(normal((3,), (2, 3, 5))).shape == (2, 3, 3)


def test_function_outside_torch_with_its_adjoint():
    operator = ops.LinearOperator.from_function(
        lambda x: torch.from_numpy(3 * x.detach().numpy()),
        (4,),
        adjoint=lambda y: torch.from_numpy(3 * y.detach().numpy()),
    )
    assert ops.adjoint_error(operator) < 1e-12
    x = normal((3,), (2, 4)).requires_grad_()
    (gradient,) = torch.autograd.grad(operator.forward(x).square().sum(), x)
    torch.testing.assert_close(gradient, 18 * x.detach())


def test_nonlinear_function():
    operator = ops.Operator.from_function(lambda x: x**2, (1, 3, 3), range_shape=(1, 3, 3))
    assert not isinstance(operator, ops.LinearOperator)
    assert ops.linearity_error(operator) > 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ops.from_scipy("no"), "from_scipy: needs a scipy LinearOperator"),
        (lambda: ops.from_scipy(MATRIX, domain_shape=(3, 3)), "12 entries"),
        (lambda: ops.from_scipy(MATRIX, range_shape=(5,)), "6 entries"),
        (
            lambda: ops.from_scipy(LinearOperator((3, 3), matvec=lambda x: x, dtype=float)),
            "Give it an rmatvec",
        ),
        (
            lambda: ops.LinearOperator.from_function(lambda x: x @ torch.ones(4, 2), (3,)),
            "failed on zeros",
        ),
        (lambda: ops.Operator.from_function(lambda x: x.sum(), (3,)), "Keep the batch axis"),
        (lambda: ops.Operator.from_function(lambda x: None, (3,)), "NoneType"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_importing_operators_imports_none_of_the_bridged_packages():
    names = "{'deepinv', 'pylops', 'scipy'}"
    code = f"import tweedie_inverse.operators, sys; print(*{names} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
