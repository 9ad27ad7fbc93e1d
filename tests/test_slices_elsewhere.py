"""Priors of slices on a device: after the first level of a walk nothing is sent to it."""

import pytest
import torch

import tweedie_inverse as ti
from tests.pretend_device import Elsewhere
from tests.test_residence import SIDE, _network, _on
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal

DEPTH = 3
BY_FREQUENCY = ti.priors.SliceCorrelation(
    torch.tensor([0.0, 0.25, 0.5]).double(), torch.tensor([4.0, 1.0, 0.5]).double()
)


@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
@pytest.mark.parametrize("correlation", [2.0, BY_FREQUENCY], ids=["length", "by-frequency"])
def test_a_level_sends_nothing(correlation):
    """Neither the modes across the slices, nor where the frequencies of a ring are."""
    scan = ops.slicewise(
        ops.Tomography((1, SIDE, SIDE), 9, noise=ops.GaussianNoise(0.5)), depth=DEPTH
    )
    y = scan.measure(normal((1,), scan.domain_shape).float(), seed=0)[None]
    sent = []
    with Elsewhere() as device:
        network = _on(device, _network(measured=True))
        prior = ti.priors.Slices(network, depth=DEPTH, correlation=correlation)
        settings = {"num_samples": 2, "steps": 5, "method": "decoupled", "seed": 0}
        for _ in ti.iterate(y.to(device.device), scan, prior, **settings):
            sent.append(device.transfers.copy())
            device.clear()
    assert len(sent) > 2
    assert sent[0]
    assert not any(sent[1:])
