"""A network under autocast, channels-last, compiled or from a graph answers as it does plainly."""

import copy
import pickle

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.networks import seeded
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import execution
from tweedie_inverse.priors.execution import FastNetwork
from tweedie_inverse.priors.guidance import given
from tweedie_inverse.priors.unet import UNet
from tweedie_inverse.solving.origin import checksum, name_of

SHAPE = (2, 8, 8)


class Small(nn.Module):
    """Two convolutions told the level; remembers the batches and the number types that it sees."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)
        self.told = nn.Linear(1, 8)
        self.seen = []

    def forward(self, x, label, classes=None):
        if not torch.compiler.is_compiling():
            strides = "last" if x.is_contiguous(memory_format=torch.channels_last) else "first"
            self.seen.append((len(x), label.dtype, strides))
        told = self.told(label.sin()[:, None])
        if classes is not None:
            told = told + classes[:, None]
        hidden = torch.nn.functional.silu(self.first(x) + told[:, :, None, None])
        return self.last(hidden)


def prior_of(kind=Small, **settings):
    return ti.priors.NetworkPrior(
        seeded(kind), "edm", shape=SHAPE, sigma_min=0.01, sigma_max=20.0, **settings
    )


X = normal((1,), (5, *SHAPE)).float()
SIGMA = 0.3 + normal((2,), (5,)).abs().float()


def test_autocast_rounds_the_network_and_nothing_else():
    """The output is rounded to 8 bits a product; D mixes it with x in float32.

    A label in bfloat16 would change the answer by much more at timesteps of hundreds.
    """
    plain = prior_of()
    for kind, digits in (("bf16", 2.0**-8), ("fp16", 2.0**-11)):
        fast = plain.faster(autocast=kind)
        answer, exact = fast.denoise(X, SIGMA), plain.denoise(X, SIGMA)
        assert answer.dtype == torch.float32
        share = SIGMA[:, None, None, None] * 0.5 / (SIGMA**2 + 0.25).sqrt()[:, None, None, None]
        output = (exact - answer).div(share)
        size = (plain.module(X, SIGMA.log() / 4)).abs().max()
        assert 0 < float(output.abs().max()) < 8 * digits * float(size)
        fast.denoise(X.double(), SIGMA)
        assert {dtype for _, dtype, _ in fast.module.network.seen} == {torch.float32}
    assert plain.module.seen[-1][0] == 5  # the network itself is as it was


def test_channels_last_is_equal_and_leaves_the_network_alone():
    plain = prior_of()
    strides = plain.module.first.weight.stride()
    fast = plain.faster(channels_last=True)
    answer = fast.denoise(X, SIGMA)
    torch.testing.assert_close(answer, plain.denoise(X, SIGMA))
    assert answer.is_contiguous()
    assert fast.module.network.seen[-1][2] == "last"
    assert plain.module.first.weight.stride() == strides
    assert fast.module.network.first.weight.stride() != strides
    assert fast.module.network.told.weight is plain.module.told.weight  # not held twice


@pytest.mark.parametrize("how", ["compiled", "graphs"])
@pytest.mark.parametrize("batch", [None, 4])
def test_static_batches_leave_each_image_as_it_is(how, batch, monkeypatch):
    """Sizes 2, 1, 5, 3: filled up to 2, 2, 5, 5, or to parts of 4."""
    sizes = _pretend_graphs(monkeypatch)
    fast, plain = _static(how, batch), prior_of()
    for count in (2, 1, 5, 3):
        found = fast.denoise(X[:count], SIGMA[:count])
        torch.testing.assert_close(found, plain.denoise(X[:count], SIGMA[:count]))
    if how == "graphs":
        assert sizes == ([2, 5] if batch is None else [4])


def test_answers_of_a_graph_are_not_written_over(monkeypatch):
    _pretend_graphs(monkeypatch)
    fast, plain = _static("graphs", None), prior_of()
    first = fast.denoise(X[:2], 0.3)
    kept, second = first.clone(), fast.denoise(X[2:4], 1.0)
    assert torch.equal(first, kept)
    torch.testing.assert_close(second, plain.denoise(X[2:4], 1.0))
    with torch.inference_mode():
        fast.denoise(X[:2].clone(), 0.3)
    torch.testing.assert_close(fast.denoise(X[:2], 0.3), kept)


def test_graphs_make_room_where_memory_is_short(monkeypatch):
    _pretend_graphs(monkeypatch)
    fast, pretended = _static("graphs", None), execution.captured
    fast.denoise(X[:2], 0.3)

    def short(call, places):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(execution, "captured", short)
    with pytest.raises(torch.OutOfMemoryError):
        fast.denoise(X, 0.3)
    assert not fast.module._graphs
    monkeypatch.setattr(execution, "captured", pretended)
    torch.testing.assert_close(fast.denoise(X, 0.3), prior_of().denoise(X, 0.3))


def test_a_batch_much_larger_than_the_images_is_not_filled_up_to():
    module = FastNetwork(nn.Identity(), execution.Execution(compiler="eager"))
    assert [module._size(torch.zeros(n, 1)) for n in (64, 4, 3, 5)] == [64, 64, 3, 64]
    assert module._size(torch.zeros(1, 2)) == 1  # images of another size


def _static(how, batch):
    if how == "compiled":
        return prior_of().faster(compile="eager", batch=batch)
    plain = prior_of()
    fast = copy.copy(plain)
    fast.module = FastNetwork(plain.module, execution.Execution(graphs=True, batch=batch))
    return fast


def _pretend_graphs(monkeypatch):
    """Captures on the CPU: the same places for arguments and answer; returns the sizes captured."""
    sizes = []

    def captured(call, places):
        answer = call(*places)
        sizes.append(len(answer))
        return answer, lambda: answer.copy_(call(*places))

    monkeypatch.setattr(execution, "captured", captured)
    return sizes


@pytest.mark.parametrize("how", ["compiled", "graphs"])
def test_gradients_take_the_network_as_it_is(how, monkeypatch):
    sizes = _pretend_graphs(monkeypatch)
    fast, plain = _static(how, 4), prior_of()
    found, expected = (_gradient(prior) for prior in (fast, plain))
    torch.testing.assert_close(found, expected)
    tangent = torch.func.jvp(lambda x: fast.denoise(x, 0.3), (X,), (X,))[1]
    torch.testing.assert_close(
        tangent, torch.func.jvp(lambda x: plain.denoise(x, 0.3), (X,), (X,))[1]
    )
    assert not sizes


def _gradient(prior):
    x = X.clone().requires_grad_()
    return torch.autograd.grad(prior.denoise(x, 0.3).square().sum(), x)[0]


def test_solve_names_the_settings_and_keeps_to_the_contract():
    plain = prior_of()
    operator = ops.Mask(ops.random_mask(SHAPE, 0.5), noise=ops.GaussianNoise(0.2))
    fast = plain.faster(autocast="bf16", channels_last=True, compile="eager", batch=4)
    text = "network (autocast bf16, channels last, compiled by eager, batches of 4)"
    assert name_of(fast) == text
    assert checksum(fast) != checksum(plain)
    assert checksum(plain.faster(autocast="fp16")) != checksum(plain.faster(autocast="bf16"))
    assert checksum(plain.faster()) == checksum(plain)
    ((_, contract),) = fast.contracts(X[:2], 0.3)
    assert contract.precision == torch.bfloat16
    y = operator.measure(X[:1])
    here = {"num_samples": 3, "steps": 4}
    found, expected = (ti.solve(y, operator, prior, **here) for prior in (fast, plain))
    assert found.origin.prior == text
    assert found.stats.denoiser_calls == expected.stats.denoiser_calls
    difference = (found.samples - expected.samples).square().mean().sqrt()
    assert 0 < float(difference) < 0.1 * float(expected.samples.std())


def test_tiles_classes_and_copies_of_a_faster_network():
    plain = prior_of(fully_convolutional=True)
    x = normal((3,), (1, 2, 8, 20)).float()
    expected = plain.tiled().denoise(x, 0.3)
    torch.testing.assert_close(
        plain.tiled().faster(compile="eager", batch=2).denoise(x, 0.3), expected
    )
    torch.testing.assert_close(
        plain.faster(compile="eager", batch=2).tiled().denoise(x, 0.3), expected
    )
    numbers = torch.arange(5)
    of_class = given(plain.faster(compile="eager", batch=4), numbers)
    torch.testing.assert_close(of_class.denoise(X, 0.3), given(plain, numbers).denoise(X, 0.3))
    fast = plain.faster(compile="eager")
    fast.denoise(X, 0.3)
    for copied in (copy.deepcopy(fast.module), pickle.loads(pickle.dumps(fast.module))):
        torch.testing.assert_close(copied(X, SIGMA), plain.module(X, SIGMA))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"autocast": "int8"}, "choose one of 'bf16' or 'fp16'"),
        ({"graphs": True}, "needs a network on a CUDA device, but Small is on cpu"),
        ({"compile": "gcc"}, "choose one of"),
        ({"batch": 4}, r"is the fixed size for compile=True and graphs=True"),
        ({"compile": "eager", "batch": 0}, "positive number of images"),
        ({"channels_last": 1}, "needs True or False"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        prior_of().faster(**settings)


def test_more_refusals():
    double, vectors = prior_of(), seeded(lambda: nn.Linear(3, 3))
    double.module = double.module.double()
    with pytest.raises(ValueError, match="leaves the float64 weights"):
        double.faster(autocast="bf16")
    with pytest.raises(ValueError, match="run as autocast bf16 already"):
        prior_of().faster(autocast="bf16").faster(channels_last=True)
    with pytest.raises(ValueError, match="needs images"):
        ti.priors.NetworkPrior(vectors, "edm", shape=(3,)).faster(channels_last=True)


@pytest.mark.slow
def test_inductor_answers_as_torch_does():
    import shutil

    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("inductor needs a compiler")
    network = seeded(lambda: UNet(2, widths=(8, 16), blocks=(1, 1)))
    plain = ti.priors.NetworkPrior(network, "edm", shape=SHAPE)
    fast = plain.faster(compile=True, channels_last=True)
    torch.testing.assert_close(
        fast.denoise(X, SIGMA), plain.denoise(X, SIGMA), rtol=1e-3, atol=1e-4
    )
