"""Bad inputs: operators, priors and noise models that `solve` is given."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.bad_inputs import (
    Counter,
    Loud,
    Own,
    S,
    cut,
    doubled_label,
    exact,
    linear,
    network,
    nonlinear,
    solve,
)
from tweedie_inverse import operators as ops

TABLE = [
    (
        lambda: solve(operator="mask"),
        ("solve: operator must derive from ops.Operator or ops.LinearOperator, got str"),
    ),
    (
        lambda: solve(operator=ops.Mask(np.ones((8, 8)))),
        (
            "solve: the noise level is unknown. Mask has no noise model; build it with "
            "noise=ops.GaussianNoise(std), or pass noise=std to solve (std in units of y), or "
            "noise='estimate' to draw it with the samples. If the noise is white, y suggests "
            "noise=0.122"
        ),
    ),
    (
        lambda: solve(prior=nn.Identity()),
        (
            "solve: prior must be a prior such as ti.load_prior('phantom-64'), or its name, "
            "got Identity; wrap a network in ti.priors.NetworkPrior"
        ),
    ),
    (
        lambda: solve(prior=None),
        (
            "solve: prior must be a prior such as ti.load_prior('phantom-64'), or its name, "
            "got NoneType; wrap a network in ti.priors.NetworkPrior"
        ),
    ),
    (
        lambda: solve(noise=True),
        (
            "solve(noise=True): needs a number or a noise model such as ops.GaussianNoise(0.1), "
            "or 'estimate'"
        ),
    ),
    (
        lambda: solve(noise="loud"),
        (
            "solve(noise='loud'): needs a number or a noise model such as ops.GaussianNoise(0.1), "
            "or 'estimate'"
        ),
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
        (
            "solve(noise=nan): needs a number or a noise model such as ops.GaussianNoise(0.1), "
            "or 'estimate'"
        ),
    ),
    (
        lambda: solve(noise=np.ones(3)),
        (
            "solve(noise=ndarray of shape (3,)): needs a number or a noise model such as "
            "ops.GaussianNoise(0.1), or 'estimate'"
        ),
    ),
    (
        lambda: solve(noise=1j),
        (
            "solve(noise=1j): needs a number or a noise model such as ops.GaussianNoise(0.1), "
            "or 'estimate'"
        ),
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
]


@pytest.mark.parametrize(("call", "sentence"), TABLE, ids=range(len(TABLE)))
def test_a_bad_input_gets_its_sentence(call, sentence):
    exact(call, sentence)


def test_no_row_is_lost():
    assert len(TABLE) >= 40
