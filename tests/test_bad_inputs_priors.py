"""Bad inputs: priors, checkpoints and their checks."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.bad_inputs import (
    FIELD,
    IMAGE,
    WHOLE,
    S,
    Y,
    exact,
    network,
)

TABLE = [
    (
        lambda: FIELD.denoise(IMAGE, 0.1),
        (
            "Gaussian.denoise: needs shape (batch, 1, 8, 8), got (1, 8, 8); a single one needs a "
            "batch axis too, such as x[None]"
        ),
    ),
    (
        lambda: FIELD.denoise(IMAGE[0], 0.1),
        (
            "Gaussian.denoise: needs shape (batch, 1, 8, 8), got (8, 8); a single one needs batch"
            " and channel axes too, such as x[None, None]"
        ),
    ),
    (
        lambda: FIELD.denoise(np.zeros((2, *S), np.uint8), 0.1),
        (
            "Gaussian.denoise: needs images of floating-point numbers, got torch.uint8; "
            "ti.as_image makes one of a picture, and complex images are two channels"
        ),
    ),
    (
        lambda: FIELD.denoise(IMAGE[None], math.nan),
        ("Gaussian.denoise(sigma=nan): needs a finite noise level of 0 or more, in data units"),
    ),
    (
        lambda: FIELD.denoise(IMAGE[None], np.ones(3)),
        (
            "denoise(x, sigma): sigma must be a scalar or one value an image, shape (1,); got "
            "shape (3,)"
        ),
    ),
    (
        lambda: FIELD.draw(0),
        ("draw(count=0): needs a whole number of at least 1"),
    ),
    (
        lambda: FIELD.draw(2, seed=1.5),
        ("draw(seed=1.5): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: ti.priors.Gaussian(torch.zeros(3).long(), torch.eye(3)),
        (
            "Gaussian(mean=): needs float32 or float64, got torch.int64; convert it first, to the"
            " data's units"
        ),
    ),
    (
        lambda: ti.priors.Gaussian(torch.zeros(3), torch.eye(3) * math.nan),
        ("Gaussian(covariance=): holds 9 NaN or infinite entries of 9, the first at index (0, 0)"),
    ),
    (
        lambda: ti.priors.GaussianMixture(torch.zeros(2, 3), torch.ones(2), math.nan),
        ("GaussianMixture(std=nan): needs a finite number"),
    ),
    (
        lambda: ti.priors.GaussianMixture(torch.zeros(2, 3), torch.ones(2), True),
        ("GaussianMixture(std=True): needs a number"),
    ),
    (
        lambda: ti.priors.Empirical(np.zeros((4, 1, 8, 8), np.uint8)),
        (
            "Empirical(data=): needs float32 or float64, got torch.uint8; for a picture of 0 to "
            "255, ti.as_image(array, value_range=(low, high)) makes an image of it"
        ),
    ),
    (
        lambda: ti.priors.NetworkPrior(lambda x, t: x, "x0", shape=S),
        (
            "NetworkPrior(module=): needs a torch.nn.Module, got function; a function becomes one"
            " as the forward() of a class that derives from it"
        ),
    ),
    (
        lambda: ti.priors.NetworkPrior(nn.Identity(), "noise", shape=S),
        (
            "NetworkPrior(parameterization='noise'): choose one of 'edm', 'epsilon', 'flow', "
            "'score', 'v' or 'x0'"
        ),
    ),
    (
        lambda: ti.priors.NetworkPrior(nn.Identity(), "x0", shape=S, coordinates="VP"),
        ("NetworkPrior(coordinates='VP'): choose one of 've', 'vp', 'flow' or 'edm'"),
    ),
    (
        lambda: ti.priors.NetworkPrior(nn.Identity(), "x0", shape=S, scale=0),
        ("NetworkPrior(scale=0): needs a positive, finite number"),
    ),
    (
        lambda: ti.priors.NetworkPrior(nn.Identity(), "x0", shape=S, sigma_min=0),
        ("NetworkPrior: needs 0 < sigma_min < sigma_max, got 0.0 and 80.0"),
    ),
    (
        lambda: ti.priors.NetworkPrior(nn.Identity(), "x0", shape=(1, 8, 0)),
        (
            "NetworkPrior(shape=(1, 8, 0)): needs positive sizes, without the batch axis, such as"
            " (1, 64, 64)"
        ),
    ),
    (
        lambda: ti.priors.NetworkPrior(nn.Identity(), "x0", shape=S, timesteps=[3.0, 2.0]),
        (
            "NetworkPrior(timesteps=): needs the positive noise levels of the training steps in "
            "increasing order, e.g. ((1 - alpha_bar) / alpha_bar).sqrt()"
        ),
    ),
    (
        lambda: ti.priors.NetworkPrior(WHOLE, "x0", shape=S),
        (
            "NetworkPrior(module=): the weights of ParameterList are torch.int64; a network needs"
            " floating-point weights. Convert them first (module.float())"
        ),
    ),
    (
        lambda: ti.load_prior(""),
        ("load_prior(name_or_path=''): needs a path, got an empty text"),
    ),
    (
        lambda: ti.load_prior(7),
        ("load_prior(name_or_path=7): needs a path"),
    ),
    (
        lambda: ti.load_prior("digits-32", value_range=(0, 255)),
        (
            "load_prior('digits-32', value_range=(0.0, 255.0)): this prior knows its data's "
            "range, (0.0, 1.0), and so does the denoising error measured with it; leave "
            "value_range= out and bring measurement, noise and operator to these units"
        ),
    ),
    (
        lambda: ti.load_prior("digits-32", value_range=(1, 0)),
        ("load_prior(value_range=(1, 0)): needs low < high"),
    ),
    (
        lambda: ti.load_prior("digits-32", revision="main"),
        (
            "load_prior(revision='main'): is the commit of a hub id, and digits-32.safetensors "
            "has none; leave it out"
        ),
    ),
    (
        lambda: ti.load_prior(nn.Identity(), sha256="0" * 64),
        (
            "load_prior(sha256=): is the checksum of one file, and the module Identity is none; "
            "leave it out (a hub id is fixed by revision=)"
        ),
    ),
    (
        lambda: ti.check_prior(FIELD, IMAGE),
        (
            "check_prior(images=): needs two or more images, shape (count, (1, 8, 8)), got (1, 8,"
            " 8); a single one needs a batch axis too, such as x[None]"
        ),
    ),
    (
        lambda: ti.check_prior(FIELD, np.zeros((16, *S), np.uint8)),
        (
            "check_prior(images=): needs float32 or float64, got torch.uint8; for a picture of 0 "
            "to 255, ti.as_image(array, value_range=(low, high)) makes an image of it"
        ),
    ),
    (
        lambda: ti.check_prior(FIELD, np.zeros((16, 8, 8, 1))),
        (
            "check_prior(images=): needs two or more images, shape (count, (1, 8, 8)), got (16, "
            "8, 8, 1); that looks like (height, width, channels): ti.as_image puts the channels "
            "first"
        ),
    ),
    (
        lambda: FIELD.denoise(Y.half(), 1.0),
        (
            "Gaussian.denoise: needs float32 or float64, got torch.float16; use .float(): "
            "sums over an image lose all digits in half precision"
        ),
    ),
    (
        lambda: FIELD.denoise(Y, -1.0),
        ("Gaussian.denoise(sigma=-1): needs a finite noise level of 0 or more, in data units"),
    ),
    (
        lambda: FIELD.score(Y, 0),
        ("Gaussian.score(sigma=0): needs a finite noise level above 0, in data units"),
    ),
    (
        lambda: FIELD.log_prob(Y[None]),
        ("Gaussian.log_prob: needs shape (batch, 1, 8, 8), got (1, 2, 1, 8, 8)"),
    ),
    (
        lambda: FIELD.denoising_error(math.nan),
        ("denoising_error(sigma=nan): needs a finite noise level of 0 or more, in data units"),
    ),
    (
        lambda: ti.priors.NetworkPrior(nn.Identity(), "x0", shape=S, error=3),
        (
            "NetworkPrior(error=): needs what ti.measure_denoising_error(prior, images) "
            "returns, or None, got int"
        ),
    ),
    (
        lambda: network(torch.add).with_error("a"),
        (
            "with_error(error=): needs what ti.measure_denoising_error(prior, images) "
            "returns, or None, got str"
        ),
    ),
    (
        lambda: network(torch.add).tiled(1.5),
        ("tiled(tile=1.5): needs a side, or (height, width), a whole number"),
    ),
    (
        lambda: network(torch.add).for_shape(8),
        ("for_shape(shape=8): needs positive sizes, without the batch axis, such as (1, 64, 64)"),
    ),
    (
        lambda: ti.measure_denoising_error(None, Y),
        (
            "measure_denoising_error: prior must be a prior such as ti.load_prior('phantom-64'), "
            "or its name, got NoneType; wrap a network in ti.priors.NetworkPrior"
        ),
    ),
    (
        lambda: ti.measure_denoising_error(network(lambda x, t: x - x.mean(0)), Y),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) mixes the "
            "batch: an image gave another answer alone than in a batch of two. The first "
            "axis is the batch, and its rows must not know each other. A network in "
            "training mode does that: call .eval() on it."
        ),
    ),
    (
        lambda: ti.measure_denoising_error(FIELD, Y, sigmas=torch.tensor([2.0, 1.0])),
        (
            "measure_denoising_error(sigmas=): needs two or more positive noise levels in "
            "increasing order, got [2.0, 1.0]"
        ),
    ),
    (
        lambda: ti.check_prior(FIELD, Y * math.nan),
        (
            "check_prior(images=): holds 128 NaN or infinite entries of 128, the first at "
            "index (0, 0, 0, 0)"
        ),
    ),
    (
        lambda: ti.load_prior("digits-32", sha256=3),
        ("load_prior(sha256=3): needs text"),
    ),
    (
        lambda: ti.priors.formats.ADM(schedule="typo"),
        ("ADM(schedule='typo'): choose one of 'vp-linear' or 'cosine'"),
    ),
    (
        lambda: ti.priors.formats.ADM(heads=0),
        ("ADM(heads=0): needs a whole number of at least 1"),
    ),
    (
        lambda: ti.priors.formats.EDM(sigma_data=-1),
        ("EDM(sigma_data=-1): needs a positive, finite number"),
    ),
    (
        lambda: ti.priors.formats.ScoreSDE(discrete="yes"),
        ("ScoreSDE(discrete='yes'): needs True or False"),
    ),
    (
        lambda: ti.priors.formats.Diffusers(prediction="x0"),
        ("Diffusers(prediction='x0'): choose one of 'epsilon', 'v_prediction' or 'sample'"),
    ),
    (
        lambda: ti.priors.formats.Deepinv(network_range=(1, 0)),
        ("Deepinv(network_range=(1, 0)): needs low < high"),
    ),
    (
        lambda: ti.priors.formats.Module(shape=8),
        ("Module(shape=8): needs (channels, height, width), positive sizes"),
    ),
]


@pytest.mark.parametrize(("call", "sentence"), TABLE, ids=range(len(TABLE)))
def test_a_bad_input_gets_its_sentence(call, sentence):
    exact(call, sentence)


def test_no_row_is_lost():
    assert len(TABLE) >= 50
