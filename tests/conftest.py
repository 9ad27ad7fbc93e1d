"""A guard that nothing touches the global random state."""

import pytest
import torch


@pytest.fixture(autouse=True)
def global_random_state_untouched():
    """Neither sampling nor training may read or set the global generator."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state())
