"""A guard that nothing touches the global random state, and one thread a worker."""

import os

import pytest
import torch

# Workers of pytest-xdist share the cores: with several threads each, they wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def global_random_state_untouched():
    """Neither sampling nor training may read or set the global generator."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state())


class _NoFigure:
    def savefig(self, file, **settings) -> None:
        file.write(b"a picture")


@pytest.fixture
def no_pictures(monkeypatch):
    """`solve` in files without the time that its picture takes; other tests draw it."""
    monkeypatch.setattr("tweedie_inverse.solving.posterior.Posterior.plot", lambda _: _NoFigure())
