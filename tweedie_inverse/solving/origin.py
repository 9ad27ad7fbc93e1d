"""Where samples come from: everything that is needed to make them again, in words and numbers."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from inspect import ismodule
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.wrapped import WrappedPrior

_PACKAGES = ("tweedie-inverse", "torch", "numpy")
_DIGITS = 16


@dataclass(frozen=True)
class Origin:
    """What a posterior was made from.

    Attributes:
        seed: that of the call; one for each measurement where several were given.
        walk: the walk with all its settings.
        num_samples, steps: samples of each measurement, and noise levels.
        operator, noise: as they print.
        range_shape: of one measurement.
        prior: its name, or its class where it has none.
        prior_checksum: first digits of the SHA-256 of its settings and weights.
        value_range, units: of the images in data units, where the prior knows them.
        versions: of the packages that computed it.
    """

    seed: int | tuple[int, ...]
    walk: str
    num_samples: int
    steps: int
    operator: str
    noise: str
    range_shape: tuple[int, ...]
    prior: str
    prior_checksum: str
    value_range: tuple[float, float] | None
    units: str
    versions: dict[str, str]

    @staticmethod
    def from_notes(notes: dict[str, Any]) -> "Origin":
        """From its fields after a way through JSON, which makes lists of tuples."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in notes.items()
        }
        return Origin(**fields)

    @staticmethod
    def common(origins: Sequence["Origin | None"]) -> "Origin | None":
        """The origin that all share; None where they differ in anything."""
        return origins[0] if all(origin == origins[0] for origin in origins) else None


def name_of(prior: Prior) -> str:
    """Its own name, or its class where it has none."""
    prior = _inside(prior)
    return getattr(prior, "name", "") or type(prior).__name__


def checksum(prior: Prior) -> str:
    """First digits of the SHA-256 of everything that the prior holds: weights and settings."""
    return digest(_inside(prior))


def digest(value: Any) -> str:
    """First digits of the SHA-256 of everything that an object holds: tensors and settings."""
    found = hashlib.sha256()
    for part in _parts(value, set()):
        found.update(part)
    return found.hexdigest()[:_DIGITS]


def _inside(prior: Prior) -> Prior:
    """The prior that wrappers, which count its evaluations, say, pass on."""
    while isinstance(prior, WrappedPrior):
        prior = prior.prior
    return prior


def _parts(value: Any, seen: set[int]) -> Iterator[bytes]:
    """The content of an object, part by part; what holds no data counts by its class."""
    if isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        if value.device.type != "meta":  # it has no numbers there
            plain = value.detach().to_dense() if value.is_sparse else value.detach()
            yield (
                plain.cpu()
                .resolve_conj()
                .contiguous()
                .flatten()
                .view(torch.uint8)
                .numpy()
                .tobytes()
            )
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, str | bytes | int | float | complex | type(None) | torch.device):
        yield repr(value).encode()
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part, seen)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield repr(key).encode()
            yield from _parts(part, seen)
    else:
        yield type(value).__qualname__.encode()
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, nn.Module):
            yield _weights(value)
        elif hasattr(value, "__dict__") and not callable(value) and not ismodule(value):
            # Results that it keeps for later are no part of what it is.
            yield from _parts(
                {
                    name: part
                    for name, part in vars(value).items()
                    if not name.startswith("_")
                    and not isinstance(getattr(type(value), name, None), cached_property)
                },
                seen,
            )


# Networks are large, and one is used for many measurements: they are read again only when changed.
_READ: WeakKeyDictionary[nn.Module, tuple[list[tuple[int, int]], bytes]] = WeakKeyDictionary()


def _weights(module: nn.Module) -> bytes:
    """The SHA-256 of a network's weights."""
    state = module.state_dict()
    stamp = [
        (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
        for tensor in state.values()
        if isinstance(tensor, Tensor)
    ]
    if module not in _READ or _READ[module][0] != stamp:
        digest = hashlib.sha256()
        for part in _parts(dict(state), set()):
            digest.update(part)
        _READ[module] = stamp, digest.digest()
    return _READ[module][1]


def versions() -> dict[str, str]:
    """Of the packages that a result depends on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
