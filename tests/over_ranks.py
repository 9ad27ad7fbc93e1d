"""What every process of a test over ranks does, and how they are started."""

import os
import warnings
from datetime import timedelta
from functools import cache
from pathlib import Path

import torch
import torch.multiprocessing as processes
from torch import nn

import tweedie_inverse as ti
from tests.networks import seeded
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal


class Smoothing(nn.Module):
    """A denoiser of a kind: less of everything where there is more noise, and smoother."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x, label):
        pull = 1 / (1 + label**2).reshape(-1, 1, 1, 1)
        return pull * (x + 0.1 * self.second(torch.tanh(self.first(x))))


NETWORK = seeded(Smoothing)
SIZE = (1, 20, 13)
# A process that waits for one that does not come is an error, and no test that never ends.
_PATIENCE = timedelta(minutes=2)


def prior(network=NETWORK, pixels=128):
    """Eight tiles of 8 x 8 for an image of `SIZE`, at most two of them at once."""
    own = ti.priors.NetworkPrior(
        network, "x0", shape=(1, 8, 8), sigma_min=0.02, sigma_max=4.0, fully_convolutional=True
    )
    return own.with_error(_error()).tiled(overlap=3, pixels=pixels)


@cache
def _error():
    images = 0.5 * normal(("images",), (8, 1, 8, 8)).float()
    own = ti.priors.NetworkPrior(NETWORK, "x0", shape=(1, 8, 8), sigma_min=0.02, sigma_max=4.0)
    return ti.measure_denoising_error(own, images, levels=4)


def mask(shape=SIZE, noise=0.1):
    return ops.Mask(ops.random_mask(shape, 0.4, seed=1), noise=ops.GaussianNoise(noise))


def measured(operator, seed=3):
    return operator.measure(0.5 * normal(("truth",), operator.domain_shape).float(), seed=seed)


def solved(given, operator=None, method="auto", **settings):
    operator = mask() if operator is None else operator
    settings = {"num_samples": 2, "steps": 6, "seed": 5, **settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ti.PosteriorWarning)
        return ti.solve(measured(operator), operator, given, method=method, **settings)


def spawn(work, size, folder):
    """``work(rank, folder)`` in `size` processes of a gloo group."""
    processes.spawn(_process, (work, size, str(folder)), nprocs=size)


def _process(rank, work, size, folder):
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )
    work(rank, Path(folder))
    torch.distributed.destroy_process_group()


def raised(call):
    """The class of an error and what it says; empty without one."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
