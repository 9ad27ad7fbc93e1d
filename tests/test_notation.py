"""``A(x)``, ``A @ x``, ``A @ B``, ``2 * A``, ``A.T``; priors by name; SciPy and PyLops."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import lsqr

from tests.registry import NONLINEAR, OPERATORS
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal

BLUR = ops.Blur(ops.gaussian_kernel(1.0), (1, 8, 8), noise=ops.GaussianNoise(0.1))
MASK = ops.Mask(normal((5,), (1, 8, 8)) > 0, noise=ops.GaussianNoise(0.2))
X = normal((6,), (2, 1, 8, 8)).double()


@pytest.mark.parametrize("name", OPERATORS)
def test_signs_of_every_operator(name):
    operator = OPERATORS[name]()
    x = normal((1, 2), (2, *operator.domain_shape)).double()
    y = normal((1, 3), (2, *operator.range_shape)).double()
    assert torch.equal(operator(x), operator.forward(x))
    assert torch.equal(operator @ x, operator.forward(x))
    one = operator @ x[0]
    assert one.shape == operator.range_shape
    torch.testing.assert_close(one, operator.forward(x)[0])
    assert torch.equal(operator.T @ y, operator.adjoint(y))
    assert torch.equal(operator.T.T @ x, operator @ x)
    array = operator @ x.numpy()
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float64
    assert np.array_equal(array, operator.forward(x).numpy())


@pytest.mark.parametrize("name", NONLINEAR)
def test_a_transpose_of_what_is_not_linear_is_refused(name):
    operator = NONLINEAR[name]()
    with pytest.raises(AttributeError, match="only a linear operator has a transpose"):
        operator.T  # noqa: B018
    assert not hasattr(operator, "T")


def test_composition_and_scale():
    both = MASK @ BLUR
    assert isinstance(both, ops.LinearOperator)
    assert torch.equal(both @ X, MASK.forward(BLUR.forward(X)))
    assert both.noise is MASK.noise
    assert torch.equal(both.T @ X, BLUR.adjoint(MASK.adjoint(X)))
    square = ops.Operator.from_function(torch.square, (1, 8, 8))
    chain = square @ BLUR
    assert not isinstance(chain, ops.LinearOperator)
    assert torch.equal(chain(X), BLUR.forward(X) ** 2)
    for factor in (3, 3.0, np.float64(3), np.float32(3)):
        assert torch.equal((factor * BLUR) @ X, 3 * BLUR.forward(X))
    assert (3 * BLUR).noise.std == pytest.approx(0.3)
    assert torch.equal(-BLUR @ X, -BLUR.forward(X))
    for wrong in ("a", True, 1j, np.ones(3), torch.ones(3)):
        with pytest.raises(TypeError):
            wrong * BLUR
    with pytest.raises(ValueError, match="cannot follow"):
        BLUR @ ops.Downsampling((1, 16, 16), 4)
    with pytest.raises(TypeError, match="not linear"):
        2 * square


def test_wrong_images_are_refused():
    for wrong in (X[:, :, 1:], X.numpy()[..., 1:], "x", None, X.half()):
        with pytest.raises((TypeError, ValueError), match=r"Blur\(\)"):
            BLUR @ wrong
    with pytest.raises(TypeError):
        X.numpy() @ BLUR


def test_an_operator_of_ones_own_may_use_the_names():
    class Frames(ops.LinearOperator):
        def __init__(self):
            super().__init__(domain_shape=(1, 8, 8), range_shape=(1, 8, 8))
            self.T = 5

        def forward(self, x):
            return self.T * x

    frames = Frames()
    assert torch.equal(frames @ X, 5 * X)
    for other in (copy.deepcopy(frames), copy.copy(frames)):
        assert other.T == 5
    assert torch.equal(pickle.loads(pickle.dumps(BLUR.T)) @ X, BLUR.adjoint(X))


def test_gradients_flow_through():
    x = X.clone().requires_grad_()
    (BLUR @ x).square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * BLUR.adjoint(BLUR.forward(X)))


@pytest.mark.parametrize("name", OPERATORS)
def test_scipy_has_the_same_matrix(name):
    operator = OPERATORS[name]()
    dense = ops.dense_matrix(operator).numpy()
    theirs = ops.to_scipy(operator)
    assert theirs.shape == dense.shape
    scale = max(abs(dense).max(), 1e-30)
    for found in (theirs @ np.eye(dense.shape[1]), (theirs.H @ np.eye(dense.shape[0])).T):
        assert abs(found - dense).max() < 1e-10 * scale


def test_scipy_and_pylops_solve_and_come_back():
    y = BLUR @ X[0].numpy()
    found = lsqr(ops.to_scipy(BLUR), y.ravel(), atol=1e-14, btol=1e-14, iter_lim=2000)[0]
    assert abs(BLUR @ found.reshape(1, 8, 8) - y).max() < 1e-6
    back = ops.from_scipy(ops.to_scipy(BLUR), domain_shape=(1, 8, 8), range_shape=(1, 8, 8))
    torch.testing.assert_close(back @ X, BLUR @ X)
    pytest.importorskip("pylops")
    theirs = ops.to_pylops(BLUR)
    assert tuple(theirs.dims) == BLUR.domain_shape
    torch.testing.assert_close(ops.from_pylops(theirs) @ X, BLUR @ X)
    assert (2 * theirs.T @ theirs).shape == (64, 64)
    vector = X[0].numpy().ravel().astype(np.complex128) * (1 + 2j)
    whole = ops.to_scipy(BLUR) @ vector
    assert np.allclose(whole, (1 + 2j) * (ops.to_scipy(BLUR) @ X[0].numpy().ravel()))


@pytest.mark.parametrize("call", [ops.to_scipy, ops.to_pylops])
def test_what_is_no_matrix_is_refused(call):
    square = ops.Operator.from_function(torch.square, (1, 8, 8))
    with pytest.raises(TypeError, match="not linear"):
        call(square)
    with pytest.raises(ValueError, match="float32 or float64"):
        call(BLUR, dtype=int)
    with pytest.raises(ValueError, match=r"operator.select\(0\)"):
        call(ops.per_image([BLUR, BLUR]))
