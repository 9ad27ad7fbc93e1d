"""The verb: one loop (`iterate`), and `solve` and `sample`, which drain it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from operators import GaussianNoise, LinearOperator, NoiseModel, Operator
from operators.random import Streams

from .covariance import Covariance
from .posterior import Diagnostics, Posterior, Stats
from .priors.base import Prior
from .problem import (
    Problem,
    check_measurement,
    check_operator,
    residual_chi_square,
    resolve_noise,
)
from .walks import Decoupled, Info, Langevin, Level, Walk
from .walks.recipes import RECIPES, Recipe
from .walks.template import template_step

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


class WalkDivergedError(ArithmeticError):
    """A walk became NaN or infinite; `posterior` holds the measurements already finished."""

    posterior: Posterior | None = None


class _CountedPrior(Prior):
    """A prior that counts its evaluations, one an image."""

    def __init__(self, prior: Prior):
        self.prior, self.calls = prior, 0
        self.shape, self.centre = prior.shape, prior.centre
        self.sigma_min, self.sigma_max = prior.sigma_min, prior.sigma_max

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        self.calls += x.shape[0]
        return self.prior.denoise(x, sigma)

    def denoising_error(self, sigma: float) -> Covariance:
        return self.prior.denoising_error(sigma)

    def conditional_covariance(self, sigma: float) -> Covariance:
        return self.prior.conditional_covariance(sigma)

    @property
    def error_is_measured(self) -> bool:
        return self.prior.error_is_measured


@dataclass
class _Run:
    """A checked call of solve: what stays the same over all chunks, and the cost so far."""

    y: Tensor
    single: bool
    operator: Operator
    noise: NoiseModel
    prior: _CountedPrior
    walk: Walk
    reason: str
    sigmas: Tensor
    num_samples: int
    seed: int
    operator_calls: int = 0
    solver_error: float = 0.0

    @property
    def total(self) -> int:
        return self.y.shape[0] * self.num_samples


def iterate(
    y: Tensor,
    operator: Operator,
    prior: Prior,
    *,
    method: str | Walk = "auto",
    num_samples: int = 1,
    steps: int | None = None,
    seed: int = 0,
    noise: NoiseModel | float | None = None,
) -> Iterator[Step]:
    """Walk all samples of all measurements together, yielding after every step.

    Arguments as in `solve`.  Everything is checked before the first network evaluation; progress
    bars, plots, early stopping and trajectories are the caller's ``for`` body.  The state after
    the last step holds the samples, measurement by measurement.
    """
    run = _prepare(y, operator, prior, method, num_samples, steps, seed, noise)
    return _walk(run, 0, run.total)


def solve(
    y: Tensor,
    operator: Operator,
    prior: Prior,
    *,
    method: str | Walk = "auto",
    num_samples: int = 16,
    steps: int | None = None,
    seed: int = 0,
    noise: NoiseModel | float | None = None,
    batch_size: int | None = None,
    progress: bool = False,
    callback: Callable[[Step], None] | None = None,
) -> Posterior:
    """Posterior samples of the image behind a measurement.

    Args:
        y: ``(batch, *operator.range_shape)``, float32 or float64, or one measurement without the
            batch axis (then the result has none either).
        operator: the instrument.
        prior: for images of ``operator.domain_shape``.
        method: ``"auto"``, ``"decoupled"``, ``"langevin"``, or a walk with its own settings.
        num_samples: posterior samples for each measurement.
        steps: budget of network evaluations a sample; None is the walk's default.
        seed: fixes every sample; (measurement, sample) pairs have streams of their own.
        noise: noise model, or a standard deviation; None uses ``operator.noise``.
        batch_size: walkers that run together; changes memory and speed, not the samples.
        progress: show a progress bar.
        callback: called with each `Step`.

    Raises:
        ValueError, TypeError: anything wrong with the input, before the first evaluation.
        WalkDivergedError: the walk became NaN or infinite; finished measurements are attached.
    """
    run = _prepare(y, operator, prior, method, num_samples, steps, seed, noise)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"solve(batch_size={batch_size}): needs a positive number of walkers")
    numbers = torch.Size(run.prior.shape).numel()
    chunk = batch_size or max(1, _CHUNK_NUMBERS // numbers)
    begin = time.monotonic()
    if y.is_cuda:
        torch.cuda.reset_peak_memory_stats(y.device)
    finished: list[Tensor] = []
    with _progress_bar(progress, run) as bar:
        for first in range(0, run.total, chunk):
            last = min(first + chunk, run.total)
            try:
                for step in _walk(run, first, last):
                    bar.update(last - first)
                    if callback is not None:
                        callback(step)
            except WalkDivergedError as error:
                error.posterior = _assemble(run, finished, begin)
                raise
            finished.append(step.x)
    posterior = _assemble(run, finished, begin)
    assert posterior is not None
    return posterior


@torch.no_grad()
def sample(
    prior: Prior,
    num_samples: int,
    *,
    recipe: str | Callable[[Tensor], Recipe] = "ddim",
    steps: int = 50,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Unconditional samples ``(num_samples, *prior.shape)`` by the template.

    Args:
        recipe: a name in `walks.RECIPES`, or a function from the noise levels to a `Recipe`.
        steps: network evaluations a sample.
    """
    from .schedules import karras

    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"sample(recipe={recipe!r}): choose one of {', '.join(RECIPES)}")
        recipe = RECIPES[recipe]
    plan = recipe(karras(steps, prior.sigma_min, prior.sigma_max))
    streams = Streams([(seed, index) for index in range(num_samples)])
    like = torch.zeros((), dtype=dtype, device=device)
    noise = streams.normal(prior.shape, like)
    x = torch.as_tensor(prior.centre).to(noise) + float(plan.sigmas[0]) * noise
    for sigma, tau, temperature in zip(
        plan.sigmas[:-1].tolist(), plan.taus.tolist(), plan.temperatures.tolist(), strict=True
    ):
        noise = streams.normal(prior.shape, like)
        x = template_step(x, prior.denoise(x, sigma), noise, sigma, tau, temperature)
    return x


def _prepare(
    y: Tensor,
    operator: Operator,
    prior: Prior,
    method: str | Walk,
    num_samples: int,
    steps: int | None,
    seed: int,
    noise: NoiseModel | float | None,
) -> _Run:
    if not isinstance(operator, Operator):
        raise TypeError(
            f"solve: operator must derive from ops.Operator or ops.LinearOperator, got "
            f"{type(operator).__name__}"
        )
    if not isinstance(prior, Prior):
        raise TypeError(
            f"solve: prior must be a prior such as ti.load_prior('phantom-64'), got "
            f"{type(prior).__name__}; wrap a network in ti.priors.NetworkPrior"
        )
    if num_samples < 1:
        raise ValueError(f"solve(num_samples={num_samples}): needs at least one sample")
    y, single = check_measurement(y, operator)
    model = resolve_noise(noise, operator)
    prior = prior.for_shape(operator.domain_shape)
    check_operator(operator, y)
    walk, reason = _choose(method, operator, model, prior)
    walk.refuse(Problem(y, operator, model), prior)
    count = walk.default_steps if steps is None else steps
    if count < 1:
        raise ValueError(f"solve(steps={steps}): needs at least one network evaluation")
    sigmas = walk.sigmas(prior, count)
    return _Run(
        y, single, operator, model, _CountedPrior(prior), walk, reason, sigmas, num_samples, seed
    )


def _choose(
    method: str | Walk, operator: Operator, noise: NoiseModel, prior: Prior
) -> tuple[Walk, str]:
    """The walk of a call and the reason, for `posterior.stats`."""
    if isinstance(method, Walk):
        return method, "given"
    if method == "decoupled":
        return Decoupled(), "asked for" + _guess(prior)
    if method == "langevin":
        return Langevin(), "asked for"
    if method != "auto":
        raise ValueError(
            f"solve(method={method!r}): choose 'auto', 'decoupled' or 'langevin', or pass a walk "
            "such as ti.walks.Langevin(step_size=0.2)"
        )
    if isinstance(operator, LinearOperator) and isinstance(noise, GaussianNoise):
        return Decoupled(), "auto: linear operator with Gaussian noise" + _guess(prior)
    return Langevin(), "auto: the operator is not linear, or the noise not Gaussian"


def _guess(prior: Prior) -> str:
    if prior.error_is_measured:
        return ""
    return (
        "; the prior's denoising error is not measured, so sigma^2 I stands in "
        "(ti.priors.measure_denoising_error makes fewer steps do)"
    )


def _walk(run: _Run, first: int, last: int) -> Iterator[Step]:
    """The loop: walkers `first` to `last` of all (measurement, sample) pairs."""
    pairs = [divmod(index, run.num_samples) for index in range(first, last)]
    measurement = torch.tensor([pair[0] for pair in pairs], device=run.y.device)
    problem = Problem(run.y[measurement], run.operator, run.noise)
    streams = Streams([(run.seed, *pair) for pair in pairs])
    steps = len(run.sigmas) - 1
    values = run.sigmas.tolist()
    with torch.no_grad():
        x = run.walk.start(problem, run.prior, values[0], streams)
    for index in range(steps):
        level = Level(index, steps, values[index], values[index + 1])
        with torch.no_grad():
            x, info = run.walk.step(x, level, problem, run.prior, streams)
        _refuse_divergence(x, info, level, run.walk)
        run.solver_error = max(run.solver_error, info.solver_error)
        yield Step(level, x, info, (first, last), run.total)
    run.operator_calls += problem.operator_calls


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


def _assemble(run: _Run, finished: list[Tensor], begin: float) -> Posterior | None:
    """The posterior of all measurements whose samples are complete; None if there is none."""
    walkers = torch.cat(finished) if finished else run.y[:0]
    complete = len(walkers) // run.num_samples
    if complete == 0:
        return None
    flat = walkers[: complete * run.num_samples]
    samples = flat.reshape(complete, run.num_samples, *flat.shape[1:])
    weights = torch.full(samples.shape[:2], 1 / run.num_samples, dtype=flat.dtype).to(flat.device)
    chi_square = _chi_square(run, flat).reshape(weights.shape)
    size = 1 / weights.square().sum(1)
    if run.single:
        samples, weights, chi_square, size = samples[0], weights[0], chi_square[0], size[0]
    count = len(walkers)
    stats = Stats(
        method=run.walk.name,
        reason=run.reason,
        steps=len(run.sigmas) - 1,
        denoiser_calls=run.prior.calls / count,
        operator_calls=run.operator_calls / count,
        seconds=time.monotonic() - begin,
        peak_memory=torch.cuda.max_memory_allocated(run.y.device) if run.y.is_cuda else 0,
        solver_error=run.solver_error,
    )
    return Posterior(samples, weights, Diagnostics(chi_square, size), stats)


@torch.no_grad()
def _chi_square(run: _Run, x: Tensor) -> Tensor:
    if not isinstance(run.noise, GaussianNoise):
        return x.new_full((len(x),), float("nan"))
    y = run.y.repeat_interleave(run.num_samples, 0)[: len(x)]
    return residual_chi_square(x, y, run.operator, run.noise.std)


def _progress_bar(show: bool, run: _Run):
    from tqdm import tqdm

    evaluations = run.total * (len(run.sigmas) - 1)
    return tqdm(total=evaluations, disable=not show, unit="eval", desc=run.walk.name)
