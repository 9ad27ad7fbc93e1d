"""Where the covariance V of the decoupled draw comes from, at each level of a walk.

`Network` reads it from the network itself.  It spends evaluations beyond the one a level: a random
probe at every second level tells the spectrum and the place (`priors.error.from_network`), and
where the noise hides less than the images differ (sigma below ``prior.unit``) a secant along the
pull of the data makes V exact in that direction.  The others cost nothing.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from tweedie_inverse.conditional.linear_gaussian import pull_of_data
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance, isotropic
from tweedie_inverse.numerics.random import Streams
from tweedie_inverse.numerics.secant import secant
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.error.from_network import (
    Probes,
    covariance_of,
    directional,
    observe,
    probe,
)
from tweedie_inverse.priors.error.layout import layout_for
from tweedie_inverse.walks.base import Level

# Levels from one probe to the next; the spectrum changes slowly with sigma.
_EVERY = 2


class Knowledge(NamedTuple):
    """What a source knows of the walkers so far; None where it keeps nothing."""

    probes: Probes | None = None
    secants: Tensor | None = None  # (walkers,), taken so far
    refused: Tensor | None = None  # (walkers,), secants that were not credible

    @property
    def left_out(self) -> Tensor | None:
        """Share of the probes and secants so far that were not credible, ``(walkers,)``."""
        if self.probes is None or self.secants is None or self.refused is None:
            return None
        bad = self.probes.left_out + self.refused
        return bad / (self.probes.made + self.secants + self.refused).clamp(min=1)


class Place(NamedTuple):
    """Where the walkers stand."""

    x: Tensor  # (walkers, *shape)
    denoised: Tensor
    level: Level


class Source(ABC):
    """A rule for V; subclasses are frozen dataclasses.

    Attributes:
        renews: whether all noise has to be renewed at each level, because what a draw with this V
            leaves is not white.
    """

    name: ClassVar[str]
    renews: ClassVar[bool] = False

    def describe(self, sigmas: Tensor, prior: Prior, problem: Problem) -> str:
        """What a user should know, in a few words; empty if nothing."""
        return ""

    def evaluations(self, sigmas: Tensor, prior: Prior, problem: Problem) -> int:
        """Network evaluations a sample for the levels ``(steps + 1,)``."""
        return len(sigmas) - 1

    def begin(self, prior: Prior, like: Tensor) -> Knowledge:
        """What is known before the first level; `like` has dtype and device of the state."""
        return Knowledge()

    @abstractmethod
    def covariance(
        self, place: Place, known: Knowledge, problem: Problem, prior: Prior, streams: Streams
    ) -> tuple[Covariance, Knowledge]:
        """V at this level for every walker, and what is known now."""


@dataclass(frozen=True)
class Isotropic(Source):
    """``sigma^2 I``: right at small sigma and in the limit of many levels only."""

    name = "isotropic"
    renews = True

    def covariance(
        self, place: Place, known: Knowledge, problem: Problem, prior: Prior, streams: Streams
    ) -> tuple[Covariance, Knowledge]:
        return isotropic(place.level.sigma**2), known


@dataclass(frozen=True)
class Average(Source):
    """The prior's denoising error, the same everywhere."""

    name = "average"

    def covariance(
        self, place: Place, known: Knowledge, problem: Problem, prior: Prior, streams: Streams
    ) -> tuple[Covariance, Knowledge]:
        return prior.denoising_error(place.level.sigma), known


@dataclass(frozen=True)
class Measured(Source):
    """The prior's measured denoising error, larger where the denoised image has edges."""

    name = "measured"

    def covariance(
        self, place: Place, known: Knowledge, problem: Problem, prior: Prior, streams: Streams
    ) -> tuple[Covariance, Knowledge]:
        return prior.conditional_covariance(place.level.sigma, place.denoised), known


@dataclass(frozen=True)
class Network(Source):
    """``sigma^2 J``, read from the network by random probes and secants.

    Cost: see `evaluations`.
    """

    name = "network"

    def describe(self, sigmas: Tensor, prior: Prior, problem: Problem) -> str:
        levels, probes, secants = self._counts(sigmas, prior, problem)
        return (
            "the denoising error is not measured but read from the network "
            f"({levels} noise levels, {probes} probes, {secants} secants)"
        )

    def evaluations(self, sigmas: Tensor, prior: Prior, problem: Problem) -> int:
        return sum(self._counts(sigmas, prior, problem))

    def _counts(self, sigmas: Tensor, prior: Prior, problem: Problem) -> tuple[int, int, int]:
        """Levels, probes and secants of each sample."""
        levels = sigmas[:-1].tolist()
        linear = problem.is_linear_gaussian
        secants = sum(self._takes_secant(sigma, prior) for sigma in levels) if linear else 0
        return len(levels), -(-len(levels) // _EVERY), secants

    def begin(self, prior: Prior, like: Tensor) -> Knowledge:
        none = like.new_zeros(len(like))
        return Knowledge(None, none, none)

    def covariance(
        self, place: Place, known: Knowledge, problem: Problem, prior: Prior, streams: Streams
    ) -> tuple[Covariance, Knowledge]:
        (x, denoised, level), layout = place, layout_for(tuple(prior.shape))
        probes = known.probes
        if level.index % _EVERY == 0:
            white = streams.normal(prior.shape, like=x)
            response = probe(prior, x, denoised, level.sigma, white)
            probes = observe(probes, white, response, level.sigma, layout)
            known = known._replace(probes=probes)
        assert probes is not None
        covariance = covariance_of(probes, level.sigma, layout)
        if not (problem.is_linear_gaussian and self._takes_secant(level.sigma, prior)):
            return covariance, known
        pull = pull_of_data(denoised, covariance, problem)
        target = directional(prior, x, denoised, level.sigma, pull.direction)
        pair = secant(pull.direction, target, pull.change)
        assert known.secants is not None
        assert known.refused is not None
        taken = pair.taken.to(known.secants)
        known = known._replace(secants=known.secants + taken, refused=known.refused + 1 - taken)
        return covariance.with_secant(pair.secant), known

    def _takes_secant(self, sigma: float, prior: Prior) -> bool:
        return sigma <= prior.unit


SOURCES: dict[str, Source] = {
    source.name: source for source in (Average(), Isotropic(), Measured(), Network())
}

# Fewer levels than this are worse than as many isotropic ones as the budget allows.
_FEWEST = 4


def longest_schedule(
    steps: int, source: Source, prior: Prior, problem: Problem, make: Callable[[int], Tensor]
) -> Tensor | None:
    """The longest ``make(levels)`` whose evaluations stay within `steps`; None if there is none."""
    for levels in range(steps, 0, -1):
        sigmas = make(levels)
        if source.evaluations(sigmas, prior, problem) <= steps:
            return sigmas if levels == steps or levels >= _FEWEST else None
    return None
