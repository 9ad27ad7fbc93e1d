"""Small problems and functions of users, right and wrong, for the tables of bad inputs.

A row of a table is a call and the exact sentence that it gets: what was called, what it needed,
what it got, and what to do.  `solve` stands for `ti.solve` of a small problem with some of its
arguments replaced.
"""

import re

import numpy as np
import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.seeds import SALT
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.problems.suites import SUITES

S = (1, 8, 8)
FIELD = random_field(8)
NOISE = ops.GaussianNoise(0.1)
MASK = ops.Mask(torch.ones(S), noise=NOISE)
MRI = ops.FourierSampling(torch.ones(8, 8), noise=NOISE)
IMAGE = FIELD.draw(1, seed=1)[0].float()
Y = FIELD.draw(2, seed=2).float()
PICTURE = np.full((8, 8, 3), 200, np.uint8)
POSTERIOR = ti.solve(IMAGE, MASK, FIELD, num_samples=2, steps=2)
SUITE = SUITES["field"]
NUMBERS = re.compile(r"-?[\d.]+(e[+-]\d+)?")
PSLD = ti.phase_space.processes.psld()
PHASES = ti.phase_space.ExactPhaseSpace(FIELD, PSLD)
WHOLE = nn.ParameterList([nn.Parameter(torch.ones(2).long(), requires_grad=False)])


class Network(nn.Module):
    """A function as a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, label):
        return self.function(x, label)


class Counter:
    """Another answer at every call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, label=None):
        self.calls += 1
        return x * self.calls


class Own(ti.priors.Prior):
    """A prior of the user's own."""

    shape, sigma_min, sigma_max = S, 0.01, 10.0

    def __init__(self, function):
        self.function = function

    def denoise(self, x, sigma):
        return self.function(x)

    def denoising_error(self, sigma):
        return FIELD.denoising_error(sigma)


class Loud(ops.NoiseModel):
    """A noise model of the user's own."""

    def __init__(self, law):
        self.law = law

    def sample(self, ax, *, seed=0):
        return ax

    def log_prob(self, y, ax):
        return self.law(y, ax)

    def variance(self, ax):
        return torch.ones_like(ax)


def network(function):
    return ti.priors.NetworkPrior(Network(function), "x0", shape=S)


def doubled_label(x, label):
    label.mul_(2)
    return x / 2


def linear(function, **settings):
    return ops.LinearOperator.from_function(function, S, noise=NOISE, **settings)


def nonlinear(function):
    return ops.Operator.from_function(function, S, range_shape=S, noise=NOISE)


def cut(x):
    x[..., 4:] = 0
    return x


def solve(**given):
    """`ti.solve` with bad arguments in a call that is right otherwise."""
    arguments = {"y": Y, "operator": MASK, "prior": FIELD, "num_samples": 2, "steps": 3}
    return ti.solve(**{**arguments, **given})


def exact(call, sentence):
    """Whether a call is refused with exactly this sentence."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    found = str(caught.value)
    if SALT:  # other random numbers, so other numbers in some sentences
        found, sentence = (NUMBERS.sub("#", text) for text in (found, sentence))
    assert found == sentence
