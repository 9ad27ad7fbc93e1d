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

from torch import Tensor

from tweedie_inverse.boundary.arguments import count, instance, number
from tweedie_inverse.conditional.collapsed import (
    conditional_moves_of,
    first_steps,
)
from tweedie_inverse.conditional.counting import (
    CountingInstrument,
    instrument_of,
    moved_given_image,
)
from tweedie_inverse.conditional.hamiltonian import conditional_moves
from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.conditional.units import draw, in_units
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.operators import (
    BlindBlur,
    GaussianNoise,
    Parametric,
    UnknownCountingNoise,
    UnknownGaussianNoise,
    UnknownPhase,
)
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.walks import kinds_of_numbers as kinds
from tweedie_inverse.walks import pilot as pilots
from tweedie_inverse.walks.base import DrawnUnknowns, Info, Level, Plan, Walk
from tweedie_inverse.walks.decoupled import Decoupled, DecoupledState
from tweedie_inverse.walks.level_moves import chain, moved_at
from tweedie_inverse.walks.pilot import HELD, SHORTEST, begun, kernel_levels, levels
from tweedie_inverse.walks.together import begun_phase, moved_together


class UnknownState(NamedTuple):
    """What the next step needs."""

    inner: DecoupledState
    u: Tensor  # (walkers, count) float64, coordinates of the unknowns
    steps: Tensor  # like u, of the moves without the image
    near_steps: Tensor  # like u, of the moves given the image

    @property
    def x(self) -> Tensor:
        return self.inner.x


# The pilot's share of the evaluations is one in so many, and that for an unknown kernel.
_SHARE, _KERNEL_SHARE = 3, 4
# Below so many units geometric numbers stay: they tell what they do at high noise levels, and what
# an image shows of them later is where they were.  They take half of the moves at a level.
_SETTLED = 0.1
# The first guess of the noise of counts is a poor one, and takes so many times as many moves.
_FURTHER = 3
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
            the operator.  None is a third, of a kernel a quarter, and none where the draws are
            exact, or all numbers are geometric.  0 is none.
        goes_on: after a pilot, the walk begins with its last images, at so many units of the prior
            or less: higher levels tell what they hold already.  A kernel's walk begins anew.
        held: after a pilot, numbers stay as they are at levels above so many units of the prior.
        geometric: names of those numbers that move images and do not blur or scale them: offsets,
            shifts, a centre of rotation.  They need no pilot, are not held, and the prior counts
            less for them.  None finds out.
        followed: names of those of them that the image can follow, as it can a turn of the scan,
            so that y says nothing of them.  Each walker draws them from their prior, and keeps
            them.  None finds out.
    """

    walk: Decoupled = field(default_factory=Decoupled)
    moves: int = 2
    operator_moves: int = 8
    first_moves: int = 20
    pilot: int | None = None
    goes_on: float = 6.0
    held: float = 0.3
    geometric: tuple[str, ...] | None = None
    followed: tuple[str, ...] | None = None

    name = "decoupled"
    default_steps = Decoupled.default_steps

    def __post_init__(self) -> None:
        need = "a decoupled walk such as ti.walks.Decoupled()"
        instance("UnknownInstrument", "walk", self.walk, Decoupled, need=need)
        for name in ("moves", "operator_moves", "first_moves"):
            count("UnknownInstrument", name, getattr(self, name), least=0)
        need = "a positive number, or infinity"
        for name, value in {"goes_on": self.goes_on, "held": self.held}.items():
            number("UnknownInstrument", name, value, above=0.0, finite=False, need=need)
        if self.pilot is not None:
            count("UnknownInstrument", "pilot", self.pilot, least=0)
            if 0 < self.pilot < SHORTEST:
                raise ValueError(
                    f"UnknownInstrument(pilot={self.pilot}): needs 0, for none, or at least "
                    f"{SHORTEST} evaluations"
                )

    def sigmas(self, prior: Prior, steps: int) -> Tensor:
        return self.walk.sigmas(prior, steps)

    def plan(self, problem: Problem, prior: Prior, steps: int) -> Plan:
        """That of the decoupled walk, with what the pilot leaves of the budget."""
        instrument, pilot = instrument_of(problem), self.pilot
        geometric = kinds.geometric(self.geometric, problem, instrument, prior)
        followed = kinds.followed(self.followed, problem, instrument, prior, geometric)
        if pilot is None:
            names = getattr(problem.operator, "unknowns", {}).keys()
            helps = bool(names - set(geometric)) and not prior.error_is_exact
            helps = helps and not isinstance(problem.operator, UnknownPhase)
            share = _SHARE if not isinstance(problem.operator, BlindBlur) else _KERNEL_SHARE
            pilot = steps // share if helps and steps // share >= SHORTEST else 0
        guessed = self._guessed(problem)
        if pilot >= steps:
            raise ValueError(
                f"UnknownInstrument(pilot={pilot}): leaves nothing of {steps} evaluations; take "
                "more steps"
            )
        goes_on = pilot and not isinstance(problem.operator, BlindBlur)
        inner = pilots.going_on(self.walk, prior, self.goes_on) if goes_on else self.walk
        plan = inner.plan(guessed, prior, steps - pilot)
        assert isinstance(plan.walk, Decoupled)
        settings = replace(plan.walk, sigma_max=self.walk.sigma_max)
        walk = replace(self, walk=settings, pilot=pilot, geometric=geometric, followed=followed)
        notes = [plan.note] if plan.note else []
        if pilot:
            notes.append(f"a pilot of {pilot} evaluations looked for the numbers of the operator")
        if followed:
            notes.append(f"the image can follow {', '.join(followed)}, drawn from the prior")
        return Plan(walk, plan.sigmas, "; ".join(notes))

    def refuse(self, problem: Problem, prior: Prior) -> None:
        gaussian = isinstance(problem.noise, GaussianNoise | UnknownGaussianNoise)
        counting = isinstance(problem.noise, UnknownCountingNoise)
        if not gaussian and (isinstance(problem.operator, Parametric) or not counting):
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
        steps, geometric = first_steps(instrument), kinds.places_of(self.geometric, instrument)
        followed = kinds.places_of(self.followed, instrument)
        u, steps = begun(problem, instrument, prior, steps, streams, geometric, followed)
        u, steps = begun_phase(problem, instrument, prior, u, steps, streams)
        state = UnknownState(inner, u, steps, steps)
        if not self.pilot:
            return state
        # Its draws need not be exact along the pull of the data: levels help it more than secants.
        walk = replace(self, walk=replace(self.walk, secants=False), held=HELD)
        top = pilots.highest(self.walk, prior)
        ladder = levels(self.pilot, top, prior)
        if instrument.kernel is not None:
            guessed = self._guessed(problem)
            ladder, taken = kernel_levels(self.pilot, sigma, prior, guessed, self.walk)
            walk = replace(self, walk=taken, held=math.inf)
        else:
            state = state._replace(inner=self.walk.start(problem, prior, top, streams))
        for level in ladder:
            at = streams.at(_PILOT_STEP + level.index)
            state, _ = walk.step(state, level, problem, prior, at)
        if instrument.kernel is None:
            noise = streams.at(_PILOT_STEP - 1).normal(prior.shape, like=inner.x)
            inner = inner._replace(x=state.x + sigma * prior.coloured(noise))
        return state._replace(inner=inner)

    def step(
        self,
        state: UnknownState,
        level: Level,
        problem: Problem,
        prior: Prior,
        streams: Streams,
    ) -> tuple[UnknownState, Info]:
        instrument, x = _instrument(problem), state.x
        if isinstance(instrument, CountingInstrument):
            return self._counting_step(state, level, problem, instrument, prior, streams)
        tuned = instrument.tuned(state.u)
        belief = self.walk.believe(state.inner, level, tuned, prior, streams)
        first = level.index == 0 and not self.pilot
        moves = self.first_moves if first else self.operator_moves
        if self._holds(level, prior):
            moves = 0
        at = (belief, level, problem, instrument, prior, streams, moves)
        u, steps, kernels = moved_together(state.u, state.steps, *at)
        moved = moved_at(
            level,
            u,
            steps,
            belief,
            instrument,
            prior,
            streams,
            order=self._order(instrument, level, prior),
            geometric=kinds.places_of(self.geometric, instrument),
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
        start = chain(moved, kernels, instrument.levels) if level.index == 0 else None
        accepted = moved.accepted if kernels is None else kernels.accepted
        info = Info(
            belief.denoised,
            drawn.iterations,
            drawn.error,
            doubts=belief.doubts,
            unknowns=DrawnUnknowns(u, accepted, start),
        )
        inner = DecoupledState(after, belief.known)
        return UnknownState(inner, u, moved.steps, near_steps), info

    def _counting_step(
        self,
        state: UnknownState,
        level: Level,
        problem: Problem,
        instrument: CountingInstrument,
        prior: Prior,
        streams: Streams,
    ) -> tuple[UnknownState, Info]:
        """`step` where the draw of an image is Hamiltonian moves from the last one."""
        inner = state.inner
        belief = self.walk.believe(inner, level, instrument.counted(state.u), prior, streams)
        about, first = instrument.about(belief.denoised), level.index == 0
        moved = moved_at(
            level,
            state.u,
            state.steps,
            belief,
            about,
            prior,
            streams,
            order=self._order(instrument, level, prior),
            geometric=(),
        )
        counted = instrument.counted(moved.u)
        unit = counted.unit
        assert unit is not None
        image = conditional_moves(
            None if inner.x0 is None else inner.x0 / unit,
            belief.denoised / unit,
            in_units(belief.covariance, counted),
            counted,
            streams,
            moves=self.walk.first_moves if inner.x0 is None else self.walk.moves,
            leapfrogs=self.walk.leapfrogs,
            newton=self.walk.newton,
        )
        x0, u, near_steps = image.x0 * unit, moved.u, state.near_steps
        if not self._holds(level, prior):
            u, near_steps = moved_given_image(u, near_steps, x0, instrument, streams)
        after = self.walk.renoise(x0, state.x, level, prior, streams)
        problem.operator_calls += instrument.take_calls()
        info = Info(
            belief.denoised,
            solver_error=image.error,
            acceptance=image.acceptance,
            doubts=belief.doubts,
            unknowns=DrawnUnknowns(u, moved.accepted, chain(moved, None, 0) if first else None),
        )
        inner = DecoupledState(after, belief.known, x0)
        return UnknownState(inner, u, moved.steps, near_steps), info

    def _holds(self, level: Level, prior: Prior) -> bool:
        """Whether the unknowns are left as they are: the pilot has seen more than is seen here."""
        return bool(self.pilot) and level.sigma > self.held * prior.unit

    def _order(self, instrument: Instrument, level: Level, prior: Prior) -> list[int]:
        """Which unknown each move of a level is of: in turns, as long as one has any left."""
        geometric = kinds.places_of(self.geometric, instrument)
        others = [each for each in instrument.singly if each not in geometric]
        times = dict.fromkeys(range(instrument.levels), self.moves)
        times |= dict.fromkeys(others, self.operator_moves)
        if self._holds(level, prior):
            times = {}
        settled = not prior.error_is_exact and level.sigma < _SETTLED * prior.unit
        few = self.operator_moves if prior.error_is_exact else -(-self.operator_moves // 2)
        times |= dict.fromkeys(geometric, 0 if settled else few)
        for place in kinds.places_of(self.followed, instrument):
            times.pop(place, None)
        if level.index == 0 and not self.pilot:
            further = _FURTHER if isinstance(instrument, CountingInstrument) else 1
            times = dict.fromkeys(times, further * self.first_moves)
        numbers = sorted(times)
        turns = range(max(times.values(), default=0))
        return [which for turn in turns for which in numbers if turn < times[which]]

    def _guessed(self, problem: Problem) -> Problem:
        """The problem with the first guess of the unknowns, for questions that do not need more."""
        instrument = instrument_of(problem)
        operator, noise = instrument.known(instrument.start()[0])
        return Problem(problem.y, operator, noise)


def _is_white(problem: Problem) -> bool:
    """Whether the noise has a single level, known or not."""
    if isinstance(problem.noise, GaussianNoise):
        return problem.noise.is_white
    return isinstance(problem.noise, UnknownGaussianNoise) and Instrument(problem).levels == 1


def _instrument(problem: Problem) -> Instrument:
    """That of a problem, made once."""
    found: Any = problem.kept.get("instrument")
    if found is None:
        found = problem.kept["instrument"] = instrument_of(problem)
    return found
