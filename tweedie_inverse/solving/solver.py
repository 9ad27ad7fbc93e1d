"""The verb: one loop (`iterate`), and `solve`, which drains it."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, flag
from tweedie_inverse.boundary.modes import of_a_walk
from tweedie_inverse.conditional.linear_gaussian import TOLERANCE
from tweedie_inverse.conditional.problem import Problem, residual_chi_square
from tweedie_inverse.numerics.random import Streams
from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.counting import CountedPrior
from tweedie_inverse.runtime.memory import in_parts
from tweedie_inverse.solving.posterior import Diagnostics, Population, Posterior, Stats
from tweedie_inverse.solving.setup import Run, prepare
from tweedie_inverse.walks.base import Info, Level, PopulationInfo, Walk, WalkDivergedError

# Walkers that run together unless the user says otherwise: this many numbers of state.
_CHUNK_NUMBERS = 2**24


class Step(NamedTuple):
    """One step of a run, as `iterate` yields it and `callback` receives it.

    Attributes:
        level: index, number of steps, sigma before and after.
        x: ``(walkers, *shape)``, state after the step.
        info: the denoised image and the inner solver's effort.
        walkers: (first, last + 1) of all measurements x samples, in that order.
        total: number of all walkers.
    """

    level: Level
    x: Tensor
    info: Info
    walkers: tuple[int, int]
    total: int


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
) -> Iterator[Step]:
    """Walk all samples of all measurements together, yielding after every step.

    Arguments as in `solve`.  Everything is checked before the first network evaluation; progress
    bars, plots, early stopping and trajectories are the caller's ``for`` body.  The state after
    the last step holds the samples, measurement by measurement.
    """
    run = prepare(y, operator, prior, method, num_samples, steps, seed, noise)
    return (
        step
        for first, last in _whole_parts(run)
        for step in _walk(run, run.prior, _problem(run, first, last), first, last)
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
        num_samples: posterior samples for each measurement; walkers of the population for
            ``"particle"``, whose error falls with their number: take a thousand or more.
        steps: budget of network evaluations a sample; None is the walk's default.
        seed: fixes every sample; (measurement, sample) pairs have streams of their own.  The
            walkers of a population depend on each other, and on no other measurement.  A seed for
            each measurement gives each what it gets when it is solved alone with that seed.
        noise: noise model, or a standard deviation; None uses ``operator.noise``.
        batch_size: walkers that run together; changes memory and speed, not the samples.  A
            population runs as a whole, and only evaluations of the prior are split.  Where an
            accelerator's memory is too small, half as many run together, with a warning.
        progress: show a progress bar.
        callback: called with each `Step`; again from a part's first one, if it ran out of memory.

    Before the walk, a network is called twice on images of the prior's range, a batch of two and
    one of the two alone, to see that it keeps to its contract (`boundary.contracts`).  These three
    evaluations are made once for a network, are not in ``stats.denoiser_calls``, and are told in
    ``stats.reason``.

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
    chunk = batch_size or max(1, _CHUNK_NUMBERS // torch.Size(run.prior.shape).numel())
    begin = time.monotonic()
    if run.y.is_cuda:
        torch.cuda.reset_peak_memory_stats(run.y.device)
    finished: list[_Part] = []
    try:
        with _progress_bar(progress, run) as bar:
            for part in _parts(run, chunk, bar, callback):
                finished.append(part)
    except WalkDivergedError as error:
        error.posterior = _assemble(run, finished, begin)
        raise
    posterior = _assemble(run, finished, begin)
    assert posterior is not None
    if posterior.stats.solver_error > TOLERANCE:
        warnings.warn(
            f"solve: the inner linear solver stopped {posterior.stats.solver_error:.1e} posterior "
            f"standard deviations short (aimed at {TOLERANCE:.0e}): the draws at some noise levels "
            "are not exact. A measured denoising error or a larger noise level makes it easier",
            RuntimeWarning,
            stacklevel=2,
        )
    return posterior


class _Part(NamedTuple):
    """Walkers that have arrived, what their populations went through, and what they cost.

    An attempt that ran out of memory leaves no part, so that its cost is not counted.
    """

    x: Tensor
    population: Population | None
    denoiser_calls: int
    operator_calls: int
    solver_error: float
    left_out: float  # share of the probes and secants of the network that were not credible


def _parts(run: Run, chunk: int, bar, callback: Callable[[Step], None] | None) -> Iterator[_Part]:
    """Walk all walkers, `chunk` or fewer at a time, and populations as a whole.

    Where walkers interact, `chunk` also limits the images that the prior evaluates together.
    """
    prior = CountedPrior(run.prior, chunk=chunk if run.walk.is_population else None)
    steps = len(run.sigmas) - 1

    def work(first: int, last: int) -> _Part:
        bar.n, calls_before = first * steps, prior.calls
        problem, populations, error = _problem(run, first, last), [], 0.0
        for step in _walk(run, prior, problem, first, last):
            bar.update(last - first)
            populations.append(step.info.population)
            error = max(error, step.info.solver_error)
            if callback is not None:
                callback(step)
        cost = prior.calls - calls_before, problem.operator_calls
        bad = step.info.left_out
        left_out = 0.0 if bad is None else float(bad.mean())
        return _Part(_everyone(run, step.x), _history(populations), *cost, error, left_out)

    if run.walk.communicator.size > 1:
        # Trying a part again would leave the other processes waiting.
        return (work(first, last) for first, last in _whole_parts(run))
    return in_parts(run.total, chunk, work, partial(_end, run))


def _end(run: Run, first: int, size: int) -> int:
    """Last + 1 of the walkers that run together from `first` on: `size` or fewer.

    They share one operator, and a population stays whole even where it is larger than `size`.
    """
    if run.walk.is_population:
        size = max(1, size // run.num_samples) * run.num_samples
    same_operator = run.total if run.operator.images is None else run.num_samples
    return min(first + size, (first // same_operator + 1) * same_operator)


def _whole_parts(run: Run) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of walkers that run together, as many as one operator has."""
    first = 0
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


def _walk(run: Run, prior: Prior, problem: Problem, first: int, last: int) -> Iterator[Step]:
    """The loop: walkers `first` to `last` of all (measurement, sample) pairs."""
    streams = Streams([run.key(*pair) for pair in _here(run, first, last)])
    steps = len(run.sigmas) - 1
    values = run.sigmas.tolist()
    with of_a_walk(run.y.device):
        state = run.walk.start(problem, prior, values[0], streams)
    for index in range(steps):
        level = Level(index, steps, values[index], values[index + 1])
        with of_a_walk(run.y.device):
            state, info = run.walk.step(state, level, problem, prior, streams)
        _refuse_divergence(state.x, info, level, run.walk)
        yield Step(level, state.x, info, (first, last), run.total)


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


def _history(steps: list[PopulationInfo | None]) -> Population | None:
    """What the steps of a walk say about its populations."""
    seen = [step for step in steps if step is not None]
    if not seen:
        return None
    last = seen[-1]
    return Population(
        weights=last.weights,
        log_evidence=last.log_evidence,
        effective_sizes=torch.stack([step.effective_size for step in seen], 1),
        resamplings=torch.stack([step.resampled for step in seen], 1).sum(1),
        ancestors=last.ancestors,
    )


def _assemble(run: Run, finished: list[_Part], begin: float) -> Posterior | None:
    """The posterior of all measurements whose samples are complete; None if there is none."""
    walkers = torch.cat([part.x for part in finished]) if finished else run.y[:0]
    complete = len(walkers) // run.num_samples
    if complete == 0:
        return None
    flat = walkers[: complete * run.num_samples]
    samples = flat.reshape(complete, run.num_samples, *flat.shape[1:])
    parts = [part.population for part in finished if part.population is not None]
    population = Population(*map(torch.cat, zip(*parts, strict=True))) if parts else None
    if population is None:
        weights = torch.full(samples.shape[:2], 1 / run.num_samples, dtype=flat.dtype)
    else:
        weights = population.weights.to(flat)
    weights = weights.to(flat.device)
    chi_square = _chi_square(run, flat).reshape(weights.shape)
    size = 1 / weights.square().sum(1)
    if run.single:
        samples, weights, chi_square, size = samples[0], weights[0], chi_square[0], size[0]
        population = population and Population(*(field[0] for field in population))
    walked = len(walkers) / run.walk.communicator.size
    stats = Stats(
        method=run.walk.name,
        reason=run.reason + _remark(finished),
        steps=len(run.sigmas) - 1,
        denoiser_calls=sum(part.denoiser_calls for part in finished) / walked,
        operator_calls=sum(part.operator_calls for part in finished) / walked,
        seconds=time.monotonic() - begin,
        peak_memory=torch.cuda.max_memory_allocated(run.y.device) if run.y.is_cuda else 0,
        solver_error=max(part.solver_error for part in finished),
    )
    return Posterior(samples, weights, Diagnostics(chi_square, size, population), stats)


def _remark(finished: list[_Part]) -> str:
    """What a user should know of how the covariances were read; empty if nothing."""
    left_out = sum(part.left_out * len(part.x) for part in finished)
    share = left_out / sum(len(part.x) for part in finished)
    if share == 0:
        return ""
    return (
        f"; {share:.0%} of the probes and secants were not credible and left out: there the "
        "network's Jacobian is far from that of a denoiser"
    )


@torch.no_grad()
def _chi_square(run: Run, x: Tensor) -> Tensor:
    """Each measurement is judged by itself, with its own operator, ``(walkers,)``."""
    parts = [
        residual_chi_square(part, run.y[[index]], run.operator.select(index), run.noise)
        for index, part in enumerate(x.split(run.num_samples))
    ]
    return torch.cat(parts)


def _progress_bar(show: bool, run: Run):
    from tqdm import tqdm

    evaluations = run.total * (len(run.sigmas) - 1)
    return tqdm(total=evaluations, disable=not show, unit="eval", desc=run.walk.name)
