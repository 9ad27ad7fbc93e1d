"""Examples run, with small numbers."""

import runpy
from pathlib import Path

import pytest

import tweedie_inverse as ti

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_own_operator(tmp_path):
    main = runpy.run_path(str(EXAMPLES / "own_operator.py"))["main"]
    picture = tmp_path / "picture.png"
    assert main(steps=10, num_samples=2, picture=str(picture)) > 15
    assert picture.exists()


@pytest.mark.slow
def test_six_recipes(tmp_path):
    main = runpy.run_path(str(EXAMPLES / "six_recipes.py"))["main"]
    result = main(str(tmp_path), budgets=(2, 3), steps=20, count=2)
    for picture in (result.recipes, result.schedules):
        assert picture.stat().st_size > 5_000
    # The decoupling claim: three schedules, one image.  0.15 is the spread of the images.
    assert result.distance < 0.03


@pytest.mark.slow
def test_which_prior_fits():
    main = runpy.run_path(str(EXAMPLES / "which_prior_fits.py"))["main"]
    network, field, photographs = main(count=2, levels=8, repeats=2, steps=20, measured=48).values()
    assert network.images + 1 < field.images
    assert network.reconstructions < field.reconstructions
    assert field.images < photographs.images
    assert network.images_error < 0.1


def test_choose_by_evidence():
    main = runpy.run_path(str(EXAMPLES / "choose_by_evidence.py"))["main"]
    choice = main(walkers=100, steps=12, count=200)
    assert (choice.width, choice.noise) == (0.8, 0.1)
    spread = choice.log_evidence.max() - choice.log_evidence.flatten().sort().values[-2]
    assert float(spread) > 0.5


def test_head_ct(tmp_path):
    pytest.importorskip("pydicom")
    main = runpy.run_path(str(EXAMPLES / "head_ct.py"))["main"]
    result = main(str(tmp_path), angles=12, steps=5, num_samples=2, check=False)
    assert result.mean > result.backprojection + 3
    mean, std, picture = result.files
    for path, low, high in ((mean, -2000, 3000), (std, 0, 1000)):
        data = ti.io.read(path)
        assert (data.units, data.shape) == ("HU", (1, 128, 128))
        assert data.spacing == pytest.approx((1.724, 1.724))
        assert low <= float(data.values.min()) < float(data.values.max()) <= high
    assert picture.stat().st_size > 20_000


def test_what_it_does(tmp_path):
    main = runpy.run_path(str(EXAMPLES / "what_it_does.py"))["main"]
    picture = tmp_path / "picture.png"
    verdicts = main(str(picture), steps=4, num_samples=2)
    assert len(verdicts) == 2
    assert picture.stat().st_size > 20_000
