"""The problems that a newcomer begins with."""

import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse.app.example import PROBLEMS


@pytest.mark.parametrize("name", PROBLEMS)
def test_an_example_is_what_solve_takes(name):
    y, operator, prior, truth, title = ti.example(name, seed=3)
    assert tuple(truth.shape) == tuple(operator.domain_shape)
    assert prior.for_shape(truth.shape).shape == truth.shape
    assert torch.equal(y, operator.measure(truth, seed=3))
    assert not torch.equal(y, ti.example(name).y)
    assert 0 <= truth.min() < truth.max() <= 1
    assert title


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="choose one of 'ct'"):
        ti.example("CT")
