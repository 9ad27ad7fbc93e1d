"""``benchmarks run --dry-run`` says what a run costs, and the run agrees."""

import re
from dataclasses import replace

import pytest
import torch

from tests.harness import PLAN as WHOLE
from tests.harness import chosen
from tweedie_inverse.benchmarks.harness import dry_run, records, runner
from tweedie_inverse.benchmarks.harness.commands import main
from tweedie_inverse.benchmarks.harness.records import Store
from tweedie_inverse.benchmarks.problems.priors import field_prior

pytest.importorskip("deepinv")
METHODS = ("decoupled", "ddrm", "wiener")
PLAN = replace(WHOLE, tasks=("blur", "sparse-view CT"), keep_samples=False)


def test_evaluations_are_those_of_the_run(tmp_path):
    """Two images, two samples, three evaluations each: 12; what is done is not counted again."""
    store, methods = Store(tmp_path / "results"), chosen(*METHODS)
    before = {(one.task, one.method): one for one in dry_run.shares(PLAN, methods, store)}
    assert not (tmp_path / "results").exists()
    blur = {name: before["blur", name] for name in METHODS}
    assert [one.evaluations for one in blur.values()] == [12, 12, 0]
    assert [one.left for one in blur.values()] == [2, 2, 2]
    assert before["sparse-view CT", "ddrm"].refused == 2
    assert before["sparse-view CT", "ddrm"].left == 0
    runner.run(PLAN, methods, store, log=lambda line: None)
    for record in records.read([tmp_path / "results"]):
        if "cost" in record and record["unit"]["method"] != "wiener":
            assert record["cost"]["evaluations"] == 3
    after = dry_run.shares(PLAN, methods, store)
    assert sum(one.evaluations for one in after) == 0
    assert sum(one.finished for one in after) == sum(one.left for one in before.values())


def test_time_and_memory_are_those_of_an_evaluation(monkeypatch):
    """A prior that takes a known time and a known memory."""
    prior = field_prior(16)
    clock = iter([10.0, 10.5])
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: next(clock))
    timing = dry_run.timed(prior, 4, "cpu")
    assert (timing.images, timing.seconds) == (4, 0.5)
    assert timing.peak >= 4 * 16 * 16 * 4
    monkeypatch.setattr(dry_run, "timed", lambda *given: dry_run.Timing(2, 0.5, 1000.0))
    store = Store("nowhere")
    (one,) = [one for one in dry_run.shares(PLAN, chosen("decoupled"), store) if one.task == "blur"]
    assert one.seconds == pytest.approx(12 / 2 * 0.5)
    assert one.memory > 1000


def test_the_command_writes_nothing(tmp_path, capsys):
    out = tmp_path / "results"
    common = ["field", "--smoke", "--methods", "decoupled", "wiener", "--tasks", "blur"]
    with torch.random.fork_rng():
        main(["run", *common, "--dry-run", "--out", str(out)])
    text = capsys.readouterr().out
    assert not out.exists()
    assert re.search(r"blur: decoupled: 1 unit, 6 evaluations, \d+\.\d s, \d+ MiB", text)
    assert "blur: wiener: 1 unit, without a network" in text
    assert re.search(r"in all 2 units, 6 evaluations, \d+\.\d s of the network alone on cpu", text)
    main(["run", "operators", "--dry-run", "--out", str(out)])
    assert "its cost cannot be told" in capsys.readouterr().out
    assert not out.exists()


def test_words():
    assert [dry_run.duration(one) for one in (0.04, 90, 7200)] == ["0.0 s", "1.5 min", "2.0 h"]
    assert [dry_run.size(one) for one in (2**21, 3 * 2**30)] == ["2 MiB", "3.0 GiB"]
