"""A prior that misleads is named where its denoising error is measured, and a sound one is not."""

import warnings

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse.numerics.random import normal

SHAPE = (1, 8, 8)


class Wrong(nn.Module):
    """A function in the place of a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, label):
        return self.function(x)


def prior_of(function, kind="x0", value_range=(0.0, 1.0)):
    prior = ti.priors.NetworkPrior(
        Wrong(function), kind, shape=SHAPE, sigma_min=0.01, sigma_max=20.0, centre=0.5
    )
    prior.value_range = value_range
    return prior


def images(count=20):
    return 0.5 + 0.3 * normal((1,), (count, *SHAPE)).float().mean(-1, keepdim=True).expand(
        count, *SHAPE
    )


OWN = [
    ("keeps all noise", lambda x: 0 * x, "epsilon", (0.0, 1.0), "values lie far outside"),
    ("amplifies", lambda x: 2 * x, "x0", (0.0, 1.0), "values lie far outside"),
    ("saturates", lambda x: 3 * x.tanh(), "x0", (0.0, 1.0), "standard deviation"),
    ("shrinks", lambda x: 0.5 * x, "x0", (-1.0, 1.0), "it changes clean images by more than"),
    ("one image", lambda x: 0 * x + 0.3, "x0", (0.0, 1.0), "all alike"),
    ("no range", lambda x: 30 * x.tanh(), "x0", None, "times prior.unit"),
]


@pytest.mark.parametrize(
    ("function", "kind", "value_range", "says"),
    [row[1:] for row in OWN],
    ids=[row[0] for row in OWN],
)
def test_samples_that_are_no_images_are_named(function, kind, value_range, says):
    prior = prior_of(function, kind, value_range)
    with pytest.warns(RuntimeWarning, match=says) as caught:
        ti.estimate_denoising_error(prior, 8, steps=20, levels=4)
    (warning,) = [one for one in caught if one.category is RuntimeWarning]
    assert warning.filename == __file__
    assert "ti.measure_denoising_error" in str(warning.message)


def test_the_largest_usable_level_is_named():
    """Of a denoiser that is sound up to sigma 1 and answers with noise beyond."""
    field = random_field(8)

    class Sound(ti.priors.Prior):
        shape, sigma_min, sigma_max = SHAPE, 0.01, 100.0

        def denoise(self, x, sigma):
            return field.denoise(x, sigma) if sigma <= 1 else x

        def denoising_error(self, sigma):
            raise NotImplementedError

    levels = torch.tensor([0.01, 0.3, 0.9, 4.0, 60.0]).double()
    with pytest.warns(RuntimeWarning, match=r"from sigma 4 on .*Set prior.sigma_max = 0.9"):
        ti.measure_denoising_error(Sound(), field.draw(100, seed=1), sigmas=levels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ti.measure_denoising_error(Sound(), field.draw(100, seed=1), sigmas=levels[:3])


def test_images_that_the_network_does_not_know_are_named():
    prior = prior_of(lambda x: x.clamp(0, 1))
    with pytest.warns(RuntimeWarning, match="do not fit"):
        ti.measure_denoising_error(prior, 255 * images(), levels=4)


def test_a_network_that_is_never_of_use_is_named():
    prior = prior_of(lambda x: 0 * x + 10)
    with pytest.warns(RuntimeWarning, match="No range is left"):
        ti.measure_denoising_error(prior, images(), sigmas=torch.tensor([5.0, 20.0]))


def test_answers_that_are_not_finite_are_refused():
    prior = prior_of(lambda x: x / (x.abs() < 5))
    with pytest.raises(ValueError, match="answers NaN or infinity at sigma 20"):
        ti.measure_denoising_error(prior, images(), sigmas=torch.tensor([0.1, 20.0]))
    with pytest.raises((ValueError, ti.WalkDivergedError), match="finite"):
        ti.estimate_denoising_error(prior, 4, steps=4, levels=4)


@pytest.mark.parametrize(
    "name",
    [
        "digits-32",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("phantom-64", "photo-64", "texture-64", "digits-32-psld")
        ),
    ],
)
def test_shipped_priors_are_believed(name):
    prior = ti.load_prior(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ti.estimate_denoising_error(prior, 4, steps=20, levels=4)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"form": "diagonal"}, "form='diagonal'"),
        ({"transform": "wavelet"}, "transform='wavelet'"),
        ({"sigmas": torch.tensor([1.0, 0.5])}, "increasing"),
        ({"sigmas": torch.tensor([1.0])}, "increasing"),
        ({"sigmas": torch.tensor([-1.0, 1.0])}, "positive"),
        ({"levels": 1}, "levels"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"progress": "yes"}, "progress"),
    ],
)
def test_wrong_settings_are_refused_before_any_evaluation(setting, says):
    def never(x):
        raise AssertionError("evaluated")

    for call in (
        lambda: ti.estimate_denoising_error(prior_of(never), 4, **setting),
        lambda: ti.measure_denoising_error(prior_of(never), images(), **setting),
    ):
        with pytest.raises((ValueError, TypeError), match=says):
            call()


def test_a_network_without_a_prior_is_refused():
    for call in (
        ti.estimate_denoising_error,
        lambda net: ti.measure_denoising_error(net, images()),
    ):
        with pytest.raises(TypeError, match="NetworkPrior"):
            call(nn.Identity())
