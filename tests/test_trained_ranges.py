"""The range of a denoiser is asked for, known, or assumed with a warning; never in silence."""

import warnings

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.networks import KarrasStyle, seeded
from tweedie_inverse.priors import formats


class Small(nn.Module):
    def predict_eps(self, x, sigma, cond=None):
        return x * sigma / (1 + sigma**2)


def deepinv_of(name):
    models = pytest.importorskip("deepinv.models")
    make = {
        "DRUNet": lambda: models.DRUNet(1, 1, nc=(4, 4, 4, 4), nb=2, pretrained=None),
        "FFDNet": lambda: models.FFDNet(4, 4, 1, pretrained=None),
        "DnCNN": lambda: models.DnCNN(1, 1, 4, nf=4, pretrained=None),
        "UNet": lambda: models.UNet(1, 1, scales=2),
    }[name]
    return seeded(make)


@pytest.mark.parametrize(
    ("name", "largest", "doubt"),
    [
        ("FFDNet", 75 / 255, None),
        ("DRUNet", 50 / 255, "deepinv's own 20/255"),
        ("DnCNN", 2 / 255, "this one level"),
        ("UNet", 40.0, "nothing is known of its training"),
    ],
)
def test_deepinv(name, largest, doubt):
    network = deepinv_of(name)
    for settings in ({}, {"sigma_max": 0.15}):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            prior = ti.load_prior(
                network, format=formats.Deepinv(shape=(1, 32, 32), **settings), value_range=(0, 2)
            )
        told = [str(warning.message) for warning in caught]
        assert len(told) == (doubt is not None and not settings)
        assert not told or (doubt in told[0] and "Deepinv(sigma_max=" in told[0])
        # The warning is the user's line, not one of ours.
        assert all(warning.filename == __file__ for warning in caught)
        expected = 2 * settings.get("sigma_max", largest)
        assert prior.sigma_max == pytest.approx(expected, rel=2e-3)
        single = name == "DnCNN" and not settings
        assert isinstance(prior, ti.priors.NetworkPrior)
        if single:
            noise = ti.operators.GaussianNoise(0.1)
            operator = ti.operators.Mask(torch.ones(1, 32, 32), noise=noise)
            with pytest.raises(ValueError, match=r"trained at one noise level.*sigma_max="):
                ti.solve(torch.zeros(1, 32, 32), operator, prior)


def test_k_diffusion_and_smalldiffusion():
    network = seeded(KarrasStyle)
    with pytest.warns(UserWarning, match=r"from 0.01 to 80.*KDiffusion\(sigma_max="):
        ti.load_prior(network, format=formats.KDiffusion(shape=(1, 8, 8)))
    with pytest.warns(UserWarning, match=r"from 0.01 to 35.*SmallDiffusion\(sigma_max="):
        ti.load_prior(Small(), format=formats.SmallDiffusion(shape=(1, 8, 8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = formats.KDiffusion(shape=(1, 8, 8), sigma_max=4.0)
        prior = ti.load_prior(network, format=said)
        ti.load_prior(Small(), format=formats.SmallDiffusion(shape=(1, 8, 8), sigma_max=4.0))
    assert (prior.sigma_min, prior.sigma_max) == (0.005, 2.0)  # on [-1, 1], and in data units


def test_a_bfloat16_denoiser_calculates_in_its_own_type():
    """deepinv's networks make a map of sigma, which would not fit beside the image."""
    network = deepinv_of("DRUNet")
    settings = formats.Deepinv(shape=(1, 32, 32), sigma_max=0.2)
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = ti.load_prior(network, format=settings).denoise(x, 0.1)
    found = ti.load_prior(network.to(torch.bfloat16), format=settings).denoise(x, 0.1)
    assert float((found - expected).norm() / expected.norm()) < 0.05


def test_settings_of_labels_reach_the_network():
    class Told(nn.Module):
        def forward(self, x, label):
            self.label = label
            return torch.zeros_like(x)

    table, module = ti.schedules.vp_linear_table(), Told()
    settings = {"label_scale": -0.5, "label_offset": 2.0, "integer_labels": True}
    form = formats.Module(
        shape=(1, 2, 2), parameterization="epsilon", timesteps=table, **settings
    )  # fmt: skip
    prior = ti.load_prior(module, format=form)
    sigma = float(table[100]) * prior.scale
    prior.denoise(torch.zeros(1, 1, 2, 2), sigma)
    assert module.label.tolist() == [-48]
    own = formats.Module(shape=(1, 2, 2), parameterization="x0", label=lambda sigma: 3 * sigma)
    ti.load_prior(module, format=own).denoise(torch.zeros(1, 1, 2, 2), 0.5)
    assert module.label.tolist() == [3.0]
    with pytest.raises(TypeError, match="label="):
        ti.load_prior(
            module, format=formats.Module(shape=(1, 2, 2), parameterization="x0", label=1)
        )


def test_a_network_prior_says_which_range_it_assumes():
    """Nothing ends at 80 by itself; only EDM's networks are trained to it as a rule."""
    module, table = torch.nn.Identity(), ti.schedules.vp_linear_table()
    with pytest.warns(UserWarning, match="noise levels up to 80 in data units are assumed") as told:
        ti.priors.NetworkPrior(module, "x0", shape=(1, 8, 8))
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ti.priors.NetworkPrior(module, "x0", shape=(1, 8, 8), sigma_max=0.3)
        ti.priors.NetworkPrior(module, "epsilon", shape=(1, 8, 8), timesteps=table)
        ti.priors.NetworkPrior(module, "edm", shape=(1, 8, 8))
