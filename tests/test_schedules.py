"""Noise-level grids and the continuous timestep."""

import pytest
import torch

from tweedie_inverse.numerics import schedules
from tweedie_inverse.numerics.schedules import SCHEDULES, TABLES, check_schedule


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 40])
def test_schedules_fall_from_end_to_end(name, steps):
    sigmas = SCHEDULES[name](steps, 0.03, 14.0)  # inside every table
    assert sigmas.dtype == torch.float64
    assert sigmas.shape == (steps + 1,)
    assert float(sigmas[0]) == pytest.approx(14.0)
    assert sigmas[-1] == 0
    assert bool((sigmas.diff() < 0).all())
    if steps > 1:
        assert float(sigmas[-2]) == pytest.approx(0.03, rel=1e-5)
    check_schedule(sigmas)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(
    ("steps", "low", "high"), [(0, 0.1, 1.0), (-3, 0.1, 1.0), (5, 2.0, 1.0), (5, -1.0, 0.0)]
)
def test_schedules_refuse_what_cannot_be(name, steps, low, high):
    with pytest.raises(ValueError, match="steps >= 1 and 0 < sigma_min <= sigma_max"):
        SCHEDULES[name](steps, low, high)


def test_ddpm_levels():
    sigmas = schedules.vp_linear(1000)
    assert float(sigmas[0]) == pytest.approx(157.407, rel=1e-5)
    assert float(sigmas[-2]) == pytest.approx(0.0100005, rel=1e-5)
    torch.testing.assert_close(sigmas[:-1].flip(0), schedules.vp_linear_table())


def test_a_table_ends_where_it_ends():
    sigmas = schedules.scaled_linear(10, 0.001, 500.0)
    assert float(sigmas[0]) == pytest.approx(14.6146, rel=1e-5)
    assert float(sigmas[-2]) == pytest.approx(0.0291672, rel=1e-5)


def test_log_snr_is_even_in_log_snr_and_geometric():
    sigmas = schedules.log_snr(30, 0.01, 50.0)
    steps = (-2 * sigmas[:-1].log()).diff()
    torch.testing.assert_close(steps, steps[:1].expand(29))
    torch.testing.assert_close(sigmas, schedules.geometric(30, 0.01, 50.0))


def test_sigmoids_differ_by_their_bend():
    """At half-time, ``(S(3/c) - S(1.5/c)) / (S(3/c) - 1/2)`` with the logistic function S."""
    for make, expected in ((schedules.sigmoid, 0.013296), (schedules.sigmoid_v1, 0.090353)):
        sigmas = make(101, 1e-6, 1.0)
        assert float(sigmas[50]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", TABLES)
def test_timestep_and_sigma_are_inverse(name):
    table = TABLES[name]()
    times = torch.linspace(0, 999, 4321, dtype=torch.float64)
    sigmas = schedules.timestep_to_sigma(times, table)
    assert bool((sigmas.diff() > 0).all())
    torch.testing.assert_close(schedules.sigma_to_timestep(sigmas, table), times)
    torch.testing.assert_close(
        schedules.timestep_to_sigma(torch.arange(1000).double(), table), table
    )
    log = torch.linspace(table[0].log(), table[-1].log(), 4321, dtype=torch.float64)
    there = schedules.sigma_to_timestep(log.exp(), table)
    torch.testing.assert_close(schedules.timestep_to_sigma(there, table), log.exp())


def test_timestep_is_linear_in_log_sigma_and_clamped():
    table = torch.tensor([0.01, 0.1, 1.0, 10.0]).double()
    sigmas = torch.tensor([0.001, 0.01, 0.1, 0.1**0.5, 10.0, 99.0]).double()
    expected = torch.tensor([0.0, 0.0, 1.0, 1.5, 3.0, 3.0]).double()
    torch.testing.assert_close(schedules.sigma_to_timestep(sigmas, table), expected)
    times = torch.tensor([-1.0, 1.5, 7.0]).double()
    expected = torch.tensor([0.01, 0.1**0.5, 10.0]).double()
    torch.testing.assert_close(schedules.timestep_to_sigma(times, table), expected)


@pytest.mark.parametrize(
    ("sigmas", "message"),
    [
        ([1.0, 2.0, 0.0], "level 0 is 1 and level 1 is 2. Sort it"),
        ([2.0, 2.0, 0.0], "must fall at every step"),
        ([2.0, 1.0], "a last level of 0"),
        ([2.0, -1.0, 0.0], "must fall at every step"),
        ([0.0], r"shape \(steps \+ 1,\)"),
        ([[2.0, 1.0, 0.0]], r"shape \(steps \+ 1,\)"),
        ([float("inf"), 1.0, 0.0], "finite"),
    ],
)
def test_wrong_schedules_are_told(sigmas, message):
    with pytest.raises(ValueError, match=message):
        check_schedule(torch.tensor(sigmas))


def test_repeated_levels_are_for_walks_that_want_them():
    held = torch.tensor([2.0, 2.0, 1.0, 0.0])
    assert check_schedule(held, repeats=True).dtype == torch.float64
    with pytest.raises(ValueError, match="positive noise levels"):
        check_schedule(torch.tensor([2.0, 0.0, 0.0]), repeats=True)
