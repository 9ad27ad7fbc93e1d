"""What a walk is: a grid of noise levels, a start, and a pure step from one level to the next."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from operators.random import Streams

from ..priors.base import Prior
from ..problem import Problem


@dataclass(frozen=True)
class Level:
    """Where a walk stands: step `index` of `steps`, from noise level `sigma` to `sigma_next`."""

    index: int
    steps: int
    sigma: float
    sigma_next: float


class Info(NamedTuple):
    """What a step leaves for its spectator; no later step needs it."""

    denoised: Tensor  # (walkers, *shape), D(x, sigma)
    iterations: int = 0  # of the inner linear solver
    solver_error: float = 0.0  # of the inner linear solver, in posterior standard deviations


class Walk(ABC):
    """A conditional random walk; subclasses are frozen dataclasses of their settings.

    One step costs one network evaluation a walker.
    """

    name: str
    default_steps: int

    @abstractmethod
    def sigmas(self, prior: Prior, steps: int) -> Tensor:
        """Noise levels ``(steps + 1,)``, decreasing, the last one 0."""

    @abstractmethod
    def refuse(self, problem: Problem, prior: Prior) -> None:
        """Raise a `ValueError` that says what to do where this walk cannot work."""

    @abstractmethod
    def start(self, problem: Problem, prior: Prior, sigma: float, streams: Streams) -> Tensor:
        """First state ``(walkers, *shape)``, at level `sigma`."""

    @abstractmethod
    def step(
        self, x: Tensor, level: Level, problem: Problem, prior: Prior, streams: Streams
    ) -> tuple[Tensor, Info]:
        """The state at ``level.sigma_next``; x is left as it is."""
