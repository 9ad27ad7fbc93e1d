"""What a walk is: a grid of noise levels, a start, and a pure step from one level to the next."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from torch import Tensor

from tweedie_inverse.boundary.arguments import positive
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.walks.communicator import Communicator, SingleProcess


@dataclass(frozen=True)
class Level:
    """Where a walk stands: step `index` of `steps`, from noise level `sigma` to `sigma_next`."""

    index: int
    steps: int
    sigma: float
    sigma_next: float


class State(Protocol):
    """What the next step of a walk needs; a `NamedTuple` of its own in each walk."""

    @property
    def x(self) -> Tensor:
        """``(walkers, *shape)``, the walkers at the present noise level."""


S = TypeVar("S", bound=State)


class PopulationInfo(NamedTuple):
    """Weights of a walk whose walkers interact; ``(populations, walkers of one)``."""

    weights: Tensor  # float64, sum 1
    log_evidence: Tensor  # (populations,), the estimate of log p(y) so far
    effective_size: Tensor  # (populations,), before resampling
    resampled: Tensor  # (populations,), boolean
    ancestors: Tensor  # the walker of the start that each one descends from


class Doubts(NamedTuple):
    """Signs that a network is not the denoiser it should be, ``(walkers,)`` each."""

    left_out: Tensor  # share of the probes and secants that were not credible
    held_back: Tensor  # 1 where it moved a pixel too far at any level, and was held back


class DrawnUnknowns(NamedTuple):
    """Unknown numbers of the instrument that a step drew, in coordinates, float64."""

    u: Tensor  # (walkers, count), after the step
    accepted: Tensor  # (walkers,), share of the moves that were
    start: Tensor | None = None  # (walkers, moves, count), the chain of the first level


class Info(NamedTuple):
    """What a step reports about itself; no later step needs it."""

    denoised: Tensor  # (walkers, *shape), D(x, sigma)
    iterations: int = 0  # of the inner linear solver
    # Of the inner linear solver, in standard deviations of the posterior, widened by the noise that
    # the walk adds to its draw.
    solver_error: float = 0.0
    doubts: Doubts | None = None  # about the network, up to this step
    acceptance: Tensor | None = None  # (walkers,), of the inner Hamiltonian moves
    population: PopulationInfo | None = None  # where walkers interact
    unknowns: DrawnUnknowns | None = None  # where the instrument has any


class WalkDivergedError(ArithmeticError):
    """A walk became NaN or infinite.

    Attributes:
        posterior: of the measurements that `solve` had finished before; None if there are none.
    """

    posterior: Any = None


def check_levels(caller: str, low: Any, high: Any, schedule: Any) -> None:
    """Refuse ends of a schedule that are no levels; None stands for those of the prior.

    Raises:
        TypeError, ValueError: not positive numbers, in the wrong order, or a schedule that is no
            function.
    """
    for name, level in (("sigma_min", low), ("sigma_max", high)):
        if level is not None:
            need = "a positive, finite noise level, or None for that of the prior"
            positive(caller, name, level, need=need)
    if low is not None and high is not None and not low < high:
        raise ValueError(f"{caller}: needs sigma_min < sigma_max, got {low} and {high}")
    if schedule is not None and not callable(schedule):
        raise TypeError(
            f"{caller}(schedule=): needs a function (steps, sigma_min, sigma_max) such as "
            f"ti.schedules.karras, got {type(schedule).__name__}"
        )


class Plan(NamedTuple):
    """A walk with everything decided, its noise levels, and what a user should know of it."""

    walk: "Walk[Any]"
    sigmas: Tensor  # (levels + 1,), never rising, the last one 0
    note: str = ""


class Walk(ABC, Generic[S]):
    """A conditional random walk; subclasses are frozen dataclasses of their settings.

    One step costs one network evaluation a walker.

    Attributes:
        is_population: whether the walkers of one measurement interact; `solve` then runs all of
            them together, and only the evaluations of the prior in chunks.
        communicator: the processes that share such a population.
    """

    name: str
    default_steps: int
    is_population: bool = False
    communicator: Communicator = SingleProcess()

    @property
    def one_population(self) -> bool:
        """Whether the walkers of several measurements cannot take a step together."""
        return False

    @abstractmethod
    def sigmas(self, prior: Prior, steps: int) -> Tensor:
        """Noise levels ``(steps + 1,)``, never rising, the last one 0."""

    def plan(self, problem: Problem, prior: Prior, steps: int) -> Plan:
        """The walk within a budget of `steps` network evaluations a sample."""
        return Plan(self, self.sigmas(prior, steps))

    @abstractmethod
    def refuse(self, problem: Problem, prior: Prior) -> None:
        """Raise a `ValueError` that says what to do where this walk cannot work."""

    @abstractmethod
    def start(self, problem: Problem, prior: Prior, sigma: float, streams: Streams) -> S:
        """First state, at level `sigma`; `streams` are those of step 0."""

    @abstractmethod
    def step(
        self, state: S, level: Level, problem: Problem, prior: Prior, streams: Streams
    ) -> tuple[S, Info]:
        """The state at ``level.sigma_next``; the given one is left as it is.

        A pure function: `streams` are those of this step alone.
        """

    def portable(self, state: S) -> Any:
        """A state as it is kept in files: NamedTuples, tensors and numbers."""
        return state

    def restored(self, kept: Any, problem: Problem, prior: Prior, walkers: int) -> S:
        """The state of so many walkers that `portable` made `kept` of."""
        return kept
