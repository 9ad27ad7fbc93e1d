"""Suites that are programs: records as the other suites', and the same tables either way."""

import math
from statistics import fmean, stdev

import pytest
import torch

import tweedie_inverse as ti
from tests.harness import results
from tweedie_inverse.benchmarks.harness import report, table
from tweedie_inverse.benchmarks.harness.commands import RECORDS, main
from tweedie_inverse.benchmarks.harness.records import Store, read
from tweedie_inverse.benchmarks.harness.standalone import Request
from tweedie_inverse.benchmarks.harness.work_loop import finish
from tweedie_inverse.benchmarks.problems.suites import STUDIES
from tweedie_inverse.benchmarks.studies import mixture, speed, tiles
from tweedie_inverse.benchmarks.studies.mixture_problems import mixture_problem
from tweedie_inverse.numerics.random import normal

MIXTURE = ["run", "mixture", "--smoke", "--tasks", "d = 8, 1 measurement"]


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    main([*MIXTURE, "--out", str(folder)])
    return folder


def of(found, method):
    mine = [record for record in found if record["unit"]["method"] == method]
    return sorted(mine, key=lambda record: record["unit"]["image"])


def test_a_record_is_a_problem_and_a_method_with_its_origin(mixtures):
    found = read([mixtures])
    assert len(found) == 2 * (1 + len(mixture.WALKS))
    assert len({record["run"]["commit"] for record in found}) == 1
    for record in of(found, "particle"):
        assert record["cost"] == {"evaluations": 10, "vector_jacobian_products": 0}
        assert record["unit"]["settings"]["path"] == "tweedie"
        assert record["unit"]["samples"] == 100


def test_a_record_is_what_solve_gives_for_that_problem(mixtures):
    record = of(read([mixtures]), "particle")[1]
    problem = mixture_problem(mixture.mixture_prior(8), 1, 1)
    posterior = ti.solve(
        problem.y,
        problem.operator,
        problem.prior,
        method="particle",
        num_samples=100,
        steps=10,
        seed=1,
    )
    exact = problem.exact(100, seed=1)
    distance = ti.calibration.sliced_wasserstein(posterior.samples, exact)
    assert record["metrics"] == {
        "sliced_wasserstein": distance,
        "log_evidence_error": float(posterior.log_evidence) - problem.log_evidence,
    }


def test_finished_problems_are_left_alone_and_ranks_share_the_others(mixtures, tmp_path):
    times = {path: path.stat().st_mtime_ns for path in (mixtures / "units").iterdir()}
    main([*MIXTURE, "--out", str(mixtures)])
    assert times == {path: path.stat().st_mtime_ns for path in (mixtures / "units").iterdir()}
    for rank in "10":
        before = len(read([tmp_path]))
        main([*MIXTURE, "--out", str(tmp_path), "--rank", rank, "--world-size", "2"])
        assert len(read([tmp_path])) - before == len(times) / 2
    assert results(tmp_path) == results(mixtures)


def test_the_table_has_the_protocols_errors_and_the_evidence(mixtures):
    found = read([mixtures])
    text = "\n".join(report.tables(found))
    distances, errors = (
        [record["metrics"][key] for record in of(found, "particle")]
        for key in ("sliced_wasserstein", "log_evidence_error")
    )
    spread = 1.96 * stdev(distances) / math.sqrt(2)
    (line,) = [line for line in text.splitlines() if line.startswith("| particle |")]
    assert f"{fmean(distances):.4f} +- {spread:.4f}" in line
    assert f"{math.sqrt(fmean(error**2 for error in errors)):.3f}" in line
    assert "mixture-8, 2 problems of the test split, 100 samples each; +- 1.96" in text


def test_exact_samples_are_a_row_that_no_method_competes_with(mixtures):
    mine = table.rows(read([mixtures]))
    (column,) = [column for column in table.COLUMNS if column.key == "sliced_wasserstein"]
    floor = next(row for row in mine if row.method == table.FLOOR)
    floor.cells["sliced_wasserstein"] = table.Cell(0.0, 0.0)
    others = [row.cells["sliced_wasserstein"].mean for row in mine if row is not floor]
    assert table.best_of(column, mine) == min(others)


def test_the_report_draws_the_distance(mixtures, tmp_path):
    page = report.write([str(mixtures)], tmp_path).read_text()
    assert "sliced W1 (lower is better)" in page
    assert (tmp_path / "cost-mixture.png").is_file()


def test_budgets_are_rows_and_a_cap_bounds_them():
    cells = mixture.cells(Request(images=1, methods=("particle",)), [8])
    assert len(cells) == 3 * (1 + 2 * 2)  # the floor; both paths at both budgets
    assert {cell.steps for cell in cells} == {0, 20, 100}
    assert {cell.steps for cell in mixture.cells(Request(images=1, cap=50), [8])} == {0, 20, 50}
    names = {cell.units[0].name for cell in cells}
    for other in (Request(images=1, seed=1), Request(images=1, split="validation")):
        assert not names & {cell.units[0].name for cell in mixture.cells(other, [8])}


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match=r"--tasks: mixture has d = 8, 1 measurement, .*; got d"):
        mixture.cells(Request(images=1, tasks=("d",)))


def test_the_program_prints_the_report_of_its_records(mixtures, capsys, monkeypatch, tmp_path):
    arguments = ["mixture", "--smoke", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    mixture.main()
    printed = capsys.readouterr().out
    mine = table.rows(read([mixtures]))
    theirs = [row for row in table.rows(read([tmp_path])) if row.task == mine[0].task]
    for ours, other in zip(mine, theirs, strict=True):
        for key in ("sliced_wasserstein", "log_evidence_error", "evaluations"):
            assert ours.cells.get(key) == other.cells.get(key)
        assert f"| {ours.label} |" in printed
    assert "### d = 8, 4 measurements" in printed


def test_the_particle_walk_beats_the_decoupled_one_and_knows_the_evidence(tmp_path):
    request = Request(images=2, samples=300, methods=("particle", "decoupled"))
    some = mixture.cells(request, [8], [40], ["particle", "decoupled"])
    finish(some, mixture.score, Store(tmp_path), "cpu", log=lambda line: None)
    cells = {(row.task[7], row.method): row.cells for row in table.rows(read([tmp_path]))}
    assert len(cells) == 3 * 3
    ours, theirs = (
        cells["1", name]["sliced_wasserstein"].mean for name in ("particle", "decoupled")
    )
    assert 0 < ours < theirs
    assert cells["2", "particle"]["log_evidence_rms"].mean < 0.5


def test_rows_of_the_speed_table_make_the_same_evaluations(monkeypatch, tmp_path):
    """In this process; the command gives every row processes of its own."""
    monkeypatch.setattr(speed, "apart", speed.measure)
    found = speed.tables(Request(methods=("decoupled", "dps")), [1, 2], 2, 1)
    finish(found, speed.measured, Store(tmp_path), "cpu", log=lambda line: None)
    records = {(one["unit"]["task"], one["unit"]["method"]): one for one in read([tmp_path])}
    tasks, names = ("batch 1", "batch 2"), (speed.BARE, "decoupled", "dps")
    assert set(records) == {(task, name) for task in tasks for name in names}
    for (task, name), record in records.items():
        products = 2 if name == "dps" else 0
        assert record["cost"] == {"evaluations": 2, "vector_jacobian_products": products}
        assert record["run"]["seconds"] > 0
        bare = records[task, speed.BARE]["run"]["seconds"]
        assert record["run"]["ratio_to_network"] == record["run"]["seconds"] / bare
        assert {"commit", "machine", "versions"} <= set(record["run"])


def test_the_fastest_turn_of_every_row_counts(monkeypatch):
    seconds = iter([4.0, 10.0, 2.0, 12.0])
    monkeypatch.setattr(speed, "apart", lambda cell: speed.Cost(next(seconds), 0, 2.0, 0.0))
    (one,) = speed.tables(Request(methods=("decoupled",)), [1], 2, 2)
    ratios = [result.outcome["run"]["ratio_to_network"] for result in speed.measured(one)]
    assert ratios == [1, 5]


@pytest.fixture(scope="module")
def projectors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("operators")
    main(["run", "operators", "--smoke", "--out", str(folder)])
    return folder


def test_operators_are_a_record_a_projector(projectors, tmp_path):
    found = {record["unit"]["method"]: record for record in read([projectors])}
    assert {"ours, matrix", "ours, matrix-free", "deepinv"} <= set(found)
    assert found["ours, matrix"]["run"]["ratio_to_ours"] == 1
    for record in found.values():
        assert record["metrics"]["adjoint_error"] < 1e-5
        assert record["run"]["commit"]
    text = report.write([str(projectors)], tmp_path).with_suffix(".md").read_text()
    head, _, *rows = [line for line in text.split("## Settings")[0].splitlines() if "|" in line]
    assert "forward, ms" in head
    assert len(rows) == len(found)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.md", "report.csv"}


def test_timings_are_made_by_one_process_and_once(projectors, tmp_path):
    arguments = ["run", "operators", "--smoke", "--out"]
    main([*arguments, str(tmp_path), "--rank", "1", "--world-size", "2"])
    assert read([tmp_path]) == []
    before = read([projectors])
    main([*arguments, str(projectors)])
    assert read([projectors]) == before


def test_timings_of_two_machines_are_rows_that_say_which(projectors):
    found = read([projectors])
    others = [
        {**one, "unit": {**one["unit"], "problem": "Parallel beam; another machine"}}
        for one in found
    ]
    labels = {row.label for row in table.rows(found + others) if row.method == "deepinv"}
    machine = found[0]["run"]["machine"]
    assert labels == {"deepinv [another machine]", f"deepinv [{machine}]"}


def test_tiles_are_a_record_a_tiling(tmp_path):
    """The tiling's PSNR and jumps, beside those of the whole image, worked out here."""
    main(["run", "tiles", "--smoke", "--out", str(tmp_path)])
    found = {record["unit"]["method"]: record for record in read([tmp_path])}
    assert set(found) == {"whole", "64, overlap 16"}
    clean = tiles.load_photo("astronaut")[None, :, :96, :96]
    noisy = clean + tiles.SIGMAS[0] * normal(("tiles", 0), clean.shape).float()
    prior = ti.load_prior("photo-64")
    with torch.no_grad():
        whole = prior.for_shape(clean.shape[1:]).denoise(noisy, tiles.SIGMAS[0])
        tiled = prior.tiled(64, overlap=16).for_shape(clean.shape[1:])
        parts = tiled.denoise(noisy, tiles.SIGMAS[0])
    for name, denoised in (("whole", whole), ("64, overlap 16", parts)):
        error = float((denoised - clean).square().mean())
        assert found[name]["metrics"]["psnr"] == pytest.approx(-10 * math.log10(error))
    jumps = [tiles.border_jump(one, clean, 64, 16) for one in (parts, whole)]
    expected = pytest.approx(jumps[0] - jumps[1])
    assert found["64, overlap 16"]["metrics"]["border_jumps"] == expected
    assert found["whole"]["metrics"]["border_jumps"] is None
    assert found["whole"]["run"]["ratio_to_whole"] == 1
    assert "border jumps" in "\n".join(report.tables(list(found.values())))


def test_every_program_writes_records():
    assert list(RECORDS) == list(STUDIES)


def test_tasks_are_in_the_order_of_their_numbers():
    names = ["batch 16", "d = 80, 1", "batch 4", "d = 8, 2", "blur", "batch 1", "4x columns"]
    rows = [table.Row("", name, "", "", 1, {}, "", "") for name in names]
    assert table.tasks(rows) == [
        *("4x columns", "batch 1", "batch 4", "batch 16", "blur", "d = 8, 2", "d = 80, 1"),
    ]
