"""``benchmarks compare``, ``gate`` and ``export``, against numbers worked out by hand."""

import csv
import json
import math
import random

import pytest
from scipy.stats import ttest_rel

from tests.test_leaderboard import PROBLEM, many, probability, record
from tweedie_inverse.benchmarks.harness import comparison, export, records
from tweedie_inverse.benchmarks.harness.commands import main
from tweedie_inverse.benchmarks.harness.comparison import Margin, compare
from tweedie_inverse.benchmarks.harness.gate import gate, margin_of

OLD = many("m", [1.0] * 4)
NEW = many("m", [1.03, 1.05, 1.03, 1.05])
TWO_PERCENT = Margin(0.02, True)


def written(tmp_path, **sides):
    paths = []
    for name, found in sides.items():
        paths.append(tmp_path / f"{name}.jsonl")
        paths[-1].write_text(records.in_lines(found))
    return [str(path) for path in paths]


def test_a_change_by_hand():
    """0.03, 0.05, 0.03, 0.05: mean 0.04, error 0.02 / sqrt(3) / 2, so that t / sqrt(3) is 4."""
    (row,) = compare(OLD, NEW, "crps").changes
    assert (row.old, row.new) == (1.0, pytest.approx(1.04))
    assert row.change.mean == pytest.approx(0.04)
    assert row.change.error == pytest.approx(0.01 / math.sqrt(3))
    assert row.raised == pytest.approx(probability(4))
    assert row.raised == pytest.approx(ttest_rel([1.03, 1.05, 1.03, 1.05], [1.0] * 4).pvalue)
    assert row.verdict == "worse"
    (back,) = compare(NEW, OLD, "crps").changes
    assert back.verdict == "better"
    (same,) = compare(OLD, OLD, "crps").changes
    assert (same.verdict, same.raised) == ("the same", 1.0)


def test_a_gate_by_hand():
    """Beyond 2 % there are 0.01 and 0.03: t / sqrt(3) is 2, one-sided p 0.0203."""
    found = compare(OLD, NEW, "crps", TWO_PERCENT)
    assert found.changes[0].raised_worse == pytest.approx(probability(2) / 2)
    passed, lines = gate(found)
    assert not passed
    assert "CRPS 1.0000 became 1.0400, worse by more than 2 % (p = 0.02)" in lines[0]
    passed, (line,) = gate(compare(OLD, NEW, "crps", Margin(0.05, True)))
    assert passed
    # 1.04 and 2.3534 standard errors of 0.01 / sqrt(3).
    assert "no row is worse by more than 5.4 %" in line
    assert not gate(compare(OLD, NEW, "crps", Margin(0.02, False)))[0]


def test_many_rows_are_allowed_for():
    """Three rows that are the same raise 0.0203 to 0.0608."""
    others = [one for task in "bc" for one in many("m", [1.0] * 4, task=task)]
    assert gate(compare([*OLD, *others[:4]], [*NEW, *others[:4]], "crps", TWO_PERCENT))[0] is False
    assert gate(compare([*OLD, *others], [*NEW, *others], "crps", TWO_PERCENT))[0]


def test_chance_does_not_fail_a_gate_and_a_fault_does():
    """Ten rows of eight images without a true change: at most one gate in twenty may fail."""
    draw = random.Random(7)
    tries, failed, found = 30, 0, 0
    for _ in range(tries):
        old, new, worse = [], [], []
        for task in map(str, range(10)):
            values = [draw.gauss(1, 0.3) for _ in range(8)]
            again = [value + draw.gauss(0, 0.05) for value in values]
            old += many("m", values, task=task)
            new += many("m", again, task=task)
            fault = 0.3 if task == "3" else 0.0
            worse += many("m", [value + fault for value in again], task=task)
        failed += not gate(compare(old, new, "crps"))[0]
        found += not gate(compare(old, worse, "crps"))[0]
    assert failed <= 0.05 * tries + 5 * math.sqrt(0.05 * 0.95 * tries)
    assert found == tries


def test_a_method_that_fails_now_is_no_pass():
    broken = [*OLD[:3], record("m", 3, 0.0, failed="NaN", run={})]
    found = compare(OLD, broken, "crps")
    assert found.changes[0].verdict == "failed"
    passed, lines = gate(found)
    assert not passed
    assert "failed on images 3, which it solved before" in lines[0]
    assert gate(compare(broken, OLD, "crps"))[0]
    nothing = [record("m", image, 0.0, failed="NaN", run={}) for image in range(4)]
    assert not gate(compare(OLD, nothing, "crps"))[0]


def test_other_directions():
    def of(**values):
        return [
            {**one, "metrics": {name: given[image] for name, given in values.items()}}
            for image, one in enumerate(OLD)
        ]

    old = of(psnr_mean=[30.0] * 4, coverage=[0.9, 0.91, 0.9, 0.91])
    new = of(psnr_mean=[31.0, 31.1, 31.0, 31.1], coverage=[0.8, 0.81, 0.8, 0.81])
    assert compare(old, new, "psnr_mean").changes[0].verdict == "better"
    assert compare(new, old, "psnr_mean").changes[0].verdict == "worse"
    row = compare(old, new, "coverage").changes[0]
    assert row.change.mean == pytest.approx(-0.1)
    assert row.worse.mean == pytest.approx((0.1 + 0.09 - 0.0 - 0.01) / 2)
    assert row.verdict == "worse"
    with pytest.raises(ValueError, match="its distance from there has no percentage"):
        compare(old, new, "coverage", TWO_PERCENT)


def test_what_cannot_be_paired(tmp_path):
    fewer = [*OLD[:3], *many("m", [1.0] * 4, task="b")]
    found = compare(OLD, fewer, "crps")
    assert found.only_old == (f"mine: a: m, image 3 ({PROBLEM}; seed 0, 8 samples)",)
    assert found.only_new[0].startswith("mine: b: m, images 0, 1, 2, 3 (")
    with pytest.raises(ValueError, match="the problems differ: only in OLD: mine: a: m, image 3"):
        gate(found)
    other = [json.loads(json.dumps(one).replace("operator", "another")) for one in OLD]
    with pytest.raises(ValueError, match="no unit in common that has CRPS"):
        compare(OLD, other, "crps")
    with pytest.raises(ValueError, match="there are psnr_sample, "):
        compare(OLD, NEW, "speed")
    with pytest.raises(ValueError, match="has one image"):
        gate(compare(OLD[:1], NEW[:1], "crps"))
    twice = [*OLD, json.loads(json.dumps(OLD[0]).replace('"source": "s"', '"source": "tuned"'))]
    with pytest.raises(ValueError, match="OLD holds m with several settings or priors on mine: a"):
        compare(twice, NEW, "crps")


def test_settings_and_weights_may_differ():
    changed = [json.loads(json.dumps(one).replace('"source": "s"', '"source": "t"')) for one in NEW]
    changed = [{**one, "unit": {**one["unit"], "weights": "v"}} for one in changed]
    assert compare(OLD, changed, "crps").changes[0].change.pairs == 4


def test_margins():
    assert margin_of("2%") == margin_of(" 2.0 % ") == TWO_PERCENT
    assert margin_of("0.001") == Margin(0.001, False)
    for wrong in ("-1%", "nan", "two", "", "inf"):
        with pytest.raises(ValueError, match="needs a number of 0 or more"):
            margin_of(wrong)


def test_the_commands(tmp_path, capsys):
    old, new = written(tmp_path, old=OLD, new=NEW)
    main(["compare", old, new])
    text = capsys.readouterr().out
    assert "| mine: a | m | 4 | 1.0000 | 1.0400 | +0.04000 +- 0.00577 | 0.006 | worse |" in text
    assert "CRPS: 1 worse" in text
    assert "90 % coverage: 1 the same" in text
    main(["compare", old, new, "--metrics", "crps", "--out", str(tmp_path / "c.md")])
    assert (tmp_path / "c.md").read_text().count("| task |") == 1
    capsys.readouterr()
    main(["gate", old, new, "--worse-than", "6%"])
    assert "gate: passed: crps, margin 6 %" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["gate", old, new, "--metric", "crps", "--worse-than", "2%"])
    assert end.value.code == 1
    assert "gate: NOT PASSED" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["gate", old, str(tmp_path / "none")])
    assert end.value.code == 2
    assert "there is no such folder of results" in capsys.readouterr().err


def test_exports(tmp_path, capsys):
    skipped = record("n", 0, 0.0, skipped="needs a linear operator")
    (source,) = written(tmp_path, some=[*OLD, skipped])
    folder = tmp_path / "new"
    for kind in ("csv", "jsonl"):
        main(["export", source, "--out", str(folder / f"r.{kind}")])
    assert "(5 records)" in capsys.readouterr().out
    with (folder / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["metrics.crps"] for row in rows].count("1.0") == 4
    assert sum(row["skipped"] != "" for row in rows) == 1
    assert {json.loads(row["settings"])["source"] for row in rows} == {"s"}
    assert records.read([folder / "r.jsonl"]) == records.read([source])
    with pytest.raises(ValueError, match=r"ends in \.parquet, \.csv, \.jsonl"):
        export.write([source], folder / "r.xlsx")


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    mixed = [*OLD, record("n", 0, 2.0, evaluations=17.5)]
    (source,) = written(tmp_path, some=mixed)
    path, number = export.write([source], tmp_path / "r.parquet")
    table = parquet.read_table(path)
    assert (table.num_rows, number) == (5, 5)
    assert sorted(table["metrics.crps"].to_pylist()) == [1.0, 1.0, 1.0, 1.0, 2.0]
    assert sorted(table["cost.evaluations"].to_pylist())[0] == 17.5
    assert table["metrics.coverage"].to_pylist() == [0.9] * 5


def test_every_metric_has_a_direction():
    for column in comparison.METRICS.values():
        assert column.best in ("high", "low") or math.isfinite(float(column.best))
