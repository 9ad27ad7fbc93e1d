"""The verb: one loop (`iterate`), and `solve`, which drains it."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, flag
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.boundary.modes import of_a_walk
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.batches import default_batch
from tweedie_inverse.priors.counting import CountedPrior
from tweedie_inverse.runtime.memory import in_parts
from tweedie_inverse.solving.assembly import History, Part, assemble
from tweedie_inverse.solving.checkpoint import Keeper, Saved, Spent, Underway, read, write
from tweedie_inverse.solving.diagnostics import PosteriorWarning
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.setup import Run, prepare
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


def iterate(
    y: Any,
    operator: Operator,
    prior: Prior,
    *,
    method: str | Walk = "auto",
    num_samples: int = 1,
    steps: int | None = None,
    seed: int | Sequence[int] = 0,
    noise: NoiseModel | float | None = None,
    resume: str | Path | None = None,
) -> Iterator[Step]:
    """Walk all samples of all measurements together, yielding after every step.

    Arguments as in `solve`.  Everything is checked before the first network evaluation; progress
    bars, plots, early stopping and trajectories are the caller's ``for`` body.  The state after
    the last step holds the samples, measurement by measurement.

    Args:
        resume: file of ``step.save(path)`` from a call with the same arguments: the walk goes on
            after that step, and its steps are those that it would have made.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it belongs to another call.
    """
    if resume is not None:
        resume = checked_path("iterate", "resume", resume)
    run = prepare(y, operator, prior, method, num_samples, steps, seed, noise)
    saved = None if resume is None else read(resume, run, "iterate(resume=)").underway
    return (
        step
        for first, last in _whole_parts(run, 0 if saved is None else saved.first)
        for step in _walk(run, run.prior, _problem(run, first, last), first, last, saved)
    )


def solve(
    y: Any,
    operator: Operator,
    prior: Prior,
    *,
    method: str | Walk = "auto",
    num_samples: int = 16,
    steps: int | None = None,
    seed: int | Sequence[int] = 0,
    noise: NoiseModel | float | None = None,
    batch_size: int | None = None,
    progress: bool = False,
    callback: Callable[[Step], None] | None = None,
    checkpoint: str | Path | None = None,
) -> Posterior:
    """Posterior samples of the image behind a measurement.

    Args:
        y: ``(batch, *operator.range_shape)``, float32 or float64, or one measurement without the
            batch axis (then the result has none either).  A tensor or a NumPy array, complex where
            the measurement is; the samples are tensors.
        operator: the instrument.
        prior: for images of ``operator.domain_shape``.
        method: ``"auto"``, ``"decoupled"``, ``"langevin"``, ``"particle"``, or a walk with its own
            settings.
        num_samples: posterior samples for each measurement, equally weighted for every walk; a
            single one tells no spread.  Walkers of the population for ``"particle"``, whose error
            falls with their number: take a thousand or more.
        steps: budget of network evaluations a sample; None is the walk's default.
        seed: fixes every sample; (measurement, sample) pairs have streams of their own.  The
            walkers of a population depend on each other, and on no other measurement.  A seed for
            each measurement gives each what it gets when it is solved alone with that seed.
        noise: noise model, or a standard deviation; None uses ``operator.noise``.
        batch_size: walkers that run together; changes memory and speed, not the samples.  By
            default what free memory holds, measured by one evaluation of two images where there
            are many (`priors.batches`).  A population runs as a whole, and only evaluations of the
            prior are split.  Where an accelerator's memory is too small, half as many run together,
            with a warning.
        progress: show a progress bar.
        callback: called with each `Step`; again from a part's first one, if it ran out of memory.
        checkpoint: a file where a long walk is kept once a minute.  A call with the same arguments
            that finds it goes on from there, to the same samples; it is deleted at the end.

    Before the walk, a network is called twice on images of the prior's range, a batch of two and
    one of the two alone, to see that it keeps to its contract (`boundary.contracts`).  These three
    evaluations are made once for a network and counted in ``stats.guard_calls``, beside those of
    the walk.

    Warns:
        PosteriorWarning: the samples do not fit their measurement, or the walk was not exact;
            ``posterior.diagnostics.verdict`` says the same in one line.

    Raises:
        ValueError, TypeError: anything wrong with the input, before the first evaluation; an
            operator, a network or a noise model that breaks its contract, before the walk.
        WalkDivergedError: the walk became NaN or infinite; finished measurements are attached.
        torch.OutOfMemoryError: the accelerator's memory is too small for one sample.
    """
    if batch_size is not None:
        batch_size = count("solve", "batch_size", batch_size, need="a positive number of walkers")
    if callback is not None and not callable(callback):
        raise TypeError(f"solve(callback=): needs a function, got {type(callback).__name__}")
    progress = flag("solve", "progress", progress)
    run = prepare(y, operator, prior, method, num_samples, steps, seed, noise)
    run.walk.communicator.share(run.num_samples)
    keeper = None if checkpoint is None else Keeper(checkpoint, run)
    saved = Saved([], None) if keeper is None else keeper.found()
    chunk = batch_size or default_batch(run.prior, run.y, run.total)
    if saved.underway is not None and batch_size is None:
        chunk = saved.underway.last - saved.underway.first
    begin = time.monotonic() - saved.seconds
    if run.y.is_cuda:
        torch.cuda.reset_peak_memory_stats(run.y.device)
    finished = saved.finished
    try:
        with _progress_bar(progress, run) as bar:
            for part in _parts(run, chunk, bar, callback, saved, keeper):
                finished.append(part)
    except WalkDivergedError as error:
        error.posterior = assemble(run, finished, begin)
        raise
    posterior = assemble(run, finished, begin)
    assert posterior is not None
    if keeper is not None:
        keeper.done()
    if not posterior.diagnostics.is_consistent:
        text = f"solve: the posterior cannot be trusted; {posterior.diagnostics.report}"
        warnings.warn(text, PosteriorWarning, stacklevel=2)
    return posterior


def _parts(
    run: Run,
    chunk: int,
    bar,
    callback: Callable[[Step], None] | None,
    saved: Saved,
    keeper: Keeper | None,
) -> Iterator[Part]:
    """Walk the walkers that have not arrived, `chunk` or fewer at a time, populations as a whole.

    Where walkers interact, `chunk` also limits the images that the prior evaluates together.
    """
    prior = CountedPrior(run.prior, chunk=chunk if run.walk.is_population else None)
    steps = len(run.sigmas) - 1
    arrived = sum(len(part.x) for part in saved.finished)

    def work(first: int, last: int) -> Part:
        problem, before = _problem(run, first, last), prior.calls
        taken_up = _taken_up(saved.underway, first, last)
        spent = Spent([], [], [], 0, 0)
        if taken_up is not None and taken_up.spent is not None:
            spent = taken_up.spent
        bar.n = first * steps + (0 if taken_up is None else taken_up.step + 1) * (last - first)
        for step in _walk(run, prior, problem, first, last, taken_up):
            bar.update(last - first)
            spent = _with(spent, step.info)
            if callback is not None:
                callback(step)
            if keeper is not None and keeper.is_due:
                so_far = _paid(spent, prior.calls - before, problem.operator_calls)
                underway = Underway(first, last, step.level.index, step.state, so_far)
                keeper.keep(Saved(saved.finished, underway))
        spent = _paid(spent, prior.calls - before, problem.operator_calls)
        return _part(_everyone(run, step.x), step.info, spent)

    if run.walk.communicator.size > 1:
        # Trying a part again would leave the other processes waiting.
        return (work(first, last) for first, last in _whole_parts(run))
    return in_parts(run.total, chunk, work, partial(_end, run), first=arrived)


def _taken_up(underway: Underway | None, first: int, last: int) -> Underway | None:
    """What is under way, if these are its walkers."""
    same = underway is not None and (underway.first, underway.last) == (first, last)
    return underway if same else None


def _with(spent: Spent, info: Info) -> Spent:
    accepted = [] if info.acceptance is None else [info.acceptance]
    return spent._replace(
        populations=[*spent.populations, info.population],
        accepted=[*spent.accepted, *accepted],
        solver_errors=[*spent.solver_errors, info.solver_error],
    )


def _paid(spent: Spent, denoiser_calls: int, operator_calls: int) -> Spent:
    return spent._replace(
        denoiser_calls=spent.denoiser_calls + denoiser_calls,
        operator_calls=spent.operator_calls + operator_calls,
    )


def _part(x: Tensor, last: Info, spent: Spent) -> Part:
    doubts = last.doubts
    shares = (0.0, 0.0) if doubts is None else tuple(float(each.mean()) for each in doubts)
    return Part(
        x,
        History.of(spent.populations),
        spent.denoiser_calls,
        spent.operator_calls,
        max(map(float, spent.solver_errors)),
        shares,
        torch.stack(spent.accepted).mean(0) if spent.accepted else None,
    )


def _end(run: Run, first: int, size: int) -> int:
    """Last + 1 of the walkers that run together from `first` on: `size` or fewer.

    They share one operator, and a population stays whole even where it is larger than `size`.
    """
    if run.walk.is_population:
        together = 1 if run.walk.one_population else max(1, size // run.num_samples)
        size = together * run.num_samples
    same_operator = run.total if run.operator.images is None else run.num_samples
    return min(first + size, (first // same_operator + 1) * same_operator)


def _whole_parts(run: Run, first: int = 0) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of walkers that run together, as many as one operator has."""
    while first < run.total:
        last = _end(run, first, run.total)
        yield first, last
        first = last


def _here(run: Run, first: int, last: int) -> list[tuple[int, int]]:
    """(measurement, sample) of the walkers `first` to `last` that belong to this process."""
    mine = run.walk.communicator.share(run.num_samples)
    pairs = (divmod(index, run.num_samples) for index in range(first, last))
    return [pair for pair in pairs if pair[1] in mine]


def _problem(run: Run, first: int, last: int) -> Problem:
    """The measurement of each of these walkers, with the operator that all of them share."""
    measurements = [measurement for measurement, _ in _here(run, first, last)]
    return Problem(
        run.y[torch.tensor(measurements, device=run.y.device)],
        run.operator.select(measurements[0]),
        run.noise,
        populations=measurements[-1] - measurements[0] + 1,
    )


def _walk(
    run: Run, prior: Prior, problem: Problem, first: int, last: int, saved: Underway | None
) -> Iterator[Step]:
    """The loop: walkers `first` to `last` of all (measurement, sample) pairs.

    Where `saved` is theirs, it goes on after that step.
    """
    streams = Streams([run.key(*pair) for pair in _here(run, first, last)])
    taken_up = _taken_up(saved, first, last)
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


def _everyone(run: Run, x: Tensor) -> Tensor:
    """All walkers, where some are in other processes."""
    if run.walk.communicator.size == 1:  # chunks of independent walkers are no whole populations
        return x
    here = len(run.walk.communicator.share(run.num_samples))
    return run.walk.communicator.gather(x.reshape(-1, here, *x.shape[1:])).reshape(-1, *x.shape[1:])


def _progress_bar(show: bool, run: Run):
    from tqdm import tqdm

    steps = run.total * (len(run.sigmas) - 1)  # probes and secants are part of a step
    return tqdm(total=steps, disable=not show, unit="step", desc=run.walk.name)
