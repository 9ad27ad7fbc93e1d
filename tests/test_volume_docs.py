"""The pages on volumes and complex images, the brain example and the study run as they stand."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run_blocks(page):
    """The Python blocks of a page, one after the other; what they leave."""
    left: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S):
        exec(compile(block, page, "exec"), left)
    return left


@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
@pytest.mark.slow
def test_volumes():
    left = run_blocks("volumes.md")
    assert left["posterior"].samples.shape == (2, 1, 8, 64, 64)


@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
def test_complex_images(tmp_path):
    left = run_blocks("complex-images.md")
    error = (left["ti"].as_complex(left["posterior"].mean) - left["x"]).abs()
    assert float(error.square().mean().sqrt()) < 0.1
    left["posterior"].plot(tmp_path / "complex.png", truth=left["x"])


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
