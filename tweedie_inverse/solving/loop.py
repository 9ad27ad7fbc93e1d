"""The loop over noise levels: walkers of a part from the first level to the last."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.boundary.modes import of_a_walk
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.solving.checkpoint import Saved, Underway, of_part, write
from tweedie_inverse.solving.setup import Run
from tweedie_inverse.walks.base import Info, Level, Walk, WalkDivergedError


class Step(NamedTuple):
    """One step of a run, as `iterate` yields it and `callback` receives it.

    Attributes:
        level: index, number of steps, sigma before and after.
        x: ``(walkers, *shape)``, state after the step.
        info: the denoised image and the inner solver's effort.
        walkers: (first, last + 1) of all measurements x samples, in that order.
        total: number of all walkers.
        state: everything that the next step needs.
        run: the call that it belongs to.
    """

    level: Level
    x: Tensor
    info: Info
    walkers: tuple[int, int]
    total: int
    state: Any
    run: Run

    def save(self, path: str | Path) -> None:
        """Write a file from which ``iterate(..., resume=path)`` goes on; the folder must be there.

        Raises:
            ValueError: the population is spread over processes.
            TypeError: the walk is one of the user's, whose state cannot be written.
        """
        underway = Underway(*self.walkers, self.level.index, self.state)
        write(checked_path("step.save", "path", path), self.run, Saved([], underway))


def end_of_part(run: Run, first: int, size: int) -> int:
    """Last + 1 of the walkers that run together from `first` on: `size` or fewer.

    They share one operator, and a population stays whole even where it is larger than `size`.
    """
    if run.walk.is_population:
        together = 1 if run.walk.one_population else max(1, size // run.num_samples)
        size = together * run.num_samples
    same_operator = run.total if run.operator.images is None else run.num_samples
    return min(first + size, (first // same_operator + 1) * same_operator)


def whole_parts(run: Run, first: int = 0) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of walkers that run together, as many as one operator has."""
    while first < run.total:
        last = end_of_part(run, first, run.total)
        yield first, last
        first = last


def _here(run: Run, first: int, last: int) -> list[tuple[int, int]]:
    """(measurement, sample) of the walkers `first` to `last` that belong to this process."""
    mine = run.walk.communicator.share(run.num_samples)
    pairs = (divmod(index, run.num_samples) for index in range(first, last))
    return [pair for pair in pairs if pair[1] in mine]


def problem_of(run: Run, first: int, last: int) -> Problem:
    """The measurement of each of these walkers, with the operator that all of them share."""
    measurements = [measurement for measurement, _ in _here(run, first, last)]
    return Problem(
        run.y[torch.tensor(measurements, device=run.y.device)],
        run.operator.select(measurements[0]),
        run.noise,
        populations=measurements[-1] - measurements[0] + 1,
    )


def walk(
    run: Run, prior: Prior, problem: Problem, first: int, last: int, saved: Underway | None
) -> Iterator[Step]:
    """The loop: walkers `first` to `last` of all (measurement, sample) pairs.

    Where `saved` is theirs, it goes on after that step.
    """
    streams = Streams([run.key(*pair) for pair in _here(run, first, last)])
    taken_up = of_part(saved, first, last)
    steps = len(run.sigmas) - 1
    values = run.sigmas.tolist()
    with of_a_walk(run.y.device):
        state = (
            run.walk.start(problem, prior, values[0], streams)
            if taken_up is None
            else run.walk.restored(taken_up.state, problem, prior, len(streams))
        )
    for index in range(0 if taken_up is None else taken_up.step + 1, steps):
        level = Level(index, steps, values[index], values[index + 1])
        with of_a_walk(run.y.device):
            state, info = run.walk.step(state, level, problem, prior, streams.at(index + 1))
        _refuse_divergence(state.x, info, level, run.walk)
        yield Step(level, state.x, info, (first, last), run.total, state, run)
        del info  # an image that the next step need not keep


def _refuse_divergence(x: Tensor, info: Info, level: Level, walk: Walk) -> None:
    if bool(x.isfinite().all()):
        return
    if not bool(info.denoised.isfinite().all()):
        cause = "the prior returned NaN or infinity; check its trained range and its number type"
    else:
        cause = "the likelihood step overshot; use a smaller step, or check the noise level"
    raise WalkDivergedError(
        f"the {walk.name} walk became non-finite at step {level.index + 1} of {level.steps} "
        f"(sigma {level.sigma:.3g}): {cause}"
    )
