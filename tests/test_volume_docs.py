"""The examples of volumes, and the study of them, run."""

import runpy
from pathlib import Path

import numpy as np
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


@pytest.mark.slow
def test_brain_volume(tmp_path):
    """On the middle slices of a coarse template."""
    pytest.importorskip("nilearn")
    example = runpy.run_path(str(ROOT / "examples" / "brain_volume.py"))
    slab = tmp_path / "t1.npy"
    np.save(slab, example["brain"](4)[18:30])
    result = example["main"](
        str(tmp_path), steps=8, num_samples=2, template=str(slab), resolution=4
    )
    assert result.shape == (12, 64, 64)
    assert result.mean > result.zero_filled + 1
    assert 0.8 < result.chi_square < 1.2
    assert 20_000 < result.picture.stat().st_size < 300_000


@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
@pytest.mark.slow
def test_the_study_of_volumes(tmp_path):
    pytest.importorskip("deepinv")
    from tweedie_inverse.benchmarks.studies.volume_methods import case
    from tweedie_inverse.benchmarks.studies.volumes import rows

    given = case(64, 4, bodies=1, samples=2, steps=6, evaluations=2)
    names = ("slices", "80mm", "tv-3d", "backprojection", "dpir", "diffpir", "dps")
    found = {name: row for name, row, _ in rows(given, names)}
    assert set(found) == set(names)
    assert found["80mm"].flicker < found["slices"].flicker / 2
    assert found["tv-3d"].psnr > found["backprojection"].psnr + 3
    assert found["dpir"].evaluations == 8


@pytest.mark.slow
def test_cone_beam(tmp_path):
    pytest.importorskip("diffct")
    main = runpy.run_path(str(ROOT / "examples" / "cone_beam.py"))["main"]
    result = main(str(tmp_path), depth=2, views=6, steps=3, num_samples=2, device="cpu")
    assert result.picture.stat().st_size > 10_000
    assert result.mean > result.fdk
    assert result.evaluations == 3
