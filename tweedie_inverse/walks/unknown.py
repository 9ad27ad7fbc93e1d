"""The decoupled walk where the instrument is not quite known: its unknowns are drawn with the image.

    m  = D(x, sigma)
    t  ~ p(t | m, V, y)                          a few moves, the image integrated out
    x0 ~ N(m, V) p(y | x0, t)
    t  ~ p(t | x0, y)
    x' = x0 + sigma' n

t holds noise levels and numbers of the operator.  If ``x ~ p(x_sigma | y)`` and ``p(x0 | x_sigma) =
N(m, V)``, then (x0, t) has the joint law ``p(x0, t | y)`` whatever t was before, once the moves of
a level have forgotten it; and moves keep a law that is right already, however few they are.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from tweedie_inverse.boundary.arguments import count, instance
from tweedie_inverse.conditional.collapsed import (
    collapsed_moves,
    conditional_moves_of,
    first_steps,
)
from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.conditional.units import draw
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.operators import GaussianNoise, UnknownGaussianNoise
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.walks.base import DrawnUnknowns, Info, Level, Plan, Walk
from tweedie_inverse.walks.decoupled import Decoupled, DecoupledState


class UnknownState(NamedTuple):
    """What the next step needs."""

    inner: DecoupledState
    u: Tensor  # (walkers, count) float64, coordinates of the unknowns
    steps: Tensor  # like u, of the moves without the image
    near_steps: Tensor  # like u, of the moves given the image

    @property
    def x(self) -> Tensor:
        return self.inner.x


@dataclass(frozen=True)
class UnknownInstrument(Walk[UnknownState]):
    """The decoupled walk with the unknowns of operator and noise; `solve` takes it by itself.

    Cost: no network evaluation beyond those of `Decoupled`.  Three linear solves for each move of
    each unknown, where the operator has no spectrum in the basis of V, and one draw; an operator is
    built for each number that is tried.

    Attributes:
        walk: settings of the decoupled walk.
        moves: of each unknown at every level, without the image.
        first_moves: the same at the first level, where the walk must find the marginal posterior.
    """

    walk: Decoupled = field(default_factory=Decoupled)
    moves: int = 2
    first_moves: int = 20

    name = "decoupled"
    default_steps = Decoupled.default_steps

    def __post_init__(self) -> None:
        need = "a decoupled walk such as ti.walks.Decoupled()"
        instance("UnknownInstrument", "walk", self.walk, Decoupled, need=need)
        count("UnknownInstrument", "moves", self.moves, least=0)
        count("UnknownInstrument", "first_moves", self.first_moves, least=0)

    def sigmas(self, prior: Prior, steps: int) -> Tensor:
        return self.walk.sigmas(prior, steps)

    def plan(self, problem: Problem, prior: Prior, steps: int) -> Plan:
        plan = self.walk.plan(self._guessed(problem), prior, steps)
        assert isinstance(plan.walk, Decoupled)
        walk = UnknownInstrument(plan.walk, self.moves, self.first_moves)
        return Plan(walk, plan.sigmas, plan.note)

    def refuse(self, problem: Problem, prior: Prior) -> None:
        if not isinstance(problem.noise, GaussianNoise | UnknownGaussianNoise):
            raise ValueError(
                f"solve: unknown numbers of {problem.operator!r} are drawn with Gaussian noise "
                f"only, got {problem.noise!r}"
            )
        self.walk.refuse(self._guessed(problem), prior)

    def start(
        self, problem: Problem, prior: Prior, sigma: float, streams: Streams
    ) -> UnknownState:
        instrument = _instrument(problem)
        inner = self.walk.start(problem, prior, sigma, streams)
        steps = first_steps(instrument)
        return UnknownState(inner, instrument.start(), steps, steps)

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
        moved = collapsed_moves(
            state.u,
            state.steps,
            belief.denoised,
            belief.covariance,
            instrument,
            streams,
            problem.y,
            moves=self.moves if level.index else self.first_moves,
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
        u, near_steps = conditional_moves_of(
            moved.u, state.near_steps, drawn.x, instrument, streams, problem.y
        )
        after = self.walk.renoise(drawn.x, x, level, prior, streams)
        problem.operator_calls += instrument.take_calls()
        chain = moved.trace.movedim(0, 1) if level.index == 0 else None
        info = Info(
            belief.denoised,
            drawn.iterations,
            drawn.error,
            doubts=belief.doubts,
            unknowns=DrawnUnknowns(u, moved.accepted, chain),
        )
        inner = DecoupledState(after, belief.known)
        return UnknownState(inner, u, moved.steps, near_steps), info

    def _guessed(self, problem: Problem) -> Problem:
        """The problem with the first guess of the unknowns, for questions that do not need more."""
        instrument = Instrument(problem)
        operator, noise = instrument.known(instrument.start()[0])
        return Problem(problem.y, operator, noise)


def _instrument(problem: Problem) -> Instrument:
    """That of a problem, made once."""
    found: Any = problem.kept.get("instrument")
    if found is None:
        found = problem.kept["instrument"] = Instrument(problem)
    return found
