"""The studies of what ships: rows by the public command, and coverage counted as by hand."""

import math

import pytest
import torch

from tests.seeds import salted
from tweedie_inverse.benchmarks.studies import calibrated, conformal
from tweedie_inverse.numerics.random import generator


def test_a_row_of_ours_and_its_figure(tmp_path):
    """Twice the same command: the second time from what was kept."""
    given = ("field, inpainting", "ours", 20, 5, 3, tmp_path)
    row = calibrated.calibrated(*given)
    assert len(row.cells()) == len(calibrated.COLUMNS)
    assert row.cells()[2:4] == ["20 x 5", "3"]
    (kept,) = [one for one in tmp_path.iterdir() if one.is_dir()]
    before = {one: one.stat().st_mtime_ns for one in kept.glob("truth-*")}
    assert len(before) == 20
    assert calibrated.calibrated(*given).cells() == row.cells()
    assert {one: one.stat().st_mtime_ns for one in kept.glob("truth-*")} == before
    calibrated.coverage_figure([row], tmp_path / "coverage.png")
    assert (tmp_path / "coverage.png").stat().st_size > 1000


def test_samples_of_another_method_are_those_of_their_seeds():
    """A sample depends on its seed, and not on how many are drawn with it."""
    pytest.importorskip("deepinv")
    task = calibrated.CASES["field, inpainting"]()
    prior = calibrated.load(task.prior)
    method = calibrated.METHODS["diffpir"].within(3)
    peer = calibrated.Peer("diffpir", method, task, prior)
    y = task.operator.measure(task.truths[0], seed=salted(0))
    both = peer(y, 2, salted(1))
    torch.testing.assert_close(both[1:], peer(y, 1, salted(1) + 1), atol=1e-5, rtol=0)
    assert float((both[0] - both[1]).abs().mean()) > 1e-3
    assert "evaluations=3" in peer.__name__


def test_a_method_that_does_not_apply_says_why():
    row = calibrated.calibrated("field, CT", "ddrm", 20, 5, 3, None)
    assert row.calibration is None
    assert "singular value decomposition" in row.cells()[4]
    assert len(row.cells()) == len(calibrated.COLUMNS)


def test_every_shipped_prior_has_a_case():
    """The demonstration of each, on images that are not its training set's."""
    tasks = {name: calibrated.CASES[name]() for name in calibrated.SHIPPED}
    shipped = {card.name for card in calibrated.ti.list_priors()}
    assert {str(task.prior) for task in tasks.values()} == shipped
    assert calibrated.truths(calibrated.CASES["field, CT"]()) is None


def test_coverage_is_judged_by_both_numbers():
    """Intervals found from 40 uniform scores: z is standard normal over repeats."""
    random = generator(("conformal study", salted(0)))
    scores = torch.from_numpy(random.random((400, 40 + 100)))
    cuts = scores[:, :40].sort(1).values[:, math.ceil(0.8 * 41) - 1]
    zs = torch.tensor(
        [
            conformal.Coverage.of((one[40:] <= cut)[:, None], 0.8, 40).z
            for one, cut in zip(scores, cuts, strict=True)
        ]
    )
    assert abs(float(zs.std()) - 1) < 5 / math.sqrt(800)
    found = conformal.Coverage.of(torch.tensor([[True], [True], [False], [True]]), 0.5, 2)
    assert found.share == 0.75
    assert found.z == pytest.approx(0.25 / math.sqrt(0.25 * (1 / 4 + 1 / 4)))
