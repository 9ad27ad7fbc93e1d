"""What a network is told: its own label, scaled, shifted, rounded, interpolated in an embedding."""

import math

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import formats

TABLE = ti.schedules.vp_linear_table()
MEAN, STD = 0.3, 0.7


class Told(nn.Module):
    """Answers with zeros, and remembers what it was told."""

    def __init__(self):
        super().__init__()
        self.labels = []

    def forward(self, x, label):
        self.labels.append(label)
        return torch.zeros_like(x)


def told(**settings):
    module = Told()
    prior = ti.priors.NetworkPrior(module, "epsilon", shape=(1, 2, 2), **settings)
    prior.denoise(torch.zeros(2, 1, 2, 2), torch.tensor([0.3, 4.0]))
    return module.labels[0]


def test_labels_are_the_users_own():
    plain = told(timesteps=TABLE)
    torch.testing.assert_close(told(timesteps=TABLE, label_scale=1e-3), plain / 1000)
    torch.testing.assert_close(told(timesteps=TABLE, label_offset=1.0), plain + 1)
    both = told(timesteps=TABLE, label_scale=0.5, label_offset=3.0)
    torch.testing.assert_close(both, 3 + plain / 2)
    whole = told(timesteps=TABLE, integer_labels=True)
    assert whole.dtype == torch.long
    assert torch.equal(whole, plain.round().long())
    own = told(label=lambda sigma: torch.log1p(sigma**2), scale=0.5)
    torch.testing.assert_close(own, torch.log1p(torch.tensor([0.6, 8.0]) ** 2))


def test_wrong_labels_are_refused():
    with pytest.raises(TypeError, match=r"label=.*must return a tensor"):
        told(label=lambda sigma: 3.0)
    with pytest.raises(ValueError, match=r"one label an image, shape \(2,\)"):
        told(label=lambda sigma: sigma[:, None])
    with pytest.raises(TypeError, match="label"):
        told(label=1.0)
    with pytest.raises(ValueError, match="label_scale"):
        told(label_scale=math.nan)


class VPScore(nn.Module):
    """The exact score of N(MEAN, STD^2) after the VP process, of what it sees."""

    def forward(self, z, t):
        square = t.exp().reshape(-1, 1, 1, 1) - 1  # sigma^2, of t = log(1 + sigma^2)
        return -(z - MEAN / (1 + square).sqrt()) / ((STD**2 + square) / (1 + square))


@pytest.mark.parametrize("coordinates", ["ve", "vp", "flow", "edm"])
def test_a_score_is_that_of_what_the_network_sees(coordinates):
    """In VP coordinates it is sqrt(1 + sigma^2) times that of x: taken as such, D is 30 % off."""
    divisor = {
        "ve": lambda s: torch.ones_like(s),
        "vp": lambda s: (1 + s**2).sqrt(),
        "flow": lambda s: 1 + s,
        "edm": lambda s: (s**2 + 0.25).sqrt(),
    }[coordinates]

    class Exact(nn.Module):
        def forward(self, z, sigma):
            c = divisor(sigma).reshape(-1, 1, 1, 1)
            s = sigma.reshape(-1, 1, 1, 1)
            return -(z - MEAN / c) / ((STD**2 + s**2) / c**2)

    x = normal((1,), (3, 1, 2, 2))
    sigma = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)
    exact = ti.priors.Gaussian(
        torch.full((1, 2, 2), MEAN, dtype=torch.float64),
        power_spectrum=STD**2 * torch.ones(2, 2, dtype=torch.float64),
    ).denoise(x, sigma)
    prior = ti.priors.NetworkPrior(
        Exact(), "score", shape=(1, 2, 2), coordinates=coordinates, label=lambda sigma: sigma
    )
    torch.testing.assert_close(prior.denoise(x, sigma), exact, rtol=1e-5, atol=1e-5)
    if coordinates == "vp":
        prior = ti.priors.NetworkPrior(
            VPScore(), "score", shape=(1, 2, 2), coordinates="vp",
            label=lambda sigma: torch.log1p(sigma**2),
        )  # fmt: skip
        torch.testing.assert_close(prior.denoise(x, sigma), exact, rtol=1e-5, atol=1e-5)


class Embedded(nn.Module):
    """A network of whole timesteps."""

    def __init__(self, steps=1000):
        super().__init__()
        self.time = nn.Sequential(nn.Embedding(steps, 4), nn.Linear(4, 1))

    def forward(self, x, t):
        return x + self.time(t)[:, :, None, None]


def test_whole_timesteps():
    with torch.random.fork_rng(devices=[]):
        module = Embedded().eval().requires_grad_(False)
    x, settings = normal((1,), (2, 1, 4, 4)).float(), {"shape": (1, 4, 4), "timesteps": TABLE}
    plain = ti.priors.NetworkPrior(module, "epsilon", **settings)
    with pytest.raises(TypeError, match=r"integer_labels=True.*fractional_embedding"):
        plain.denoise(x, 0.3)
    rounded = ti.priors.NetworkPrior(module, "epsilon", integer_labels=True, **settings)
    smooth = ti.priors.NetworkPrior(formats.fractional_embedding(module), "epsilon", **settings)
    at = float(TABLE[400])
    torch.testing.assert_close(rounded.denoise(x, at), smooth.denoise(x, at), rtol=1e-4, atol=1e-4)
    # Between two steps: the input has the true sigma, the label is that of the nearer one.
    sigma = float(TABLE[400] ** 0.7 * TABLE[401] ** 0.3)
    level = torch.tensor(sigma)
    seen = x / (1 + level**2).sqrt()
    low, high = (module(seen, torch.tensor([t, t])) for t in (400, 401))
    torch.testing.assert_close(rounded.denoise(x, sigma), x - sigma * low)
    mixed = x - sigma * torch.lerp(low, high, 0.3)
    torch.testing.assert_close(smooth.denoise(x, sigma), mixed, rtol=1e-4, atol=1e-4)
    # All of solve's checks and walks, tiled as well.
    for prior in (rounded, smooth, rounded.tiled(4, overlap=2)):
        shape = (1, 6, 6) if prior.fully_convolutional else (1, 4, 4)
        operator = ti.operators.Mask(torch.ones(shape), noise=ti.operators.GaussianNoise(0.1))
        found = ti.solve(torch.zeros(shape), operator, prior, steps=4, num_samples=2)
        assert found.samples.isfinite().all()


def test_timesteps_that_are_not_in_the_table():
    with torch.random.fork_rng(devices=[]):
        module = Embedded(steps=500).eval()
    prior = ti.priors.NetworkPrior(
        module, "epsilon", shape=(1, 4, 4), timesteps=TABLE, integer_labels=True
    )
    with pytest.raises(ValueError, match="knows no label 999"):
        prior.denoise(torch.zeros(1, 1, 4, 4), float(TABLE[-1]))


def test_which_embedding():
    with torch.random.fork_rng(devices=[]):
        module = nn.ModuleDict({"time": nn.Embedding(5, 2), "kind": nn.Embedding(3, 2)})
    with pytest.raises(ValueError, match="time, kind"):
        formats.fractional_embedding(module)
    found = formats.fractional_embedding(module, "time")
    half = found["time"](torch.tensor([2.5, 4.0]))
    table = module["time"].weight
    torch.testing.assert_close(half, torch.stack([(table[2] + table[3]) / 2, table[4]]))
    assert isinstance(module["time"], nn.Embedding)  # the user's own is as it was


class FirstLayerInHalf(nn.Module):
    """Its first layer on the label has no way to take another type."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1, dtype=torch.bfloat16)

    def forward(self, x, label):
        return x * self.layer(label[:, None])[:, :, None, None]


def test_a_network_in_half_precision_that_wants_its_label_in_half_precision():
    with torch.random.fork_rng(devices=[]):
        module = FirstLayerInHalf()
    x = torch.zeros(1, 1, 2, 2)
    prior = ti.priors.NetworkPrior(module, "x0", shape=(1, 2, 2))
    with pytest.raises(TypeError, match=r"label=lambda sigma: sigma.to\(torch.bfloat16\)"):
        prior.denoise(x, 1.0)
    prior = ti.priors.NetworkPrior(
        module, "x0", shape=(1, 2, 2), label=lambda sigma: sigma.to(torch.bfloat16)
    )
    assert prior.denoise(x, 1.0).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_shipped_networks_in_other_types(dtype):
    prior, x = ti.load_prior("digits-32"), 0.5 + 0.3 * normal((1,), (1, 1, 32, 32)).float()
    expected = prior.denoise(x, 0.3)
    prior.module.to(dtype)
    assert float((prior.denoise(x, 0.3) - expected).square().mean().sqrt()) < 0.02


def test_labels_of_ones_own_are_not_lost_in_a_file(tmp_path):
    shipped = ti.load_prior("digits-32")
    assert not shipped.has_own_label
    shipped.label_scale = 2.0
    with pytest.raises(ValueError, match="no place for label="):
        ti.priors.zoo.save_prior(tmp_path / "p.safetensors", shipped, {})
