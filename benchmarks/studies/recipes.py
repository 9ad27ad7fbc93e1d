"""Unconditional samplers on exact priors: distance from exact samples at equal evaluations.

    python -m tweedie_inverse.benchmarks.studies.recipes                  both tables
    python -m tweedie_inverse.benchmarks.studies.recipes --table recipes
        every recipe, Karras schedule
    python -m tweedie_inverse.benchmarks.studies.recipes --table ramps
        temperature: consistent against the paper's ramps

Distances are sliced Wasserstein (mean of W1 over 100 directions) in data units, against exact
samples; the first row of a table is the distance between two sets of exact samples, which nothing
can beat but by chance.  Lower is better.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import cached_property, partial

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse.app.endings import endings
from tweedie_inverse.evaluation.calibration import sliced_wasserstein
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.schedules import SCHEDULES
from tweedie_inverse.sampling.sampling import RecipeLike
from tweedie_inverse.walks import PAPER_SETTINGS, Recipe, consistent, ddim, simple, uncertainty_of

STEPS = (20, 50, 100, 1000)
# Samples of the walks have seeds of their own: exact draws must not share their streams.
_WALK_SEED = 10_000

Exact = ti.priors.Gaussian | ti.priors.GaussianMixture


def field(size: int = 8) -> ti.priors.Gaussian:
    """Periodic Gaussian field, spectrum ``1 / (f^2 + 0.0375^2)^1.3``, pixel variance 0.25."""
    f = torch.fft.fftfreq(size, dtype=torch.float64)
    spectrum = (f[:, None] ** 2 + f**2 + 0.0375**2) ** -1.3
    spectrum *= 0.25 / spectrum.mean()
    zero = torch.zeros(1, size, size, dtype=torch.float64)
    return ti.priors.Gaussian(zero, power_spectrum=spectrum)


def mixture(dimension: int = 8) -> ti.priors.GaussianMixture:
    """25 components at integer points of a plane, std 1/8: MCG-diff's benchmark, scaled by 1/8."""
    i, j = torch.meshgrid(torch.arange(-2, 3), torch.arange(-2, 3), indexing="ij")
    corners = torch.stack([i.flatten(), j.flatten()], dim=1).double()
    weights = normal((7,), (25,)) ** 2
    return ti.priors.GaussianMixture(corners.repeat(1, dimension // 2), weights, 1 / 8)


TARGETS: dict[str, Callable[[], Exact]] = {
    "field, 8x8, variances over three decades": field,
    "mixture of 25 in 8 dimensions": mixture,
}


def measured(prior: Exact) -> Callable[[Tensor], Recipe]:
    """`consistent` with the prior's own uncertainty."""
    return lambda grid: consistent(grid, uncertainty=uncertainty_of(prior, grid))


def ramp(name: str) -> Callable[[Tensor], Recipe]:
    """The paper's simple walk with the numbers of one of its experiments."""
    setting = PAPER_SETTINGS[name]
    return partial(simple, step=setting.step, temperature=setting.temperature)


def recipes(prior: Exact) -> dict[str, RecipeLike]:
    """Every sampler of the first table."""
    return {
        "ncsn": "ncsn",
        "paper's ramp, v1": ramp("v1-vp"),
        "paper's ramp, 2025": ramp("2025-vp"),
        "paper's ramp, 2025 sigmoid": ramp("2025-vp-sigmoid"),
        "ve-sde": "ve-sde",
        "ddpm, large variance": "ddpm-large",
        "ddpm, small variance": "ddpm",
        "ddim, eta 0.5": partial(ddim, eta=0.5),
        "ddim = EDM Euler": "ddim",
        "pf-ode, Euler in sigma^2": "pf-ode",
        "consistent, step 0.4": partial(consistent, step=0.4),
        "consistent": "consistent",
        "consistent, power 1.5": partial(consistent, power=1.5),
        "consistent, measured uncertainty": measured(prior),
        "coloured (noise not white)": "coloured",
        "heun (two evaluations a step)": "heun",
        "churn (two evaluations a step)": "churn",
        "dpm++2m (memory)": "dpm++2m",
    }


class Distance:
    """Sliced Wasserstein distance of a sampler from fixed exact samples of a prior."""

    def __init__(self, prior: Exact, count: int):
        self.prior, self.count, self.exact = prior, count, prior.draw(count, seed=1)

    @cached_property
    def floor(self) -> tuple[float, float]:
        """Between two sets of exact samples: mean and standard deviation of eight."""
        pairs = [
            sliced_wasserstein(self.prior.draw(self.count, seed=seed), self.exact)
            for seed in range(2, 10)
        ]
        values = torch.tensor(pairs)
        return float(values.mean()), float(values.std())

    def of(self, recipe: RecipeLike, steps: int, schedule: str = "karras") -> float:
        samples = ti.sample(
            self.prior,
            self.count,
            recipe=recipe,
            steps=steps,
            schedule=schedule,
            seed=_WALK_SEED,
            dtype=torch.float64,
        )
        return sliced_wasserstein(samples, self.exact)


def compare_recipes(count: int, budgets: list[int]) -> Iterator[str]:
    """One table for each target: recipes are rows, budgets are columns."""
    for name, make in TARGETS.items():
        prior = make()
        distance = Distance(prior, count)
        yield f"\n**{name}**, {count} samples, Karras schedule\n"
        yield "| recipe | " + " | ".join(map(str, budgets)) + " |"
        yield "|---|" + "---|" * len(budgets)
        mean, std = distance.floor
        yield f"| exact samples | {mean:.4f} +- {std:.4f} |" + " |" * (len(budgets) - 1)
        for label, recipe in recipes(prior).items():
            row = (f"{distance.of(recipe, steps):.4f}" for steps in budgets)
            yield f"| {label} | " + " | ".join(row) + " |"


def relative_wasserstein(recipe: Recipe, variance: Tensor) -> float:
    """Exact 2-Wasserstein distance of a recipe's law from ``N(0, variance)``, over its std.

    For a Gaussian prior every step is affine: the variance follows a recursion, and nothing is
    left to chance.  `variance` are the eigenvalues of the covariance.
    """
    found = torch.full_like(variance, float(recipe.sigmas[0]) ** 2)
    numbers = zip(*(column.tolist() for column in recipe), strict=False)
    for sigma, tau, temperature in numbers:
        found = (1 - tau / (variance + sigma**2)) ** 2 * found + 2 * tau * temperature
    return float(((found.sqrt() - variance.sqrt()).square().sum() / variance.sum()).sqrt())


def compare_ramps(count: int, budgets: list[int]) -> Iterator[str]:
    """One table for each target: schedules and budgets are rows, temperatures are columns."""
    gaussian = field(16)
    variance = gaussian.covariance.variance.flatten()

    def exact(recipe: Callable[[Tensor], Recipe], steps: int, schedule: str) -> float:
        grid = SCHEDULES[schedule](steps, gaussian.sigma_min, gaussian.sigma_max)
        return relative_wasserstein(recipe(grid), variance)

    yield "\n**field, 16x16**, exact law: 2-Wasserstein distance over the field's std\n"
    yield from _ramp_rows(exact, measured(gaussian), budgets, chance=0.0)
    prior = mixture()
    distance = Distance(prior, count)
    mean, std = distance.floor
    yield f"\n**mixture**, {count} samples: sliced Wasserstein, exact {mean:.4f} +- {std:.4f}\n"
    yield from _ramp_rows(distance.of, measured(prior), budgets, chance=std)


def _ramp_rows(
    distance: Callable[[Callable[[Tensor], Recipe], int, str], float],
    with_uncertainty: Callable[[Tensor], Recipe],
    budgets: list[int],
    chance: float,
) -> Iterator[str]:
    yield "| schedule | evaluations | best ramp | step 0.4 | consistent | measured |"
    yield "|---|---|---|---|---|---|"
    rows, won, lost = 0, 0, 0
    for schedule in (name for name in SCHEDULES if name != "log-snr"):  # the same as geometric
        for steps in budgets:
            ramps = {name: distance(ramp(name), steps, schedule) for name in PAPER_SETTINGS}
            best = min(ramps, key=ramps.__getitem__)
            ours = [
                distance(recipe, steps, schedule)
                for recipe in (partial(consistent, step=0.4), consistent, with_uncertainty)
            ]
            rows, won = rows + 1, won + (ours[1] < ramps[best])
            lost += ours[1] > ramps[best] + chance
            cells = " | ".join(f"{value:.4f}" for value in ours)
            yield f"| {schedule} | {steps} | {ramps[best]:.4f} ({best}) | {cells} |"
    yield (
        f"\nConsistent is nearer than the best of the paper's six ramps in {won} of {rows} rows, "
        f"and further by more than chance ({chance:.4f}) in {lost}."
    )


TABLES = {"recipes": compare_recipes, "ramps": compare_ramps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    options = parser.parse_args()
    for name in options.table:
        for line in TABLES[name](options.samples, options.steps):
            print(line, flush=True)


if __name__ == "__main__":
    with endings():
        main()
