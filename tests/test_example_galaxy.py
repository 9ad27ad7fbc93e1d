"""The galaxy example; skipped where its field is not at hand, or the weights cannot be fetched."""

import runpy
import subprocess
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parent.parent / "examples" / "galaxy.py"
FIELD = Path(__file__).resolve().parents[2] / "shared" / "checkpoints" / "hsc_cosmos.npz"

pytestmark = pytest.mark.skipif(not FIELD.is_file(), reason="no field of galaxies")


def test_the_galaxy_is_cut_out_with_its_neighbours_masked():
    field = runpy.run_path(str(EXAMPLE))["observed"](FIELD)
    assert field.catalogue == pytest.approx(282.2, abs=0.1)
    assert field.noise == pytest.approx(0.049, abs=0.001)
    y, seen = field.y[0], field.seen[0]
    assert divmod(int((y * seen).argmax()), 64) == (32, 32)
    assert float(field.psf.sum()) == pytest.approx(1)
    assert not bool(seen[-3:].any())  # beyond the end of the field
    assert 0.5 < float(seen.mean()) < 0.9
    inside = float((field.y * field.box * field.seen).sum())
    assert inside == pytest.approx(field.catalogue, rel=0.15)


@pytest.mark.slow
def test_the_flux_is_the_catalogues(tmp_path):
    example = runpy.run_path(str(EXAMPLE))
    try:
        weights = example["fetch"](tmp_path)
    except subprocess.CalledProcessError:
        pytest.skip("the package index does not give the weights")
    picture = tmp_path / "galaxy.png"
    found = example["main"](
        FIELD, weights, (14.0,), num_samples=4, steps=20, sigma_max=13.0, picture=str(picture)
    )[14.0]
    assert picture.stat().st_size > 5_000
    # The catalogue counts its isophote, which leaves out some per cent of the light in its box.
    assert sum(found.inside) / 2 == pytest.approx(found.catalogue, rel=0.05)
    assert sum(found.total) > sum(found.inside)
    assert found.chi_square < 1.4


def test_weights_of_the_wrong_kind_are_refused(tmp_path):
    example = runpy.run_path(str(EXAMPLE))
    (tmp_path / "eqx_hsc_ScoreNet64.eqx").write_bytes(b"something else")
    with pytest.raises(ValueError, match="is not the file that this example was measured with"):
        example["fetch"](tmp_path)
    with torch.random.fork_rng(devices=[]):
        score = example["ScoreNet"](size=16)
    assert score(torch.zeros(2, 1, 16, 16), torch.zeros(2)).shape == (2, 1, 16, 16)
