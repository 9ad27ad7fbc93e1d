"""The numbers of a report from records written here: means, errors, units, what is best."""

import csv
import io
import math

import pytest

from tweedie_inverse.benchmarks.harness import report, table

COLUMNS = {column.key: column for column in table.COLUMNS}


def record(method, image, metrics=None, *, suite="by-hand", run=None, **others):
    unit = {
        "suite": suite,
        "task": "a",
        "problem": "a title; an operator; a prior; test",
        "image": image,
        "method": method,
        "settings": {"evaluations": 3, "source": "made up"},
        "samples": 4,
        "seed": 0,
        "weights": "w",
    }
    done = {"metrics": metrics, "cost": {"evaluations": 3.0}, "run": run or {}}
    return {"unit": unit, **(done if metrics is not None else {}), **others}


def row_of(*found):
    (row,) = table.rows(found)
    return row


def test_a_cell_is_the_mean_and_its_standard_error():
    """1, 2 and 6: mean 3, variance (4 + 1 + 9) / 2 = 7, over three images."""
    row = row_of(*(record("m", image, {"crps": value}) for image, value in enumerate((1, 2, 6))))
    assert row.images == 3
    assert row.cells["crps"] == pytest.approx((3, math.sqrt(7 / 3)))
    assert table.cell(COLUMNS["crps"], row) == "3.0000 +- 1.5275"
    assert row.cells["evaluations"].mean == 3


def test_one_image_has_no_error_and_a_missing_number_no_cell():
    row = row_of(record("m", 0, {"crps": 1.5, "coverage": None}))
    assert row.cells["crps"].mean == 1.5
    assert math.isnan(row.cells["crps"].error)
    assert table.cell(COLUMNS["crps"], row) == "1.5000"
    assert "coverage" not in row.cells
    assert table.cell(COLUMNS["coverage"], row) == "-"


def test_ranks_are_pooled_before_flatness_is_judged():
    """3 1 0 0 and 1 3 0 0 together: shares 1/2, 1/2, 0, 0 about 1/4; and 3 1, 1 3 are flat."""
    ranks = [[3, 1, 0, 0], [1, 3, 0, 0]]
    row = row_of(*(record("m", i, {"rank_histogram": one}) for i, one in enumerate(ranks)))
    assert row.cells["unflatness"].mean == pytest.approx(1)
    flat = row_of(*(record("m", i, {"rank_histogram": one[:2]}) for i, one in enumerate(ranks)))
    assert flat.cells["unflatness"].mean == 0


def test_memory_is_in_mebibytes():
    row = row_of(record("m", 0, {}, run={"peak_memory": 3 * 1024**2, "matrices": 1024**2 / 2}))
    assert row.cells["peak_memory"].mean == 3
    assert row.cells["matrices"].mean == 0.5


def test_log_evidence_has_a_bias_and_a_root_mean_square():
    """-3 and 4: mean 1/2, root of (9 + 16) / 2."""
    found = [record("m", i, {"log_evidence_error": one}) for i, one in enumerate((-3.0, 4.0))]
    row = row_of(*found)
    assert row.cells["log_evidence_error"].mean == 0.5
    assert row.cells["log_evidence_rms"].mean == pytest.approx(math.sqrt(12.5))


def test_the_mixtures_errors_are_those_of_its_protocol():
    """1.96 standard errors: of 1 and 3, one standard error is 1."""
    values = enumerate((1.0, 3.0))
    row = row_of(*(record("m", i, {"sliced_wasserstein": v}, suite="mixture") for i, v in values))
    assert table.cell(COLUMNS["sliced_wasserstein"], row) == "2.0000 +- 1.9600"


def test_failures_are_counted_and_left_out_of_the_mean():
    found = [record("m", 0, {"crps": 2.0}), record("m", 1, failed="diverged", run={})]
    row = row_of(*found)
    assert (row.images, row.cells["crps"].mean) == (1, 2.0)
    assert row.note == "failed on 1 of 2 images: diverged"
    assert row_of(record("m", 0, skipped="needs a linear operator")).note == (
        "needs a linear operator"
    )


@pytest.mark.parametrize(
    ("key", "values", "best"),
    [
        ("psnr_mean", (20, 30, 25), 30),
        ("ssim_best", (0.2, 0.9, 0.5), 0.9),
        ("haarpsi_mean", (0.2, 0.9, 0.5), 0.9),
        ("crps", (0.3, 0.1, 0.2), 0.1),
        ("energy_score", (0.3, 0.1, 0.2), 0.1),
        ("mean_error", (0.3, 0.1, 0.2), 0.1),
        ("sliced_wasserstein", (0.3, 0.1, 0.2), 0.1),
        ("lpips_mean", (0.3, 0.1, 0.2), 0.1),
        ("coverage", (0.99, 0.88, 0.5), 0.88),
        ("chi_square", (0.1, 1.3, 5.0), 1.3),
        ("variance_ratio", (0.1, 0.8, 1.3), 0.8),
        ("log_evidence_error", (-0.5, 0.2, 3.0), 0.2),
        ("evaluations", (1, 2, 3), None),
        ("interval_width", (1, 2, 3), None),
    ],
)
def test_the_best_of_a_column(key, values, best):
    group = COLUMNS[key].group
    found = [record(name, 0, {}) for name in "abc"]
    for one, value in zip(found, values, strict=True):
        one[group][key] = value
    assert table.best_of(COLUMNS[key], table.rows(found)) == best


def test_rows_are_in_the_order_of_crps_and_the_numbers_are_in_the_csv():
    found = [
        record(name, image, {"crps": value + image, "psnr_mean": 10 * value})
        for name, value in (("a", 2.0), ("b", 1.0))
        for image in (0, 1)
    ]
    assert [row.method for row in table.ordered(table.rows(found))] == ["b", "a"]
    lines = list(csv.DictReader(io.StringIO(report.comma_separated(found))))
    assert [line["method"] for line in lines] == ["a", "b"]
    first = lines[0]
    assert (first["crps"], first["crps_se"]) == ("2.5", "0.5")
    assert (first["psnr_mean"], first["psnr_mean_se"]) == ("20", "0")
    assert (first["suite"], first["task"], first["images"]) == ("by-hand", "a", "2")
    text = "\n".join(report.markdown(found))
    assert "| b | **10.00 +- 0.00** |" not in text  # the lower PSNR is not the best
    assert "| a | **20.00 +- 0.00** | 2.5000 +- 0.5000 | 3 |" in text
    assert "| b | 10.00 +- 0.00 | **1.5000 +- 0.5000** | 3 |" in text
