"""The guarded first call of a prior: what a walk is about to trust is tried on two images.

What was found sound is remembered with its owner, a network or a prior of the user's, so that it
costs evaluations once: not again in the next call with the same shape, number type and device.
"""

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from tweedie_inverse.boundary.contracts import Contract, hold
from tweedie_inverse.boundary.modes import of_a_walk
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.base import Prior

_SOUND: weakref.WeakKeyDictionary[Any, set[tuple[Any, ...]]] = weakref.WeakKeyDictionary()


def hold_contracts(prior: Prior, like: Tensor) -> int:
    """Refuse a denoiser that breaks its contract (`boundary.contracts`) before a walk trusts it.

    Args:
        like: has the number type and the device of the walk.

    Returns:
        Images evaluated: none for the package's exact priors and for what was sound before, else 3
        in two calls of the network, a batch of two and one of the two alone.

    Raises:
        TypeError, ValueError: the network, or the user's own prior, and what it did.
    """
    with of_a_walk(like.device):
        sigma = min(max(prior.unit, prior.sigma_min), prior.sigma_max)
        numbers = normal(("contract",), (2, *prior.shape)).to(like)
        x = torch.as_tensor(prior.centre).to(like) + (prior.unit**2 + sigma**2) ** 0.5 * numbers
        return sum(_hold_once(*owned) for owned in prior.contracts(x, sigma))


def _hold_once(owner: Any, contract: Contract) -> int:
    given = tuple((values.shape, values.dtype, values.device) for values in contract.inputs)
    key = (*given, owner.training if isinstance(owner, nn.Module) else None)
    if key in _SOUND.get(owner, ()):
        return 0
    row = tuple(values[:1] for values in contract.inputs)
    # What is too large for a batch of two is tried alone, and of what is too large even then the
    # walk will say so.
    for trial in (contract, contract._replace(inputs=row, alone=(0,))):
        try:
            hold(trial)
        except torch.OutOfMemoryError:
            continue
        _SOUND.setdefault(owner, set()).add(key)
        return len(trial.inputs[0]) + len(trial.alone)
    return 0
