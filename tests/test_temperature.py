"""The temperature: what a fixed step does to the image, the paper's ramps, the consistent walk."""

import math

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse.benchmarks.studies.exact_laws import (
    final_variance,
    walk_variances,
    wasserstein,
)
from tweedie_inverse.numerics import schedules
from tweedie_inverse.walks import PAPER_SETTINGS, Coloured, Template
from tweedie_inverse.walks.recipes import consistent, ncsn, simple, uncertainty_of

GRID = schedules.karras(12, 0.05, 10.0)
VARIANCES = torch.tensor([0.01, 0.1, 0.5, 1.0, 4.0], dtype=torch.float64)


def test_flat_uncertainty_is_the_first_order_rule():
    """u = 1 gives T = 1 - delta / (2 tau), which keeps the marginals to first order."""
    recipe = consistent(GRID, step=0.6, uncertainty=1.0)
    delta = GRID[:-1] ** 2 - GRID[1:] ** 2
    torch.testing.assert_close(recipe.temperatures[:-1], (1 - delta / (2 * recipe.taus))[:-1])


def test_measured_uncertainty_is_exact_for_one_variance_at_any_number_of_steps():
    s = torch.tensor([0.7], dtype=torch.float64)
    prior = ti.priors.Gaussian(torch.zeros(1).double(), covariance=s.diag())
    grid = schedules.geometric(4, 0.01, 30.0)
    for options in ({}, {"step": 0.5}, {"power": 3}):
        recipe = Template(consistent(grid, uncertainty=uncertainty_of(prior, grid), **options))
        found = walk_variances(recipe, grid, s, s + grid[0] ** 2)
        torch.testing.assert_close(found[:-1, 0], s + grid[:-1] ** 2)


def test_coloured_noise_is_exact_for_every_gaussian_at_any_number_of_steps():
    grid = schedules.geometric(4, 0.01, 30.0)
    for power in (1, 1.5, 4):
        found = walk_variances(Coloured(power), grid, VARIANCES, VARIANCES + grid[0] ** 2)
        torch.testing.assert_close(found[:-1], VARIANCES + grid[:-1, None] ** 2)


def test_fixed_step_contracts_the_image_however_many_levels():
    """Why the consistent temperature at eps 0.4 gives variance 0.2 for 0.25, at 400 steps or more.

    Inside a level the noise-exact temperature is ``1 - eps / 2``, the stationary variance of the
    walk ``(1 - eps / 2) / (1 - eps sigma^2 / (2 (s + sigma^2)))`` of the right one: 1 for a point
    mass, ``1 - eps / 2`` for an image much larger than the noise.  More levels do not help; a
    step that follows the levels does.
    """
    field = random_field(16).covariance.variance.flatten()
    for steps, tolerance in ((400, 0.03), (20_000, 0.003)):
        grid = schedules.karras(steps, 0.001, 50.0)
        ratio = final_variance(Template(consistent(grid, step=0.4)), grid, field) / field
        assert float(ratio.min()) > 0.8 - tolerance
        assert float(ratio.max()) == pytest.approx(0.8, abs=tolerance)
    errors = {}
    for steps in (400, 1600):
        grid = schedules.karras(steps, 0.001, 500.0)
        for step in (0.4, None):
            variance = final_variance(Template(consistent(grid, step=step)), grid, field).mean()
            errors[steps, step] = 0.25 - float(variance)
    assert errors[400, 0.4] == pytest.approx(0.05, abs=0.001)
    assert errors[1600, 0.4] == pytest.approx(0.05, abs=0.001)
    assert errors[400, None] == pytest.approx(4 * errors[1600, None], rel=0.2)
    assert errors[400, None] < 0.1 * errors[400, 0.4]


def test_annealed_langevin_over_disperses_by_its_step():
    """T = 1 at a fixed step: ``1 / (1 - eps sigma^2 / (2 (s + sigma^2)))`` inside a level."""
    s, sigma, eps = 0.5, 2.0, 0.3
    total = s + sigma**2
    grid = torch.tensor([sigma] * 200 + [0.0], dtype=torch.float64)
    walk = Template(ncsn(grid, step=eps))
    s = torch.tensor([s], dtype=torch.float64)
    found = walk_variances(walk, grid, s, torch.tensor([total]).double())[-2]
    assert float(found) == pytest.approx(total / (1 - eps * sigma**2 / (2 * total)), rel=1e-9)


# The grids' ends in the paper's experiments, and what its ramps do to a point mass: noise of the
# walk over the nominal level at 10, 25, 50, 75 and 90 % of the steps; last, the median of the
# temperature that would keep it at 1.
RAMPS = {
    "v1-vp": (0.0, math.inf, [0.96, 0.97, 0.99, 1.01, 1.02], 0.95),
    "2025-vp": (0.0, math.inf, [0.77, 0.84, 0.94, 1.04, 1.10], 0.78),
    "2025-vp-sigmoid": (0.0100005, 157.407, [0.59, 0.79, 1.03, 1.23, 1.35], 0.52),
    "2025-ve": (0.01, 348.0, [0.73, 0.80, 0.90, 1.00, 1.05], 0.855),
}


@pytest.mark.parametrize("name", RAMPS)
def test_the_papers_ramps_are_cold_early_and_hot_late(name):
    """An independent analysis of the published settings, to its two decimals and one step."""
    low, high, expected, temperature = RAMPS[name]
    setting = PAPER_SETTINGS[name]
    grid = schedules.SCHEDULES[setting.schedule](setting.steps, low, high)
    walk = Template(simple(grid, step=setting.step, temperature=setting.temperature))
    nothing, one = torch.zeros(1).double(), torch.ones(1).double()  # the paper starts at std 1
    stds = walk_variances(walk, grid, nothing, one)[:, 0].sqrt()
    places = [int(share * setting.steps) for share in (0.1, 0.25, 0.5, 0.75, 0.9)]
    found = (stds[:-1] / grid[:-1])[places]
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=0, atol=0.02)
    assert 0.004 < float(stds[-1]) < 0.014
    kept = consistent(grid, step=setting.step).temperatures.median()
    assert float(kept) == pytest.approx(temperature, abs=0.01)


@pytest.mark.parametrize("steps", [20, 50, 100, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("schedule", schedules.SCHEDULES)
def test_consistent_temperature_beats_the_papers_ramps(schedule, steps):
    """On a field with variances over three decades, at equal evaluations, on every schedule."""
    field = random_field(16)
    s = field.covariance.variance.flatten()
    grid = schedules.SCHEDULES[schedule](steps, field.sigma_min, field.sigma_max)

    def distance(recipe):
        return wasserstein(final_variance(Template(recipe), grid, s), s)

    ours = distance(consistent(grid))
    for setting in PAPER_SETTINGS.values():
        assert ours < distance(simple(grid, step=setting.step, temperature=setting.temperature))
