"""The example of a brain and the study of volumes run."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_brain_mri(tmp_path):
    pytest.importorskip("sigpy")
    pytest.importorskip("nilearn")
    main = runpy.run_path(str(ROOT / "examples" / "brain_mri.py"))["main"]
    result = main(str(tmp_path), steps=8, num_samples=2)
    assert result.mean > result.zero_filled + 2
    assert result.phase_error < 0.05
    assert result.picture.stat().st_size > 20_000


@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
@pytest.mark.slow
def test_the_study_of_volumes():
    from tweedie_inverse.benchmarks.studies.volumes import rows

    found = {row.name: row for row in rows(depth=4, bodies=1, samples=2, steps=6)}
    assert found["length 16"].flicker < found["slice by slice"].flicker / 2


@pytest.mark.slow
def test_cone_beam(tmp_path):
    pytest.importorskip("diffct")
    main = runpy.run_path(str(ROOT / "examples" / "cone_beam.py"))["main"]
    result = main(str(tmp_path), depth=2, views=6, steps=3, num_samples=2, device="cpu")
    assert result.picture.stat().st_size > 10_000
    assert result.mean > result.fdk
    assert result.evaluations == 3
