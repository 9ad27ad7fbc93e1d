"""Solve over network and where the rest goes; wall time at equal quality."""

import pytest
import torch

from tests.posteriors import random_field
from tests.solve_problems import FIELD, MASK, Y
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.harness import profile
from tweedie_inverse.benchmarks.harness.profile import NETWORK, OTHER, PARTS, profiled
from tweedie_inverse.benchmarks.harness.records import Store, read
from tweedie_inverse.benchmarks.harness.standalone import Request
from tweedie_inverse.benchmarks.studies import equal_quality, overhead, speed
from tweedie_inverse.benchmarks.studies.equal_quality import Run
from tweedie_inverse.conditional import linear_gaussian
from tweedie_inverse.solving.solver import solve
from tweedie_inverse.walks import decoupled

MASK_8 = ops.Mask(ops.random_mask((1, 8, 8), 0.4), noise=ops.GaussianNoise(0.2))


def test_a_profile_adds_up_and_leaves_nothing_behind():
    before = decoupled.conditional_draw, type(FIELD).denoise
    watch = profile.Profile()
    with watch.inside(OTHER):
        parts = profiled(lambda: solve(Y, MASK, FIELD, num_samples=2, steps=4))
    assert (decoupled.conditional_draw, type(FIELD).denoise) == before
    assert decoupled.conditional_draw is linear_gaussian.conditional_draw
    assert set(parts) == set(PARTS)
    assert all(seconds > 0 for seconds in parts.values())
    assert sum(parts.values()) <= watch.seconds[OTHER]


def test_a_function_that_is_gone_is_no_silent_zero(monkeypatch):
    monkeypatch.setitem(profile._FUNCTIONS, "operator", ("conditional.problem:nothing",))
    before = decoupled.conditional_draw
    with pytest.raises(AttributeError, match="nothing"):
        profiled(lambda: None)
    assert decoupled.conditional_draw is before


def test_time_inside_of_a_part_is_not_that_of_the_part_round_it(monkeypatch):
    clock = iter([0.0, 1.0, 5.0, 7.0])
    monkeypatch.setattr(profile.time, "perf_counter", lambda: next(clock))
    watch = profile.Profile()
    with watch.inside(OTHER), watch.inside(NETWORK):
        pass
    assert (watch.seconds[OTHER], watch.seconds[NETWORK]) == (1 + 2, 4)


def test_the_network_alone_makes_the_calls_of_the_solve():
    field = random_field(8)
    calls = []
    original = type(field).denoise

    class Listed(type(field)):
        def denoise(self, x, sigma):
            calls.append((len(x), float(torch.as_tensor(sigma).flatten()[0])))
            return original(self, x, sigma)

    field.__class__ = Listed
    found = overhead.measured(MASK_8, MASK_8.measure(field.draw(1, seed=1)), field,
                              samples=3, steps=4, turns=1)  # fmt: skip
    assert found.evaluations == 4
    walks = [call for call in calls if call[0] == 3]
    assert len(walks) == 4 * 4  # recorded, timed, alone, profiled
    assert walks[:4] == walks[4:8] == walks[8:12]
    assert found.ratio == found.seconds / found.bare
    assert found.shares["operator"] == 100 * found.parts["operator"] / found.parts[NETWORK]


def test_each_instrument_has_a_row_with_its_parts(tmp_path):
    request = Request(smoke=True, tasks=("MRI",))
    store = Store(tmp_path)
    speed.record(request, store, log=lambda line: None)
    (record,) = read([tmp_path])
    assert record["unit"]["task"] == "MRI"
    assert record["run"]["ratio_to_network"] > 1
    assert set(PARTS) - {NETWORK} <= set(record["run"])
    with pytest.raises(ValueError, match="--tasks"):
        speed.record(Request(smoke=True, tasks=("nowhere",)), store, log=lambda line: None)


def test_the_fastest_of_ours_with_no_higher_crps_is_compared():
    task = "Gaussian blur"
    runs = [
        Run(task, "ours, 4", 0.032, 1.0, 1.0, 4),
        Run(task, "ours, 6", 0.027, 2.0, 2.0, 6),
        Run(task, "ours, 20", 0.026, 4.0, 4.0, 20),
        Run(task, "DiffPIR, 100", 0.028, 20.0, 20.0, 100),
        Run(task, "DPS, 1000", 0.02, 400.0, 400.0, 1000),
    ]
    diffpir, dps = equal_quality.verdicts(runs)
    assert (diffpir.ours, diffpir.speedup, diffpir.reached) == ("ours, 6", 10.0, False)
    assert (dps.ours, dps.speedup, dps.reached) == (None, 0.0, False)
    runs[1] = runs[1]._replace(seconds=1.0)
    assert equal_quality.verdicts(runs)[0].reached
    assert "| Gaussian blur | DPS, 1000 | none | 0 | 0 | 200 |" in equal_quality.lines(runs)
