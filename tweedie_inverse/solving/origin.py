"""Where samples come from: everything that is needed to make them again, in words and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.wrapped import WrappedPrior
from tweedie_inverse.runtime.digest import digest

_PACKAGES = ("tweedie-inverse", "torch", "numpy")


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
        operator_checksum, noise_checksum: likewise, of all that these hold; empty where unknown.
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
    operator_checksum: str = ""
    noise_checksum: str = ""

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


def plain_checksum(prior: Prior) -> str:
    """`checksum` of the prior as it was before its network was made faster."""
    return digest(_inside(prior).plain())


def _inside(prior: Prior) -> Prior:
    """The prior that wrappers, which count its evaluations, say, pass on."""
    while isinstance(prior, WrappedPrior):
        prior = prior.prior
    return prior


def versions() -> dict[str, str]:
    """Of the packages that a result depends on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
