"""How many images run together where the user does not say: what free memory holds.

One evaluation of two images is tried, and its peak measured (`runtime.live_memory`): what a network
needs beside its weights cannot be told from them.  A solve needs the forward pass, and a number of
further images for each walker: state, denoised image, draws, noise, and what a linear solve keeps.
"""

import copy
import math
import weakref
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.modes import of_a_walk
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.execution import fixed_batch
from tweedie_inverse.priors.tiles import TiledNetwork
from tweedie_inverse.runtime.live_memory import peak_bytes
from tweedie_inverse.runtime.memory import free_bytes

# Beside the forward pass a solve keeps so many images a walker, in the number type of y: measured
# for the decoupled walk (`tests/test_batch_sizes.py`), rounded up.  Other walks need fewer.
IMAGE_BUFFERS = 32
# And for each channel three blocks of so many numbers, or of 16 images where that is less: those of
# `conditional.preconditioner`, where a mask is solved with a covariance read from the network.
_BLOCK, _BLOCK_IMAGES = 256**2, 16
# Walkers that run together at most: this many numbers of state.
MOST_NUMBERS = 2**24
# On the CPU nothing is tried for fewer numbers of state: the networks of small images are small.
_FEW_NUMBERS = 2**20
# Memory is shared, and an allocator needs room: of what is free, so much is used.  On the CPU the
# work space of convolutions is not seen.
_SHARE = {"cuda": 0.8, "cpu": 0.4}
_TRIED = 2

# An evaluation in tiles keeps so many images beside what a few tiles take: measured, rounded up.
_TILED_BUFFERS = 18

# Bytes of an evaluation: (of each image, of all together).
_Need = tuple[float, float]
_MEASURED: weakref.WeakKeyDictionary[Any, dict[Any, _Need]] = weakref.WeakKeyDictionary()


def default_batch(prior: Prior, like: Tensor, total: int) -> int:
    """Walkers that run together by default, at least one.

    On an accelerator of CUDA, and on a CPU where Linux says how much memory is free, as many as
    the free memory holds, 2^24 numbers of state at most; elsewhere so many.  Samples do not depend
    on it.  Processes that share the evaluations take what the smallest memory holds.

    Args:
        like: has the number type and the device of the walk.
        total: all walkers; fewer than that are measured for nothing.
    """
    return prior.ranks.least(_of_this_process(prior, like, total))


def _of_this_process(prior: Prior, like: Tensor, total: int) -> int:
    numbers = torch.Size(prior.shape).numel()
    most, kind = max(1, MOST_NUMBERS // numbers), like.device.type
    together = min(most, total)
    if kind not in _SHARE or together <= 1:
        return most
    if kind == "cpu" and together * numbers <= _FEW_NUMBERS:
        return most
    free = free_bytes(like.device)
    if free is None:
        return most
    try:
        each, all_together = _need(prior, like)
    except torch.OutOfMemoryError:
        return 1  # the walk will say what is missing
    if each == 0 == all_together:
        return most
    each += kept_numbers(tuple(prior.shape)) * like.element_size()
    room = _SHARE[kind] * free - all_together
    return max(1, min(most, int(room / each)))


def kept_numbers(shape: tuple[int, ...]) -> int:
    """Numbers that a solve keeps of each walker, beside the forward pass; at most."""
    numbers = math.prod(shape)
    blocks = 3 * min(_BLOCK * shape[0], _BLOCK_IMAGES * numbers) if len(shape) == 3 else 0
    return IMAGE_BUFFERS * numbers + blocks


def _need(prior: Prior, like: Tensor) -> _Need:
    """Measured once for each network, shape, number type and device."""
    owner, key = getattr(prior, "module", prior), (tuple(prior.shape), like.dtype, like.device)
    known = _MEASURED.setdefault(owner, {})
    if key not in known:
        known[key] = _measured(prior, like)
    return known[key]


def _measured(prior: Prior, like: Tensor) -> _Need:
    module = getattr(prior, "module", None)
    small = None if module is None else _of_few_tiles(prior, module)
    if small is not None:
        # All of its tiles are alike, and thousands of them would take minutes.
        each, all_together = _measured(small, like)
        kept = _TILED_BUFFERS * math.prod(prior.shape) * like.element_size()
        return kept, all_together + _TRIED * each
    batch = None if module is None else fixed_batch(module)
    sigma = min(max(prior.unit, prior.sigma_min), prior.sigma_max)
    tried = _TRIED if batch is None else batch
    with of_a_walk(like.device):
        centre = torch.as_tensor(prior.centre).to(like)
        x = centre.expand(tried, *prior.shape).contiguous()
        peak = float(peak_bytes(lambda: prior.denoise(x, sigma), like.device))
    # A network that is always given the same number of images needs no more for more walkers.
    return (peak / tried, 0.0) if batch is None else (0.0, peak)


def _of_few_tiles(prior: Prior, module: Any) -> Prior | None:
    """The same tiles of a smaller image, as many as are evaluated together; None where it is one.

    Two such images, as many as are tried, have more tiles than are evaluated at once.
    """
    if not isinstance(module, TiledNetwork):
        return None
    least = math.isqrt(module.pixels) + max(module.tile)
    size = tuple(min(side, least) for side in prior.shape[-2:])
    if size == tuple(prior.shape[-2:]):
        return None
    small = copy.copy(prior)  # for_shape() makes no smaller ones
    small.shape = (*prior.shape[:-2], *size)
    return small
