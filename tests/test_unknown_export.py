"""What was drawn of an instrument goes to xarray, arviz and netCDF, and is shown."""

import warnings

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import operators as ops

SHAPE = (1, 8, 8)


def blur(width):
    return ops.Blur(ops.gaussian_kernel(width, 7), SHAPE)


def solved(operator, noise, count=2):
    method = ti.walks.UnknownInstrument(operator_moves=1, first_moves=8)
    y = ops.GaussianNoise(0.2).sample(blur(1.0).forward(random_field(8).draw(count, seed=1)))
    given = {"num_samples": 4, "steps": 3, "method": method}
    return ti.solve(y, operator, random_field(8), noise=noise, **given)


WIDTH = ops.parametric(blur, width=(0.6, 1.6))
SOLVED = solved(WIDTH, ops.GaussianNoise.unknown((0.05, 0.5)))


def test_xarray_and_netcdf_have_samples_and_traces(tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    found = SOLVED.to_xarray()
    width, level = SOLVED.parameters["width"], SOLVED.noise.std
    assert found.width.dims == ("measurement", "sample")
    assert found.width_trace.dims == ("measurement", "sample", "noise_level")
    np.testing.assert_array_equal(found.width, width.samples)
    np.testing.assert_array_equal(found.noise_std, level.samples)
    np.testing.assert_array_equal(found.noise_std_trace[:, :, -1], level.samples)
    assert (found.width.prior_low, found.width.prior_high) == (0.6, 1.6)
    SOLVED.export(tmp_path / "a.nc")
    with xarray.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as again:
        assert again.load().identical(found)
    assert SOLVED[0].to_xarray().width.dims == ("sample",)


def test_arviz_summarizes_them():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        az = pytest.importorskip("arviz")
    found = SOLVED[1].to_arviz()
    width = found["posterior"]["width"]
    assert width.dims == ("chain", "draw")
    np.testing.assert_array_equal(width[0], SOLVED[1].parameters["width"].samples)
    assert "width" not in found["sample_stats"]
    table = az.summary(found, var_names=["width", "noise_std"])
    assert float(table["mean"]["width"]) == pytest.approx(float(width.mean()), abs=0.01)


def test_levels_by_group_and_a_name_that_is_taken():
    pytest.importorskip("xarray")
    groups = torch.zeros(SHAPE).long()
    groups[..., 4:] = 1
    operator = ops.parametric(lambda samples: blur(samples), samples=(0.6, 1.6))
    found = solved(operator, ops.GaussianNoise.unknown((0.05, 0.5), groups=groups)).to_xarray()
    assert found.noise_std.sizes["noise_std_group"] == 2
    assert found.samples.ndim == 5
    assert found.parameter_samples.dims == ("measurement", "sample")


def test_a_kernel_is_a_picture():
    pytest.importorskip("xarray")
    kernel = ops.Blur(ops.gaussian_kernel(1.0, 5), (1, 16, 16), noise=ops.GaussianNoise(0.5))
    y = kernel.measure(random_field(16).draw(1, seed=1))
    method = ti.walks.UnknownInstrument(operator_moves=1, first_moves=2)
    given = {"noise": 0.5, "num_samples": 3, "steps": 2, "method": method}
    posterior = ti.solve(y, ops.BlindBlur((1, 16, 16), size=5), random_field(16), **given)
    found = posterior.to_xarray().kernel
    assert found.dims == ("measurement", "sample", "kernel_y", "kernel_x")
    np.testing.assert_array_equal(found, posterior.parameters["kernel"].samples)


def test_all_unknowns_in_one_picture(tmp_path):
    figure = SOLVED.parameters.plot(tmp_path / "all.png", index=1, truth={"width": 1.0})
    assert (tmp_path / "all.png").stat().st_size > 1000
    assert len(figure.axes) == 2  # histogram and trace of the one number
    with pytest.raises(KeyError, match="no unknown 'angle'; there are width"):
        SOLVED.parameters.plot(truth={"angle": 1.0})
    y = ops.GaussianNoise(0.1).sample(blur(1.0).forward(random_field(8).draw(1, seed=1)))
    known = ti.solve(y, blur(1.0), random_field(8), noise=0.1, steps=2)
    with pytest.raises(ValueError, match="no unknown numbers"):
        known.parameters.plot()


def test_a_number_at_the_end_of_its_range_is_said(tmp_path):
    """The truth is wider than the range allows; and a log range, and one that holds the truth."""
    truth = ops.Blur(ops.gaussian_kernel(2.0, 7), SHAPE, noise=ops.GaussianNoise(0.02))
    y = truth.measure(random_field(8).draw(6, seed=1))
    method = ti.walks.UnknownInstrument(operator_moves=4, first_moves=12)
    given = {"num_samples": 16, "steps": 3, "method": method}
    for range_ in ((0.6, 1.0), ops.ScalarPrior.log_uniform(0.6, 1.0)):
        narrow = ops.parametric(blur, width=range_)
        with pytest.warns(ti.PosteriorWarning, match="width at the upper end of .0.6, 1."):
            found = ti.solve(y, narrow, random_field(8), noise=0.02, **given)
        assert not found.diagnostics.is_consistent
    found.save(tmp_path / "a.safetensors")
    again = ti.Posterior.load(tmp_path / "a.safetensors")
    assert again.diagnostics.at_edge == found.diagnostics.at_edge
    wide = ops.parametric(blur, width=(0.6, 3.0))
    assert ti.solve(y, wide, random_field(8), noise=0.02, **given).diagnostics.at_edge == ()
