"""A prior as users give it: the object itself, or what `load_prior` takes by name."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.zoo import load_prior

# What arguments named `prior` take.
PriorLike = Prior | str | Path


def prior_of(caller: str, given: Any, *, like: Any = None) -> Prior:
    """The prior that is given, or that of a name, on the device of the data.

    A name is loaded at each call, which takes some 50 ms for a shipped prior: what a caller gets is
    its own, and nothing stays in an accelerator's memory.

    Args:
        given: a prior, or a shipped prior's name, a file, a folder or a hub id.
        like: the data, a tensor or an array, whose device a named prior is loaded to.

    Raises:
        TypeError: neither of both.
        ValueError: no prior of that name, with the nearest names.
    """
    if isinstance(given, Prior):
        return given
    if not isinstance(given, str | Path):
        raise TypeError(
            f"{caller}: prior must be a prior such as ti.load_prior('phantom-64'), or its name, "
            f"got {type(given).__name__}; wrap a network in ti.priors.NetworkPrior"
        )
    device = like.device if isinstance(like, Tensor) else torch.device("cpu")
    try:
        return load_prior(given, device=device)
    except ValueError as error:
        reason = str(error).partition("): ")[2] or str(error)
        raise ValueError(f"{caller}(prior={str(given)!r}): {reason}") from error
