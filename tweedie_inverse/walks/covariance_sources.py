"""Where the covariance V of the decoupled draw comes from, at each level of a walk.

`Network` reads it from the network itself: a random probe at every third level tells the spectrum
and the place (`priors.error.from_network`).  `Measured` takes the prior's table.  Both then make V
exact along the pull of the data, by a secant, at levels where the noise hides less than the images
differ (sigma below ``prior.unit``).  Probes and secants cost an evaluation each.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.conditional.units import pull
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.secant import secant
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.error.from_network import (
    Denoiser,
    Probes,
    can_probe,
    covariance_of,
    directional,
    observe,
    probe,
    reach,
)
from tweedie_inverse.priors.error.layout import layout_for
from tweedie_inverse.walks.base import Level

# Levels from one probe to the next; the spectrum changes slowly with sigma.
_EVERY = 3
# Share of sigma^2 that the variance along a secant may have; 1 for the exact denoiser.
_MOST = 1.5
# How many noise levels a network may move a pixel by.
_REACH = 10.0


class Knowledge(NamedTuple):
    """What a source knows of the walkers so far."""

    probes: Probes | None  # None where there are none
    secants: Tensor  # (walkers,), taken so far
    refused: Tensor  # (walkers,), secants that were not credible
    held_back: Tensor  # (walkers,), 1 where a denoised image was, at any level

    @property
    def left_out(self) -> Tensor:
        """Share of the probes and secants so far that were not credible, ``(walkers,)``."""
        bad, made = self.refused, self.secants + self.refused
        if self.probes is not None:
            bad, made = bad + self.probes.left_out, made + self.probes.made
        return bad / made.clamp(min=1)


class Modelled(NamedTuple):
    """The covariance of a level."""

    covariance: Covariance
    known: Knowledge  # what is known now
    start: Tensor | None = None  # of the solve for a draw with it; None where nothing is known


class Place(NamedTuple):
    """Where the walkers stand."""

    x: Tensor  # (walkers, *shape)
    answer: Tensor  # D(x, sigma)
    denoised: Tensor  # the same, as far as it is trusted
    level: Level
    denoise: Denoiser  # D, with the random numbers that `answer` was drawn with


@dataclass(frozen=True)
class Source(ABC):
    """A rule for V.

    Attributes:
        secants: whether evaluations may be spent on secants.
        renews: whether all noise has to be renewed at each level, because what a draw with this V
            leaves is not white.
    """

    secants: bool = True

    name: ClassVar[str]
    renews: ClassVar[bool] = False

    def describe(self, sigmas: Tensor, prior: Prior, problem: Problem) -> str:
        """What a user should know, in a few words; empty if nothing."""
        return ""

    def cheaper(self) -> "Source":
        """The next best rule, for budgets that have no room for this one."""
        return self

    def takes_secant(self, sigma: float, prior: Prior, problem: Problem) -> bool:
        """Whether V is made exact along the pull of the data at this level."""
        return False

    def probes(self, levels: Sequence[float], prior: Prior) -> int:
        """Random probes of each sample on a walk through these levels."""
        return 0

    def evaluations(self, sigmas: Tensor, prior: Prior, problem: Problem) -> int:
        """Network evaluations a sample for the levels ``(steps + 1,)``."""
        return sum(self._counts(sigmas, prior, problem))

    def _counts(self, sigmas: Tensor, prior: Prior, problem: Problem) -> tuple[int, int, int]:
        """Levels, probes and secants of each sample."""
        levels = sigmas[:-1].tolist()
        secants = sum(self.takes_secant(sigma, prior, problem) for sigma in levels)
        return len(levels), self.probes(levels, prior), secants

    def begin(self, prior: Prior, like: Tensor) -> Knowledge:
        """What is known before the first level; `like` has dtype and device of the state."""
        none = like.new_zeros(len(like))
        return Knowledge(None, none, none, none)

    def trusted(
        self, x: Tensor, answer: Tensor, sigma: float, known: Knowledge, prior: Prior
    ) -> tuple[Tensor, Knowledge]:
        """What is believed of ``D(x, sigma)``, and what is known now.

        Published networks may amplify what they have not seen, without bound over the levels; a
        denoiser moves no pixel by much more than the noise.  (With ``sigma^2 I`` the draws
        themselves lie further off.)
        """
        if prior.any_sigma or self.renews:
            return answer, known
        moved, most = answer - x, _REACH * sigma
        far = (moved.abs() > most).flatten(1).any(1)
        held = torch.where(_column(far, x), x + moved.clamp(-most, most), answer)
        return held, known._replace(held_back=known.held_back.maximum(far.to(known.held_back)))

    def covariance(
        self, place: Place, known: Knowledge, problem: Problem, prior: Prior, streams: Streams
    ) -> Modelled:
        """V at this level for every walker."""
        covariance, known = self.model(place, known, problem, prior, streams)
        if not self.takes_secant(place.level.sigma, prior, problem):
            return Modelled(covariance, known)
        pulled = pull(place.denoised, covariance, problem)
        step = reach(place.level.sigma, place.x[0].numel(), prior.rounding)
        along, largest = _in_noise(prior, pulled.direction)
        target = directional(place.denoise, place.x, place.answer, place.level.sigma, along, step)
        largest = _MOST * place.level.sigma**2 * largest
        pair = secant(pulled.direction, target, pulled.change, largest)
        taken = pair.taken.to(known.secants)
        known = known._replace(secants=known.secants + taken, refused=known.refused + 1 - taken)
        return Modelled(covariance.with_secant(pair.secant), known, pulled.start)

    @abstractmethod
    def model(
        self, place: Place, known: Knowledge, problem: Problem, prior: Prior, streams: Streams
    ) -> tuple[Covariance, Knowledge]:
        """V before any secant, and what is known now."""

    def _can_pull(self, sigma: float, prior: Prior, problem: Problem) -> bool:
        useful = problem.is_linear_gaussian and not prior.error_is_exact
        seen = reach(sigma, math.prod(prior.shape), prior.rounding) is not None
        return self.secants and useful and seen and sigma <= prior.unit


@dataclass(frozen=True)
class Isotropic(Source):
    """``sigma^2 I``: right at small sigma and in the limit of many levels only."""

    name = "isotropic"
    renews = True

    def describe(self, sigmas: Tensor, prior: Prior, problem: Problem) -> str:
        return (
            "the prior's denoising error is not measured, and the budget has no room to read it "
            "from the network: the draws use sigma^2 I, a guess (more steps, or "
            "ti.measure_denoising_error, help)"
        )

    def model(
        self, place: Place, known: Knowledge, problem: Problem, prior: Prior, streams: Streams
    ) -> tuple[Covariance, Knowledge]:
        return prior.noise_at(place.level.sigma), known


@dataclass(frozen=True)
class Average(Source):
    """The prior's denoising error, the same everywhere."""

    name = "average"

    def model(
        self, place: Place, known: Knowledge, problem: Problem, prior: Prior, streams: Streams
    ) -> tuple[Covariance, Knowledge]:
        return prior.denoising_error(place.level.sigma), known


@dataclass(frozen=True)
class Measured(Source):
    """The prior's measured denoising error, larger where the denoised image has edges.

    A table is wider at edges than the error there is on average, so that the data may correct it
    where it is larger still.  Secants know that better: beside them the scale of a place counts
    for its square root.
    """

    name = "measured"

    def cheaper(self) -> Source:
        return Measured(secants=False)

    def describe(self, sigmas: Tensor, prior: Prior, problem: Problem) -> str:
        levels, _, secants = self._counts(sigmas, prior, problem)
        if secants == 0:
            return ""
        return (
            "the denoising error is measured, and along the pull of the data read from the network "
            f"({levels} noise levels, {secants} secants)"
        )

    def takes_secant(self, sigma: float, prior: Prior, problem: Problem) -> bool:
        return self._can_pull(sigma, prior, problem)

    def model(
        self, place: Place, known: Knowledge, problem: Problem, prior: Prior, streams: Streams
    ) -> tuple[Covariance, Knowledge]:
        covariance = prior.conditional_covariance(place.level.sigma, place.denoised)
        if covariance.scale is not None and self.secants and problem.is_linear_gaussian:
            covariance = replace(covariance, scale=covariance.scale.sqrt())
        return covariance, known


@dataclass(frozen=True)
class Network(Source):
    """``sigma^2 J``, read from the network by random probes and secants."""

    name = "network"

    def cheaper(self) -> Source:
        return Isotropic()

    def describe(self, sigmas: Tensor, prior: Prior, problem: Problem) -> str:
        levels, probes, secants = self._counts(sigmas, prior, problem)
        return (
            "the denoising error is not measured but read from the network "
            f"({levels} noise levels, {probes} probes, {secants} secants)"
        )

    def takes_secant(self, sigma: float, prior: Prior, problem: Problem) -> bool:
        return self._can_pull(sigma, prior, problem)

    def probes(self, levels: Sequence[float], prior: Prior) -> int:
        return sum(_is_probed(index, sigma, prior) for index, sigma in enumerate(levels))

    def model(
        self, place: Place, known: Knowledge, problem: Problem, prior: Prior, streams: Streams
    ) -> tuple[Covariance, Knowledge]:
        x, answer, _, level, _ = place
        layout = layout_for(tuple(prior.shape), prior.noise_covariance, prior.probe_basis)
        probes = known.probes
        if _is_probed(level.index, level.sigma, prior):
            white = streams.normal(prior.shape, like=x)
            response = probe(place.denoise, x, answer, level.sigma, white)
            probes = observe(probes, white, response, level.sigma, layout)
        assert probes is not None
        return covariance_of(probes, level.sigma, layout), known._replace(probes=probes)


def _is_probed(index: int, sigma: float, prior: Prior) -> bool:
    """Whether a random probe is taken at a level, the first one always."""
    return index == 0 or (index % _EVERY == 0 and can_probe(sigma, prior.rounding))


def _in_noise(prior: Prior, direction: Tensor) -> tuple[Tensor, Tensor | float]:
    """``R s`` for noise of covariance ``sigma^2 R``, and its variance along s over sigma^2.

    ``Cov(x0 | x_sigma) = sigma^2 J R`` then, which is the formula for white noise in coordinates
    where this noise is white.
    """
    if prior.noise_covariance is None:
        return direction, 1.0
    product = prior.noise_covariance.apply(direction)
    along = (direction * product).flatten(1).sum(1)
    return product, along / direction.square().flatten(1).sum(1).clamp(min=1e-30)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


SOURCES: dict[str, type[Source]] = {
    source.name: source for source in (Average, Isotropic, Measured, Network)
}

# Fewer levels than this are worse than as many of a cheaper source as the budget allows.
_FEWEST = 4


def longest_schedule(
    steps: int, source: Source, prior: Prior, problem: Problem, make: Callable[[int], Tensor]
) -> tuple[Source, Tensor]:
    """The longest ``make(levels)`` whose evaluations stay within `steps`, and its source.

    It is a cheaper source where `source` has no room for enough levels.
    """
    for levels in range(steps, 0, -1):
        sigmas = make(levels)
        if source.evaluations(sigmas, prior, problem) <= steps:
            if levels == steps or levels >= _FEWEST:
                return source, sigmas
            break
    return longest_schedule(steps, source.cheaper(), prior, problem, make)
