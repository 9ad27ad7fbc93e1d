"""The benchmark of samplers runs, and its exact distance is that of the tests' own recursion."""

import pytest
import torch

from benchmarks import recipes
from tests.laws import final_variance, wasserstein
from tweedie_inverse import schedules
from tweedie_inverse.walks import PAPER_SETTINGS, Template, consistent


def test_every_recipe_has_a_finite_row():
    lines = list(recipes.compare_recipes(60, [3, 4]))
    rows = [line for line in lines if line.startswith("| ") and "exact" not in line]
    per_target = 1 + len(recipes.recipes(recipes.mixture()))  # with the head
    assert len(rows) == len(recipes.TARGETS) * per_target
    for row in rows:
        if not row.startswith("| recipe"):
            assert all(float(cell) > 0 for cell in row.split("|")[2:-1])


def test_exact_distance_is_the_recursion_of_the_tests():
    s = recipes.field().covariance.variance.flatten()
    grid = schedules.karras(15, 0.01, 50.0)
    for make in (consistent, *(recipes.ramp(name) for name in PAPER_SETTINGS)):
        found = recipes.relative_wasserstein(make(grid), s)
        expected = wasserstein(final_variance(Template(make(grid)), grid, s), s) ** 0.5
        assert found == pytest.approx(expected, rel=1e-9)


def test_distance_is_zero_at_exact_samples_and_grows():
    distance = recipes.Distance(recipes.field(), 500)
    mean, std = distance.floor
    assert 0 < std < mean < 0.1
    assert distance.of("simple", 5) > 10 * mean > 0
    assert distance.of("dpm++2m", 30) < mean + 5 * std
    assert torch.equal(distance.exact, recipes.field().draw(500, seed=1))
