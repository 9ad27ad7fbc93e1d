"""Recipes and integrators on Gaussian priors: one family, orders of convergence, refusals."""

import math
from functools import partial

import pytest
import torch

import tweedie_inverse as ti
from tests.laws import measured_order
from tweedie_inverse.benchmarks.studies.exact_laws import walk_variances
from tweedie_inverse.numerics import schedules
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.walks import INTEGRATORS, RECIPES, Churn, Coloured, Recipe, Template
from tweedie_inverse.walks.recipes import (
    check_recipe,
    consistent,
    ddim,
    ddpm,
    euler,
    ncsn,
    pf_ode,
    simple,
    uncertainty_of,
    ve_sde,
)

GRID = schedules.karras(12, 0.05, 10.0)
VARIANCES = torch.tensor([0.01, 0.1, 0.5, 1.0, 4.0], dtype=torch.float64)

# Convergent walks: a rule from the grid, and the order of the theory.
CONVERGENT = {
    "consistent": (lambda grid: Template(consistent(grid)), 1),
    "consistent-2": (lambda grid: Template(consistent(grid, power=3)), 1),
    "ddim": (lambda grid: Template(ddim(grid)), 1),
    "ddim-eta": (lambda grid: Template(ddim(grid, eta=0.5)), 1),
    "ddpm": (lambda grid: Template(ddpm(grid)), 1),
    "ddpm-learned": (lambda grid: Template(ddpm(grid, variance=0.5)), 1),
    "ddpm-large": (lambda grid: Template(ddpm(grid, variance=1.0)), 1),
    "pf-ode": (lambda grid: Template(pf_ode(grid)), 1),
    "ve-sde": (lambda grid: Template(ve_sde(grid)), 1),
    "heun": (lambda grid: INTEGRATORS["heun"], 2),
    "dpm++2m": (lambda grid: INTEGRATORS["dpm++2m"], 2),
    "churn": (lambda grid: Churn(churn=10), 2),
}


@pytest.mark.parametrize("name", CONVERGENT)
def test_order_of_convergence(name):
    """In law, by the exact recursion of the variance; within 0.4 of the theory."""
    make, order = CONVERGENT[name]
    assert make(GRID).order == order
    found = measured_order(make, VARIANCES, steps=(80, 160, 320, 640))
    assert found == pytest.approx(order, abs=0.4)


def test_every_recipe_is_a_walk_that_ends_without_noise():
    for make in RECIPES.values():
        recipe = check_recipe(make(GRID))
        assert len(recipe.taus) == len(recipe.temperatures) == 12
        assert recipe.temperatures[-1] == 0
        assert bool((recipe.taus > 0).all())


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: ddim(GRID, eta=1.0), lambda: ddpm(GRID)),
        (lambda: euler(GRID), lambda: ddim(GRID)),
        (lambda: consistent(GRID, power=1), lambda: ddim(GRID)),
        (lambda: consistent(GRID, power=2), lambda: ddpm(GRID)),
        (lambda: consistent(GRID, power=2, uncertainty=1), lambda: ve_sde(GRID)),
        (
            lambda: consistent(GRID, power=2, uncertainty=1 / (1 + GRID[:-1] ** 2)),
            lambda: ddpm(GRID, variance=1.0),
        ),
    ],
)
def test_recipes_are_one_family(made, expected):
    for ours, theirs in zip(made(), expected(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("variance", "large"), [(0.0, False), (1.0, True)])
def test_ddpm_is_the_row_that_the_paper_prints(variance, large):
    """``tau = (1 - alpha_t) / abar_t``, ``T = sigma_t'^2 alpha_t / (2 - 2 alpha_t)``, every t."""
    table = schedules.vp_linear_table()
    abar = 1 / (1 + table**2)
    before = torch.cat([torch.ones(1).double(), abar[:-1]])
    alpha = abar / before
    beta = 1 - alpha
    noise = beta if large else (1 - before) / (1 - abar) * beta  # beta or beta-tilde
    recipe = ddpm(torch.cat([table.flip(0), torch.zeros(1)]), variance=variance)
    torch.testing.assert_close(recipe.taus, (beta / abar).flip(0), rtol=1e-9, atol=0)
    expected = (noise * alpha / (2 - 2 * alpha)).flip(0)[:-1]
    torch.testing.assert_close(recipe.temperatures[:-1], expected, rtol=1e-9, atol=0)


POINT_MASS = {
    "consistent": consistent,
    "consistent-step": partial(consistent, step=0.4),
    "ddim": ddim,
    "ddim-eta": partial(ddim, eta=0.3),
    "ddpm": ddpm,
}


@pytest.mark.parametrize("name", POINT_MASS)
def test_point_mass_is_kept_at_its_noise_level(name):
    recipe = Template(POINT_MASS[name](GRID))
    nothing = torch.zeros(1, dtype=torch.float64)
    found = walk_variances(recipe, GRID, nothing, GRID[:1] ** 2)[:, 0]
    torch.testing.assert_close(found, GRID**2, rtol=1e-9, atol=1e-30)


@pytest.mark.parametrize("inner", [1, 3, 7])
def test_annealed_langevin_holds_its_levels_and_keeps_the_budget(inner):
    recipe = ncsn(GRID, inner=inner)
    assert len(recipe.sigmas) == len(GRID)
    levels, counts = recipe.sigmas[:-1].unique(return_counts=True)
    assert len(levels) == math.ceil(12 / inner)
    assert int(counts.max()) <= inner
    assert recipe.sigmas[0] == GRID[0]
    if inner < 12:
        assert recipe.sigmas[-2] == GRID[-2]


def edm_algorithm_2(denoise, sigmas, x, noise, churn, low, high, noise_std):
    """Karras et al. 2022, algorithm 2, line by line; ``noise(step)`` is drawn where gamma > 0."""
    count = len(sigmas) - 1
    for i in range(count):
        t, after = sigmas[i], sigmas[i + 1]
        gamma = min(churn / count, math.sqrt(2) - 1) if low <= t <= high else 0.0
        raised = t + gamma * t
        if gamma > 0:
            x = x + math.sqrt(raised**2 - t**2) * noise_std * noise(i + 1)
        slope = (x - denoise(x, raised)) / raised
        following = x + (after - raised) * slope
        if after != 0:
            second = (following - denoise(following, after)) / after
            following = x + (after - raised) * (slope + second) / 2
        x = following
    return x


@pytest.mark.parametrize("settings", [(0.0, 0.0, math.inf, 1.0), (4.0, 0.1, 5.0, 1.007)])
def test_churn_is_the_algorithm_of_the_paper(settings):
    churn, low, high, noise_std = settings
    prior = ti.priors.GaussianMixture(
        torch.tensor([[-1.0, 0.0], [1.5, 1.0]]).double(), torch.tensor([0.3, 0.7]).double(), 0.4
    )
    streams = Streams([("sample", 3, index) for index in range(5)])

    def noise(step):
        return streams.at(step).normal((2,), torch.zeros((), dtype=torch.float64))

    start = prior.centre + float(GRID[0]) * noise(0)
    expected = edm_algorithm_2(prior.denoise, GRID.tolist(), start, noise, *settings)
    walk = Churn(churn=churn, sigma_min=low, sigma_max=high, noise_std=noise_std)
    found = ti.sample(prior, 5, recipe=walk, schedule=GRID, seed=3, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_churn_does_not_ask_above_the_first_level():
    asked = []

    class Asked(ti.priors.Gaussian):
        def denoise(self, x, sigma):
            asked.append(float(sigma))
            return super().denoise(x, sigma)

    prior = Asked(torch.zeros(2).double(), covariance=torch.eye(2).double())
    ti.sample(prior, 2, recipe=Churn(churn=100), schedule=GRID)
    assert max(asked) <= float(GRID[0])
    assert asked[2] > float(GRID[1])  # and yet it churns


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ddim(GRID, eta=1.5), "from 0"),
        (lambda: ddim(GRID.flip(0)), "a last level of 0"),
        (lambda: ddim(torch.tensor([1.0, 2.0, 0.0])), "Sort it, noisiest first"),
        (lambda: ddpm(GRID, variance=torch.ones(3)), "one a step"),
        (lambda: ddpm(GRID, variance=-0.1), "from 0"),
        (lambda: ncsn(GRID, inner=0), "at least one step a level"),
        (lambda: ncsn(GRID, step=0.0), "share of the way"),
        (lambda: simple(GRID, step=1.5), "share of the way"),
        (lambda: simple(GRID, temperature=(-0.1, 1.0)), "must not be negative"),
        (lambda: consistent(GRID, power=0.5), "at least 1"),
        (lambda: consistent(GRID, uncertainty=2.0), "from 0 to 1"),
        (lambda: consistent(torch.tensor([2.0, 2.0, 0.0])), "must fall at every step"),
        (lambda: Churn(churn=-1.0), "must not be negative"),
        (
            lambda: check_recipe(Recipe(GRID, GRID[:-1], torch.ones(12).double())),
            "must add no noise",
        ),
        (lambda: check_recipe(Recipe(GRID, GRID, torch.zeros(12))), "12 finite taus"),
        (lambda: check_recipe(Recipe(GRID, -GRID[:-1], torch.zeros(12))), "taus >= 0"),
        (lambda: Coloured(power=0.9), "at least 1"),
        (lambda: ti.sample(_unmeasured(), 1, recipe="coloured"), "is not measured"),
        (lambda: uncertainty_of(_unmeasured(), GRID), "is not measured"),
    ],
)
def test_wrong_settings_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _unmeasured():
    return ti.priors.NetworkPrior(torch.nn.Identity(), "x0", shape=(1,))
