"""The seam between the test and whatever makes samples of a measurement."""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.boundary.contracts import called
from tweedie_inverse.numerics.random import generator
from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.runtime.digest import code_of
from tweedie_inverse.solving.diagnostics import PosteriorWarning
from tweedie_inverse.solving.setup import prepare
from tweedie_inverse.solving.solver import solve
from tweedie_inverse.walks.base import Walk

# A population of walkers is exact for many only; so many walk, and the samples are drawn of them.
POPULATION = 1000
# Numbers of state that are solved together; results are kept after each block.
_BLOCK = 2**17

OwnSampler = Callable[[Tensor, int, int], Tensor]


class Batch(NamedTuple):
    """Samples of some measurements.

    Attributes:
        samples: ``(batch, S, *shape)``.
        fits: for each measurement 1 or 0, whether they are consistent with it; -1 not judged.
        evaluations: of the network, a sample; NaN where not counted.
    """

    samples: Tensor
    fits: list[int]
    evaluations: float


class Sampler(Protocol):
    """What draws samples.

    Attributes:
        words: its name, for people; `identity` holds all its settings.
        cost: network evaluations a truth; of a sampler that is not ours, samples.
        is_population: whether the samples of a measurement depend on each other.
        walk, steps: of `solve`, with all settings; of another sampler its identity, and 0.
    """

    words: str
    identity: str
    cost: float
    is_population: bool
    walk: str
    steps: int

    def together(self) -> int:
        """How many measurements are given at once."""

    def __call__(self, y: Tensor, seeds: list[int]) -> Batch:
        """Samples of each of the measurements ``(batch, *range_shape)``."""


class Solving:
    """`solve`, with its arguments."""

    def __init__(
        self,
        operator: Operator,
        prior: Prior,
        num_samples: int,
        *,
        method: str | Walk,
        steps: int | None,
        noise: NoiseModel | float | None,
        batch_size: int | None,
        example: Tensor,
    ):
        run = prepare(example[None], operator, prior, method, num_samples, steps, 0, noise)
        self.noise, self.is_population = run.noise, run.walk.is_population
        self._walkers = max(num_samples, POPULATION) if self.is_population else num_samples
        self._given = {"method": method, "steps": steps, "noise": noise, "batch_size": batch_size}
        self._operator, self._prior, self._samples = operator, prior, num_samples
        self.walk, self.steps = repr(run.walk), len(run.sigmas) - 1
        self.cost = float(self.steps * self._walkers)
        self.words = f"solve, {run.walk.name} walk, {self.steps} steps"
        self.identity = f"{self.words}, {run.walk!r}, {self._walkers} walkers"
        if self.is_population:  # which no posterior is
            self.walk += f", {num_samples} drawn from a population of {self._walkers}"

    def together(self) -> int:
        return max(1, _BLOCK // (self._walkers * math.prod(self._operator.domain_shape)))

    def __call__(self, y: Tensor, seeds: list[int]) -> Batch:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PosteriorWarning)  # counted and reported
            found = solve(
                y,
                self._operator,
                self._prior,
                num_samples=self._walkers,
                seed=seeds,
                **self._given,  # type: ignore[arg-type]
            )
        samples = found.samples
        if self._walkers > self._samples:
            chosen = [
                torch.from_numpy(
                    generator(("calibrate choice", seed))
                    .permutation(self._walkers)[: self._samples]
                    .copy()
                )
                for seed in seeds
            ]
            samples = torch.stack([x[c] for x, c in zip(samples, chosen, strict=True)])
        fits = [int(found[k].diagnostics.is_consistent) for k in range(len(found))]
        return Batch(samples, fits, found.stats.denoiser_calls)


class Own:
    """A function of the user's: ``(y, count, seed) -> (count, *shape)``, one measurement a call."""

    is_population = False
    steps = 0

    def __init__(self, function: OwnSampler, shape: tuple[int, ...], num_samples: int):
        self._function, self._shape, self._samples = function, shape, num_samples
        self.cost = float(num_samples)
        name = getattr(function, "__name__", type(function).__name__)
        self.words = f"the given sampler {name}"
        self.identity = self.walk = f"{self.words}, {code_of(function)}"

    def together(self) -> int:
        return 1

    def __call__(self, y: Tensor, seeds: list[int]) -> Batch:
        found = []
        for one, seed in zip(y, seeds, strict=True):
            call = lambda given, seed=seed: self._function(given, self._samples, seed)  # noqa: E731
            drawn = real_tensor(
                "calibrate", "sampler", called("the sampler of calibrate", call, one), finite=False
            ).detach()
            if tuple(drawn.shape) != (self._samples, *self._shape):
                raise ValueError(
                    f"calibrate(sampler=): needs samples of shape {(self._samples, *self._shape)} "
                    f"from sampler(y, {self._samples}, seed), got {tuple(drawn.shape)}"
                )
            if not bool(drawn.isfinite().all()):
                raise ValueError("calibrate(sampler=): it returned NaN or infinity")
            found.append(drawn)
        return Batch(torch.stack(found), [-1] * len(found), math.nan)
