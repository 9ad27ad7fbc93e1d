"""Networks in memory: same numbers as the library they come from."""

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.networks import (
    KarrasStyle,
    deepinv_admunet,
    deepinv_ncsnpp,
    noisy,
    seeded,
)
from tweedie_inverse.priors import formats


class InnerNetwork(nn.Module):
    """Some network behind a preconditioning."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, noise, class_labels=None):
        return torch.tanh(self.layer(x)) * noise.reshape(-1, 1, 1, 1)


def test_deepinv_denoisers_equal_deepinv():
    models = pytest.importorskip("deepinv.models")
    networks = [
        seeded(lambda: models.DRUNet(1, 1, nc=(8, 8, 8, 8), nb=1, pretrained=None)),
        seeded(lambda: deepinv_ncsnpp(_was_trained_on_minus_one_one=True)),
        seeded(lambda: deepinv_admunet()),
        seeded(lambda: models.EDMPrecond(InnerNetwork())),
    ]
    x = noisy((1, 16, 16), 0.1)
    for network in networks:
        prior = ti.load_prior(
            network.eval(), format=formats.Deepinv(shape=(1, 16, 16), sigma_max=40.0)
        )
        assert prior.name == type(network).__name__
        torch.testing.assert_close(prior.denoise(x, 0.1), network(x, 0.1), rtol=1e-5, atol=1e-5)
        signed = ti.load_prior(
            network,
            format=formats.Deepinv(shape=(1, 16, 16), sigma_max=40.0),
            value_range=(-1.0, 1.0),
        )
        torch.testing.assert_close(
            signed.denoise(2 * x - 1, 0.2), 2 * network(x, 0.1) - 1, rtol=1e-5, atol=1e-5
        )
    with pytest.raises(ValueError, match="does not tell the shape"):
        ti.load_prior(networks[0])


class SmallStyle(nn.Module):
    """smalldiffusion's interface, with the sigma that `Scaled` needs."""

    input_dims = (1, 8, 8)

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, sigma, cond=None):
        return self.inner(x / (1 + sigma**2).sqrt())

    def predict_eps(self, x, sigma, cond=None):  # trained for v, as its PredV does
        a = (1 + sigma**2).sqrt()
        return (self(x, sigma) + sigma / a * x) / a


def test_k_diffusion_and_smalldiffusion_styles():
    network, x = seeded(KarrasStyle), noisy((1, 8, 8), 0.1)
    prior = ti.load_prior(network, format=formats.KDiffusion(shape=(1, 8, 8), sigma_max=80.0))
    expected = (network(2 * x - 1, torch.full((2,), 0.2)) + 1) / 2
    torch.testing.assert_close(prior.denoise(x, 0.1), expected, rtol=1e-5, atol=1e-5)
    network = seeded(SmallStyle)
    prior = ti.load_prior(network, value_range=(-1.0, 1.0))  # recognised by predict_eps
    expected = x - 0.1 * network.predict_eps(x, torch.tensor(0.1))
    torch.testing.assert_close(prior.denoise(x, 0.1), expected, rtol=1e-5, atol=1e-5)
    assert prior.shape == (1, 8, 8)
