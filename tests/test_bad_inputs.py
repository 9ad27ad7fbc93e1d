"""Bad inputs, a row each, with the exact sentence that each one gets.

The sentence says what was called, what it needed, what it got, and what to do.  A row is a call;
`solve` stands for `ti.solve` of a small problem with some of its arguments replaced.
"""

import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.seeds import SALT
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.harness.commands import main
from tweedie_inverse.benchmarks.harness.plan import Plan, packs
from tweedie_inverse.benchmarks.problems.suites import SUITES
from tweedie_inverse.evaluation.metrics import psnr
from tweedie_inverse.training.config import TrainingConfig

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


TABLE = [
    (
        lambda: solve(y="y.npy"),
        ("solve(y=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: solve(y=None),
        ("solve(y=): needs a tensor or an array of numbers, got NoneType"),
    ),
    (
        lambda: solve(y=Y.half()),
        (
            "solve: needs float32 or float64, got torch.float16; use .float(): sums over an image"
            " lose all digits in half precision"
        ),
    ),
    (
        lambda: solve(y=Y.bfloat16()),
        (
            "solve: needs float32 or float64, got torch.bfloat16; use .float(): sums over an "
            "image lose all digits in half precision"
        ),
    ),
    (
        lambda: solve(y=Y.long()),
        ("solve: needs float32 or float64, got torch.int64; convert it first, to the data's units"),
    ),
    (
        lambda: solve(y=(255 * Y.abs()).byte()),
        (
            "solve: needs float32 or float64, got torch.uint8; for a picture of 0 to 255, "
            "ti.as_image(array, value_range=(low, high)) makes an image of it"
        ),
    ),
    (
        lambda: solve(y=Y.to(torch.complex64)),
        (
            "solve: needs float32 or float64, got torch.complex64; real and imaginary parts are "
            "two channels"
        ),
    ),
    (
        lambda: solve(y=Y[:, 0, :7]),
        (
            "solve: Mask((1, 8, 8) -> (1, 8, 8)) gives measurements of shape (1, 8, 8); y must be"
            " one of them or (batch, 1, 8, 8), got (2, 7, 8)"
        ),
    ),
    (
        lambda: solve(y=Y[:, 0]),
        (
            "solve: Mask((1, 8, 8) -> (1, 8, 8)) gives measurements of shape (1, 8, 8); y must be"
            " one of them or (batch, 1, 8, 8), got (2, 8, 8); a batch without channels needs "
            "their axis too, such as x[:, None]"
        ),
    ),
    (
        lambda: solve(y=Y.movedim(1, -1).numpy()),
        (
            "solve: Mask((1, 8, 8) -> (1, 8, 8)) gives measurements of shape (1, 8, 8); y must be"
            " one of them or (batch, 1, 8, 8), got (2, 8, 8, 1); that looks like (height, width, "
            "channels): ti.as_image puts the channels first"
        ),
    ),
    (
        lambda: solve(y=Y[:0]),
        (
            "solve: Mask((1, 8, 8) -> (1, 8, 8)) gives measurements of shape (1, 8, 8); y must be"
            " one of them or (batch, 1, 8, 8), got (0, 1, 8, 8), a batch of none"
        ),
    ),
    (
        lambda: solve(y=Y * math.nan),
        (
            "solve: y holds 128 NaN or infinite entries of 128, the first at index (0, 0, 0, 0). "
            "Leave missing data out with ops.Mask, or repair them"
        ),
    ),
    (
        lambda: solve(y=np.array(["a"])),
        ("solve(y=): needs a tensor or an array of numbers, got an array of text"),
    ),
    (
        lambda: solve(y=np.array([{}], dtype=object)),
        ("solve(y=): needs a tensor or an array of numbers, got an array of object"),
    ),
    (
        lambda: solve(operator="mask"),
        ("solve: operator must derive from ops.Operator or ops.LinearOperator, got str"),
    ),
    (
        lambda: solve(operator=ops.Mask(np.ones((8, 8)))),
        (
            "solve: the noise level is unknown. Mask has no noise model; build it with "
            "noise=ops.GaussianNoise(std), or pass noise=std to solve (std in units of y). If the"
            " noise is white, y suggests noise=0.122"
        ),
    ),
    (
        lambda: solve(prior=nn.Identity()),
        (
            "solve: prior must be a prior such as ti.load_prior('phantom-64'), got Identity; wrap"
            " a network in ti.priors.NetworkPrior"
        ),
    ),
    (
        lambda: solve(prior=None),
        (
            "solve: prior must be a prior such as ti.load_prior('phantom-64'), got NoneType; wrap"
            " a network in ti.priors.NetworkPrior"
        ),
    ),
    (
        lambda: solve(noise=True),
        ("solve(noise=True): needs a number or a noise model such as ops.GaussianNoise(0.1)"),
    ),
    (
        lambda: solve(noise="loud"),
        ("solve(noise='loud'): needs a number or a noise model such as ops.GaussianNoise(0.1)"),
    ),
    (
        lambda: solve(noise=-0.1),
        (
            "GaussianNoise(std=-0.1): needs a positive, finite standard deviation in units of y; "
            "for nearly noise-free data use a small one, such as 1e-3 of the data range"
        ),
    ),
    (
        lambda: solve(noise=math.nan),
        ("solve(noise=nan): needs a number or a noise model such as ops.GaussianNoise(0.1)"),
    ),
    (
        lambda: solve(noise=np.ones(3)),
        (
            "solve(noise=ndarray of shape (3,)): needs a number or a noise model such as "
            "ops.GaussianNoise(0.1)"
        ),
    ),
    (
        lambda: solve(noise=1j),
        ("solve(noise=1j): needs a number or a noise model such as ops.GaussianNoise(0.1)"),
    ),
    (
        lambda: solve(noise=ops.GaussianNoise(torch.ones(2, 1, 1, 1))),
        (
            "solve: the std of GaussianNoise has shape (2, 1, 1, 1), which does not broadcast to "
            "one measurement, (1, 8, 8); it is the same for every one of a batch"
        ),
    ),
    (
        lambda: solve(noise=ops.GaussianNoise(torch.ones(5))),
        (
            "solve: the std of GaussianNoise has shape (5,), which does not broadcast to one "
            "measurement, (1, 8, 8); it is the same for every one of a batch"
        ),
    ),
    (
        lambda: solve(method="magic"),
        (
            "solve(method='magic'): choose 'auto', 'decoupled', 'langevin' or 'particle', or pass"
            " a walk such as ti.walks.Langevin(step_size=0.2)"
        ),
    ),
    (
        lambda: solve(method=7),
        (
            "solve(method=7): choose 'auto', 'decoupled', 'langevin' or 'particle', or pass a "
            "walk such as ti.walks.Langevin(step_size=0.2)"
        ),
    ),
    (
        lambda: solve(num_samples=0),
        ("solve(num_samples=0): needs at least one sample"),
    ),
    (
        lambda: solve(num_samples=2.0),
        ("solve(num_samples=2.0): needs at least one sample, a whole number"),
    ),
    (
        lambda: solve(num_samples=True),
        ("solve(num_samples=True): needs at least one sample, a whole number"),
    ),
    (
        lambda: solve(num_samples="16"),
        ("solve(num_samples='16'): needs at least one sample, a whole number"),
    ),
    (
        lambda: solve(steps=0),
        ("solve(steps=0): needs at least one network evaluation"),
    ),
    (
        lambda: solve(steps=-1),
        ("solve(steps=-1): needs at least one network evaluation"),
    ),
    (
        lambda: solve(steps=2.5),
        ("solve(steps=2.5): needs at least one network evaluation, a whole number"),
    ),
    (
        lambda: solve(seed=0.7),
        ("solve(seed=0.7): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(seed="a"),
        ("solve(seed='a'): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(seed=2**64),
        ("solve(seed=18446744073709551616): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(seed=-1),
        ("solve(seed=-1): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(seed=True),
        ("solve(seed=True): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(seed=None),
        ("solve(seed=None): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(seed=[1, 2, 3]),
        ("solve(seed=): needs one integer, or one for each of 2 measurements, got 3"),
    ),
    (
        lambda: solve(seed=[1, 0.5]),
        ("solve(seed=0.5): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: solve(batch_size=0),
        ("solve(batch_size=0): needs a positive number of walkers"),
    ),
    (
        lambda: solve(batch_size=1.5),
        ("solve(batch_size=1.5): needs a positive number of walkers, a whole number"),
    ),
    (
        lambda: solve(progress="yes"),
        ("solve(progress='yes'): needs True or False"),
    ),
    (
        lambda: solve(callback=3),
        ("solve(callback=): needs a function, got int"),
    ),
    (
        lambda: solve(prior=network(lambda x, t: x.mean((1, 2, 3), keepdim=True))),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) must return "
            "shape (2, 1, 8, 8) for a batch of 2; it returned (2, 1, 1, 1)"
        ),
    ),
    (
        lambda: solve(prior=network(lambda x, t: x[:1])),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) must return "
            "shape (2, 1, 8, 8) for a batch of 2; it returned (1, 1, 8, 8)"
        ),
    ),
    (
        lambda: solve(prior=network(lambda x, t: x[0])),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) must return "
            "shape (2, 1, 8, 8) for a batch of 2; it returned (1, 8, 8)"
        ),
    ),
    (
        lambda: solve(prior=network(lambda x, t: None)),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) returned "
            "NoneType; it must return a tensor of shape (2, 1, 8, 8)"
        ),
    ),
    (
        lambda: solve(prior=network(lambda x, t: (x, t))),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) returned tuple; "
            "it must return a tensor of shape (2, 1, 8, 8)"
        ),
    ),
    (
        lambda: solve(prior=network(lambda x, t: x.numpy())),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) returned "
            "ndarray; it must return a tensor of shape (2, 1, 8, 8)"
        ),
    ),
    (
        lambda: solve(prior=network(lambda x, t: x.long())),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) returned "
            "torch.int64; it must return floating-point numbers"
        ),
    ),
    (
        lambda: solve(prior=network(lambda x, t: x.mul_(0.5))),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) changes argument"
            " 1 in place; write x = x.clone() first, or use operations without a trailing "
            "underscore or an assignment to x[...]"
        ),
    ),
    (
        lambda: solve(prior=network(doubled_label)),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) changes argument"
            " 2 in place; write x = x.clone() first, or use operations without a trailing "
            "underscore or an assignment to x[...]"
        ),
    ),
    (
        lambda: solve(prior=network(lambda x, t: x + x.mean(0, keepdim=True))),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) mixes the batch:"
            " an image gave another answer alone than in a batch of two. The first axis is the "
            "batch, and its rows must not know each other. A network in training mode does that: "
            "call .eval() on it."
        ),
    ),
    (
        lambda: solve(prior=network(lambda x, t: x.flip(0))),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) mixes the batch:"
            " an image gave another answer alone than in a batch of two. The first axis is the "
            "batch, and its rows must not know each other. A network in training mode does that: "
            "call .eval() on it."
        ),
    ),
    (
        lambda: solve(prior=network(Counter())),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) is random or "
            "keeps state: the same arguments gave another answer the second time. It must depend "
            "on its arguments alone. A network in training mode does that: call .eval() on it."
        ),
    ),
    (
        lambda: solve(prior=network(lambda x, t: x * math.nan)),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) is not finite: "
            "it gave NaN at 128 of 128 entries, the first at index (0, 0, 0, 0), where its "
            "argument is 0.331; look for NaN in what it is made of: weights, a kernel, a matrix"
        ),
    ),
    (
        lambda: solve(prior=ti.priors.NetworkPrior(nn.Sequential(nn.Dropout(0.5)), "x0", shape=S)),
        (
            "the network Sequential of NetworkPrior('network', shape=(1, 8, 8), x0): 0 is in "
            "training mode, where it depends on chance or on the batch; call .eval() first"
        ),
    ),
    (
        lambda: solve(prior=Own(lambda x: x[:, :, :1])),
        ("Own.denoise() must return shape (2, 1, 8, 8) for a batch of 2; it returned (2, 1, 1, 8)"),
    ),
    (
        lambda: solve(prior=Own(lambda x: x.flip(0))),
        (
            "denoise() of Own mixes the batch: an image gave another answer alone than in a batch"
            " of two. The first axis is the batch, and its rows must not know each other."
        ),
    ),
    (
        lambda: solve(operator=linear(lambda x: x + x.mean(0, keepdim=True))),
        (
            "forward() of LinearFunction mixes the batch: an image gave another answer alone than"
            " in a batch of two. The first axis is the batch, and its rows must not know each "
            "other."
        ),
    ),
    (
        lambda: solve(operator=linear(lambda x: x.flip(0))),
        (
            "forward() of LinearFunction mixes the batch: an image gave another answer alone than"
            " in a batch of two. The first axis is the batch, and its rows must not know each "
            "other."
        ),
    ),
    (
        lambda: solve(operator=linear(cut, adjoint=cut)),
        (
            "forward() of LinearPair changes its argument in place; write x = x.clone() first, or"
            " use operations without a trailing underscore or an assignment to x[...]"
        ),
    ),
    (
        lambda: solve(operator=linear(lambda x: x * math.nan)),
        (
            "forward() of LinearFunction is not finite: it gave NaN at 128 of 128 entries, the "
            "first at index (0, 0, 0, 0), where its argument is 0.218; look for NaN in what it is"
            " made of: weights, a kernel, a matrix"
        ),
    ),
    (
        lambda: solve(operator=linear(lambda x: x + 1)),
        (
            "solve: LinearFunction is declared linear, but A(a x + b z) differs from a A x + b A "
            "z by 1.2e+00, relative. Subtract a constant offset from y instead of adding it in "
            "forward(), or derive from ops.Operator"
        ),
    ),
    (
        lambda: solve(operator=linear(lambda x: 2 * x, adjoint=lambda y: 3 * y)),
        (
            "solve: adjoint() of LinearPair is not the adjoint of forward(): on random x and y, "
            "<A x, y> = 336.379 but <x, A^T y> = 504.569, off by 5.0e-01, relative (allowed "
            "1e-03). Mend adjoint(), or leave it out: it is then derived from forward() by "
            "automatic differentiation"
        ),
    ),
    (
        lambda: solve(operator=linear(lambda x: x, adjoint=lambda y: y.flip(0))),
        (
            "adjoint() of LinearPair mixes the batch: an image gave another answer alone than in "
            "a batch of two. The first axis is the batch, and its rows must not know each other."
        ),
    ),
    (
        lambda: solve(operator=linear(lambda x: x.numpy(), adjoint=lambda y: y)),
        (
            "from_function: the function must return a tensor (batch, ...) from a tensor (batch, "
            "...); from (1, 1, 8, 8) it returned ndarray. Keep the batch axis first"
        ),
    ),
    (
        lambda: solve(operator=linear(lambda x: x[..., :4], range_shape=S)),
        (
            "LinearFunction.forward() must return shape (2, 1, 8, 8) for a batch of 2; it "
            "returned (2, 1, 8, 4)"
        ),
    ),
    (
        lambda: solve(operator=nonlinear(Counter())),
        (
            "forward() of Function is random or keeps state: the same arguments gave another "
            "answer the second time. It must depend on its arguments alone."
        ),
    ),
    (
        lambda: solve(operator=nonlinear(lambda x: x.sqrt())),
        (
            "forward() of Function is not finite: it gave NaN at 64 of 128 entries, the first at "
            "index (0, 0, 2, 2), where its argument is -0.365; its argument went from -1.4 to "
            "0.927. Walks go there and beyond: continue the map smoothly"
        ),
    ),
    (
        lambda: solve(operator=nonlinear(lambda x: x.log())),
        (
            "forward() of Function is not finite: it gave NaN at 64 of 128 entries, the first at "
            "index (0, 0, 2, 2), where its argument is -0.365; its argument went from -1.4 to "
            "0.927. Walks go there and beyond: continue the map smoothly"
        ),
    ),
    (
        lambda: solve(operator=nonlinear(lambda x: (1e30 * x).exp())),
        (
            "forward() of Function is not finite: it gave infinity at 64 of 128 entries, the "
            "first at index (0, 0, 0, 0), where its argument is 0.218; its argument went from "
            "-1.4 to 0.927. Walks go there and beyond: continue the map smoothly"
        ),
    ),
    (
        lambda: solve(operator=nonlinear(lambda x: torch.where(x > 0, x.sqrt(), 0.0))),
        (
            "the gradient of forward() of Function is not finite: it gave NaN at 64 of 128 "
            "entries, the first at index (0, 0, 2, 2), where its argument is -0.365; its argument"
            " went from -1.4 to 0.927. Walks go there and beyond: continue the map smoothly"
        ),
    ),
    (
        lambda: solve(operator=nonlinear(lambda x: x.detach() ** 3)),
        (
            "solve: forward() of _Function((1, 8, 8) -> (1, 8, 8)) is not differentiable by torch"
            " (it leaves torch, or detaches), and the walk needs its gradient; write it in torch,"
            " or as a torch.autograd.Function"
        ),
    ),
    (
        lambda: solve(operator=nonlinear(lambda x: torch.complex(x, x))),
        (
            "Function.forward() returned torch.complex64; it must return floating-point numbers "
            "(real and imaginary part as two channels)"
        ),
    ),
    (
        lambda: solve(noise=Loud(lambda y, ax: (y - ax).square().sum())),
        ("log_prob() of Loud must return shape (2,) for a batch of 2; it returned ()"),
    ),
    (
        lambda: solve(noise=Loud(lambda y, ax: (y - ax.mean(0)).square().flatten(1).sum(1))),
        (
            "log_prob() of Loud mixes the batch: an image gave another answer alone than in a "
            "batch of two. The first axis is the batch, and its rows must not know each other."
        ),
    ),
    (
        lambda: ti.sample(FIELD, 0),
        ("sample(num_samples=0): needs at least one sample"),
    ),
    (
        lambda: ti.sample(FIELD, 2, steps=0),
        ("sample(steps=0): needs at least one network evaluation"),
    ),
    (
        lambda: ti.sample(FIELD, 2, seed="a"),
        ("sample(seed='a'): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: ti.sample(FIELD, 2, dtype=torch.int64),
        (
            "sample(dtype=torch.int64): needs torch.float32 or torch.float64; a network has a "
            "number type of its own"
        ),
    ),
    (
        lambda: ti.sample(FIELD, 2, batch_size=0),
        ("sample(batch_size=0): needs a positive number of samples"),
    ),
    (
        lambda: ti.sample(FIELD, 2, recipe="euler-maruyama"),
        (
            "sample(recipe='euler-maruyama'): choose one of churn, coloured, consistent, ddim, "
            "ddpm, ddpm-large, dpm++2m, euler, heun, ncsn, pf-ode, simple, ve-sde"
        ),
    ),
    (
        lambda: ti.sample(FIELD, 2, schedule="slow"),
        (
            "sample(schedule='slow'): choose one of cosine, geometric, karras, linear, log-snr, "
            "scaled-linear, sigmoid, sigmoid-v1, vp-linear"
        ),
    ),
    (
        lambda: ti.sample(nn.Identity(), 2),
        (
            "sample: prior must be a prior such as ti.load_prior('phantom-64'), got Identity; "
            "wrap a network in ti.priors.NetworkPrior"
        ),
    ),
    (
        lambda: ti.sample(network(lambda x, t: x.flip(0)), 2),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) mixes the batch:"
            " an image gave another answer alone than in a batch of two. The first axis is the "
            "batch, and its rows must not know each other. A network in training mode does that: "
            "call .eval() on it."
        ),
    ),
    (
        lambda: MASK.forward(IMAGE),
        (
            "Mask.forward: needs shape (batch, 1, 8, 8), got (1, 8, 8); a single one needs a "
            "batch axis too, such as x[None]"
        ),
    ),
    (
        lambda: MASK.forward(IMAGE[None].byte()),
        (
            "Mask.forward: needs float32 or float64, got torch.uint8; for a picture of 0 to 255, "
            "ti.as_image(array, value_range=(low, high)) makes an image of it"
        ),
    ),
    (
        lambda: MASK.forward(PICTURE),
        (
            "Mask.forward: needs float32 or float64, got torch.uint8; for a picture of 0 to 255, "
            "ti.as_image(array, value_range=(low, high)) makes an image of it"
        ),
    ),
    (
        lambda: MASK.measure(IMAGE[:, :7]),
        ("Mask.measure: needs images of shape (batch, 1, 8, 8), or one of them, got (1, 7, 8)"),
    ),
    (
        lambda: MASK.measure(IMAGE, seed=0.5),
        ("Mask.measure(seed=0.5): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: MASK.adjoint(IMAGE[None].half()),
        (
            "Mask.adjoint: needs float32 or float64, got torch.float16; use .float(): sums over "
            "an image lose all digits in half precision"
        ),
    ),
    (
        lambda: MRI.adjoint(np.zeros((1, 7, 8), complex)),
        ("FourierSampling.adjoint: needs shape (batch, 2, 8, 8), got (1, 7, 8)"),
    ),
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
        lambda: ops.Mask(2 * torch.ones(8, 8)),
        (
            "Mask: needs zeros and ones of shape (height, width) or (channels, height, width), "
            "got shape (1, 8, 8) with values in [2.0, 2.0]; for one mask an image use "
            "ops.per_image([ops.Mask(m) for m in masks])"
        ),
    ),
    (
        lambda: ops.Mask(torch.ones(8, 8) * 1j),
        ("Mask(mask=): needs real numbers, got torch.complex64; the imaginary part would be lost"),
    ),
    (
        lambda: ops.Mask(torch.ones(2, 8, 8), channels=3),
        (
            "Mask(channels=3): the mask has shape (2, 8, 8); leave channels= out, or give one "
            "plane (height, width) for all of them"
        ),
    ),
    (
        lambda: ops.Mask(torch.ones(8, 8), channels=0),
        ("Mask(channels=0): needs a whole number of at least 1"),
    ),
    (
        lambda: ops.Blur(torch.full((3, 3), math.nan), S),
        ("Blur(kernel=): holds 9 NaN or infinite entries of 9, the first at index (0, 0)"),
    ),
    (
        lambda: ops.Blur(1j * torch.ones(3, 3), S),
        (
            "Blur(kernel=): needs real numbers, got torch.complex64; the imaginary part would be "
            "lost"
        ),
    ),
    (
        lambda: ops.Blur(torch.ones(3, 3), (8, 8)),
        (
            "Blur: needs image_shape (channels, height, width), positive sizes without the batch "
            "axis, got (8, 8)"
        ),
    ),
    (
        lambda: ops.Blur(torch.ones(3, 3), S, padding="mirror"),
        (
            "Blur(padding='mirror'): choose one of 'circular', 'valid', 'zero', 'reflect' or "
            "'replicate'"
        ),
    ),
    (
        lambda: ops.MatrixOperator(torch.tensor([[1.0, math.inf]])),
        (
            "MatrixOperator(matrix=): holds 1 NaN or infinite entries of 2, the first at index "
            "(0, 1)"
        ),
    ),
    (
        lambda: ops.MatrixOperator(1j * torch.ones(2, 2)),
        (
            "MatrixOperator(matrix=): needs real numbers; ops.from_scipy takes a complex matrix, "
            "whose measurements are real parts, then imaginary parts"
        ),
    ),
    (
        lambda: ops.Downsampling(S, math.nan),
        ("Downsampling(factor=nan): needs a finite number"),
    ),
    (
        lambda: ops.Downsampling(S, 2, kernel="sinc"),
        ("Downsampling(kernel='sinc'): choose one of 'bicubic', 'lanczos' or 'block_mean'"),
    ),
    (
        lambda: ops.Tomography(S, 1j * torch.ones(3)),
        (
            "Tomography(angles=): needs real numbers, got torch.complex64; the imaginary part "
            "would be lost"
        ),
    ),
    (
        lambda: ops.Tomography(S, 2.5),
        ("Tomography(angles=): needs a count or a list of degrees, got ()"),
    ),
    (
        lambda: ops.Tomography(S, 4, detectors=0),
        ("Tomography(detectors=0): needs a positive count"),
    ),
    (
        lambda: ops.Tomography(S, True),
        ("Tomography(angles=True): needs at least one angle, a million at most, a whole number"),
    ),
    (
        lambda: ops.Tomography(S, 4, pixel_size="1 mm"),
        ("Tomography(pixel_size='1 mm'): needs a positive, finite length"),
    ),
    (
        lambda: ops.FourierSampling(torch.ones(8, 8), coils=torch.full((2, 8, 8), math.nan)),
        (
            "FourierSampling(coils=): holds 128 NaN or infinite entries of 128, the first at "
            "index (0, 0, 0)"
        ),
    ),
    (
        lambda: ops.FourierSampling(torch.ones(8, 8), real=1),
        ("FourierSampling(real=1): needs True or False"),
    ),
    (
        lambda: ops.PhaseRetrieval(S, oversampling=0.5),
        (
            "PhaseRetrieval: needs image_shape (channels, height, width) and oversampling of 1 or"
            " more, got (1, 8, 8) and 0.5"
        ),
    ),
    (
        lambda: ops.StructuredRandom(S, 0),
        ("StructuredRandom(measurements=0): needs a whole number of at least 1"),
    ),
    (
        lambda: ops.Quantization(S, 0.0),
        ("Quantization(step=0): needs a positive step, in units of x"),
    ),
    (
        lambda: ops.Clipping(S, low="a"),
        ("Clipping(low='a'): needs a number"),
    ),
    (
        lambda: ops.GaussianNoise(True),
        ("GaussianNoise(std=True): needs a number, got a truth value"),
    ),
    (
        lambda: ops.GaussianNoise(1j),
        (
            "GaussianNoise(std=): needs real numbers, got torch.complex128; the imaginary part "
            "would be lost"
        ),
    ),
    (
        lambda: ops.GaussianNoise(0.0),
        (
            "GaussianNoise(std=0.0): needs a positive, finite standard deviation in units of y; "
            "for nearly noise-free data use a small one, such as 1e-3 of the data range"
        ),
    ),
    (
        lambda: ops.GaussianNoise("loud"),
        ("GaussianNoise(std=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: ops.PoissonNoise(0),
        ("PoissonNoise(gain=0): needs a positive, finite number, in units of y"),
    ),
    (
        lambda: ops.PoissonNoise(np.ones(2)),
        (
            "PoissonNoise(gain=ndarray of shape (2,)): needs a positive, finite number, in units "
            "of y"
        ),
    ),
    (
        lambda: ops.PoissonGaussianNoise(1.0, math.nan),
        ("PoissonGaussianNoise(std=nan): needs a positive, finite number, in units of y"),
    ),
    (
        lambda: ops.DigitizedNoise(0.1, step="a"),
        ("DigitizedNoise(step='a'): needs a number"),
    ),
    (
        lambda: ops.scale(MASK, 0),
        ("scale(factor=0.0): needs a finite factor other than 0"),
    ),
    (
        lambda: ops.random_mask(S, 0),
        ("random_mask(keep=0): needs a share in (0, 1]"),
    ),
    (
        lambda: ops.random_mask(S, 0.5, seed=2**64),
        ("random_mask(seed=18446744073709551616): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: ops.gaussian_kernel(1.0, 0),
        ("gaussian_kernel(size=0): needs a whole number of at least 1"),
    ),
    (
        lambda: ops.gaussian_kernel(-1),
        ("gaussian_kernel(std=-1): needs a positive width in pixels"),
    ),
    (
        lambda: ops.motion_kernel(2),
        (
            "motion_kernel(size=2, length=0.6): needs 3 pixels or more a side, and a length in "
            "(0, 1] of them"
        ),
    ),
    (
        lambda: ops.radial_mask((8, 8), 0),
        ("radial_mask(spokes=0): needs at least one line"),
    ),
    (
        lambda: ops.estimate_noise("y"),
        ("estimate_noise(y=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: ops.LinearOperator.from_function(torch.abs, (1, 0, 8)),
        (
            "from_function(domain_shape=(1, 0, 8)): needs positive sizes, without the batch axis,"
            " such as (1, 64, 64)"
        ),
    ),
    (
        lambda: ops.LinearOperator.from_function(torch.abs, (1, 8.0, 8)),
        (
            "from_function(domain_shape=(1, 8.0, 8)): needs positive sizes, without the batch "
            "axis, such as (1, 64, 64)"
        ),
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
        lambda: ti.walks.Langevin(norm=-1),
        ("Langevin(norm=-1): needs a positive, finite number"),
    ),
    (
        lambda: ti.walks.Langevin(step_size=0),
        ("Langevin(step_size=0): needs a positive, finite number"),
    ),
    (
        lambda: ti.walks.Langevin(temperature=1.0),
        (
            "Langevin(temperature=1.0): needs two numbers, 0 or more: those of the first and of "
            "the last step"
        ),
    ),
    (
        lambda: ti.walks.Decoupled(sigma_min=0.0),
        (
            "Decoupled(sigma_min=0): needs a positive, finite noise level, or None for that of "
            "the prior"
        ),
    ),
    (
        lambda: ti.walks.Decoupled(moves=0),
        ("Decoupled(moves=0): needs a whole number of at least 1"),
    ),
    (
        lambda: ti.walks.Decoupled(memory=math.nan),
        ("Decoupled(memory=nan): needs 0 or more, or infinity"),
    ),
    (
        lambda: ti.walks.Decoupled(error="none"),
        (
            "Decoupled(error='none'): choose one of 'auto', 'average', 'isotropic', 'measured', "
            "'network'"
        ),
    ),
    (
        lambda: ti.walks.Decoupled(schedule="karras"),
        (
            "Decoupled(schedule=): needs a function (steps, sigma_min, sigma_max) such as "
            "ti.schedules.karras, got str"
        ),
    ),
    (
        lambda: ti.walks.Particle(threshold=2),
        (
            "Particle(threshold=2): needs a number between 0 (never resample) and 1 (wherever "
            "weights differ)"
        ),
    ),
    (
        lambda: ti.walks.Particle(correctors=0.5),
        ("Particle(correctors=0.5): needs a whole number of at least 0"),
    ),
    (
        lambda: ti.walks.Particle(sigma_max=-1.0),
        (
            "Particle(sigma_max=-1): needs a positive, finite noise level, or None for that of "
            "the prior"
        ),
    ),
    (
        lambda: ti.walks.Churn(churn=-1),
        ("Churn(churn=-1): needs a number, which must not be negative"),
    ),
    (
        lambda: ti.walks.ddim(torch.tensor([1.0, 0.0]), eta=2),
        ("ddim(eta=2): needs a number from 0 (no noise) to 1 (DDPM)"),
    ),
    (
        lambda: ti.schedules.karras(0, 0.1, 1.0),
        ("schedule(steps=0): needs steps >= 1 and 0 < sigma_min <= sigma_max"),
    ),
    (
        lambda: ti.calibration.coverage(POSTERIOR, IMAGE[0]),
        (
            "coverage(truth=): needs the shape of the posterior's mean, (1, 8, 8), got (8, 8); a "
            "single one needs batch and channel axes too, such as x[None, None]"
        ),
    ),
    (
        lambda: ti.calibration.coverage(POSTERIOR, IMAGE * math.nan),
        ("coverage(truth=): holds 64 NaN or infinite entries of 64, the first at index (0, 0, 0)"),
    ),
    (
        lambda: ti.calibration.coverage(POSTERIOR, IMAGE, level=2),
        ("interval(level=2): needs a share between 0 and 1, such as 0.9"),
    ),
    (
        lambda: ti.calibration.crps(POSTERIOR, IMAGE[None]),
        ("crps(truth=): needs the shape of the posterior's mean, (1, 8, 8), got (1, 1, 8, 8)"),
    ),
    (
        lambda: psnr(IMAGE[None], IMAGE[0]),
        (
            "psnr: needs images (count, *shape) and a truth like them or (*shape), got (1, 1, 8, "
            "8) and (8, 8)"
        ),
    ),
    (
        lambda: ti.as_image(PICTURE, value_range=(0, 0)),
        ("as_image(value_range=(0, 0)): black and white must differ"),
    ),
    (
        lambda: ti.as_image(PICTURE / 255, value_range=(0, 1)),
        (
            "as_image: black and white of torch.float64 are not known; give input_range=, such as"
            " (0, 1)"
        ),
    ),
    (
        lambda: ti.as_image(PICTURE / 255, value_range=(0, 1), input_range=(0, 0.1)),
        (
            "as_image(input_range=(0, 0.1)): the picture goes from 0.784314 to 0.784314, outside "
            "that range"
        ),
    ),
    (
        lambda: ti.as_image(np.zeros((3, 5, 3), np.uint8), value_range=(0, 1)),
        (
            "as_image: (3, 5, 3) may have its channels first or last; say channels='first' or "
            "channels='last'"
        ),
    ),
    (
        lambda: ti.as_image(np.zeros((2, 8, 8, 3), np.uint8), value_range=(0, 1)),
        (
            "as_image: needs one picture (height, width), (height, width, channels) or (channels,"
            " height, width) of 1, 3 or 4 channels, got (2, 8, 8, 3); several are "
            "torch.stack([ti.as_image(...), ...])"
        ),
    ),
    (
        lambda: ti.as_image(Image.new("RGBA", (8, 8)), value_range=(0, 1)),
        (
            "as_image: a picture of mode 'RGBA' holds more than brightnesses (opacity, a "
            "palette); convert it first, such as picture.convert('RGB')"
        ),
    ),
    (
        lambda: ti.as_image(np.zeros((8, 8), complex), value_range=(0, 1)),
        (
            "as_image(array=): got complex numbers, which have no black and white; give their "
            "real and imaginary parts as two channels"
        ),
    ),
    (
        lambda: ti.as_image("photo.png", value_range=(0, 1)),
        ("as_image(array=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: MASK.forward(Image.new("L", (8, 8))),
        (
            "Mask.forward(x=): got a picture of PIL; ti.as_image(array, value_range=(low, high)) "
            "makes an image of it"
        ),
    ),
    (
        lambda: TrainingConfig(average=math.nan),
        ("TrainingConfig(average=nan): needs a number in [0, 1)"),
    ),
    (
        lambda: TrainingConfig(warmup=-1),
        ("TrainingConfig(warmup=-1): needs a whole number of at least 0"),
    ),
    (
        lambda: TrainingConfig(steps=0),
        ("TrainingConfig(steps=0): needs a whole number of at least 1"),
    ),
    (
        lambda: TrainingConfig(batch=1.5),
        ("TrainingConfig(batch=1.5): needs a whole number of at least 1"),
    ),
    (
        lambda: TrainingConfig(seed=-1),
        ("TrainingConfig(seed=-1): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: TrainingConfig(widths=(8,), blocks=(1, 1)),
        ("TrainingConfig: widths (8,) and blocks (1, 1) need equally many entries"),
    ),
    (
        lambda: Plan(SUITE, images=0),
        ("benchmarks(images=0): needs a whole number of at least 1"),
    ),
    (
        lambda: Plan(SUITE, samples=0),
        ("benchmarks(samples=0): needs a whole number of at least 1"),
    ),
    (
        lambda: Plan(SUITE, together=-1),
        ("benchmarks(together=-1): needs a whole number of at least 1"),
    ),
    (
        lambda: Plan(SUITE, cap=0),
        ("benchmarks(cap=0): needs a whole number of at least 1"),
    ),
    (
        lambda: list(packs(Plan(SUITE, tasks=("inpaint", "typo")), {})),
        (
            "--tasks: field has random inpainting, blur, super-resolution, sparse-view CT; got "
            "inpaint, typo"
        ),
    ),
    (
        lambda: ops.compose([MASK, MASK]),
        ("compose(operators=): needs operators, as in compose(A, B), got list"),
    ),
    (
        lambda: ops.stack(MASK, None),
        ("stack(operators=): needs operators, as in stack(A, B), got NoneType"),
    ),
    (
        lambda: ops.scale("A", 2.0),
        ("scale(operator=): needs a linear operator, got str"),
    ),
    (
        lambda: ops.scale(ops.Clipping(S), 2.0),
        (
            "scale(operator=): needs a linear operator, got Clipping((1, 8, 8) -> (1, 8, "
            "8)), which is not linear"
        ),
    ),
    (
        lambda: ops.transpose(ops.Clipping(S)),
        (
            "transpose(operator=): needs a linear operator, got Clipping((1, 8, 8) -> (1, "
            "8, 8)), which is not linear"
        ),
    ),
    (
        lambda: ops.per_image([MASK, 3]),
        ("per_image(operators=): needs a list of operators, got int"),
    ),
    (
        lambda: ops.Transmission(None, 10.0),
        ("Transmission(operator=): needs a linear operator, got NoneType"),
    ),
    (
        lambda: ops.Transmission(MASK, True),
        ("Transmission(photons=True): needs a number, got a truth value"),
    ),
    (
        lambda: ops.adjoint_error(ops.Clipping(S)),
        (
            "adjoint_error(operator=): needs a linear operator, got Clipping((1, 8, 8) -> "
            "(1, 8, 8)), which is not linear"
        ),
    ),
    (
        lambda: ops.adjoint_error(MASK, dtype=torch.int64),
        ("adjoint_error(dtype=torch.int64): needs torch.float32 or torch.float64"),
    ),
    (
        lambda: ops.operator_norm(MASK, tolerance="a"),
        ("operator_norm(tolerance='a'): needs a number"),
    ),
    (
        lambda: ops.operator_norm(MASK, seed=-1),
        ("operator_norm(seed=-1): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: ops.dense_matrix(ops.Mask(torch.ones(1, 200, 200))),
        (
            "dense_matrix: Mask((1, 200, 200) -> (1, 200, 200)) has 1.6e+09 entries, more "
            "than 1.1e+09; use forward and adjoint, or a smaller image"
        ),
    ),
    (
        lambda: ops.linearity_error(None),
        ("linearity_error(operator=): needs an operator, got NoneType"),
    ),
    (
        lambda: ops.from_pylops(np.ones((3, 3))),
        (
            "from_pylops: needs a PyLops operator, which has dims and dimsd; got ndarray. "
            "Other linear operators come in by from_scipy"
        ),
    ),
    (
        lambda: ops.from_scipy(np.ones((3, 64)) * math.nan),
        (
            "from_scipy(operator=): holds 192 NaN or infinite entries of 192, the first at "
            "index (0, 0)"
        ),
    ),
    (
        lambda: ops.from_scipy(np.ones((3, 64)), domain_shape=(1, 8.0, 8)),
        (
            "from_scipy(domain_shape=(1, 8.0, 8)): needs positive sizes, without the batch "
            "axis, such as (1, 64, 64)"
        ),
    ),
    (
        lambda: ops.Operator.from_function(3, S, range_shape=S),
        ("from_function(function=3): needs a function"),
    ),
    (
        lambda: ops.LinearOperator.from_function(torch.neg, S, adjoint="a"),
        ("from_function(adjoint='a'): needs a function"),
    ),
    (
        lambda: ops.Operator.from_function(torch.neg, (1, 2**40, 2**20), range_shape=S),
        (
            "from_function(domain_shape=(1, 1099511627776, 1048576)): more numbers than "
            "any memory holds"
        ),
    ),
    (
        lambda: ops.Blur(torch.zeros(3, 3), S),
        ("Blur(kernel=): has no entry other than 0, so that nothing is seen"),
    ),
    (
        lambda: ops.Demosaicing((3, 8, 8), pattern=3),
        (
            "Demosaicing(pattern=3): needs four letters out of R, G and B, row by row of a "
            "2x2 tile, such as 'RGGB'"
        ),
    ),
    (
        lambda: ops.GaussianNoise(0.1, basis="a"),
        ("GaussianNoise(basis=): needs a basis such as ops.spectral.Fourier(), got str"),
    ),
    (
        lambda: NOISE.sample("a"),
        ("sample(ax=): needs measurements (batch, ...) in a tensor of floats, got str"),
    ),
    (
        lambda: NOISE.sample(Y.long()),
        ("sample(ax=): needs measurements (batch, ...) in a tensor of floats, got torch.int64"),
    ),
    (
        lambda: NOISE.log_prob(Y, Y[..., :4]),
        (
            "GaussianNoise.log_prob(y, ax): needs measurements of one shape, got (2, 1, 8, "
            "8) and (2, 1, 8, 4)"
        ),
    ),
    (
        lambda: NOISE.scaled("a"),
        ("GaussianNoise.scaled(factor='a'): needs a number"),
    ),
    (
        lambda: ops.random_codes(2, (8, 8.0)),
        ("random_codes(size=(8, 8.0)): needs height and width, such as (64, 64)"),
    ),
    (
        lambda: ops.box_mask(S, (4, 4), corner=(1.0, 2)),
        ("box_mask(corner=1.0): needs a row and a column, a whole number"),
    ),
    (
        lambda: MASK.forward(Y.to_sparse()),
        ("Mask.forward(x=): needs a dense tensor of numbers, got a sparse tensor; use .to_dense()"),
    ),
    (
        lambda: MASK.measure(Y.to("meta")),
        (
            "Mask.measure(x=): is on the meta device, which holds no numbers; move it to "
            "the CPU or to an accelerator"
        ),
    ),
    (
        lambda: MASK.measure(np.ma.masked_array(Y.numpy(), Y.numpy() > 0)),
        (
            "Mask.measure(x=): is a masked array, and a mask would be lost; fill it, and "
            "leave missing data out with ops.Mask"
        ),
    ),
    (
        lambda: MASK.measure(Y * math.nan),
        (
            "Mask.measure(x=): holds 128 NaN or infinite entries of 128, the first at "
            "index (0, 0, 0, 0)"
        ),
    ),
    (
        lambda: nonlinear(torch.sqrt).measure(-Y.abs() - 1),
        (
            "Function.forward() is not finite: it gave NaN at 128 of 128 entries, the "
            "first at index (0, 0, 0, 0), where its argument is -1.74; look for NaN in "
            "what it is made of: weights, a kernel, a matrix"
        ),
    ),
    (
        lambda: MASK.least_squares(Y, iterations=2.0),
        ("Mask.least_squares(iterations=2.0): needs a whole number of at least 1"),
    ),
    (
        lambda: solve(y=Y.to_sparse()),
        ("solve(y=): needs a dense tensor of numbers, got a sparse tensor; use .to_dense()"),
    ),
    (
        lambda: solve(y=Y.to("meta")),
        (
            "solve(y=): is on the meta device, which holds no numbers; move it to the CPU "
            "or to an accelerator"
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
        lambda: ti.guidance.given(FIELD, 1),
        ("given(prior=): needs a prior made of one network, got Gaussian"),
    ),
    (
        lambda: ti.guidance.given(network(torch.add), 0.7),
        ("given(label=0.7): needs the number of a class, from 0 on, a whole number"),
    ),
    (
        lambda: ti.guidance.ClassifierGuided(FIELD, None, 1, 1.0),
        (
            "ClassifierGuided(classifier=None): needs a function (images, sigma) to "
            "logarithms of probabilities (batch, classes)"
        ),
    ),
    (
        lambda: ti.guidance.ClassifierGuided(FIELD, lambda x, s: x[:, 0, 0, :1], 3, 1.0).denoise(
            Y, 1.0
        ),
        (
            "ClassifierGuided: the classifier must return finite numbers (2, classes), 4 "
            "classes or more; it returned (2, 1)"
        ),
    ),
    (
        lambda: ti.guidance.ClassifierGuided(
            FIELD, lambda x, s: torch.zeros(len(x), 4), 3, 1.0
        ).denoise(Y, 1.0),
        (
            "ClassifierGuided: the classifier's answer has no gradient with respect to the "
            "image; it must compute it with torch, without detach() and no_grad()"
        ),
    ),
    (
        lambda: ti.guidance.ClassifierFree(FIELD, "a", 1.0),
        ("ClassifierFree(unconditional=): needs a prior, got str"),
    ),
    (
        lambda: ti.Bound(levels=1.5),
        ("Bound(levels=1.5): needs a whole number of at least 1"),
    ),
    (
        lambda: ti.Bound(sigma_min=0),
        ("Bound(sigma_min=0): needs a positive, finite number"),
    ),
    (
        lambda: ti.ProbabilityFlow(solver="rk45"),
        (
            "ProbabilityFlow(solver='rk45'): choose one of 'RK45', 'RK23', 'DOP853', "
            "'Radau', 'BDF' or 'LSODA'"
        ),
    ),
    (
        lambda: ti.ProbabilityFlow(tolerance=math.nan),
        ("ProbabilityFlow(tolerance=nan): needs a positive, finite number"),
    ),
    (
        lambda: ti.likelihood(network(lambda x, t: x * math.nan), Y),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) is not "
            "finite: it gave NaN at 128 of 128 entries, the first at index (0, 0, 0, 0), "
            "where its argument is 0.331; look for NaN in what it is made of: weights, a "
            "kernel, a matrix"
        ),
    ),
    (
        lambda: ti.likelihood(network(lambda x, t: x.flip(0)), Y),
        (
            "the network Network of NetworkPrior('network', shape=(1, 8, 8), x0) mixes the "
            "batch: an image gave another answer alone than in a batch of two. The first "
            "axis is the batch, and its rows must not know each other. A network in "
            "training mode does that: call .eval() on it."
        ),
    ),
    (
        lambda: ti.measure_denoising_error(None, Y),
        (
            "measure_denoising_error: needs a prior, got NoneType; wrap a network in "
            "ti.priors.NetworkPrior"
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
    (
        lambda: ti.schedules.karras(5, "a", 1.0),
        ("schedule(sigma_min='a'): needs a number"),
    ),
    (
        lambda: ti.schedules.karras(5, 0.1, 1.0, rho=0),
        ("karras(rho=0): needs a positive, finite number"),
    ),
    (
        lambda: ti.schedules.sigmoid(5, 0.1, 1.0, temperature=-1),
        ("sigmoid(temperature=-1): needs a positive, finite number"),
    ),
    (
        lambda: ti.schedules.vp_linear_table(timesteps=1.5),
        ("vp_linear_table(timesteps=1.5): needs a whole number of at least 1"),
    ),
    (
        lambda: ti.schedules.cosine_table(beta_max=2),
        ("cosine_table(beta_max=2): needs a beta in (0, 1]"),
    ),
    (
        lambda: ti.schedules.from_table("a"),
        ("from_table(table=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: ti.tweedie.score_from_denoised(Y, Y[:1], 1.0),
        ("tweedie: needs images of one shape, got (2, 1, 8, 8) and (1, 1, 8, 8)"),
    ),
    (
        lambda: ti.tweedie.denoised_from_v(Y, Y, torch.ones(8)),
        ("tweedie: sigma must be a number or one value an image, shape (2,); got shape (8,)"),
    ),
    (
        lambda: ti.tweedie.denoised_from_flow(Y, Y, "a"),
        ("tweedie(sigma='a'): needs a number"),
    ),
    (
        lambda: ti.walks.Decoupled(secants="yes"),
        ("Decoupled(secants='yes'): needs True or False"),
    ),
    (
        lambda: ti.walks.Particle(communicator=None),
        ("Particle(communicator=): needs a Communicator, got NoneType"),
    ),
    (
        lambda: ti.walks.simple(torch.tensor([1.0, 0.0]), temperature=(1, math.nan)),
        (
            "simple(temperature=nan): needs two numbers, of the first and of the last "
            "step, which must not be negative"
        ),
    ),
    (
        lambda: ti.walks.ddpm(torch.tensor([1.0, 0.0]), variance="a"),
        ("ddpm(variance=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: ti.walks.uncertainty_of(None, torch.tensor([1.0, 0.0])),
        ("uncertainty_of(prior=): needs a prior, got NoneType"),
    ),
    (
        lambda: ti.calibration.coverage("p", IMAGE),
        ("coverage(posterior=): needs a posterior, such as ti.solve returns, got str"),
    ),
    (
        lambda: ti.calibration.crps(POSTERIOR, (255 * IMAGE).byte()),
        (
            "crps(truth=): needs float32 or float64, got torch.uint8; for a picture of 0 "
            "to 255, ti.as_image(array, value_range=(low, high)) makes an image of it"
        ),
    ),
    (
        lambda: ti.calibration.sliced_wasserstein(Y, Y, slices=1.5),
        ("sliced_wasserstein(slices=1.5): needs at least 1, a whole number"),
    ),
    (
        lambda: POSTERIOR["a"],
        ("posterior['a']: needs the number of a measurement, or a slice of them"),
    ),
    (
        lambda: POSTERIOR.quantile(None),
        ("quantile(q=): needs a tensor or an array of numbers, got NoneType"),
    ),
    (
        lambda: POSTERIOR.quantile([0.1, 0.9]),
        ("quantile(q=[0.1, 0.9]): needs a number in [0, 1], or one for each of 1 measurements"),
    ),
    (
        lambda: POSTERIOR.probability(3),
        (
            "probability(event): needs a function of images (walkers, *shape), such as "
            "lambda x: x > 0.5, got int"
        ),
    ),
    (
        lambda: POSTERIOR.save(3),
        ("save(path=3): needs a path"),
    ),
    (
        lambda: POSTERIOR.plot(truth=(255 * IMAGE).byte()),
        (
            "plot(truth=): needs float32 or float64, got torch.uint8; for a picture of 0 "
            "to 255, ti.as_image(array, value_range=(low, high)) makes an image of it"
        ),
    ),
    (
        lambda: POSTERIOR.plot(measurement=torch.zeros(3, 3)),
        ("plot(measurement=): needs shape (1, 8, 8), as solve took it, got (3, 3)"),
    ),
    (
        lambda: ti.Posterior.concatenate([POSTERIOR, "a"]),
        ("concatenate(posteriors=): needs a list of posteriors, got str"),
    ),
    (
        lambda: ti.phase_space.ExactPhaseSpace(None, PSLD),
        ("ExactPhaseSpace(prior=): needs a prior in data units, got NoneType"),
    ),
    (
        lambda: ti.phase_space.ExactPhaseSpace(FIELD, None),
        (
            "ExactPhaseSpace(process=): needs a process such as "
            "ti.phase_space.processes.psld(), got NoneType"
        ),
    ),
    (
        lambda: ti.phase_space.ExactPhaseSpace(FIELD, PSLD, scale=0),
        ("ExactPhaseSpace(scale=0): needs a positive, finite number"),
    ),
    (
        lambda: ti.phase_space.PhaseSpaceNetwork(nn.Identity(), PSLD, shape=(1, 8, 0)),
        (
            "PhaseSpaceNetwork(shape=(1, 8, 0)): needs positive sizes, without the batch "
            "axis, such as (1, 64, 64)"
        ),
    ),
    (
        lambda: ti.phase_space.PhaseSpaceNetwork(None, PSLD, shape=S),
        ("PhaseSpaceNetwork(module=): needs a torch.nn.Module, got NoneType"),
    ),
    (
        lambda: ti.phase_space.processes.psld(gamma="a"),
        ("psld(gamma='a'): needs a number >= 0"),
    ),
    (
        lambda: ti.phase_space.processes.vp(3),
        ("LinearProcess(rate=): needs Rate(first, last), got int"),
    ),
    (
        lambda: ti.phase_space.processes.from_sde(torch.ones(2, 3), torch.eye(2)),
        ("from_sde: needs drift (k, k) and noise (k, any), got (2, 3) and (2, 2)"),
    ),
    (
        lambda: ti.phase_space.Known("image", torch.ones(S)),
        ("Known(image=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: ti.phase_space.AdaptiveFlow(solver="typo"),
        (
            "AdaptiveFlow(solver='typo'): choose one of 'RK45', 'RK23', 'DOP853', 'Radau', "
            "'BDF' or 'LSODA'"
        ),
    ),
    (
        lambda: ti.phase_space.Conjugate(math.nan),
        ("Conjugate(shift=nan): needs a finite number"),
    ),
    (
        lambda: ti.phase_space.PSLD(gamma=-1),
        ("PSLD(gamma=-1): needs a number >= 0"),
    ),
    (
        lambda: ti.phase_space.grids.uniform(1.5, 0.1),
        ("grids.uniform(steps=1.5): needs a whole number of at least 1"),
    ),
    (
        lambda: ti.phase_space.sample(PHASES, 1.5),
        ("phase_space.sample(num_samples=1.5): needs at least one, a whole number"),
    ),
    (
        lambda: ti.phase_space.sample(PHASES, 1, seed=-1),
        ("phase_space.sample(seed=-1): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: ti.phase_space.sample(PHASES, 1, sampler=3),
        (
            "phase_space.sample(sampler=): needs a name or a sampler such as "
            "ti.phase_space.AdaptiveFlow(), got int"
        ),
    ),
    (
        lambda: ti.phase_space.sample(PHASES, 1, dtype=torch.int64),
        ("phase_space.sample(dtype=torch.int64): needs torch.float32 or torch.float64"),
    ),
    (
        lambda: ti.phase_space.sample(PHASES, 1, known=3),
        ("phase_space.sample(known=): needs ti.phase_space.Known(image, mask), got int"),
    ),
]


@pytest.mark.parametrize(("call", "sentence"), TABLE, ids=range(len(TABLE)))
def test_a_bad_input_gets_its_sentence(call, sentence):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    found = str(caught.value)
    if SALT:  # other random numbers, so other numbers in some sentences
        found, sentence = (NUMBERS.sub("#", text) for text in (found, sentence))
    assert found == sentence


def test_the_table_is_long_enough():
    assert len(TABLE) >= 280


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "field", "--images", "0"], "benchmarks(images=0): needs a whole number of"),
        (["run", "field", "--cap", "0"], "benchmarks(cap=0): needs a whole number of at least 1"),
        (["run", "field", "--together", "-1"], "benchmarks(together=-1): needs a whole number"),
        (["run", "field", "--threads", "0"], "benchmarks(threads=0): needs a whole number of"),
        (["run", "mixture", "--samples", "0"], "benchmarks(samples=0): needs a whole number of"),
        (["run", "field", "--tasks", "blur", "typo"], "--tasks: field has random inpainting, blur"),
        (["tune", "field", "--candidates", "0"], "benchmarks(candidates=0): needs a whole number"),
    ],
)
def test_the_command_line_refuses_before_any_work(words, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*words, "--out", str(tmp_path)])
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
