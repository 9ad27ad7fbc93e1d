"""Baselines of deepinv on a device: all they compute with is there."""

import pytest
import torch

from tests.pretend_device import Elsewhere
from tweedie_inverse.benchmarks.methods.baselines import DDRM, DiffPIR
from tweedie_inverse.benchmarks.problems.priors import load
from tweedie_inverse.benchmarks.problems.suites import field


@pytest.mark.parametrize("kind", [DDRM, DiffPIR])
def test_a_baseline_draws_on_the_device_of_the_data(kind):
    """DDRM takes the singular values of the physics as they are, wherever they are."""
    task, method = field(16, 1, "test")[0], kind().within(4)
    y = task.operator.measure(task.truths[0], seed=3)[None]
    expected = method.draw(y, task, load("field-16"), [[11]], 1)
    with Elsewhere() as device:
        prior = load("field-16").to(device.device)
        drawn = method.draw(y.to(device.device), task, prior, [[11]], 1)
        assert drawn.device.type == device.device.type
        drawn = drawn.cpu()
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4)
