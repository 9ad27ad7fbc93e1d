"""Suites that are programs: records as the other suites', and the same tables either way."""

import math
from statistics import fmean, stdev

import pytest

from benchmarks import mixture, report
from benchmarks.__main__ import main
from benchmarks.mixture_problems import mixture_problem
from benchmarks.programs import Order
from benchmarks.records import Store, read
from tests.test_suites import results

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
    import tweedie_inverse as ti

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
    distance = ti.calibration.sliced_wasserstein(posterior.equally_weighted(), exact)
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
    table = report.rows(read([mixtures]))
    (column,) = [column for column in report.COLUMNS if column.key == "sliced_wasserstein"]
    floor = next(row for row in table if row.method == report.FLOOR)
    floor.cells["sliced_wasserstein"] = report.Cell(0.0, 0.0)
    others = [row.cells["sliced_wasserstein"].mean for row in table if row is not floor]
    assert report.best_of(column, table) == min(others)


def test_the_report_draws_the_distance(mixtures, tmp_path):
    page = report.write([str(mixtures)], tmp_path).read_text()
    assert "sliced W1 (lower is better)" in page
    assert (tmp_path / "cost-mixture.png").is_file()


def test_budgets_are_rows_and_a_cap_bounds_them():
    cells = mixture.cells(Order(images=1, methods=("particle",)), [8])
    assert len(cells) == 3 * (1 + 2 * 2)  # the floor; both paths at both budgets
    assert {cell.steps for cell in cells} == {0, 20, 100}
    assert {cell.steps for cell in mixture.cells(Order(images=1, cap=50), [8])} == {0, 20, 50}
    names = {cell.units[0].name for cell in cells}
    for other in (Order(images=1, seed=1), Order(images=1, split="validation")):
        assert not names & {cell.units[0].name for cell in mixture.cells(other, [8])}


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match=r"--tasks: mixture has d = 8, 1 measurement, .*; got d"):
        mixture.cells(Order(images=1, tasks=("d",)))


def test_the_program_prints_the_report_of_its_records(mixtures, capsys, monkeypatch, tmp_path):
    arguments = ["mixture", "--smoke", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    mixture.main()
    printed = capsys.readouterr().out
    mine = report.rows(read([mixtures]))
    theirs = [row for row in report.rows(read([tmp_path])) if row.task == mine[0].task]
    for ours, other in zip(mine, theirs, strict=True):
        for key in ("sliced_wasserstein", "log_evidence_error", "evaluations"):
            assert ours.cells.get(key) == other.cells.get(key)
        assert f"| {ours.label} |" in printed
    assert "### d = 8, 4 measurements" in printed


def test_the_particle_walk_beats_the_decoupled_one_and_knows_the_evidence(tmp_path):
    order = Order(images=2, samples=300, methods=("particle", "decoupled"))
    some = mixture.cells(order, [8], [40], ["particle", "decoupled"])
    mixture.finish(some, mixture.score, Store(tmp_path), "cpu", tell=lambda line: None)
    cells = {(row.task[7], row.method): row.cells for row in report.rows(read([tmp_path]))}
    assert len(cells) == 3 * 3
    ours, theirs = (
        cells["1", name]["sliced_wasserstein"].mean for name in ("particle", "decoupled")
    )
    assert 0 < ours < theirs
    assert cells["2", "particle"]["log_evidence_rms"].mean < 0.5
