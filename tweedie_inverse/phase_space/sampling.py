"""Unconditional samples by walks in phase space: one loop, a generator (`trajectory`)."""

from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, function, instance, positive
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.phase_space.grids import GRIDS, Grid, check_grid
from tweedie_inverse.phase_space.inpainting import Known
from tweedie_inverse.phase_space.prior import PhaseSpacePrior
from tweedie_inverse.phase_space.processes import act
from tweedie_inverse.phase_space.steps import SAMPLERS, Sampler
from tweedie_inverse.priors.counting import Count
from tweedie_inverse.priors.named import prior_of
from tweedie_inverse.runtime.devices import usable
from tweedie_inverse.runtime.memory import in_parts
from tweedie_inverse.walks.base import WalkDivergedError

DEFAULT_STEPS = 50
_ME = "phase_space.sample"
# Samples that run together unless the user says otherwise: this many numbers of state.
_CHUNK_NUMBERS = 2**24


class PhaseStep(NamedTuple):
    """One step of a walk in phase space, as `trajectory` yields it.

    Attributes:
        step, steps: which step of how many, from 0; the last one denoises.
        time: after the step, 0 after the last.
        z: ``(num_samples, phases, *shape)`` in network units; None after the last step.
        x: ``(num_samples, *shape)``, position in data units.
        evaluations: of the network so far, a sample.
    """

    step: int
    steps: int
    time: float
    z: Tensor | None
    x: Tensor
    evaluations: int


def sample(
    prior: PhaseSpacePrior | str | Path,
    num_samples: int,
    *,
    sampler: str | Sampler = "sscs",
    steps: int | None = None,
    grid: str | Tensor | Grid = "quadratic",
    time_min: float | None = None,
    known: Known | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Samples of a phase-space prior, ``(num_samples, *prior.shape)`` in data units.

    The walk starts from the stationary law at time 1, goes down to `time_min`, and ends with
    ``E[x0 | z]`` there.

    Args:
        prior: any phase-space prior, or the name of a shipped one; guided ones are made by
            `phase_space.classifier_free` and `phase_space.ClassifierGuided`.
        sampler: ``"em"``, ``"sscs"``, ``"ode"``, ``"gddim"``, ``"conjugate"``, or one with its own
            settings, such as ``ti.phase_space.AdaptiveFlow(tolerance=1e-5)``.
        steps: budget of network evaluations a sample, the last denoising included; 50 unless the
            grid fixes it.  The adaptive ``"ode"`` takes as many as it needs and none of this.
        grid: ``"quadratic"``, ``"uniform"``, a function ``(steps, time_min)``, or the times
            themselves, ``(steps + 1,)``, falling.
        time_min: where the walk ends; default the prior's, and not below 1e-3.
        known: pixels that are given; the rest is drawn to fit (`Known`).
        seed: fixes every sample; each has a stream of its own.
        batch_size: samples that run together; where an accelerator's memory is too small for
            them, half as many, with a warning.  It changes no sample, except that the steps of the
            adaptive ``"ode"`` are those that suit all samples of a batch.
        dtype: of the samples.
        device: where the walk runs; default ``prior.device``, where the prior's tensors are.

    Raises:
        ValueError, TypeError: anything wrong with the input, before the first evaluation.
        WalkDivergedError: the walk became NaN or infinite.
        torch.OutOfMemoryError: the accelerator's memory is too small for one sample.
    """
    if batch_size is not None:
        batch_size = count(_ME, "batch_size", batch_size, need="a positive number")
    plan = plan_for(_prior(prior, device), sampler, steps, grid, time_min, known)
    numbers = plan.prior.process.phases * torch.Size(plan.prior.shape).numel()
    chunk = batch_size or max(1, _CHUNK_NUMBERS // numbers)
    num_samples = count(_ME, "num_samples", num_samples, need="at least one")
    seed, like = checked_seed(_ME, "seed", seed), _like(plan.prior, dtype, device)

    def work(first: int, last: int) -> Tensor:
        return deque(_walk(plan, _streams(seed, first, last), like), maxlen=1).pop().x

    return torch.cat(list(in_parts(num_samples, chunk, work)))


def trajectory(
    prior: PhaseSpacePrior | str | Path,
    num_samples: int,
    *,
    sampler: str | Sampler = "sscs",
    steps: int | None = None,
    grid: str | Tensor | Grid = "quadratic",
    time_min: float | None = None,
    known: Known | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Iterator[PhaseStep]:
    """The walk of `sample`, step by step; arguments as there, checked before the first step."""
    plan = plan_for(_prior(prior, device), sampler, steps, grid, time_min, known)
    num_samples = count(_ME, "num_samples", num_samples, need="at least one")
    seed, like = checked_seed(_ME, "seed", seed), _like(plan.prior, dtype, device)
    return _walk(plan, _streams(seed, 0, num_samples), like)


def _prior(given: Any, device: torch.device | str | None) -> Any:
    """The prior; one by name on the device of the walk."""
    if not isinstance(given, str | Path):
        return given
    place = torch.zeros((), device="cpu" if device is None else usable(device, _ME))
    return prior_of(_ME, given, like=place)


class Plan(NamedTuple):
    """A checked call: times ``(steps,)`` of the walk, its rule, and what it is to fit."""

    prior: PhaseSpacePrior
    sampler: Sampler
    times: tuple[float, ...]
    known: Known | None


def plan_for(
    prior: PhaseSpacePrior,
    sampler: str | Sampler,
    steps: int | None,
    grid: str | Tensor | Grid,
    time_min: float | None,
    known: Known | None = None,
) -> Plan:
    """Check the arguments of `sample`, described there; nothing is evaluated."""
    if not isinstance(prior, PhaseSpacePrior):
        raise TypeError(
            "phase_space.sample: needs a phase-space prior such as "
            f"ti.load_prior('digits-32-psld'), got {type(prior).__name__}; ti.sample takes every "
            "other prior, and "
            "ti.phase_space.ExactPhaseSpace(prior, process) gives one momentum"
        )
    if isinstance(sampler, str):
        if sampler not in SAMPLERS:
            raise ValueError(
                f"phase_space.sample(sampler={sampler!r}): choose one of "
                f"{', '.join(sorted(SAMPLERS))}"
            )
        sampler = SAMPLERS[sampler]
    need = "a name or a sampler such as ti.phase_space.AdaptiveFlow()"
    rule: Sampler = instance(_ME, "sampler", sampler, Sampler, need=need)
    if steps is not None:
        need = "at least two network evaluations, one step and the last denoising"
        steps = count(_ME, "steps", steps, least=2, need=need)
    end = max(prior.time_min, 1e-3) if time_min is None else positive(_ME, "time_min", time_min)
    times = _times(grid, 1 if rule.adaptive else (steps or DEFAULT_STEPS) - 1, end)
    if isinstance(grid, Tensor) and steps is not None and steps != len(times):
        raise ValueError(
            f"phase_space.sample(steps={steps}): the times given make {len(times)} network "
            "evaluations; leave steps= out, or make them agree"
        )
    if float(times[-1]) < prior.time_min * (1 - 1e-9):
        raise ValueError(
            f"phase_space.sample: the walk ends at t = {float(times[-1]):.3g}, but the prior is "
            f"made for times from {prior.time_min:.3g} on; raise time_min"
        )
    if known is not None:
        need = "ti.phase_space.Known(image, mask)"
        instance(_ME, "known", known, Known, need=need).refuse(prior)
    return Plan(prior, rule, tuple(times.tolist()), known)


def _times(grid: str | Tensor | Grid, steps: int, end: float) -> Tensor:
    if isinstance(grid, Tensor):
        return check_grid(grid)
    if isinstance(grid, str):
        if grid not in GRIDS:
            raise ValueError(
                f"phase_space.sample(grid={grid!r}): choose one of {', '.join(sorted(GRIDS))}"
            )
        grid = GRIDS[grid]
    function(_ME, "grid", grid, need="a name, the times, or a function (steps, time_min)")
    return check_grid(grid(steps, end))


def _like(prior: PhaseSpacePrior, dtype: torch.dtype, device: torch.device | str | None) -> Tensor:
    """A number of the type and on the device of the walk."""
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{_ME}(dtype={dtype}): needs torch.float32 or torch.float64")
    return torch.zeros(
        (), dtype=dtype, device=prior.device if device is None else usable(device, _ME)
    )


def _streams(seed: int, first: int, last: int) -> Streams:
    return Streams([("phase space", seed, index) for index in range(first, last)])


class _Counted(PhaseSpacePrior):
    """A phase-space prior that counts its evaluations of the noise."""

    def __init__(self, prior: PhaseSpacePrior):
        self.prior, self.count = prior, Count()
        self.process, self.shape = prior.process, prior.shape
        self.offset, self.scale = prior.offset, prior.scale

    def epsilon(self, z: Tensor, t: float | Tensor) -> Tensor:
        return self.count.watch(self.prior.epsilon(z, t))

    def denoising_error(self, sigma: float):
        return self.prior.denoising_error(sigma)


def _walk(plan: Plan, streams: Streams, like: Tensor) -> Iterator[PhaseStep]:
    """The loop."""
    prior, process = _Counted(plan.prior), plan.prior.process
    walkers, shape = len(streams), (process.phases, *prior.shape)

    noise = partial(streams.normal, shape, like)
    z = act(torch.linalg.cholesky(process.stationary), noise())
    if plan.known is not None:
        z = plan.known.put(z, plan.times[0], prior, noise)
    steps = len(plan.times)
    for index, (time, earlier) in enumerate(pairwise(plan.times)):
        noise = partial(streams.at(index + 1).normal, shape, like)
        with torch.no_grad():
            z = plan.sampler.step(z, time, earlier, prior, noise)
        _refuse_divergence(z, index, steps, time)
        if plan.known is not None:
            z = plan.known.put(z, earlier, prior, noise)
        x = prior.offset + prior.scale * z[:, 0]
        yield PhaseStep(index, steps, earlier, z, x, prior.count.calls // walkers)
    with torch.no_grad():
        x = prior.offset + prior.scale * prior.denoise_phases(z, plan.times[-1])
    _refuse_divergence(x, steps - 1, steps, plan.times[-1])
    if plan.known is not None:
        x = plan.known.finish(x)
    yield PhaseStep(steps - 1, steps, 0.0, None, x, prior.count.calls // walkers)


def _refuse_divergence(x: Tensor, index: int, steps: int, time: float) -> None:
    if not bool(x.isfinite().all()):
        raise WalkDivergedError(
            f"phase_space.sample: the walk became non-finite at step {index + 1} of {steps} (t "
            f"{time:.3g}); the prior returned NaN or infinity, or the steps are too long for it"
        )
