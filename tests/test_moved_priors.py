"""`prior.to(device)`: the same prior elsewhere, and the old one where it was.

The device is torch's "meta", which `usable` refuses because it has no numbers.
"""

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import phase_space
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import moving
from tweedie_inverse.priors.counting import CountedPrior

META = torch.device("meta")
DIGITS = ti.load_prior("digits-32-psld")
PHOTO = ti.load_prior("photo-64")
MIXTURE = ti.priors.GaussianMixture(normal((1,), (3, 1, 4, 4)), torch.ones(3), 0.1)
DENSE = ti.priors.Gaussian(torch.zeros(3), torch.eye(3))


class Own(ti.priors.Prior):
    """A user's prior with its tensors in a list and in a dictionary."""

    shape, sigma_min, sigma_max = (1, 4, 4), 0.01, 10.0

    def __init__(self):
        self.parts = [torch.zeros(1), {"centre": torch.ones(1)}]

    @property
    def device(self):
        return self.parts[1]["centre"].device

    def denoise(self, x, sigma):
        return x

    def denoising_error(self, sigma):
        return DENSE.denoising_error(sigma)


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))


PRIORS = {
    "field": random_field(8),
    "dense": DENSE,
    "mixture": MIXTURE,
    "network": PHOTO,
    "tiled": PHOTO.tiled(),
    "fast": PHOTO.faster(channels_last=True),
    "counted": CountedPrior(MIXTURE),
    "guided": ti.guidance.ClassifierFree(PHOTO, PHOTO, 2.0),
    "classified": ti.guidance.ClassifierGuided(PHOTO, Classifier(), 0, 1.0),
    "phased": DIGITS,
    "exact phased": phase_space.ExactPhaseSpace(MIXTURE, phase_space.processes.psld()),
    "own": Own(),
}


@pytest.mark.parametrize("name", PRIORS)
def test_every_kind_of_prior_moves(name, monkeypatch):
    monkeypatch.setattr(moving, "usable", lambda device, caller: device)
    prior = PRIORS[name]
    moved = prior.to("meta")
    assert moved.device == META
    assert prior.device == torch.device("cpu")
    assert type(moved) is type(prior)
    assert moved.shape == prior.shape
    assert moved.to(META).device == META


def test_what_two_share_is_moved_once(monkeypatch):
    monkeypatch.setattr(moving, "usable", lambda device, caller: device)
    moved = PRIORS["guided"].to("meta")
    assert moved.leading is moved.conditional
    assert moved.conditional.module is moved.unconditional.module
    covariance = DENSE.to("meta").covariance
    assert covariance.variance.device == covariance.basis.vectors.device == META
    assert PRIORS["classified"].to("meta").classifier.weight.device == META
    assert PHOTO.to("meta").error.variance.device.type == "cpu"  # its tables follow the images


def test_at_home_it_is_the_same_and_elsewhere_is_refused():
    x = normal((2,), (2, 3, 64, 64))
    here = PHOTO.to("cpu")
    assert here.module is PHOTO.module
    assert torch.equal(here.denoise(x, 0.5), PHOTO.denoise(x, 0.5))
    for wrong in ("cuda:77", "meta", "nowhere"):
        with pytest.raises(ValueError, match=r"NetworkPrior.to\(device="):
            PHOTO.to(wrong)


def test_a_network_that_cannot_be_copied_is_refused(monkeypatch):
    class Held(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def __getstate__(self):
            raise TypeError("no copy of this")

    monkeypatch.setattr(moving, "usable", lambda device, caller: device)
    prior = ti.priors.NetworkPrior(Held(), "edm", shape=(1, 4, 4))
    with pytest.raises(ValueError, match=r"Held cannot be moved \(no copy of this\); load it"):
        prior.to("meta")
