"""Samples are drawn where the prior is, unless the caller says otherwise.

The device here is torch's "meta", which has no numbers: a walk ends at its first evaluation.
"""

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import phase_space
from tweedie_inverse.datasets.slices import texture_std
from tweedie_inverse.numerics.covariance import isotropic
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.counting import CountedPrior


class AskedError(Exception):
    """Carries the device of the images that a prior was given."""


class Elsewhere(ti.priors.Prior):
    """A prior whose tensors are on the device "meta"."""

    shape, sigma_min, sigma_max = (1, 4, 4), 0.01, 10.0
    device = torch.device("meta")

    def denoise(self, x, sigma):
        raise AskedError(x.device.type)

    def denoising_error(self, sigma):
        return isotropic(sigma**2)


class ElsewhereInPhase(phase_space.ExactPhaseSpace):
    """The same in phase space, so that its walk ends before it meets a process on the CPU."""

    def epsilon(self, z, t):
        raise AskedError(z.device.type)


class Holder(torch.nn.Module):
    """A network's weights, without the network."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))


CALLS = {
    "sample": lambda prior, **where: ti.sample(prior, 2, steps=3, **where),
    "trajectory": lambda prior, **where: next(ti.trajectory(prior, 2, steps=3, **where)),
    "phase-space sample": lambda prior, **where: phase_space.sample(
        ElsewhereInPhase(prior, phase_space.processes.vp(), time_min=1e-3), 2, steps=3, **where
    ),
    "phase-space trajectory": lambda prior, **where: next(
        phase_space.trajectory(
            ElsewhereInPhase(prior, phase_space.processes.vp(), time_min=1e-3), 2, steps=3, **where
        )
    ),
    "estimate": lambda prior: ti.estimate_denoising_error(prior, 2, steps=3),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_default_device_is_the_priors(call):
    with pytest.raises(AskedError, match="meta"):
        CALLS[call](Elsewhere())


@pytest.mark.parametrize("call", [name for name in CALLS if name != "estimate"])
def test_another_device_can_be_asked_for(call):
    with pytest.raises(AskedError, match="cpu"):
        CALLS[call](Elsewhere(), device="cpu")


def test_every_prior_says_where_it_is():
    """What lies on the CPU in all other tests, moved."""
    meta = torch.device("meta")
    field = random_field(8)
    assert field.device == torch.device("cpu")
    field.mean = field.mean.to(meta)
    mixture = ti.priors.Empirical(normal((1,), (3, 1, 4, 4)))
    mixture.means = mixture.means.to(meta)
    network = ti.priors.NetworkPrior(Holder().to(meta), "x0", shape=(1, 4, 4))
    phased = ti.load_prior("digits-32-psld")
    assert phased.device == torch.device("cpu")
    phased.module = Holder().to(meta)
    process = phase_space.processes.psld()
    for prior in (
        field,
        mixture,
        network,
        phased,
        CountedPrior(field),
        ti.guidance.ClassifierFree(network, network, 2.0),
        phase_space.ClassifierGuided(phased, lambda z, t: z, 0, 1.0),
        phase_space.ExactPhaseSpace(Elsewhere(), process),
    ):
        assert prior.device == meta, prior
    bare = ti.priors.NetworkPrior(torch.nn.Identity(), "x0", shape=(1, 4, 4))
    assert bare.device == torch.device("cpu")


def test_texture_is_computed_where_the_slices_are():
    assert texture_std(torch.zeros(4, 4, device="meta")).device.type == "meta"
