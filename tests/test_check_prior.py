"""`check_prior` passes honest priors and names the mistake that was planted."""

import copy

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.registry import PRIORS
from tweedie_inverse.datasets.registry import held_out

SHAPE = (1, 8, 8)
TABLE = ti.schedules.vp_linear_table()
KINDS = {"x0": "ve", "epsilon": "vp", "v": "vp", "score": "ve", "edm": "edm", "flow": "flow"}


def truth():
    """Images on [0, 1] in network units [-1, 1]: a field around a grey that is not the middle."""
    field = random_field(8)
    spectrum = 0.35 * field.covariance.variance
    return ti.priors.Gaussian(torch.full(SHAPE, -0.3).double(), power_spectrum=spectrum)


class Exact(nn.Module):
    """A perfect network for `truth`, on [-1, 1] or, told so, on [0, 1]; any kind of output."""

    def __init__(self, kind, table, network_range=(-1.0, 1.0)):
        super().__init__()
        self.kind, self.table = kind, table
        self.low, self.unit = network_range[0], (network_range[1] - network_range[0]) / 2
        self.exact = truth()

    def forward(self, given, label):
        coordinates = KINDS[self.kind]
        if self.table:
            sigma = ti.schedules.timestep_to_sigma(label.double(), TABLE)
        elif coordinates == "edm":
            sigma = (4 * label).exp()
        else:
            sigma = label / (1 - label) if coordinates == "flow" else label
        sigma = sigma.reshape(-1, 1, 1, 1).to(given)
        a = {"vp": (1 + sigma**2).sqrt(), "flow": 1 + sigma, "ve": 1,
             "edm": (sigma**2 + 0.25).sqrt()}[coordinates]  # fmt: skip
        x, levels = given * a, sigma.flatten().abs() / self.unit
        signed = (x - self.low) / self.unit - 1
        x0 = (self.exact.denoise(signed, levels) + 1) * self.unit + self.low
        n, total = (x - x0) / sigma, sigma**2 + 0.25
        return {
            "x0": x0,
            "epsilon": n,
            "score": -n / sigma,
            "v": (n - sigma * x0) / (1 + sigma**2).sqrt(),
            "flow": n - x0,
            "edm": (x0 - 0.25 / total * x) / (sigma * 0.5 / total.sqrt()),
        }[self.kind]


def wrapped(kind, **changes):
    """The prior of `truth` in data units [0, 1], rightly wrapped but for `changes`."""
    table = KINDS[kind] == "vp"
    settings = {"timesteps": TABLE if table else None, "offset": 0.5, "scale": 0.5, **changes}
    module = Exact(kind, table, settings.pop("network_range", (-1.0, 1.0)))
    shown = settings.pop("shown", kind)
    settings.setdefault("coordinates", KINDS[kind])
    return ti.priors.NetworkPrior(
        settings.pop("module", module),
        shown,
        shape=SHAPE,
        sigma_min=0.005,
        sigma_max=40,
        **settings,
    )


def images(count=32):
    return ((truth().draw(count, seed=1) + 1) / 2).float()


def suspected(prior):
    report = ti.check_prior(prior, images())
    assert not report.passed
    assert "FAILED" in str(report)
    return [suspect.mistake for suspect in report.suspects], report


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameterization_passes_when_rightly_wrapped(kind):
    report = ti.check_prior(wrapped(kind), images())
    assert report.passed, str(report)
    assert "passed" in str(report)


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("given", [True, False])
def test_exact_priors_pass(name, given):
    prior = PRIORS[name]()
    report = ti.check_prior(prior, prior.draw(64, seed=1) if given else None)
    assert report.passed, str(report)
    assert bool(report.blind) == (not given)


@pytest.mark.parametrize("name", PRIORS)
def test_right_priors_pass_whatever_the_images_and_the_noise(name):
    """Eight images each: the check must not take their scatter for a mistake."""
    prior = PRIORS[name]()
    for seed in range(20):
        report = ti.check_prior(prior, prior.draw(8, seed=100 + seed), seed=seed)
        assert report.passed, f"seed {seed}\n{report}"


class Told(ti.priors.Prior):
    """A prior that takes sigma for `factor` sigma."""

    def __init__(self, prior, factor):
        self.prior, self.factor, self.shape, self.centre = prior, factor, prior.shape, prior.centre
        self.sigma_min, self.sigma_max = prior.sigma_min, prior.sigma_max

    def denoise(self, x, sigma):
        return self.prior.denoise(x, self.factor * torch.as_tensor(sigma))

    def denoising_error(self, sigma):
        return self.prior.denoising_error(sigma)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("kind", ["x0", "epsilon"])
def test_a_factor_of_two_in_sigma_is_named(kind, factor):
    mistakes, _ = suspected(Told(wrapped(kind), factor))
    assert mistakes == ["a factor of 2 in sigma"]
    for name in ("mixture", "gaussian-dense", "gaussian-field", "empirical"):
        exact = PRIORS[name]()
        report = ti.check_prior(Told(exact, factor), exact.draw(64, seed=1))
        assert "a factor of 2 in sigma" in [s.mistake for s in report.suspects], str(report)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_wrong_table_of_noise_levels_is_named(factor):
    mistakes, _ = suspected(wrapped("epsilon", timesteps=factor * TABLE))
    assert "a factor of 2 in sigma" in mistakes  # the right table is named as well


@pytest.mark.parametrize("kind", KINDS)
def test_range_mistakes_are_named(kind):
    mistakes, _ = suspected(wrapped(kind, offset=0.0, scale=1.0))
    assert mistakes == ["range: it is given images on [0, 1] as if they were on [-1, 1]"]
    mistakes, _ = suspected(wrapped(kind, network_range=(0.0, 1.0)))
    assert mistakes == ["range: it is given images on [-1, 1] as if they were on [0, 1]"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shown", KINDS)
def test_swapped_parameterizations_are_named(kind, shown):
    """The rest of the wrapping is right; then also with what is usual for the wrong kind."""
    if kind == shown:
        return
    mistakes, _ = suspected(wrapped(kind, shown=shown))
    assert mistakes == [f"parameterization: the network returns {kind!r}"]
    if kind in ("epsilon", "v"):  # what they are told is the table's, in any coordinates
        mistakes, _ = suspected(wrapped(kind, shown=shown, coordinates=KINDS[shown]))
        assert mistakes[0] == f"parameterization: the network returns {kind!r}"


@pytest.mark.parametrize("kind", ["epsilon", "v"])
def test_a_flipped_timestep_direction_is_named(kind):
    class Flipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = Exact(kind, True)

        def forward(self, x, t):
            return self.network(x, len(TABLE) - 1 - t)

    mistakes, _ = suspected(wrapped(kind, module=Flipped()))
    assert mistakes == ["timestep direction: small and large sigma are exchanged"]


def test_a_biased_denoiser_is_seen():
    class Biased(Told):
        def denoise(self, x, sigma):
            return self.prior.denoise(x, sigma) + 0.05

    report = ti.check_prior(Biased(wrapped("x0"), 1.0), images())
    assert {f.name for f in report.findings if not f.passed} >= {"no offset"}


def test_outputs_that_are_not_finite_are_seen():
    class Broken(Told):
        def denoise(self, x, sigma):
            return x * torch.nan

    for given in (images(), None):
        assert not ti.check_prior(Broken(wrapped("x0"), 1.0), given).passed


def test_samples_of_a_badly_wrapped_prior_fail_and_say_what_they_cannot_see():
    report = ti.check_prior(wrapped("epsilon", shown="x0"))
    assert not report.passed
    assert "pass images=" in str(report)


def test_wrong_images_are_refused():
    with pytest.raises(ValueError, match=r"two or more images, shape \(count, \(1, 8, 8\)\)"):
        ti.check_prior(wrapped("x0"), torch.zeros(4, 3, 8, 8))


def held_out_images(name):
    return held_out("slices" if name == "phantom-64" else "photos", 64, 4)


@pytest.mark.parametrize("name", ["phantom-64", pytest.param("photo-64", marks=pytest.mark.slow)])
def test_shipped_priors_pass(name):
    report = ti.check_prior(ti.load_prior(name), held_out_images(name))
    assert report.passed, str(report)


@pytest.mark.slow
def test_a_network_spoiled_in_range_is_named():
    spoiled = copy.copy(ti.load_prior("phantom-64"))
    spoiled.offset, spoiled.scale = 0.0, 1.0
    report = ti.check_prior(spoiled, held_out_images("phantom-64"))
    expected = ["range: it is given images on [0, 1] as if they were on [-1, 1]"]
    assert [s.mistake for s in report.suspects] == expected, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phantom-64", "photo-64"])
def test_a_network_spoiled_otherwise_is_named(name):
    prior, clean = ti.load_prior(name), held_out_images(name)
    spoiled = copy.copy(prior)
    spoiled.parameterization = "x0"
    report = ti.check_prior(spoiled, clean)
    expected = [f"parameterization: the network returns {prior.parameterization!r}"]
    assert [s.mistake for s in report.suspects] == expected, str(report)
    for factor in (0.5, 2.0):
        report = ti.check_prior(Told(prior, factor), clean)
        assert [s.mistake for s in report.suspects] == ["a factor of 2 in sigma"], str(report)
