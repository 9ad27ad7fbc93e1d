"""Every operator can be copied and pickled after use: for processes, caches and checkpoints."""

import copy
import pickle

import pytest
import torch

from tests.registry import NOISE, NONLINEAR, OPERATORS
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal

EACH = ops.per_image([ops.Mask(ops.random_mask((1, 4, 4), 0.5, seed=i)) for i in range(2)])
MAKERS = {
    **OPERATORS,
    **{f"nonlinear-{name}": make for name, make in NONLINEAR.items()},
    "per-image": lambda: ops.scale(ops.compose(EACH, ops.Mask(torch.ones(4, 4)), noise=NOISE), 2.0),
    "complex-per-image": lambda: ops.stack(EACH, ops.transpose(EACH), noise=NOISE),
}


def used(operator):
    """An operator whose decompositions, matrices and other things kept for later are there."""
    x = normal((1,), (2, *operator.domain_shape))
    y = operator.measure(x)
    if isinstance(operator, ops.LinearOperator):
        spectrum = operator.spectrum
        operator.pseudo_inverse(y)
        operator.adjoint(y)
        if spectrum is not None:
            spectrum.to_modes(y)
    return x, y


@pytest.mark.parametrize("name", MAKERS)
def test_a_copy_of_a_used_operator_gives_the_same_answer(name):
    operator = MAKERS[name]()
    x, y = used(operator)
    for other in (
        copy.copy(operator),
        copy.deepcopy(operator),
        pickle.loads(pickle.dumps(operator)),
    ):
        assert type(other) is type(operator)
        assert (other.images, repr(other)) == (operator.images, repr(operator))
        assert torch.equal(other.measure(x), y)
        if isinstance(operator, ops.LinearOperator):
            assert torch.equal(other.adjoint(y), operator.adjoint(y))
            assert (other.spectrum is None) == (operator.spectrum is None)
    assert torch.equal(operator.measure(x), y)


def test_a_pickle_holds_no_matrix_that_can_be_built_again():
    scan = ops.Tomography((1, 32, 32), 30, noise=NOISE)
    before = len(pickle.dumps(scan))
    used(scan)
    assert scan.projector.nbytes() > 100_000
    assert len(pickle.dumps(scan)) == before
