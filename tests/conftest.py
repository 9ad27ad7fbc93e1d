"""Shared settings: few threads, and a guard that nothing touches the global random state."""

import pytest
import torch


@pytest.fixture(autouse=True)
def global_random_state_untouched(request):
    """Sampling must neither read nor set the global generator; training owns its process."""
    before = torch.random.get_rng_state()
    yield
    if "owns_random_state" not in request.keywords:
        assert torch.equal(before, torch.random.get_rng_state())
