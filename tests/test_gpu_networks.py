"""On an accelerator networks answer as they do plainly, and the default batch fits its memory."""

import pytest
import torch

import tweedie_inverse as ti
from tests.networks import seeded
from tweedie_inverse.benchmarks.acceptance.equality import all_digits
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.batches import default_batch
from tweedie_inverse.priors.unet import UNet
from tweedie_inverse.runtime.live_memory import peak_bytes
from tweedie_inverse.runtime.memory import free_bytes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SHAPE = (3, 32, 32)


def prior_of():
    network = seeded(lambda: UNet(3, widths=(16, 32), blocks=(1, 1))).cuda()
    return ti.priors.NetworkPrior(network, "edm", shape=SHAPE, sigma_min=0.01, sigma_max=20.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"graphs": True},
        {"graphs": True, "batch": 4},
        {"channels_last": True, "graphs": True},
        {"compile": True, "batch": 4},
        {"compile": True, "graphs": True, "batch": 4},
    ],
    ids=str,
)
def test_answers_are_those_of_the_plain_network(settings):
    plain = prior_of()
    fast, x = plain.faster(**settings), normal((1,), (5, *SHAPE)).float().cuda()
    with all_digits(), torch.no_grad():
        for count in (2, 1, 5, 3):
            found, expected = (prior.denoise(x[:count], 0.3) for prior in (fast, plain))
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        first = fast.denoise(x[:2], 0.3)
        kept = first.clone()
        fast.denoise(x[2:4], 1.0)
        assert torch.equal(first, kept)


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_autocast_rounds_no_more_than_a_prior_says(kind):
    plain = prior_of()
    half, x = plain.faster(autocast=kind, graphs=True), normal((1,), (2, *SHAPE)).float().cuda()
    with torch.no_grad():
        error = (half.denoise(x, 0.3) - plain.denoise(x, 0.3)).square().mean().sqrt()
    assert float(error) < 10 * half.rounding


def test_the_default_batch_fits():
    prior, like = prior_of(), torch.zeros((), device="cuda")
    count = default_batch(prior, like, 10**6)
    with torch.no_grad():
        held = peak_bytes(
            lambda: prior.denoise(torch.zeros(count, *SHAPE, device="cuda"), 0.3),
            torch.device("cuda"),
        )
    assert 0 < held < free_bytes(torch.device("cuda"))
