"""Samplers as numbers: each recipe turns a noise-level grid into ``(sigma_k, tau_k, T_k)``.

With ``r = sigma_{k+1} / sigma_k``, ``delta = sigma_k^2 - sigma_{k+1}^2`` and the relative step
``eps = tau / sigma_k^2``; Park et al. 2024, table 1, and the rows derived in the same coordinates.

All temperatures are one formula (`consistent`).  To keep the variance of x at every level, the
step needs

    T = (r^2 - (1 - eps)^2 + u eps^2) / (2 eps),    u = Var(x0 | x_sigma) / sigma^2

Recipes differ by their guess of u, the share of the noise that cannot be told from the image:
0 is a point mass (DDIM, DDPM's small variance), ``1 / (1 + sigma^2)`` data of unit variance (DDPM's
large variance), 1 a flat prior (the VE-SDE, ``T = 1 - delta / (2 tau)``).  No recipe adds noise in
its last step, to sigma 0.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, instance, number, pair, share
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.numerics.schedules import check_schedule
from tweedie_inverse.priors.base import Prior


class Recipe(NamedTuple):
    """``sigmas (steps + 1,)``, ``taus (steps,)``, ``temperatures (steps,)``, all float64."""

    sigmas: Tensor
    taus: Tensor
    temperatures: Tensor


def ddim(sigmas: Tensor, *, eta: float = 0.0) -> Recipe:
    """Song et al. 2021; eta 0 is deterministic, eta 1 DDPM with small variance."""
    eta = share("ddim", "eta", eta, need="a number from 0 (no noise) to 1 (DDPM)")
    sigmas, now, after = _levels(sigmas)
    fresh = eta**2 * after**2 * (now**2 - after**2) / now**2
    taus = now * (now - (after**2 - fresh).sqrt())
    return Recipe(sigmas, taus, fresh / (2 * taus))


def euler(sigmas: Tensor) -> Recipe:
    """Euler steps in sigma of ``dx / dsigma = (x - D) / sigma`` (Karras et al. 2022).

    In variance-exploding coordinates the same numbers as `ddim` with eta 0.
    """
    sigmas, now, after = _levels(sigmas)
    return Recipe(sigmas, now * (now - after), torch.zeros_like(now))


def pf_ode(sigmas: Tensor) -> Recipe:
    """Euler steps in sigma^2 of the probability-flow ODE (Song et al. 2021): ``tau = delta / 2``.

    The last step stops half-way between its input and the denoised image.
    """
    sigmas, now, after = _levels(sigmas)
    return Recipe(sigmas, (now**2 - after**2) / 2, torch.zeros_like(now))


def ddpm(sigmas: Tensor, *, variance: float | Tensor = 0.0) -> Recipe:
    """Ho et al. 2020: ``tau = delta``, noise variance between beta-tilde and beta.

    Args:
        variance: v of ``v log beta + (1 - v) log beta-tilde``, a number or ``(steps,)``: 0 is the
            small variance, 1 the large one, and what a network with learned variance says
            (Nichol and Dhariwal 2021, equation 15) stands in between.
    """
    sigmas, now, after = _levels(sigmas)
    v = _per_step("ddpm", "variance", variance)
    if (
        v.ndim > 1
        or (v.ndim == 1 and v.shape != now.shape)
        or not bool(((v >= 0) & (v <= 1)).all())
    ):
        raise ValueError(
            "ddpm(variance=): needs a number, or one a step, from 0 (small) to 1 (large); got "
            f"shape {tuple(v.shape)} for {len(now)} steps, values {float(v.min()):.3g} to "
            f"{float(v.max()):.3g}"
        )
    small = (after / now) ** 2 / 2
    large = (1 + after**2) / (1 + now**2) / 2  # alpha / 2
    temperatures = torch.where(after > 0, large**v * small ** (1 - v), 0.0)
    return Recipe(sigmas, now**2 - after**2, temperatures)


def ddpm_large(sigmas: Tensor) -> Recipe:
    """`ddpm` with the larger variance beta: ``T = alpha / 2``."""
    return ddpm(sigmas, variance=1.0)


def ve_sde(sigmas: Tensor) -> Recipe:
    """Reverse diffusion of the VE-SDE (Song et al. 2021): ``tau = delta``, ``T = 1/2``.

    Their ancestral sampler for the same model is `ddpm`.
    """
    sigmas, now, after = _levels(sigmas)
    return Recipe(sigmas, now**2 - after**2, torch.where(after > 0, 0.5, 0.0).to(now))


def ncsn(sigmas: Tensor, *, step: float = 0.1, inner: int = 5) -> Recipe:
    """Annealed Langevin (Song and Ermon 2019): ``tau = step sigma^2``, ``T = 1``.

    The number of evaluations stays that of `sigmas`: of its levels every `inner`-th is kept, and
    held for about `inner` steps.  Their own ``tau = eps sigma^2 / (2 sigma_min^2)`` with
    ``eps = 2e-5`` and ``sigma_min = 0.01`` is step 0.1; the seed paper's table prints sigma_max
    instead of sigma_min.

    Differs from the paper: the last step adds no noise.  A fixed step is biased however many
    levels there are: its variance settles at up to ``1 / (1 - step / 2)`` times the right one.
    """
    inner = count("ncsn", "inner", inner, need="at least one step a level")
    sigmas, now, _ = _levels(sigmas, repeats=True)
    kept = -(-len(now) // inner)
    # The first and the last level are kept, those between are spread evenly.
    place = torch.linspace(0, len(now) - 1, kept, dtype=torch.float64).round().long()
    held = now[place[torch.arange(len(now)) * kept // len(now)]]
    return Recipe(
        torch.cat([held, sigmas[-1:]]),
        _relative(step) * held**2,
        _noise_free_end(torch.ones(len(now))),
    )


def simple(
    sigmas: Tensor, *, step: float = 0.4, temperature: tuple[float, float] = (0.4, 1.0)
) -> Recipe:
    """The seed paper's simple walk: ``tau = step sigma^2``, T linear from first to last step.

    `PAPER_SETTINGS` has its numbers.  The temperature is a guess, and a fixed step is biased
    however many levels there are: see `consistent`.
    """
    sigmas, now, _ = _levels(sigmas, repeats=True)
    need = "two numbers, of the first and of the last step, which must not be negative"
    first, last = pair("simple", "temperature", temperature, need=need, low=0)
    ramp = torch.linspace(first, last, len(now), dtype=torch.float64)
    return Recipe(sigmas, _relative(step) * now**2, _noise_free_end(ramp))


def _per_step(caller: str, name: str, value: float | Tensor) -> Tensor:
    """A number, or one a step, in float64."""
    if isinstance(value, bool):
        raise TypeError(f"{caller}({name}={value}): needs a number, or one a step")
    return real_tensor(caller, name, value, finite=False, dtype=torch.float64)


def consistent(
    sigmas: Tensor,
    *,
    step: float | None = None,
    power: float = 1.1,
    uncertainty: float | Tensor = 0.0,
) -> Recipe:
    """The temperature that keeps the noise level, so that no ramp has to be tuned.

    With uncertainty 0 the walk is exact for a point mass at any steps; with that of the prior
    (`uncertainty_of`) it also keeps the variance of the image, which is the optimal reverse
    variance of Analytic-DPM (Bao et al. 2022).

    The step matters as much as the temperature.  A *fixed* relative step eps contracts the image
    too: with uncertainty 0 the variance settles at ``1 - eps / 2`` of the right one, however many
    levels there are.  So by default the step follows the levels, ``eps = 1 - r^power``, and the
    error falls with the number of steps.

    Args:
        step: a fixed eps in (0, 1]; raised to ``1 - r`` where the levels fall faster.
        power: how stochastic the walk is: T tends to ``1 - 1 / power`` for many steps.  1 is
            `ddim`, 2 with uncertainty 0 is `ddpm`, with uncertainty 1 `ve_sde`.  With an exact
            denoiser less noise is better at few steps; more noise forgets a network's errors.
        uncertainty: u in [0, 1], a number or ``(steps,)``.
    """
    power = number("consistent", "power", power, low=1, need="at least 1, the deterministic walk")
    sigmas, now, after = _levels(sigmas, repeats=step is not None)
    r = after / now
    eps = 1 - r**power if step is None else torch.clamp(1 - r, min=_relative(step))
    u = _per_step("consistent", "uncertainty", uncertainty)
    if (
        u.ndim > 1
        or (u.ndim == 1 and u.shape != now.shape)
        or not bool(((u >= 0) & (u <= 1)).all())
    ):
        raise ValueError(
            "consistent(uncertainty=): needs a number, or one a step, from 0 to 1; got shape "
            f"{tuple(u.shape)} for {len(now)} steps, values {float(u.min()):.3g} to "
            f"{float(u.max()):.3g}"
        )
    # Rounding can leave -1e-17 where eps = 1 - r.
    temperatures = ((r**2 - (1 - eps) ** 2 + u * eps**2) / (2 * eps)).clamp(min=0)
    return Recipe(sigmas, eps * now**2, _noise_free_end(temperatures))


def uncertainty_of(prior: Prior, sigmas: Tensor) -> Tensor:
    """``u_k = Var(x0 | x_sigma) / sigma_k^2``, ``(steps,)``, for `consistent`.

    The prior's denoising error averaged over pixels: exact priors know it, networks need a
    measured one.
    """
    refuse_unmeasured(prior, "uncertainty_of")
    now = check_schedule(sigmas, repeats=True)[:-1]
    errors = [float(prior.denoising_error(sigma).variance.mean()) for sigma in now.tolist()]
    return (torch.tensor(errors, dtype=torch.float64) / now**2).clamp(max=1)


def refuse_unmeasured(prior: Prior, caller: str) -> None:
    """Raise where the denoising error of `prior` is a guess."""
    instance(caller, "prior", prior, Prior, need="a prior")
    if not prior.error_is_measured:
        raise ValueError(
            f"{caller}: the denoising error of {prior!r} is not measured; set prior.error = "
            "ti.measure_denoising_error(prior, images), or use recipe='consistent'"
        )


RECIPES: dict[str, Callable[[Tensor], Recipe]] = {
    "consistent": consistent,
    "ddim": ddim,
    "ddpm": ddpm,
    "ddpm-large": ddpm_large,
    "euler": euler,
    "ncsn": ncsn,
    "pf-ode": pf_ode,
    "simple": simple,
    "ve-sde": ve_sde,
}


class PaperSetting(NamedTuple):
    """One unconditional experiment of the seed paper, for `simple`."""

    schedule: str
    steps: int
    step: float
    temperature: tuple[float, float]


# Version 1 of the paper, and the settings of its code in 2025.  "geometric" is the VE network's
# own grid, from 348 to 0.01, "vp-linear" that of the VP network.
PAPER_SETTINGS = {
    "v1-vp": PaperSetting("vp-linear", 10_000, 0.08, (0.85, 1.0)),
    "v1-vp-sigmoid": PaperSetting("sigmoid-v1", 10_000, 0.06, (0.85, 1.0)),
    "v1-ve": PaperSetting("geometric", 10_000, 0.02, (0.6, 1.0)),
    "2025-vp": PaperSetting("vp-linear", 1_000, 0.4, (0.4, 1.0)),
    "2025-vp-sigmoid": PaperSetting("sigmoid", 100, 0.7, (0.1, 1.0)),
    "2025-ve": PaperSetting("geometric", 1_000, 0.16, (0.4, 1.0)),
}


def check_recipe(recipe: Recipe) -> Recipe:
    """A hand-made recipe as float64; a `ValueError` says what is wrong with it."""
    sigmas = check_schedule(recipe.sigmas, repeats=True)
    taus, temperatures = (torch.as_tensor(numbers, dtype=torch.float64) for numbers in recipe[1:])
    steps = len(sigmas) - 1
    for name, numbers in (("taus", taus), ("temperatures", temperatures)):
        if numbers.shape != (steps,) or not bool((numbers >= 0).all() & numbers.isfinite().all()):
            raise ValueError(
                f"Recipe: needs {steps} finite {name} >= 0, one a step of its sigmas; got shape "
                f"{tuple(numbers.shape)}, values {numbers.tolist()[:4]} ..."
            )
    if float(temperatures[-1]) > 0:
        raise ValueError(
            f"Recipe: the last step goes to sigma 0 and must add no noise, but its temperature is "
            f"{float(temperatures[-1]):.3g}. Set temperatures[-1] = 0"
        )
    return Recipe(sigmas, taus, temperatures)


def _levels(sigmas: Tensor, *, repeats: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """The checked grid, the level of every step, and the level after it."""
    sigmas = check_schedule(sigmas, repeats=repeats)
    return sigmas, sigmas[:-1], sigmas[1:]


def _relative(step: float) -> float:
    need = "a share of the way to the denoised image, above 0 and at most 1"
    return number("recipe", "step", step, above=0, high=1, need=need)


def _noise_free_end(temperatures: Tensor) -> Tensor:
    if bool((temperatures < 0).any()):
        raise ValueError(f"temperature: must not be negative, got {float(temperatures.min()):.3g}")
    return torch.cat([temperatures[:-1].double(), torch.zeros(1, dtype=torch.float64)])
