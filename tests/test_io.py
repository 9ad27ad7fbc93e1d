"""Files in and out: numbers, units, spacing and place in space come back as they were."""

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.data_files import (
    AFFINE,
    FILES,
    GRID,
    dicom_slice,
    fits,
    h5py,
    make_fits,
    make_hdf5,
    make_nifti,
    nibabel,
    numbers,
    pydicom,
)


def same(one, other):
    assert one.kind == other.kind
    assert torch.equal(one.values, other.values)
    assert one.values.dtype == other.values.dtype
    assert (one.units, one.spacing_unit, one.value_range) == (
        other.units,
        other.spacing_unit,
        other.value_range,
    )
    assert (one.spacing is None) == (other.spacing is None)
    if one.spacing is not None:
        assert one.spacing == pytest.approx(other.spacing, rel=1e-3 if one.kind == "png" else 1e-6)
    if isinstance(one.affine, np.ndarray):
        assert np.allclose(one.affine, other.affine, atol=1e-9)


@pytest.mark.parametrize(("name", "make", "shape", "units", "spacing", "unit"), FILES)
def test_numbers_and_meaning_come_back(name, make, shape, units, spacing, unit, tmp_path):
    make(tmp_path / name)
    data = ti.io.read(tmp_path / name)
    assert (data.shape, data.units, data.spacing_unit) == (shape, units, unit)
    assert (data.spacing is None) == (spacing is None)
    if spacing is not None:
        assert data.spacing == pytest.approx(spacing, rel=1e-3)
    again = tmp_path / f"again-{name}"
    ti.io.write(again, data.values, like=data)
    same(ti.io.read(again), data)
    assert str(shape) in repr(data)
    assert np.asarray(data).shape == shape


def test_dicom_is_in_hounsfield_units_and_stays_the_patients(tmp_path):
    path = dicom_slice(tmp_path, place=5.0)
    data = ti.io.read(path)
    stored = pydicom.dcmread(path)
    assert np.array_equal(np.asarray(data)[0], stored.pixel_array * 2.0 - 1000)
    # A column is 0.75 mm to the left of the patient, which is -x here.
    assert np.allclose(data.affine @ [2, 4, 0, 1], [10 - 1.5, -20 - 2, 5, 1])
    mean = data.values / 3.0  # not on the grid of the stored numbers
    ti.io.write(tmp_path / "mean.dcm", mean, like=path)
    there = pydicom.dcmread(tmp_path / "mean.dcm")
    assert (there.PatientName, there.PixelSpacing) == ("Nobody", [0.5, 0.75])
    assert there.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
    assert there.SOPClassUID == stored.SOPClassUID
    assert there.SOPInstanceUID != stored.SOPInstanceUID
    assert there.SourceImageSequence[0].ReferencedSOPInstanceUID == stored.SOPInstanceUID
    assert "WindowCenter" not in there
    read = ti.io.read(tmp_path / "mean.dcm")
    assert read.units == "HU"
    step = float(mean.max() - mean.min()) / 65535
    assert float((read.values - mean).abs().max()) < 0.51 * step


def test_slices_are_one_volume_in_the_order_of_their_positions(tmp_path):
    (tmp_path / "ct").mkdir()
    for number, place in enumerate([4.0, -2.0, 1.0]):
        dicom_slice(tmp_path / "ct", place, f"{'bca'[number]}.dcm")
    (tmp_path / "ct" / "notes.txt").write_text("not a slice")
    data = ti.io.read(tmp_path / "ct")
    assert (data.shape, data.spacing) == ((3, *GRID), (3.0, 0.5, 0.75))
    for number, name in enumerate("cab"):
        assert torch.equal(
            data.values[number], ti.io.read(tmp_path / "ct" / f"{name}.dcm").values[0]
        )
    assert np.allclose(data.affine @ [0, 0, 2, 1], [10, -20, 4, 1])
    ti.io.write(tmp_path / "out", data.values, like=data)
    same(ti.io.read(tmp_path / "out"), data)
    with pytest.raises(ValueError, match="needs a new or an empty folder"):
        ti.io.write(tmp_path / "out", data.values, like=data)
    with pytest.raises(ValueError, match="write to a folder"):
        ti.io.write(tmp_path / "out.dcm", data.values, like=data)
    ti.io.write(tmp_path / "v.nii.gz", data.values, like=data)
    volume = nibabel.load(tmp_path / "v.nii.gz")
    assert np.allclose(volume.affine, data.affine)
    assert np.array_equal(volume.get_fdata(), np.asarray(data).transpose())
    assert ti.io.read(tmp_path / "v.nii.gz").units == "HU"


UNEVEN = {
    "slices are missing": [{}, {"place": 3.0}, {"place": 6.0}, {"place": 12.0}],
    "same place": [{}, {"place": 3.0}, {"place": 3.0}],
    "differ in size": [{}, {"place": 3.0, "pixels": np.zeros((4, 4), np.int16)}],
    "differ in pixel spacing": [{}, {"place": 3.0, "PixelSpacing": [1, 1]}],
    "not parallel": [{}, {"place": 3.0, "ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}],
    "several series": [{}, {"place": 3.0, "SeriesInstanceUID": "1.2.4"}],
    "does not say where it lies": [{}, {"ImagePositionPatient": None}],
}


@pytest.mark.parametrize("reason", UNEVEN)
def test_slices_that_are_no_volume_are_refused(reason, tmp_path):
    for number, changes in enumerate(UNEVEN[reason]):
        dicom_slice(tmp_path, name=f"{number}.dcm", **changes)
    with pytest.raises(ValueError, match=reason):
        ti.io.read(tmp_path)


def test_of_several_series_one_is_chosen(tmp_path):
    dicom_slice(tmp_path, name="a.dcm")
    dicom_slice(tmp_path, name="b.dcm", SeriesInstanceUID="1.2.4", pixels=np.ones(GRID, np.int16))
    assert float(ti.io.read(tmp_path, key="1.2.4").values.max()) == -998


def test_headers_are_kept(tmp_path):
    make_nifti(tmp_path / "a.nii")
    data = ti.io.read(tmp_path / "a.nii")
    source = nibabel.load(tmp_path / "a.nii")
    assert np.array_equal(np.asarray(data), source.get_fdata().transpose())
    ti.io.write(tmp_path / "b.nii.gz", data.values * 2, like=data, units="HU")
    image = nibabel.load(tmp_path / "b.nii.gz")
    assert np.array_equal(image.affine, AFFINE)
    for name in ("descrip", "sform_code", "qform_code", "xyzt_units", "dim", "pixdim"):
        assert np.array_equal(image.header[name], source.header[name]), name
    assert ti.io.read(tmp_path / "b.nii.gz").units == "HU"
    make_fits(tmp_path / "a.fits")
    ti.io.write(tmp_path / "b.fits", numbers(1, *GRID), like=tmp_path / "a.fits")
    old, new = (fits.getheader(tmp_path / name) for name in ("a.fits", "b.fits"))
    assert {card: new[card] for card in old if card != "EXTEND"} == {
        card: old[card] for card in old if card != "EXTEND"
    }
    make_hdf5(tmp_path / "a.h5")
    ti.io.write(tmp_path / "b.h5", numbers(2, 3, 4), like=tmp_path / "a.h5", units="mSv")
    with h5py.File(tmp_path / "b.h5") as file:
        assert dict(file["entry/data"].attrs) == {"units": "mSv", "detector": 7}
