"""The verb: `iterate`, the loop for users, and `solve`, which drains it."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, flag
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.batches import default_batch
from tweedie_inverse.priors.counting import CountedPrior
from tweedie_inverse.priors.named import PriorLike
from tweedie_inverse.runtime.memory import in_parts
from tweedie_inverse.solving.assembly import Part, assemble
from tweedie_inverse.solving.checkpoint import Keeper, Saved, Spent, Underway, of_part, read
from tweedie_inverse.solving.diagnostics import PosteriorWarning
from tweedie_inverse.solving.loop import Step, end_of_part, problem_of, walk, whole_parts
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.progress import Progress, progress_of
from tweedie_inverse.solving.setup import Run, prepare
from tweedie_inverse.solving.streaming import SampleFile
from tweedie_inverse.walks.base import Walk, WalkDivergedError


def iterate(
    y: Any,
    operator: Operator,
    prior: PriorLike,
    *,
    method: str | Walk = "auto",
    num_samples: int = 1,
    steps: int | None = None,
    seed: int | Sequence[int] = 0,
    noise: NoiseModel | float | str | None = None,
    resume: str | Path | None = None,
) -> Iterator[Step]:
    """Walk all samples of all measurements together, yielding after every step.

    Arguments as in `solve`.  Everything is checked before the first network evaluation; progress
    bars, plots, early stopping and trajectories are the caller's ``for`` body.  The state after
    the last step holds the samples, measurement by measurement.

    Args:
        resume: file of ``step.save(path)`` from a call with the same arguments: the walk goes on
            after that step, and its steps are those that it would have made.

    Returns:
        An iterator over `Step`: the walkers' images ``step.x (walkers, *shape)``, ``step.level``,
        ``step.info`` with the denoised images, and ``step.state``.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it belongs to another call.

    Examples:
        >>> for step in ti.iterate(y, operator, prior, num_samples=4, steps=5):
        ...     shape = step.x.shape  # look at it, draw it, or stop
        >>> shape
        torch.Size([4, 1, 8, 8])
    """
    if resume is not None:
        resume = checked_path("iterate", "resume", resume)
    run = prepare(y, operator, prior, method, num_samples, steps, seed, noise)
    saved = None if resume is None else read(resume, run, "iterate: resume").underway
    return (
        step
        for first, last in whole_parts(run, 0 if saved is None else saved.first)
        for step in walk(run, run.prior, problem_of(run, first, last), first, last, saved)
    )


def solve(
    y: Any,
    operator: Operator,
    prior: PriorLike,
    *,
    method: str | Walk = "auto",
    num_samples: int = 16,
    steps: int | None = None,
    seed: int | Sequence[int] = 0,
    noise: NoiseModel | float | str | None = None,
    batch_size: int | None = None,
    progress: bool = False,
    callback: Callable[[Step], None] | None = None,
    checkpoint: str | Path | None = None,
    samples_to: str | Path | None = None,
) -> Posterior:
    """Posterior samples of the image behind a measurement.

    Args:
        y: ``(batch, *operator.range_shape)``, float32 or float64, or one measurement without the
            batch axis (then the result has none either).  A tensor or a NumPy array, complex where
            the measurement is; the samples are tensors.
        operator: the instrument.
        prior: for images of ``operator.domain_shape``: a prior, or what `load_prior` takes by name,
            such as ``"photo-64"``, which is then loaded to the device of y.
        method: ``"auto"``, ``"decoupled"``, ``"langevin"``, ``"particle"``, or a walk with its own
            settings.
        num_samples: posterior samples for each measurement, equally weighted for every walk; a
            single one tells no spread.  Walkers of the population for ``"particle"``, whose error
            falls with their number: take a thousand or more.
        steps: budget of network evaluations a sample; None is the walk's default.
        seed: fixes every sample; (measurement, sample) pairs have streams of their own.  The
            walkers of a population depend on each other, and on no other measurement.  A seed for
            each measurement gives each what it gets when it is solved alone with that seed.
        noise: noise model, or a standard deviation; None uses ``operator.noise``.  "estimate" draws
            the level of white noise with each sample (`ops.GaussianNoise.unknown`), which
            ``posterior.noise.std`` then holds; numbers of an `ops.parametric` operator are in
            ``posterior.parameters``.
        batch_size: walkers that run together; changes memory and speed, not the samples.  By
            default what free memory holds, measured by one evaluation of two images where there
            are many (`priors.batches`).  A population runs as a whole, and only evaluations of the
            prior are split.  Where an accelerator's memory is too small, half as many run together,
            with a warning.
        progress: show a progress bar, with an estimate of time; tiles and slices count, too.
        callback: called with each `Step`; again from a part's first one, if it ran out of memory.
        checkpoint: a file where a long walk is kept once a minute.  A call with the same arguments
            that finds it goes on from there, to the same samples; it is deleted at the end.
        samples_to: an HDF5 file, ``.h5``, to which samples are written as they arrive.  Memory
            holds those that walk, and those of the posterior are read when they are used, on the
            CPU (`Posterior.load` opens the file again).  A call with the same arguments goes on
            after the samples that the file has, and only reads it where it has all of them.

    Before the walk, a network is called twice on images of the prior's range, a batch of two and
    one of the two alone, to see that it keeps to its contract (`boundary.contracts`).  These three
    evaluations are made once for a network and counted in ``stats.guard_calls``, beside those of
    the walk.

    Returns:
        A `Posterior`: ``samples (batch, num_samples, *shape)`` in the prior's units, without
        `batch` where y came without it, and how they were made.

    Warns:
        PosteriorWarning: the samples do not fit their measurement, or the walk was not exact;
            ``posterior.diagnostics.verdict`` says the same in one line.

    Raises:
        ValueError, TypeError: anything wrong with the input, before the first evaluation; an
            operator, a network or a noise model that breaks its contract, before the walk.
        WalkDivergedError: the walk became NaN or infinite; finished measurements are attached.
        torch.OutOfMemoryError: the accelerator's memory is too small for one sample.

    Examples:
        >>> posterior = ti.solve(y, operator, prior, num_samples=16, seed=0)
        >>> posterior.samples.shape, posterior.mean.shape
        (torch.Size([16, 1, 8, 8]), torch.Size([1, 8, 8]))
        >>> posterior.diagnostics.verdict
        'consistent with the noise'
        >>> more = ti.solve(y, operator, prior, method=ti.walks.Decoupled(memory=2.0), steps=20)
    """
    if batch_size is not None:
        batch_size = count("solve", "batch_size", batch_size, need="a positive number of walkers")
    if callback is not None and not callable(callback):
        raise TypeError(f"solve(callback=): needs a function, got {type(callback).__name__}")
    progress = flag("solve", "progress", progress)
    opened: list[SampleFile] = []
    before = None if samples_to is None else lambda run: opened.append(SampleFile(samples_to, run))
    run = prepare(y, operator, prior, method, num_samples, steps, seed, noise, before)
    posterior, keeper = solved(
        run,
        batch_size=batch_size,
        progress=progress,
        callback=callback,
        checkpoint=checkpoint,
        file=opened[0] if opened else None,
    )
    if keeper is not None:
        keeper.done()
    if not posterior.diagnostics.is_consistent and run.prior.ranks.leads:
        text = f"solve: the posterior cannot be trusted; {posterior.diagnostics.report}"
        warnings.warn(text, PosteriorWarning, stacklevel=2)
    return posterior


def solved(
    run: Run,
    *,
    batch_size: int | None = None,
    progress: bool = False,
    callback: Callable[[Step], None] | None = None,
    checkpoint: str | Path | None = None,
    file: SampleFile | None = None,
) -> tuple[Posterior, Keeper | None]:
    """`solve` after its arguments were checked: the posterior, and the keeper of the walk's file.

    The file is still there: it goes when the caller has the samples where it wants them, and says
    so by ``keeper.done()``.
    """
    run.walk.communicator.share(run.num_samples)
    keeper = None if checkpoint is None else Keeper(checkpoint, run, parts=file is None)
    if file is not None and file.posterior is not None:
        return file.posterior, keeper
    saved = Saved([], None) if keeper is None else keeper.found()
    if file is None:
        return _walked(run, saved, keeper, None, batch_size, progress, callback), keeper
    file.begin()
    try:
        saved = _in_file(saved, file)
        return _walked(run, saved, keeper, file, batch_size, progress, callback), keeper
    finally:
        file.end()


def _in_file(saved: Saved, file: SampleFile) -> Saved:
    """What is known, with the parts that have arrived in a file of samples."""
    if not file.arrived:
        for part in saved.finished:  # of the same call without such a file
            file.take(part, saved.seconds)
    arrived, underway = file.arrived, saved.underway
    if underway is not None and underway.first != sum(len(part.x) for part in arrived):
        underway = None  # its part has arrived since
    return Saved(arrived, underway, max(saved.seconds, file.seconds))


def _walked(
    run: Run,
    saved: Saved,
    keeper: Keeper | None,
    file: SampleFile | None,
    batch_size: int | None,
    progress: bool,
    callback: Callable[[Step], None] | None,
) -> Posterior:
    """The posterior of everyone, walked from what was saved on."""
    chunk = batch_size or default_batch(run.prior, run.y, run.total)
    if saved.underway is not None and batch_size is None:
        chunk = saved.underway.last - saved.underway.first
    begin = time.monotonic() - saved.seconds
    if run.y.is_cuda:
        torch.cuda.reset_peak_memory_stats(run.y.device)
    finished = saved.finished
    try:
        with progress_of(run, show=progress) as shown:
            for part in _parts(run, chunk, shown, callback, saved, keeper):
                seconds = time.monotonic() - begin
                finished.append(part if file is None else file.take(part, seconds))
    except WalkDivergedError as error:
        error.posterior = assemble(run, finished, begin, None if file is None else file.walkers)
        raise
    posterior = assemble(run, finished, begin, None if file is None else file.walkers)
    assert posterior is not None
    if file is not None:
        return file.completed(posterior)
    if keeper is not None and keeper.has_kept:
        keeper.keep(Saved(finished, None))  # all of it: writing the samples may still fail
    return posterior


def _parts(
    run: Run,
    chunk: int,
    shown: Progress,
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
        problem, before = problem_of(run, first, last), prior.calls
        taken_up = of_part(saved.underway, first, last)
        done, spent = first * steps, Spent()
        if taken_up is not None:
            done += (taken_up.step + 1) * (last - first)
            spent = taken_up.spent or spent
        shown.begin(done, last - first)
        for step in walk(run, prior, problem, first, last, taken_up):
            shown.step()
            spent = spent.after(step.info)
            if callback is not None:
                callback(step)
            if keeper is not None and step.level.index == 0:
                keeper.refuse(step.state)  # now, and not after an hour
            # From the last level nothing goes on.
            if keeper is not None and keeper.is_due and step.level.index + 1 < steps:
                so_far = spent.paid(prior.calls - before, problem.operator_calls)
                underway = Underway(first, last, step.level.index, step.state, so_far)
                keeper.keep(Saved(saved.finished, underway))
            x, last_info = step.x, step.info._replace(denoised=step.x)
            del step  # the next one need not keep its images
        spent = spent.paid(prior.calls - before, problem.operator_calls)
        return spent.part(_everyone(run, x), last_info)

    if run.walk.communicator.size > 1:
        # Trying a part again would leave the other processes waiting.
        return (work(first, last) for first, last in whole_parts(run))
    together = run.prior.ranks.together(work)
    return in_parts(run.total, chunk, together, partial(end_of_part, run), first=arrived)


def _everyone(run: Run, x: Tensor) -> Tensor:
    """All walkers, where some are in other processes."""
    if run.walk.communicator.size == 1:  # chunks of independent walkers are no whole populations
        return x
    here = len(run.walk.communicator.share(run.num_samples))
    return run.walk.communicator.gather(x.reshape(-1, here, *x.shape[1:])).reshape(-1, *x.shape[1:])
