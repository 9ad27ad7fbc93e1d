"""The decoupled walk: denoise, draw the clean image given the measurement, noise it again.

    m  = D(x, sigma)
    x0 ~ N(m, V_sigma) p(y | x0)                 exact likelihood, exact draw
    x' = x0 + sigma' (rho (x - x0) / sigma + sqrt(1 - rho^2) n)

If ``x ~ p(x_sigma | y)`` and ``p(x0 | x_sigma) = N(m, V_sigma)`` then ``x' ~ p(x_sigma' | y)`` for
any correlation rho, because ``(x - x0) / sigma`` is white noise too: no ``p(y | x_sigma)`` appears.
With rho = 0 every step renews the whole spread of the draw, and errors of V add up over the steps;
the more of the noise is kept, the less V matters where nothing was measured.

V is the prior's measured denoising error; with it the walk is exact for a Gaussian prior at any
number of steps.  With ``V = sigma^2 I`` and rho = 0 it is DAPS (Zhang et al. 2024) with a one-step
denoiser.

For an operator that is not linear, or noise that is not Gaussian, the draw becomes a few
Hamiltonian moves, begun at the last x0.  That is enough: x' was made from it, so that ``(x0, x')``
already has the joint law of the model, and the moves keep it.
"""

import math
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, flag, number, positive
from tweedie_inverse.conditional.hamiltonian import conditional_moves
from tweedie_inverse.conditional.linear_gaussian import conditional_draw
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.schedules import Schedule, check_schedule, karras
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.walks.base import Doubts, Info, Level, Plan, Walk, check_levels
from tweedie_inverse.walks.covariance_sources import (
    SOURCES,
    Knowledge,
    Place,
    Source,
    longest_schedule,
)


class DecoupledState(NamedTuple):
    """What the next step needs."""

    x: Tensor  # (walkers, *shape)
    known: Knowledge  # about the covariance of the draw
    x0: Tensor | None = None  # like x: the last draw, where Hamiltonian moves begin


class Belief(NamedTuple):
    """``p(x0 | x_sigma)`` as ``N(denoised, covariance)``, and what was learned on the way."""

    denoised: Tensor  # (walkers, *shape)
    covariance: Covariance
    known: Knowledge  # for the next level
    start: Tensor | None  # of the solve for a draw; None where nothing is known
    doubts: Doubts


@dataclass(frozen=True)
class Decoupled(Walk[DecoupledState]):
    """Settings of the walk.

    Cost: one network evaluation a level, and one linear solve; for Hamiltonian moves ``newton +
    moves (leapfrogs + 1)`` linear solves.  One more evaluation and solve at levels below
    ``prior.unit``, where a draw is made exact along the pull of the data (linear operators with
    Gaussian noise; V from a table or from the network), and with V from the network one more
    evaluation at every third level.  All of them share the budget of evaluations.

    Attributes:
        rho: exponent of the Karras schedule over the prior's range of noise levels.
        schedule: a schedule to use instead, ``(steps, sigma_min, sigma_max)``.
        sigma_max, sigma_min: ends of the schedule in data units; None takes those of the prior.
        memory: noise is kept from one level to the next with the correlation
            ``rho = (sigma' / sigma)^memory``; infinity renews all of it, 1 is Bayes' bridge as in
            DDPM, 0 keeps it whole as in DDIM.  Where V is isotropic, all noise is renewed, because
            the noise that a draw with ``sigma^2 I`` leaves is not white.
        error: where the covariance V of the draw comes from.  ``"network"`` reads it from the
            network, by probes and secants (about half of the budget is then left for levels);
            ``"measured"`` is the prior's ``conditional_covariance``, its denoising error, larger
            where the denoised image has edges, with secants (about two thirds for levels; exact
            Gaussian priors need none); ``"average"`` is the plain denoising error, the same
            everywhere; ``"isotropic"`` is ``sigma^2 I``.  ``"auto"`` is "measured" where the prior
            has a table or an exact error, else "network".
        secants: whether evaluations may be spent on secants.
        moves, leapfrogs: pairs of Hamiltonian moves in each step and integrator steps in each move,
            for nonlinear operators and noise that is not Gaussian; the first step makes
            `first_moves` pairs.
        newton: Gauss-Newton steps to the centre of the Gaussian that the moves turn about.
    """

    rho: float = 7.0
    sigma_max: float | None = None
    sigma_min: float | None = None
    memory: float = 4.0
    error: str = "auto"
    secants: bool = True
    moves: int = 3
    leapfrogs: int = 2
    first_moves: int = 9
    newton: int = 2
    schedule: Schedule | None = None

    name = "decoupled"
    default_steps = 50

    def __post_init__(self) -> None:
        if self.error not in ("auto", *SOURCES):
            names = ", ".join(repr(name) for name in ("auto", *SOURCES))
            raise ValueError(f"Decoupled(error={self.error!r}): choose one of {names}")
        for name in ("moves", "leapfrogs", "first_moves"):
            count("Decoupled", name, getattr(self, name))
        count("Decoupled", "newton", self.newton, least=0)
        flag("Decoupled", "secants", self.secants)
        need = "0 or more, or infinity"
        number("Decoupled", "memory", self.memory, low=0, finite=False, need=need)
        check_levels("Decoupled", self.sigma_min, self.sigma_max, self.schedule)
        positive("Decoupled", "rho", self.rho)
        flag("Decoupled", "secants", self.secants)

    def sigmas(self, prior: Prior, steps: int) -> Tensor:
        low = prior.sigma_min if self.sigma_min is None else self.sigma_min
        high = prior.sigma_max if self.sigma_max is None else self.sigma_max
        if self.schedule is not None:
            return check_schedule(self.schedule(steps, low, high))
        return karras(steps, low, high, rho=self.rho)

    def plan(self, problem: Problem, prior: Prior, steps: int) -> Plan:
        """The longest schedule within the budget, for the covariance that "auto" stands for."""
        wanted = self._source(prior)
        source, sigmas = longest_schedule(
            steps, wanted, prior, problem, lambda levels: self.sigmas(prior, levels)
        )
        note = (
            ""
            if self.error == source.name == "isotropic"
            else source.describe(sigmas, prior, problem)
        )
        return Plan(replace(self, error=source.name, secants=source.secants), sigmas, note)

    def refuse(self, problem: Problem, prior: Prior) -> None:
        if self.error in ("measured", "average") and not prior.error_is_measured:
            raise ValueError(
                f"Decoupled(error={self.error!r}): the denoising error of {prior!r} is not "
                "measured. Use ti.measure_denoising_error, or error='auto', which reads it from "
                "the network"
            )
        if not problem.is_linear_gaussian:
            # The moves need the gradient; a forward map that has none raises here.
            problem.gradient(torch.as_tensor(prior.centre).to(problem.y).expand(1, *prior.shape))

    def start(
        self, problem: Problem, prior: Prior, sigma: float, streams: Streams
    ) -> DecoupledState:
        noise = streams.normal(prior.shape, like=problem.y)
        x = torch.as_tensor(prior.centre).to(noise) + sigma * prior.coloured(noise)
        return DecoupledState(x, self._source(prior).begin(prior, x))

    def step(
        self,
        state: DecoupledState,
        level: Level,
        problem: Problem,
        prior: Prior,
        streams: Streams,
    ) -> tuple[DecoupledState, Info]:
        denoised, covariance, known, start, doubts = self.believe(
            state, level, problem, prior, streams
        )
        if problem.is_linear_gaussian:
            draw = conditional_draw(
                denoised,
                covariance,
                problem,
                streams.normal(prior.shape, like=state.x),
                streams.normal(problem.operator.range_shape, like=state.x),
                noise_after=self.noise_after(level, prior),
                start=start,
            )
            info = Info(denoised, draw.iterations, draw.error, doubts=doubts)
            x = self.renoise(draw.x, state.x, level, prior, streams)
            return DecoupledState(x, known), info
        moved = conditional_moves(
            state.x0,
            denoised,
            covariance,
            problem,
            streams,
            moves=self.first_moves if state.x0 is None else self.moves,
            leapfrogs=self.leapfrogs,
            newton=self.newton,
        )
        x = self.renoise(moved.x0, state.x, level, prior, streams)
        info = Info(
            denoised,
            solver_error=moved.error,
            acceptance=moved.acceptance,
            doubts=doubts,
        )
        return DecoupledState(x, known, moved.x0), info

    def believe(
        self,
        state: DecoupledState,
        level: Level,
        problem: Problem,
        prior: Prior,
        streams: Streams,
    ) -> Belief:
        """What the prior says of x0 at this level, ``N(m, V)``; the evaluations are made here."""
        source = self._source(prior)
        # Drawn once a level, so that D is one function of x for differences of it, too.
        drawn = cache(lambda shape: streams.normal(shape, like=state.x))
        denoise = partial(prior.denoise_drawing, noise=drawn)
        answer = denoise(state.x, level.sigma)
        denoised, known = source.trusted(state.x, answer, level.sigma, state.known, prior)
        covariance, known, start = source.covariance(
            Place(state.x, answer, denoised, level, denoise), known, problem, prior, streams
        )
        return Belief(denoised, covariance, known, start, Doubts(known.left_out, known.held_back))

    def noise_after(self, level: Level, prior: Prior) -> float:
        """Standard deviation of the fresh noise that follows a draw, where it is least."""
        least = 1.0
        if prior.noise_covariance is not None:
            least = math.sqrt(max(0.0, float(prior.noise_covariance.variance.min())))
        return least * level.sigma_next * math.sqrt(1 - self._kept(level, prior) ** 2)

    def renoise(
        self, x0: Tensor, x: Tensor, level: Level, prior: Prior, streams: Streams
    ) -> Tensor:
        """The next x, with some of the noise of x and fresh noise for the rest."""
        rho = self._kept(level, prior)
        fresh = prior.coloured(streams.normal(x0.shape[1:], like=x0))
        kept = (x - x0) / level.sigma
        return x0 + level.sigma_next * (rho * kept + math.sqrt(1 - rho**2) * fresh)

    def _kept(self, level: Level, prior: Prior) -> float:
        """The correlation rho of the noise of this level with that of the next."""
        if self._source(prior).renews:
            return 0.0
        return float((level.sigma_next / level.sigma) ** self.memory)

    def _source(self, prior: Prior) -> Source:
        name = self.error
        if name == "auto":
            name = "measured" if prior.error_is_measured else "network"
        return SOURCES[name](self.secants)
