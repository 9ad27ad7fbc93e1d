"""Posteriors for other programs: what is written reads back, with every axis in its place."""

import json
import sys
import warnings

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.test_posterior_object import POPULATION
from tests.test_queries import of_one
from tweedie_inverse import operators as ops
from tweedie_inverse.app.exports import Exports
from tweedie_inverse.boundary.data import Data
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.rescaled import Rescaled

FIELD = random_field(8)
FIELD.units, FIELD.value_range = "HU", (-4.0, 4.0)
MASK = ops.Mask(ops.random_mask((1, 8, 8), 0.5), noise=ops.GaussianNoise(0.2))
SOLVED = ti.solve(MASK.measure(FIELD.draw(3, seed=1), seed=2), MASK, FIELD, num_samples=5, steps=4)
SHAPES = {
    (1, 6, 4): ("channel", "y", "x"),
    (2, 6, 4): ("channel", "y", "x"),
    (3, 6, 4): ("channel", "y", "x"),
    (1, 3, 6, 4): ("channel", "z", "y", "x"),
    (2, 3, 6, 4): ("channel", "z", "y", "x"),
    (6, 4): ("y", "x"),
    (7,): ("x",),
}


def arviz():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("arviz")


@pytest.mark.parametrize("shape", list(SHAPES))
def test_every_format_keeps_every_axis(shape, tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    answer = of_one(normal((1,), (5, *shape)))
    labelled = answer.to_xarray()
    assert labelled.samples.dims == ("sample", *SHAPES[shape])
    answer.export(tmp_path / "deep" / "a.nc")
    with xarray.open_dataset(tmp_path / "deep" / "a.nc", engine="h5netcdf") as again:
        assert again.load().identical(labelled)
    assert again.samples.dtype == np.float64
    answer.export(tmp_path / "a.h5")
    data = ti.io.read(tmp_path / "a.h5")
    assert torch.equal(data.values, answer.samples)
    assert data.header["key"] == "samples"
    if len(shape) == 1:
        with pytest.raises(ValueError, match=r"pictures and volumes, got images of shape \(7,\)"):
            answer.export(tmp_path / "a.tif")
        return
    answer.export(tmp_path / "a.tif")
    data = ti.io.read(tmp_path / "a.tif")
    expected = answer.samples.squeeze(1) if shape[0] == 1 else answer.samples
    assert torch.equal(data.values, expected)
    letters = {"channel": "C" * (shape[0] > 1), "z": "Z", "y": "Y", "x": "X"}
    assert data.header["axes"] == "T" + "".join(letters[name] for name in SHAPES[shape])


def test_what_is_known_goes_along(tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    labelled = SOLVED.to_xarray()
    assert labelled.samples.dims == ("measurement", "sample", "channel", "y", "x")
    assert labelled.samples.units == "HU"
    assert labelled.prior_checksum == SOLVED.origin.prior_checksum
    assert labelled.seed == "0"
    assert json.loads(labelled.value_range) == [-4, 4]
    np.testing.assert_array_equal(labelled.samples, SOLVED.samples.numpy())
    chi = labelled.residual_chi_square
    assert chi.dims == ("measurement", "sample")
    np.testing.assert_array_equal(chi, SOLVED.diagnostics.residual_chi_square.numpy())
    low = SOLVED.diagnostics.expected[:, 0].numpy()
    np.testing.assert_array_equal(labelled.expected.sel(bound="lower"), low)
    for suffix in ("nc", "h5", "tif"):
        SOLVED.export(tmp_path / f"a.{suffix}")
    with xarray.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as again:
        assert again.load().identical(labelled)
    for suffix in ("h5", "tif"):
        data = ti.io.read(tmp_path / f"a.{suffix}")
        assert data.units == "HU"
        assert torch.equal(data.values.reshape(SOLVED.samples.shape), SOLVED.samples)
    attributes = ti.io.read(tmp_path / "a.h5").header["attributes"]
    assert attributes["axes"] == "measurement, sample, channel, y, x"
    assert attributes["walk"] == SOLVED.origin.walk
    SOLVED[1].export(tmp_path / "a.h5")  # written over, as a whole
    assert torch.equal(ti.io.read(tmp_path / "a.h5").values, SOLVED.samples[1])


def test_one_sample_is_written(tmp_path):
    for shape in ((1, 6, 4), (2, 6, 4), (3, 6, 4), (1, 3, 6, 4)):
        answer = of_one(normal((3,), (1, *shape)).float())
        for suffix in ("h5", "tif"):
            answer.export(tmp_path / f"a.{suffix}")
            data = ti.io.read(tmp_path / f"a.{suffix}")
            assert data.values.dtype == torch.float32
            assert torch.equal(data.values.squeeze(), answer.samples.squeeze())


def test_complex_images_have_real_and_imaginary_channels():
    pytest.importorskip("xarray")
    answer = of_one(normal((2,), (5, 2, 6, 4)))
    found = answer.to_xarray().samples
    assert found.channel.values.tolist() == ["real", "imaginary"]
    np.testing.assert_array_equal(found.sel(channel="imaginary"), answer.samples[:, 1])
    whole = answer.to_xarray().samples.isel(sample=0)
    assert whole.sizes == {"channel": 2, "y": 6, "x": 4}
    two = of_one(normal((2,), (5, 2, 4))).to_xarray().samples  # two rows are no channels
    assert two.y.values.tolist() == [0, 1]


def test_populations_say_their_weights():
    pytest.importorskip("xarray")
    found = POPULATION.to_xarray()
    weights = POPULATION.diagnostics.population.weights
    assert found.population_weights.dims == ("measurement", "walker")
    np.testing.assert_array_equal(found.population_weights, weights.numpy())
    assert found.population_effective_sizes.dims == ("measurement", "step")
    assert found.population_chosen.dims == ("measurement", "sample")
    assert found.population_log_evidence.dims == ("measurement",)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("answer", [SOLVED, SOLVED[1], POPULATION], ids=["batch", "one", "crowd"])
def test_arviz_computes_with_it(answer, version, monkeypatch):
    az = arviz()
    if version == 1 and hasattr(az, "InferenceData"):  # what it computes with from version 1 on
        pytest.importorskip("xarray", "2024.10")
        monkeypatch.delattr(az, "InferenceData")
    found = answer.to_arviz()
    image, stats = found["posterior"]["image"], found["sample_stats"]
    assert image.dims[:2] == ("chain", "draw")
    many = answer.samples.shape[-4]
    assert image.sizes["chain"] == 1
    assert image.sizes["draw"] == many
    one = image.isel(chain=0)
    one = one.transpose("measurement", "draw", ...) if answer.samples.ndim == 5 else one
    np.testing.assert_array_equal(one, answer.samples.numpy())
    assert stats["residual_chi_square"].sizes["draw"] == many
    if many >= 4:
        place = {"y": 3, "x": 5, "channel": 0} | ({"measurement": 1} if len(answer) > 1 else {})
        size = np.asarray(az.ess(image.isel(place).values, method="mean"))
        pixel = torch.from_numpy(image.isel(place).values)
        assert float(ti.chains.effective_sample_size(pixel, "mean")) == pytest.approx(float(size))


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("xarray", lambda p, path: p.to_xarray()),
        ("arviz", lambda p, path: p.to_arviz()),
        ("h5netcdf", lambda p, path: p.export(path / "a.nc")),
    ],
)
def test_a_missing_package_is_named(package, call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}: pip install {package}, or .*export"):
        call(SOLVED, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_save_names_the_ways_out():
    with pytest.raises(ValueError, match=r"for other programs, posterior\.export\(path\)"):
        SOLVED.save("a.nc")


def test_results_in_the_users_units_have_those_of_the_file_they_are_like():
    like, told = Data(torch.zeros(1, 8, 8), "dicom", units="K"), []
    for prior, units in ((FIELD, "HU"), (Rescaled(FIELD, (-1000.0, 1000.0)), None)):
        writer = Exports(("mean",), ".npz", like).of(MASK, prior)
        assert writer._like(like, told.append) == (like, units)
