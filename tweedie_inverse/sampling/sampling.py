"""Unconditional samples: any prior, any recipe, any schedule, one loop (`trajectory`).

The conditional counterpart is `solving.solver`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, flag
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.numerics.schedules import SCHEDULES, Schedule, check_schedule
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.batches import default_batch
from tweedie_inverse.priors.contract import hold_contracts
from tweedie_inverse.priors.named import PriorLike, prior_of
from tweedie_inverse.runtime import notebook
from tweedie_inverse.runtime.devices import usable
from tweedie_inverse.runtime.memory import in_parts
from tweedie_inverse.walks import INTEGRATORS, RECIPES, Integrator, Level, Recipe, Template
from tweedie_inverse.walks.base import WalkDivergedError
from tweedie_inverse.walks.integrators import IntegratorState
from tweedie_inverse.walks.recipes import check_recipe

RecipeLike = str | Recipe | Integrator | Callable[[Tensor], Recipe]
ScheduleLike = str | Tensor | np.ndarray | Schedule

DEFAULT_STEPS = 50
# Names that belong to samplers of another kind of prior, and what to call for them.
ELSEWHERE: dict[str, str] = {}
# A grid made from a prior's own range may leave it by rounding.
_ROUNDING = 1e-6


class SampleStep(NamedTuple):
    """One step of a walk, as `trajectory` yields it.

    Attributes:
        level: index, number of steps, sigma before and after.
        x: ``(num_samples, *shape)``, state after the step.
        denoised: ``(num_samples, *shape)``, the latest evaluation of the prior.
        evaluations: of the prior so far, a sample.
    """

    level: Level
    x: Tensor
    denoised: Tensor
    evaluations: int


class Plan(NamedTuple):
    """A checked call: the grid ``(steps + 1,)`` and the rule from each level to the next."""

    sigmas: tuple[float, ...]
    integrator: Integrator

    @property
    def evaluations(self) -> int:
        """Network evaluations a sample."""
        return self.integrator.cost(len(self.sigmas) - 1)


def sample(
    prior: PriorLike,
    num_samples: int,
    *,
    recipe: RecipeLike = "ddim",
    steps: int | None = None,
    schedule: ScheduleLike | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Samples of a prior, ``(num_samples, *prior.shape)`` in data units.

    Args:
        prior: any prior, or the name of a shipped one; a network answers for its trained range
            only.
        recipe: a name in `walks.RECIPES` or `walks.INTEGRATORS`; a function from the grid to a
            `Recipe`, such as ``functools.partial(ti.walks.ddim, eta=0.5)``; an integrator with
            its own settings, such as ``ti.walks.Churn(churn=20)``; or a finished `Recipe`, which
            brings its own grid.
        steps: budget of network evaluations a sample; 50 unless recipe or schedule fix it.
            `Heun` and `Churn` make two a step and one in the last: of an even budget one is left.
        schedule: a name in `schedules.SCHEDULES`, a function ``(steps, sigma_min, sigma_max)``,
            or the grid itself, ``(steps + 1,)`` falling to 0, in data units.  Default Karras.
        seed: fixes every sample; each has a stream of its own.
        batch_size: samples that run together; changes memory and speed, not the samples.  By
            default what free memory holds (`priors.batches`).  Where an accelerator's memory is too
            small, half as many run together, with a warning.
        progress: show a progress bar.
        dtype: of the samples.
        device: where the walk runs; default ``prior.device``, where the prior's tensors are, and
            the CPU for a prior by name, which is loaded to this device.

    Before the walk, a network is called twice to see that it keeps to its contract, as in `solve`.

    Returns:
        ``(num_samples, *prior.shape)``, in data units.

    Raises:
        ValueError, TypeError: anything wrong with the input, before the first evaluation; a network
            that breaks its contract, before the walk.
        WalkDivergedError: the walk became NaN or infinite.
        torch.OutOfMemoryError: the accelerator's memory is too small for one sample.

    Examples:
        >>> ti.sample(prior, 4, recipe="ddim", steps=10, seed=0).shape
        torch.Size([4, 1, 8, 8])
        >>> churning = ti.sample(prior, 4, recipe=ti.walks.Churn(churn=20), steps=20)
    """
    prior = _prior("sample", prior, device)
    plan = plan_for(prior, recipe, steps, schedule)
    num_samples = count("sample", "num_samples", num_samples, need="at least one sample")
    if batch_size is not None:
        batch_size = count("sample", "batch_size", batch_size, need="a positive number of samples")
    seed, progress = checked_seed("sample", "seed", seed), flag("sample", "progress", progress)
    like = _like("sample", prior, dtype, device)
    hold_contracts(prior, like)
    chunk = batch_size or default_batch(prior, like, num_samples)
    progress = progress and prior.ranks.leads
    with _progress_bar(progress, num_samples * plan.evaluations, plan.integrator.name) as bar:

        def work(first: int, last: int) -> Tensor:
            bar.n, spent = first * plan.evaluations, 0
            for step in _walk(plan, prior, _streams(seed, first, last), like):
                bar.update((step.evaluations - spent) * (last - first))
                spent = step.evaluations
            return step.x

        together = prior.ranks.together(work)
        return torch.cat(list(in_parts(num_samples, chunk, together)))


def trajectory(
    prior: PriorLike,
    num_samples: int,
    *,
    recipe: RecipeLike = "ddim",
    steps: int | None = None,
    schedule: ScheduleLike | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Iterator[SampleStep]:
    """The walk of `sample`, step by step; arguments as there, checked before the first step.

    Plots, early stopping and statistics are the caller's ``for`` body.

    Returns:
        An iterator over `SampleStep`, with the images ``x (num_samples, *prior.shape)`` after each.

    Examples:
        >>> [tuple(step.x.shape) for step in ti.trajectory(prior, 2, steps=2)]
        [(2, 1, 8, 8), (2, 1, 8, 8)]
    """
    prior = _prior("trajectory", prior, device)
    plan = plan_for(prior, recipe, steps, schedule)
    num_samples = count("trajectory", "num_samples", num_samples, need="at least one sample")
    seed = checked_seed("trajectory", "seed", seed)
    like = _like("trajectory", prior, dtype, device)
    hold_contracts(prior, like)
    return _walk(plan, prior, _streams(seed, 0, num_samples), like)


def _prior(caller: str, given: PriorLike, device: torch.device | str | None) -> Prior:
    """The prior; one by name on the device of the walk."""
    place = torch.zeros((), device="cpu" if device is None else usable(device, caller))
    return prior_of(caller, given, like=place)


def plan_for(
    prior: Prior,
    recipe: RecipeLike,
    steps: int | None = None,
    schedule: ScheduleLike | None = None,
) -> Plan:
    """Check the arguments of `sample`, described there, and join them; nothing is evaluated."""
    if steps is not None:
        steps = count("sample", "steps", steps, need="at least one network evaluation")
    if isinstance(schedule, np.ndarray):
        schedule = real_tensor("sample", "schedule", schedule, dtype=torch.float64)
    method = _method(recipe)
    if isinstance(method, Recipe):
        if schedule is not None:
            raise ValueError(
                "sample: a finished Recipe brings its own noise levels; leave schedule= out, or "
                "pass the function that makes the recipe"
            )
        plan = _of_recipe(method)
    elif isinstance(method, Integrator):
        method.refuse(prior)
        levels = method.steps_within(DEFAULT_STEPS if steps is None else steps)
        sigmas = check_schedule(_grid(schedule, levels, prior))
        plan = Plan(tuple(sigmas.tolist()), method)
    else:
        grid = _grid(schedule, DEFAULT_STEPS if steps is None else steps, prior)
        plan = _of_recipe(_called("recipe", method, grid))
    brings_grid = isinstance(method, Recipe) or isinstance(schedule, Tensor)
    if brings_grid and steps is not None and steps != plan.evaluations:
        raise ValueError(
            f"sample(steps={steps}): the noise levels given make {plan.evaluations} network "
            "evaluations; leave steps= out, or make them agree"
        )
    _refuse_untrained(plan, prior)
    return plan


def _method(recipe: RecipeLike) -> Recipe | Integrator | Callable[[Tensor], Recipe]:
    if isinstance(recipe, str):
        named: dict[str, Integrator | Callable[[Tensor], Recipe]] = {**RECIPES, **INTEGRATORS}
        if recipe not in named:
            if recipe in ELSEWHERE:
                raise ValueError(f"sample(recipe={recipe!r}): {ELSEWHERE[recipe]}")
            raise ValueError(f"sample(recipe={recipe!r}): choose one of {', '.join(sorted(named))}")
        return named[recipe]
    if isinstance(recipe, Template):  # its recipe has a grid of its own
        return recipe.recipe
    if not (isinstance(recipe, Recipe | Integrator) or callable(recipe)):
        raise TypeError(
            "sample(recipe=): needs a name, a Recipe, an Integrator, or a function from noise "
            f"levels to a Recipe; got {type(recipe).__name__}"
        )
    return recipe


def _of_recipe(recipe: Recipe) -> Plan:
    if not isinstance(recipe, Recipe):
        raise TypeError(
            f"sample(recipe=): the function given must return a Recipe, got {type(recipe).__name__}"
        )
    recipe = check_recipe(recipe)
    return Plan(tuple(recipe.sigmas.tolist()), Template(recipe))


def _grid(schedule: ScheduleLike | None, steps: int, prior: Prior) -> Tensor:
    if isinstance(schedule, Tensor):
        return schedule
    make = "karras" if schedule is None else schedule
    if isinstance(make, str):
        if make not in SCHEDULES:
            raise ValueError(
                f"sample(schedule={make!r}): choose one of {', '.join(sorted(SCHEDULES))}"
            )
        make = SCHEDULES[make]
    if not callable(make):
        raise TypeError(
            "sample(schedule=): needs a name, a tensor of noise levels, or a function (steps, "
            f"sigma_min, sigma_max); got {type(make).__name__}"
        )
    return _called("schedule", make, steps, prior.sigma_min, prior.sigma_max)


def _called(name: str, function: Callable[..., Any], *given: Any) -> Any:
    """What a function of the user returns; its own error is the cause of one that names it."""
    try:
        return function(*given)
    except TypeError as error:  # most often it takes other arguments
        raise TypeError(
            f"sample({name}=): the function given failed on its arguments, "
            f"{', '.join(type(one).__name__ for one in given)}: {error}"
        ) from error


def _refuse_untrained(plan: Plan, prior: Prior) -> None:
    high, low = plan.sigmas[0], plan.sigmas[-2]
    above = high > prior.sigma_max * (1 + _ROUNDING)
    below = low < prior.sigma_min * (1 - _ROUNDING)
    if (above or below) and not prior.any_sigma:
        raise ValueError(
            f"sample: the noise levels go from {high:.4g} to {low:.4g}, but {prior!r} is trained "
            f"for {prior.sigma_max:.4g} to {prior.sigma_min:.4g} (data units). Cut the schedule, "
            "or set prior.sigma_min and prior.sigma_max if you know better"
        )


def _like(
    caller: str, prior: Prior, dtype: torch.dtype, device: torch.device | str | None
) -> Tensor:
    """A number of the type and on the device of the walk."""
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{caller}(dtype={dtype}): needs torch.float32 or torch.float64; a network has a "
            "number type of its own"
        )
    place = prior.device if device is None else usable(device, caller)
    return torch.zeros((), dtype=dtype, device=place)


def _streams(seed: int, first: int, last: int) -> Streams:
    return Streams([("sample", seed, index) for index in range(first, last)])


def _walk(plan: Plan, prior: Prior, streams: Streams, like: Tensor) -> Iterator[SampleStep]:
    """The loop."""

    start = prior.coloured(streams.normal(prior.shape, like))
    state = IntegratorState(torch.as_tensor(prior.centre).to(start) + plan.sigmas[0] * start)
    steps = len(plan.sigmas) - 1
    for index, (sigma, after) in enumerate(zip(plan.sigmas, plan.sigmas[1:], strict=False)):
        noise = partial(_noise, prior, streams.at(index + 1), like)
        with torch.inference_mode(False), torch.no_grad():
            state = plan.integrator.step(state, index, plan.sigmas, prior, noise)
        assert state.denoised is not None
        if not bool(state.x.isfinite().all()):
            raise WalkDivergedError(
                f"sample: the walk became non-finite at step {index + 1} of {steps} (sigma "
                f"{sigma:.3g}); the prior returned NaN or infinity, or the step is too large for it"
            )
        evaluations = min((index + 1) * plan.integrator.evaluations, plan.evaluations)
        yield SampleStep(Level(index, steps, sigma, after), state.x, state.denoised, evaluations)


def _noise(prior: Prior, streams: Streams, like: Tensor) -> Tensor:
    return prior.coloured(streams.normal(prior.shape, like))


def _progress_bar(show: bool, evaluations: int, name: str):
    return notebook.progress_bar(total=evaluations, disable=not show, unit="eval", desc=name)
