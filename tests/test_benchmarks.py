"""The benchmark of samplers runs, and its exact distance is that of the tests' own recursion."""

import pytest
import torch

from tweedie_inverse.benchmarks.studies import (
    guidance,
    noise_schedule,
    recipes,
    sample_grids,
    speed,
)
from tweedie_inverse.benchmarks.studies.exact_laws import final_variance, wasserstein
from tweedie_inverse.benchmarks.studies.mixture_problems import mixture_prior, mixture_problem
from tweedie_inverse.numerics import schedules
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


@pytest.mark.slow
def test_schedules_are_compared_on_their_own_grids():
    """Fixed curves end where their tables do, and every row is finite."""
    for name, make in noise_schedule.FIXED.items():
        curve, t = noise_schedule.TableCurve(make()), torch.linspace(0, 1, 7).double()
        step = 1e-7
        ahead, behind = curve.at(t[1:-1] + step).gamma, curve.at(t[1:-1] - step).gamma
        expected = (ahead - behind) / (2 * step)
        torch.testing.assert_close(curve.at(t[1:-1]).slope, expected, rtol=0.02, atol=0.02)
        ends = curve.at(t[[0, -1]]).gamma
        torch.testing.assert_close(ends, 2 * make()[[0, -1]].log(), msg=name)
    lines = list(noise_schedule.compare(["learned", "cosine"], 3, 2, 6))
    rows = [line for line in lines if line.startswith(("| learned", "| cosine", "| **"))]
    assert len(rows) == 6
    assert all(float(cell) > 0 for row in rows[:2] for cell in row.split("|")[3:8])


def test_judge_of_digits_knows_its_own():
    judge = guidance.Judge()
    assert judge.own > 0.95
    assert judge.accuracy(judge.images, (judge.labels + 1) % 10) < 0.05
    assert judge.diversity(judge.images, judge.labels) == pytest.approx(1)
    assert judge.diversity(0.5 * judge.images, judge.labels) == pytest.approx(0.5)


@pytest.mark.slow
def test_guidance_raises_the_accuracy_and_costs_diversity():
    judge = guidance.Judge()
    prior, classifier = guidance.networks(1000, 0)
    lines = list(guidance.unconditional(prior, classifier, judge, 20))[2:]
    cells = [line.split("|")[1:-1] for line in lines]
    table = {
        (kind.strip(), float(scale)): (float(accuracy), float(diversity))
        for kind, scale, accuracy, diversity in cells
    }
    for kind in ("classifier-free", "classifier"):
        assert table[kind, 0][0] < 0.3
        assert table[kind, 4][0] > table[kind, 0.5][0] + 0.1
        assert table[kind, 4][1] < table[kind, 0][1]
    assert len(list(guidance.measured(prior, classifier, judge, 30))) == 11


def test_the_mixture_posterior_is_the_textbook_one():
    """Components of the posterior against a fine grid along one coordinate pair."""
    problem = mixture_problem(mixture_prior(2), 1, seed=4)
    axis = torch.linspace(-24, 24, 961, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    prior = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=problem.prior.log_weights),
        torch.distributions.Independent(torch.distributions.Normal(problem.prior.means, 1.0), 1),
    )
    noise = torch.distributions.Normal(problem.operator.forward(grid)[:, 0], problem.std)
    log_joint = prior.log_prob(grid) + noise.log_prob(problem.y)
    evidence = torch.logsumexp(log_joint, 0) + 2 * torch.log(axis[1] - axis[0])
    assert problem.log_evidence == pytest.approx(float(evidence), abs=1e-6)
    weights = torch.softmax(log_joint, 0)
    log_weights, means, covariance = problem.components
    shares = log_weights.exp()
    torch.testing.assert_close(shares @ means, weights @ grid, rtol=1e-6, atol=1e-6)
    second = shares @ means.square() + covariance.diagonal()
    torch.testing.assert_close(second, weights @ grid.square(), rtol=1e-6, atol=1e-6)
    samples = problem.exact(4000, seed=1)
    error = (samples.mean(0) - shares @ means) / (samples.std(0) / 4000**0.5)
    assert float(error.abs().max()) < 5


@pytest.mark.slow
def test_memory_of_a_row_is_that_of_its_own_process():
    """In one process the second row would stay below the high-water mark of the first, at 0.

    The code that torch loads with the first convolution counts too (some 20 MB), so that the rows
    differ by less than their batches do.
    """
    many, few = (speed.apart(speed.Cell(speed.BARE, batch, 1)).memory for batch in (16, 1))
    assert many > 2 * few > 0


def test_sample_grids_draw_every_prior(tmp_path):
    samples = sample_grids.grids(["digits-32"], 3, 2)
    assert samples["digits-32"].shape == (3, 1, 32, 32)
    sample_grids.draw(samples, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").stat().st_size > 1000
