"""The decoupled walk where the instrument is not quite known: its unknowns are drawn as well.

    m  = D(x, sigma)
    t  ~ p(t | m, V, y)                          a few moves, the image integrated out
    x0 ~ N(m, V) p(y | x0, t)
    t  ~ p(t | x0, y)
    x' = x0 + sigma' n

t holds noise levels and numbers of the operator.  If ``x ~ p(x_sigma | y)`` and ``p(x0 | x_sigma) =
N(m, V)``, then (x0, t) has the joint law ``p(x0, t | y)`` whatever t was before, once the moves of
a level have forgotten it; and moves keep a law that is right already, however few they are.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, instance
from tweedie_inverse.conditional.collapsed import (
    AMPLITUDE,
    Moved,
    collapsed_moves,
    conditional_moves_of,
    first_steps,
    no_amplitude,
)
from tweedie_inverse.conditional.first_guess import first_guess
from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.kernel_moves import KernelMoves, kernel_moves
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.conditional.units import draw
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.operators import BlindBlur, GaussianNoise, Parametric, UnknownGaussianNoise
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.walks.base import DrawnUnknowns, Info, Level, Plan, Walk
from tweedie_inverse.walks.covariance_sources import SOURCES, longest_schedule
from tweedie_inverse.walks.decoupled import Belief, Decoupled, DecoupledState


class UnknownState(NamedTuple):
    """What the next step needs."""

    inner: DecoupledState
    u: Tensor  # (walkers, count) float64, coordinates of the unknowns
    steps: Tensor  # like u, of the moves without the image
    near_steps: Tensor  # like u, of the moves given the image
    amplitude: Tensor  # (walkers, 2), of V in the moves without the image, as of `Moved`

    @property
    def x(self) -> Tensor:
        return self.inner.x


# The pilot's share of the evaluations is one in so many, and its fewest; its levels after the first
# draw go from so many units of the prior to so many.
_SHARE, _SHORTEST, _PILOT = 4, 5, (3.0, 0.1)
# Above so many units the unknowns then stay as they are.
_HELD = 0.3
# The numbers of its random streams, beyond those of any walk.
_PILOT_STEP = 2**30


@dataclass(frozen=True)
class UnknownInstrument(Walk[UnknownState]):
    """The decoupled walk with the unknowns of operator and noise; `solve` takes it by itself.

    Cost: no network evaluation beyond those of `Decoupled`.  Three linear solves for each move of
    each unknown, where the operator has no spectrum in the basis of V, and one draw; an operator is
    built for each number that is tried.

    Attributes:
        walk: settings of the decoupled walk.
        moves: of each noise level at every level of the walk, without the image.
        operator_moves: the same of each number of the operator, which moves given the image, made
            as well, help less.
        first_moves: of each unknown at the first level, where the walk must find the marginal
            posterior.
        pilot: network evaluations of the budget that a first, short walk takes to find numbers of
            the operator.  None is a quarter, and none where the draws are exact.  0 is none.
    """

    walk: Decoupled = field(default_factory=Decoupled)
    moves: int = 2
    operator_moves: int = 8
    first_moves: int = 20
    pilot: int | None = None

    name = "decoupled"
    default_steps = Decoupled.default_steps

    def __post_init__(self) -> None:
        need = "a decoupled walk such as ti.walks.Decoupled()"
        instance("UnknownInstrument", "walk", self.walk, Decoupled, need=need)
        for name in ("moves", "operator_moves", "first_moves"):
            count("UnknownInstrument", name, getattr(self, name), least=0)
        if self.pilot is not None:
            count("UnknownInstrument", "pilot", self.pilot, least=0)
            if 0 < self.pilot < _SHORTEST:
                raise ValueError(
                    f"UnknownInstrument(pilot={self.pilot}): needs 0, for none, or at least "
                    f"{_SHORTEST} evaluations"
                )

    def sigmas(self, prior: Prior, steps: int) -> Tensor:
        return self.walk.sigmas(prior, steps)

    def plan(self, problem: Problem, prior: Prior, steps: int) -> Plan:
        """That of the decoupled walk, with what the pilot leaves of the budget."""
        pilot = self.pilot
        if pilot is None:
            helps = isinstance(problem.operator, Parametric) and not prior.error_is_exact
            pilot = steps // _SHARE if helps and steps // _SHARE >= _SHORTEST else 0
        guessed = self._guessed(problem)
        if pilot >= steps:
            raise ValueError(
                f"UnknownInstrument(pilot={pilot}): leaves nothing of {steps} evaluations; take "
                "more steps"
            )
        plan = self.walk.plan(guessed, prior, steps - pilot)
        assert isinstance(plan.walk, Decoupled)
        walk = replace(self, walk=plan.walk, pilot=pilot)
        if not pilot:
            return Plan(walk, plan.sigmas, plan.note)
        note = f"a pilot of {pilot} evaluations looked for the numbers of the operator"
        return Plan(walk, plan.sigmas, f"{plan.note}; {note}" if plan.note else note)

    def refuse(self, problem: Problem, prior: Prior) -> None:
        if not isinstance(problem.noise, GaussianNoise | UnknownGaussianNoise):
            raise ValueError(
                f"solve: unknown numbers of {problem.operator!r} are drawn with Gaussian noise "
                f"only, got {problem.noise!r}"
            )
        if isinstance(problem.operator, BlindBlur) and not _is_white(problem):
            raise ValueError(
                f"solve: an unknown kernel ({problem.operator!r}) is drawn with white noise of one "
                f"level, known or not; got {problem.noise!r}"
            )
        self.walk.refuse(self._guessed(problem), prior)

    def start(self, problem: Problem, prior: Prior, sigma: float, streams: Streams) -> UnknownState:
        instrument = _instrument(problem)
        inner = self.walk.start(problem, prior, sigma, streams)
        steps = first_steps(instrument)
        u = instrument.start()
        if len(instrument.singly) and prior.error_is_measured:
            u = first_guess(problem, *prior.moments(), u)
        state = UnknownState(inner, u, steps, steps, no_amplitude(u))
        if not self.pilot:
            return state
        levels = self._pilot_levels(sigma, problem, prior)
        walk = replace(self, pilot=0)
        for level in levels:
            at = streams.at(_PILOT_STEP + level.index)
            state, _ = walk.step(state, level, problem, prior, at)
        return state._replace(inner=inner)

    def _pilot_levels(self, sigma: float, problem: Problem, prior: Prior) -> list[Level]:
        """One draw from far off, then levels at which there is something to see."""
        source = SOURCES[self.walk.error](self.walk.secants)
        high, low = _PILOT[0] * prior.unit, max(_PILOT[1] * prior.unit, prior.sigma_min)

        def make(levels: int) -> Tensor:
            fine = torch.logspace(
                math.log10(min(high, sigma)), math.log10(low), max(levels - 1, 1)
            ).double()
            return torch.cat([fine.new_tensor([sigma]), fine[: levels - 1], fine.new_zeros(1)])

        _, sigmas = longest_schedule(self.pilot or 0, source, prior, self._guessed(problem), make)
        values = sigmas.tolist()
        count = len(values) - 1
        return [Level(i, count, values[i], values[i + 1]) for i in range(count)]

    def step(
        self,
        state: UnknownState,
        level: Level,
        problem: Problem,
        prior: Prior,
        streams: Streams,
    ) -> tuple[UnknownState, Info]:
        instrument, x = _instrument(problem), state.x
        tuned = instrument.tuned(state.u)
        belief = self.walk.believe(state.inner, level, tuned, prior, streams)
        u, steps, kernels = self._kernel_moved(
            state, belief, level, instrument, prior, streams, problem.y
        )
        moved = collapsed_moves(
            u,
            steps,
            belief.denoised,
            _plain_covariance(belief, level, prior),
            instrument,
            streams,
            problem.y,
            order=self._order(instrument, level, prior),
            amplitude=state.amplitude,
            at_first=level.index == 0,
        )
        drawn = draw(
            belief.denoised,
            belief.covariance,
            instrument.tuned(moved.u, tuned),
            streams.normal(prior.shape, like=x),
            streams.normal(problem.operator.range_shape, like=x),
            noise_after=self.walk.noise_after(level, prior),
            start=belief.start,
        )
        u, near_steps = moved.u, state.near_steps
        if not self._holds(level, prior):
            u, near_steps = conditional_moves_of(
                u, near_steps, drawn.x, instrument, streams, problem.y
            )
        after = self.walk.renoise(drawn.x, x, level, prior, streams)
        problem.operator_calls += instrument.take_calls()
        chain = _chain(moved, kernels, instrument.levels) if level.index == 0 else None
        accepted = moved.accepted if kernels is None else kernels.accepted
        info = Info(
            belief.denoised,
            drawn.iterations,
            drawn.error,
            doubts=belief.doubts,
            unknowns=DrawnUnknowns(u, accepted, chain),
        )
        inner = DecoupledState(after, belief.known)
        return UnknownState(inner, u, moved.steps, near_steps, moved.amplitude), info

    def _kernel_moved(
        self,
        state: UnknownState,
        belief: Belief,
        level: Level,
        instrument: Instrument,
        prior: Prior,
        streams: Streams,
        y: Tensor,
    ) -> tuple[Tensor, Tensor, KernelMoves | None]:
        """Coordinates and steps after moves of an unknown kernel, if there is one to be moved."""
        first = level.index == 0 and not self.pilot
        moves = self.first_moves if first else self.operator_moves
        if instrument.kernel is None or not moves or self._holds(level, prior):
            return state.u, state.steps, None
        of = slice(instrument.levels, None)
        moved = kernel_moves(
            state.u[:, of],
            state.steps[:, instrument.levels],
            belief.denoised,
            belief.covariance,
            y,
            instrument.noise_levels(state.u),
            instrument.kernel,
            streams,
            moves,
        )
        u, steps = state.u.clone(), state.steps.clone()
        u[:, of], steps[:, of] = moved.numbers, moved.step[:, None]
        return u, steps, moved

    def _holds(self, level: Level, prior: Prior) -> bool:
        """Whether the unknowns are left as they are: the pilot has seen more than is seen here."""
        return bool(self.pilot) and level.sigma > _HELD * prior.unit

    def _order(self, instrument: Instrument, level: Level, prior: Prior) -> list[int]:
        """Which unknown each move of a level is of: in turns, as long as one has any left."""
        if self._holds(level, prior):
            return []
        numbers = [*range(instrument.levels), *instrument.singly]
        first = level.index == 0 and not self.pilot
        times = {
            which: self.first_moves
            if first
            else (self.moves if which < instrument.levels else self.operator_moves)
            for which in numbers
        }
        most = max(times.values(), default=0)
        if not prior.error_is_exact and len(instrument.singly):
            numbers, times[AMPLITUDE] = [*numbers, AMPLITUDE], -(-most // 2)
        return [which for turn in range(most) for which in numbers if turn < times[which]]

    def _guessed(self, problem: Problem) -> Problem:
        """The problem with the first guess of the unknowns, for questions that do not need more."""
        instrument = Instrument(problem)
        operator, noise = instrument.known(instrument.start()[0])
        return Problem(problem.y, operator, noise)


def _plain_covariance(belief: Belief, level: Level, prior: Prior) -> Covariance:
    """V for moves without the image: the prior's own table, whole, where there is one.

    What makes draws exact along the pull of the data would here count the data twice.
    """
    if prior.error_is_exact:
        return belief.covariance
    if prior.error_is_measured:
        return prior.conditional_covariance(level.sigma, belief.denoised)
    return replace(belief.covariance, secants=())


def _chain(moved: Moved, kernels: KernelMoves | None, levels: int) -> Tensor:
    """Coordinates after each move of the first level, ``(walkers, moves, count)``.

    A kernel is moved as often as the noise level there.
    """
    trace = moved.trace
    if kernels is not None:
        trace = torch.cat([trace[..., :levels], kernels.trace], -1) if levels else kernels.trace
    return trace.movedim(0, 1)


def _is_white(problem: Problem) -> bool:
    """Whether the noise has a single level, known or not."""
    if isinstance(problem.noise, GaussianNoise):
        return problem.noise.is_white
    return Instrument(problem).levels == 1


def _instrument(problem: Problem) -> Instrument:
    """That of a problem, made once."""
    found: Any = problem.kept.get("instrument")
    if found is None:
        found = problem.kept["instrument"] = Instrument(problem)
    return found
