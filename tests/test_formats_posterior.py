"""An exactly known denoiser in every convention gives the right posterior."""

from functools import partial

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.posteriors import agreement, gaussian_posterior
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import formats
from tweedie_inverse.priors.formats.adm import adm_prior
from tweedie_inverse.priors.formats.base import Target
from tweedie_inverse.priors.formats.diffusers_schedulers import diffusers_prior
from tweedie_inverse.priors.formats.edm_preconditioning import RawNetwork, edm_prior
from tweedie_inverse.priors.formats.song import subvp_prior, ve_prior, vp_prior

MEAN, STD, SHAPE = 0.45, 0.2, (1, 4, 4)  # data units, images on [0, 1]
COUNT = 512  # images; of 64, conventions that differ little are told apart by luck
TABLE = ti.schedules.vp_linear_table()
COSINE = ti.schedules.cosine_table()
LEVELS = torch.logspace(-2, 1.7, 1000).double()  # of a VE network with discrete noise levels


def beta(t):
    """Integral of beta from 0 to t, of VP and sub-VP alike."""
    return 0.1 * t + 9.95 * t**2


def alpha(t):
    return torch.exp(-beta(t) / 2)


class Exact(nn.Module):
    """What a perfect network for Gaussian pixels would do; knows nothing of adapters.

    `sigma` of a label, the coordinates of the input and the kind of output are the convention's.
    """

    def __init__(self, output, *, coordinates="vp", label="timestep", signed=True, extra=False):
        super().__init__()
        self.output, self.coordinates, self.label, self.extra = output, coordinates, label, extra
        self.mean, self.std = (2 * MEAN - 1, 2 * STD) if signed else (MEAN, STD)
        self.unused = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, given, label, **others):
        sigma = {
            "timestep": lambda: ti.schedules.timestep_to_sigma(label.nan_to_num(), TABLE),
            "sigma": lambda: label,
            "time": lambda: label / (1 - label),
            "cosine": lambda: ti.schedules.timestep_to_sigma(label.nan_to_num(), COSINE),
            "from the largest": lambda: ti.schedules.timestep_to_sigma(999 - label, LEVELS),
            "999 t": lambda: torch.expm1(beta(label / 999)).sqrt(),
            "999 t of sub-VP": lambda: (1 - torch.exp(-beta(label / 999))) / alpha(label / 999),
            "log": lambda: (4 * label).exp(),
            "half log": lambda: 2 * label.exp(),
        }[self.label]().reshape(-1, 1, 1, 1)
        total = (sigma**2 + 0.25).sqrt()
        x = (
            given
            * {
                "vp": (1 + sigma**2).sqrt(),
                "subvp": (1 + sigma**2 / 4).sqrt() + sigma / 2,
                "ve": 1,
                "flow": 1 + sigma,
                "edm": total,
            }[self.coordinates]
        )
        x0 = self.mean + self.std**2 / (self.std**2 + sigma**2) * (x - self.mean)
        n = (x - x0) / sigma
        output = {
            "x0": x0,
            "epsilon": n,
            "minus epsilon": -n,
            "score": -n / sigma,
            "v": (n - sigma * x0) / (1 + sigma**2).sqrt(),
            "flow": n - x0,
            "edm": (x0 - 0.25 / total**2 * x) / (sigma * 0.5 / total),
        }[self.output]
        return torch.cat([output, torch.ones_like(output)], dim=1) if self.extra else output

    def predict_eps(self, x, sigma, cond=None):
        return self(x, sigma.flatten())


class Centred(nn.Module):
    """The inside of a network that centres images on [0, 1] itself."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, label):
        return self.network((x + 1) / 2, label)


def edm_adapter(kind, network):
    return edm_prior(RawNetwork(network, 1, 0, None), SHAPE, Target(), kind)


DDPM = {"_class_name": "DDPMScheduler", "beta_schedule": "linear"}
SONG = {"_class_name": "ScoreSdeVeScheduler", "sigma_max": 50.0}


# Conventions of files: the network that they suit, and its wrapping.
CONVENTIONS = {
    "edm": (lambda: Exact("edm", coordinates="edm", label="log"), partial(edm_adapter, "edm")),
    "edm-vp": (lambda: Exact("epsilon", label="999 t"), partial(edm_adapter, "vp")),
    "edm-ve": (
        lambda: Exact("minus epsilon", coordinates="ve", label="half log"),
        partial(edm_adapter, "ve"),
    ),
    "edm-iddpm": (
        lambda: Exact("epsilon", label="cosine", extra=True),
        partial(edm_adapter, "iddpm"),
    ),
    "score-sde-ve": (
        lambda: Centred(Exact("minus epsilon", coordinates="ve", label="sigma", signed=False)),
        lambda network: ve_prior(network, SHAPE, LEVELS, Target()),
    ),
    "score-sde-ve-discrete": (
        lambda: Centred(
            Exact("minus epsilon", coordinates="ve", label="from the largest", signed=False)
        ),
        lambda network: ve_prior(network, SHAPE, LEVELS, Target(), discrete=True),
    ),
    "score-sde-vp": (
        lambda: Exact("epsilon", label="999 t"),
        lambda network: vp_prior(network, SHAPE, Target()),
    ),
    "score-sde-vp-discrete": (
        lambda: Exact("epsilon"),
        lambda network: vp_prior(network, SHAPE, Target(), discrete=True),
    ),
    "score-sde-subvp": (
        lambda: Exact("epsilon", coordinates="subvp", label="999 t of sub-VP"),
        lambda network: subvp_prior(network, SHAPE, Target()),
    ),
}


def of_convention(name):
    network, wrap = CONVENTIONS[name]
    return wrap(network())


def module_prior(output, coordinates, label):
    settings = formats.Module(
        shape=SHAPE, parameterization=output, timesteps=TABLE if label == "timestep" else None
    )
    return ti.load_prior(Exact(output, coordinates=coordinates, label=label), format=settings)


ADAPTERS = {
    "diffusers-epsilon": lambda: diffusers_prior(
        Exact("epsilon"), SHAPE, DDPM, "epsilon", Target()
    ),
    "diffusers-v": lambda: diffusers_prior(Exact("v"), SHAPE, DDPM, "v_prediction", Target()),
    "diffusers-sample": lambda: diffusers_prior(Exact("x0"), SHAPE, DDPM, "sample", Target()),
    "diffusers-ve": lambda: diffusers_prior(
        Exact("score", coordinates="ve", label="sigma", signed=False),
        SHAPE, SONG, "epsilon", Target(),
    ),
    "adm": lambda: adm_prior(Exact("epsilon", extra=True), SHAPE, Target()),
    "deepinv": lambda: ti.load_prior(
        Exact("x0", coordinates="ve", label="sigma", signed=False),
        format=formats.Deepinv(shape=SHAPE, sigma_max=40.0),
    ),
    "k-diffusion": lambda: ti.load_prior(
        Exact("x0", coordinates="ve", label="sigma"),
        format=formats.KDiffusion(shape=SHAPE, sigma_max=80.0),
    ),
    "smalldiffusion": lambda: ti.load_prior(
        Exact("epsilon", coordinates="ve", label="sigma"),
        format=formats.SmallDiffusion(shape=SHAPE, sigma_max=35.0),
    ),
    **{name: partial(of_convention, name) for name in CONVENTIONS},
    "module-x0": lambda: module_prior("x0", "ve", "sigma"),
    "module-epsilon": lambda: module_prior("epsilon", "vp", "timestep"),
    "module-v": lambda: module_prior("v", "vp", "timestep"),
    "module-score": lambda: module_prior("score", "ve", "sigma"),
    "module-flow": lambda: module_prior("flow", "flow", "time"),
    "module-edm": lambda: module_prior("edm", "edm", "log"),
}  # fmt: skip


class WithExactError(ti.priors.Prior):
    """The adapter's denoiser with the known error, so that the walk has nothing to estimate."""

    def __init__(self, adapted, exact):
        self.adapted, self.exact, self.shape, self.centre = adapted, exact, SHAPE, exact.centre
        self.sigma_min, self.sigma_max = max(adapted.sigma_min, 0.005), min(adapted.sigma_max, 20)

    def denoise(self, x, sigma):
        return self.adapted.denoise(x, sigma)

    def denoising_error(self, sigma):
        return self.exact.denoising_error(sigma)


@pytest.mark.parametrize("name", ADAPTERS)
def test_posterior_is_right_through_every_adapter(name):
    """Mean and variance along every axis; a factor 2 in sigma or range gives z of 20 and more."""
    exact = ti.priors.Gaussian(
        torch.full(SHAPE, MEAN).double(), covariance=STD**2 * torch.eye(16).double()
    )
    operator = ops.MatrixOperator(normal((2,), (6, 16)), noise=ops.GaussianNoise(0.1))
    operator = ops.compose(
        operator, ops.LinearOperator.from_function(lambda x: x.flatten(1), SHAPE)
    )
    y = operator.forward(exact.draw(1, seed=3)) + 0.1 * normal((4,), (1, 6))
    adapted = ADAPTERS[name]()
    x = exact.draw(2, seed=5) + 0.3 * normal((6,), (2, *SHAPE))
    torch.testing.assert_close(adapted.denoise(x, 0.3), exact.denoise(x, 0.3), rtol=1e-7, atol=1e-7)
    posterior = ti.solve(
        y, operator, WithExactError(adapted, exact),
        method="decoupled", num_samples=400, steps=8, noise=ops.GaussianNoise(0.1),
    )  # fmt: skip
    found = agreement(posterior.samples[0], gaussian_posterior(exact, operator, y[0], 0.1))
    assert found.worst_z < 5


# What a network is, and what it may be taken for: files that do not say, or a wrong setting.
TAKEN_FOR = [
    ("score-sde-subvp", "score-sde-vp"),
    ("score-sde-vp", "score-sde-subvp"),
    ("score-sde-ve-discrete", "score-sde-vp"),
    ("score-sde-vp", "score-sde-ve-discrete"),
    ("edm-vp", "edm"),
    ("edm-ve", "edm"),
    ("edm-iddpm", "edm"),
    ("edm", "edm-vp"),
    ("edm", "edm-ve"),
    ("edm", "edm-iddpm"),
    ("edm-iddpm", "edm-vp"),
    ("edm-vp", "edm-iddpm"),
]


@pytest.mark.parametrize("name", CONVENTIONS)
def test_right_conventions_pass_the_check(name):
    report = ti.check_prior(of_convention(name), MEAN + STD * normal((8,), (COUNT, *SHAPE)))
    assert report.passed, str(report)


@pytest.mark.parametrize(("name", "other"), TAKEN_FOR)
def test_a_network_taken_for_another_kind_is_seen(name, other):
    network, wrap = CONVENTIONS[name][0], CONVENTIONS[other][1]
    report = ti.check_prior(wrap(network()), MEAN + STD * normal((8,), (COUNT, *SHAPE)))
    assert not report.passed, str(report)


def test_levels_counted_from_the_wrong_end_are_named():
    network, wrap = CONVENTIONS["score-sde-ve-discrete"]
    prior = wrap(network())
    prior.module.levels = 1  # it then counts from the smallest, downwards
    prior.module.network.register_forward_pre_hook(lambda module, given: (given[0], -given[1]))
    report = ti.check_prior(prior, MEAN + STD * normal((8,), (COUNT, *SHAPE)))
    expected = ["timestep direction: small and large sigma are exchanged"]
    assert [suspect.mistake for suspect in report.suspects] == expected
