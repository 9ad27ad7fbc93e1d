"""Measurements that run together: same numbers, failures apart, memory's limit found once."""

from dataclasses import dataclass, replace

import pytest
import torch

from tests.harness import FEW, PLAN, chosen, results
from tweedie_inverse.app.distributed import Place
from tweedie_inverse.benchmarks.harness import runner
from tweedie_inverse.benchmarks.harness.plan import packs
from tweedie_inverse.benchmarks.harness.records import Store, read
from tweedie_inverse.benchmarks.harness.runner import number, run
from tweedie_inverse.benchmarks.methods.base import Method
from tweedie_inverse.benchmarks.methods.registry import METHODS
from tweedie_inverse.benchmarks.problems.priors import load
from tweedie_inverse.benchmarks.problems.suites import field
from tweedie_inverse.priors.counting import CountedPrior
from tweedie_inverse.runtime.memory import in_parts

TOGETHER = ["decoupled", "langevin", "particle", "wiener", "pseudo-inverse", "dps"]


@pytest.mark.parametrize("name", TOGETHER)
def test_samples_do_not_depend_on_what_runs_together(name):
    """Up to rounding, which conjugate gradients stopped early (pseudo-inverse) enlarge."""
    close = 1e-3 if name == "pseudo-inverse" else 1e-5
    task, prior = field(16, 2, "test")[1], load("field-16")
    y, method = task.operator.measure(task.truths, seed=1), METHODS[name].within(4)
    seeds = [[5, 6, 7], [8, 9, 10]] if method.samples_posterior else [[5], [8]]
    whole = method.draw(y, task, prior, seeds, 6)
    for size in (1, 4):
        parts = method.draw(y, task, prior, seeds, size)
        torch.testing.assert_close(whole, parts, atol=close, rtol=close)
    for mine, one, samples in zip(seeds, y, whole, strict=True):
        alone = method.draw(one[None], task, prior, [mine], 3)[0]
        torch.testing.assert_close(samples, alone, atol=close, rtol=close)


@pytest.mark.slow
def test_packs_of_measurements_give_the_same_numbers(tmp_path):
    """Together or one by one: the same units, the same metrics up to rounding."""
    plan = replace(PLAN, together=4)
    assert [len(pack.units) for pack in packs(plan, chosen(*FEW))] == [2] * 16
    run(PLAN, chosen(*FEW), Store(tmp_path / "alone"), log=lambda line: None)
    run(plan, chosen(*FEW), Store(tmp_path / "packed"), log=lambda line: None)
    found, alone = read([tmp_path / "packed"]), read([tmp_path / "alone"])
    assert {record["unit"]["image"] for record in found} == {0, 1}
    for mine, theirs in zip(found, alone, strict=True):
        assert mine["unit"] == theirs["unit"]
        assert mine["cost"] == theirs["cost"]
        for name, value in theirs["metrics"].items():
            if isinstance(value, float):
                assert mine["metrics"][name] == pytest.approx(value, rel=1e-3, abs=1e-5)


def test_a_limit_below_one_measurements_samples_is_kept():
    plan = replace(PLAN, together=1, images=1, tasks=("blur",))
    assert {(len(pack.units), pack.together) for pack in packs(plan, chosen(*FEW))} == {(1, 1)}
    on_gpu = replace(PLAN, device="cuda", images=200)
    sizes = {len(pack.units) for pack in packs(on_gpu, chosen("wiener"))}
    assert (on_gpu.pack, sizes) == (128, {128, 72})


def test_two_ranks_of_packs_equal_one(tmp_path):
    plan = replace(PLAN, images=3, together=4, tasks=("blur",))
    run(plan, chosen(*FEW), Store(tmp_path / "one"), log=lambda line: None)
    for rank in (1, 0):
        place = Place(rank, 2)
        store = Store(tmp_path / "two")
        run(plan, chosen(*FEW), store, place=place, log=lambda line: None)
    assert results(tmp_path / "two") == results(tmp_path / "one")


@dataclass(frozen=True)
class Hungry(Method):
    """A method whose accelerator holds three samples."""

    source = "made up"

    def draw(self, y, task, prior, seeds, together):
        def part(first, last):
            if last - first > 3:
                raise torch.OutOfMemoryError
            return torch.ones(last - first, *task.operator.domain_shape) / 2

        rows = torch.cat(list(in_parts(len(y) * len(seeds[0]), together, part)))
        return rows.reshape(len(y), len(seeds[0]), *rows.shape[1:])


def test_a_batch_that_was_too_large_is_logged_and_recorded(tmp_path):
    lines = []
    plan = replace(PLAN, together=8, tasks=("blur",))
    run(plan, {"hungry": Hungry()}, Store(tmp_path), log=lines.append)
    notice = "out of memory with 4 samples at once; going on with 2"
    assert any(line.startswith(notice) for line in lines)
    assert all(record["warnings"][0].startswith(notice) for record in read([tmp_path]))


@dataclass(frozen=True)
class Fails(Method):
    """A method that cannot solve the first image."""

    source = "made up"

    def draw(self, y, task, prior, seeds, together):
        if torch.equal(y[0], task.operator.measure(task.truths[0], seed=FIRST_SEED)):
            raise ArithmeticError("diverged")
        return torch.ones(len(y), len(seeds[0]), *task.operator.domain_shape)


FIRST_SEED = number(("measurement", 0, "field", "blur", 0))


def test_a_failure_in_a_pack_is_that_measurements_alone(tmp_path):
    plan = replace(PLAN, together=8, tasks=("blur",))
    run(plan, {"fails": Fails()}, Store(tmp_path), log=lambda line: None)
    found = {record["unit"]["image"]: record for record in read([tmp_path])}
    assert found[0]["failed"] == "diverged"
    assert "metrics" in found[1]


class Small(CountedPrior):
    """A prior whose accelerator holds three images, and that notes how many it is asked for."""

    def __init__(self, prior):
        super().__init__(prior)
        self.asked = []

    def for_shape(self, shape):
        return self

    def hold(self, x):
        self.asked.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError

    def denoise(self, x, sigma):
        self.hold(x)
        return super().denoise(x, sigma)

    def denoise_drawing(self, x, sigma, noise):
        self.hold(x)
        return super().denoise_drawing(x, sigma, noise)


def test_a_limit_is_found_once_for_every_task_and_method(tmp_path, monkeypatch):
    """Three packs of four samples: only the first is tried as a whole."""
    prior, lines = Small(load("field-16")), []
    monkeypatch.setattr(runner, "load", lambda name, device: prior)
    plan = replace(PLAN, images=6, cap=2, together=4, tasks=("blur", "super-resolution"))
    run(plan, chosen("decoupled", "dps"), Store(tmp_path), log=lines.append)
    assert prior.asked.count(4) == 2 * 2
    assert set(prior.asked) == {4, 2}
    assert len([line for line in lines if "out of memory" in line]) == 2 * 2
    found = read([tmp_path])
    assert {record["run"]["samples_together"] for record in found} == {2}
    assert {record["unit"]["image"] for record in found if record["warnings"]} == {0, 1}
    monkeypatch.undo()
    run(plan, chosen("decoupled", "dps"), Store(tmp_path / "ample"), log=lines.append)
    for mine, ample in zip(found, read([tmp_path / "ample"]), strict=True):
        assert ample["run"]["samples_together"] == 4
        assert mine["metrics"]["crps"] == pytest.approx(ample["metrics"]["crps"], rel=1e-4)
