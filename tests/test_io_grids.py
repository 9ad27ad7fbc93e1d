"""Data beyond one image: other grids, samples, frames, number types, colours."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.data_files import (
    AFFINE,
    GRID,
    dicom_slice,
    fits,
    image_of,
    make_colour,
    make_fits,
    make_nifti,
    make_tiff,
    nibabel,
    numbers,
    pydicom,
    tifffile,
)
from tweedie_inverse import operators as ops


def edges(affine, shape):
    """The outer corners of the first and of the last pixel of a volume."""
    last = np.array(shape[::-1]) - 0.5
    return affine @ [-0.5, -0.5, -0.5, 1], affine @ [*last, 1]


def test_on_wider_pixels_the_field_of_view_stays(tmp_path):
    make_nifti(tmp_path / "a.nii")
    data = ti.io.read(tmp_path / "a.nii")
    small = torch.zeros(5, 6, 4)
    with pytest.warns(UserWarning, match=r"spacing 4, 4, 6 mm; spacing= says another one"):
        ti.io.write(tmp_path / "s.nii", small, like=data)
    found = ti.io.read(tmp_path / "s.nii")
    assert found.spacing == pytest.approx((4, 4, 6))
    assert np.allclose(edges(found.affine, found.shape), edges(data.affine, data.shape))
    with pytest.warns(UserWarning, match="are left out; give spacing="):
        ti.io.write(tmp_path / "o.nii", torch.zeros(5, 7, 4), like=data)
    assert ti.io.read(tmp_path / "o.nii").affine is None
    slice_of = ti.io.read(dicom_slice(tmp_path))
    ti.io.write(tmp_path / "s.dcm", torch.ones(6, 4), like=slice_of, spacing=(1.0, 3.0))
    found = ti.io.read(tmp_path / "s.dcm")
    assert found.spacing == (1.0, 3.0)
    assert np.allclose(edges(found.affine, (1, 6, 4)), edges(slice_of.affine, (1, *GRID)))
    make_fits(tmp_path / "a.fits")
    with pytest.warns(UserWarning, match="taken for the field of view"):
        ti.io.write(tmp_path / "s.fits", torch.zeros(6, 8), like=tmp_path / "a.fits")
    wcs = pytest.importorskip("astropy.wcs").WCS
    old, new = (wcs(fits.getheader(tmp_path / name)) for name in ("a.fits", "s.fits"))
    for here, there in (((-0.5, -0.5), (-0.5, -0.5)), ((15.5, 11.5), (7.5, 5.5))):
        assert np.allclose(old.pixel_to_world_values(*here), new.pixel_to_world_values(*there))


def test_samples_are_a_further_axis(tmp_path):
    make_nifti(tmp_path / "a.nii")
    data, drawn = ti.io.read(tmp_path / "a.nii"), torch.from_numpy(numbers(6, 5, 12, 16))
    for name in ("s.nii.gz", "s.tif", "s.h5", "s.npz", "s.npy", "s.fits"):
        ti.io.write(tmp_path / name, drawn, like=data)
        found = ti.io.read(tmp_path / name)
        assert torch.equal(found.values, drawn)
        assert found.spacing is None or found.spacing == pytest.approx((4, 2, 1.5)), name
    assert nibabel.load(tmp_path / "s.nii.gz").shape == (16, 12, 5, 6)
    assert np.array_equal(nibabel.load(tmp_path / "s.nii.gz").affine, AFFINE)
    make_tiff(tmp_path / "a.tif")
    pictures = torch.from_numpy(numbers(6, 1, *GRID))
    for name in ("p.tif", "p.fits", "p.dcm"):
        ti.io.write(tmp_path / name, pictures, like=tmp_path / "a.tif")
        assert ti.io.read(tmp_path / name).shape == (6, *GRID)
    for name in ("p.png", "q.dcm"):
        like = tmp_path / "a.tif" if name == "p.png" else dicom_slice(tmp_path)
        with pytest.raises(ValueError, match="one"):
            ti.io.write(tmp_path / name, pictures, like=like, spacing=(0.5, 0.75))


def test_number_types_hold_what_the_file_has(tmp_path):
    types = {
        np.uint8: torch.float32,
        np.int16: torch.float32,
        np.float16: torch.float32,
        np.float64: torch.float64,
        np.complex64: torch.complex64,
        bool: torch.float32,
    }
    for kind, wanted in types.items():
        np.save(tmp_path / "y.npy", np.ones((2, 2), kind))
        assert ti.io.read(tmp_path / "y.npy").values.dtype == wanted
    for large, wanted in ((2**24, torch.float32), (2**24 + 1, torch.float64)):
        np.save(tmp_path / "y.npy", np.array([[large]], np.int64))
        found = ti.io.read(tmp_path / "y.npy").values
        assert (found.dtype, int(found)) == (wanted, large)
    np.save(tmp_path / "y.npy", np.array([[2**60 + 1]]))
    with pytest.raises(ValueError, match="no float64 holds exactly"):
        ti.io.read(tmp_path / "y.npy")


def test_frames_have_slopes_and_positions_of_their_own(tmp_path):
    """Enhanced multi-frame files hold them in functional groups; MONOCHROME1 is said."""
    dataset = pydicom.dcmread(dicom_slice(tmp_path))
    stored, make = dataset.pixel_array, pydicom.Dataset
    frames, names = [], ("RescaleSlope", "RescaleIntercept", "ImagePositionPatient")
    for number in range(3):
        frame, place, slope = make(), make(), make()
        place.ImagePositionPatient = [0, 0, 2.5 * number]
        slope.RescaleSlope, slope.RescaleIntercept, slope.RescaleType = number + 1, -10, "HU"
        frame.PlanePositionSequence = [place]
        frame.PixelValueTransformationSequence = [slope]
        frames.append(frame)
    for name in names:
        delattr(dataset, name)
    dataset.PerFrameFunctionalGroupsSequence, dataset.NumberOfFrames = frames, 3
    dataset.PixelData = np.stack([stored] * 3).tobytes()
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.save_as(tmp_path / "e.dcm")
    data = ti.io.read(tmp_path / "e.dcm")
    for number in range(3):
        assert np.array_equal(np.asarray(data)[number], stored * (number + 1.0) - 10)
    assert (data.units, data.spacing) == ("HU", (2.5, 0.5, 0.75))
    assert "meant to be shown bright" in data.notes[0]
    for scale in (1.0, 1 / 7):
        ti.io.write(tmp_path / "f.dcm", data.values * scale, like=data)
        found = ti.io.read(tmp_path / "f.dcm")
        assert np.allclose(found.affine, data.affine)
        step = scale * float(data.values.max() - data.values.min()) / 65535
        assert float((found.values - data.values * scale).abs().max()) <= 0.51 * step * (scale < 1)


def test_data_are_arrays_everywhere(tmp_path):
    prior = ti.priors.Gaussian(torch.zeros(1, *GRID), power_spectrum=torch.ones(GRID))
    mask = ops.Mask(torch.ones(1, *GRID), noise=ops.GaussianNoise(0.1))
    tifffile.imwrite(tmp_path / "y.tif", numbers(*GRID))
    data = ti.io.read(tmp_path / "y.tif")
    posterior = ti.solve(data, mask, prior, num_samples=3, steps=3)
    assert torch.equal(
        posterior.samples, ti.solve(data.values, mask, prior, num_samples=3, steps=3).samples
    )
    ti.io.write(tmp_path / "mean.tif", posterior.mean, like=data)
    assert torch.equal(ti.io.read(tmp_path / "mean.tif").values, posterior.mean)
    assert torch.equal(mask.measure(data, seed=1), mask.measure(data.values, seed=1))
    assert torch.equal(torch.as_tensor(data), data.values)
    assert torch.equal(data[0], data.values[0])
    make_colour(tmp_path / "c.png")
    picture = ti.as_image(ti.io.read(tmp_path / "c.png"), value_range=(-1, 1))
    assert torch.equal(picture, ti.as_image(image_of.open(tmp_path / "c.png"), value_range=(-1, 1)))
    with pytest.raises(TypeError, match="black and white"):
        ti.as_image(data, value_range=(0, 1))
    stack = np.random.default_rng(0).normal(size=(8, 1, *GRID)).astype(np.float32)
    np.save(tmp_path / "x.npy", stack)
    assert ti.check_prior(prior, ti.io.read(tmp_path / "x.npy")).passed is not None


def test_files_are_compressed_as_their_names_say(tmp_path):
    make_nifti(tmp_path / "a.nii")
    ti.io.write(tmp_path / "b.nii.gz", numbers(5, 12, 16), like=tmp_path / "a.nii")
    assert gzip.decompress((tmp_path / "b.nii.gz").read_bytes())[344:347] == b"n+1"


def test_pictures_stand_upright_and_white_is_white(tmp_path):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    picture = image_of.fromarray(grey)
    exif = picture.getexif()
    exif[274] = 6  # turned by a quarter
    picture.save(tmp_path / "a.jpg", quality=100, exif=exif)
    data = ti.io.read(tmp_path / "a.jpg")
    assert data.shape == (1, 3, 2)
    assert "turned upright" in data.notes[0]
    tifffile.imwrite(tmp_path / "w.tif", grey, photometric="miniswhite")
    data = ti.io.read(tmp_path / "w.tif")
    assert float(data.values.max()) == 255
    assert "0 is white" in data.notes[0]


def test_planes_and_pixels_of_colours_are_the_same(tmp_path):
    colours = np.random.default_rng(0).integers(0, 65535, (3, *GRID)).astype(np.uint16)
    options = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "planes.tif", colours, **options)
    tifffile.imwrite(tmp_path / "pixels.tif", colours.transpose(1, 2, 0), photometric="rgb")
    planes, mixed = (ti.io.read(tmp_path / f"{name}.tif") for name in ("planes", "pixels"))
    assert torch.equal(planes.values, mixed.values)
    assert np.array_equal(np.asarray(planes), colours)
    ti.io.write(tmp_path / "mean.tif", planes.values / 3, like=planes)
    with tifffile.TiffFile(tmp_path / "mean.tif") as file:
        assert file.pages[0].photometric.name == "RGB"


def test_the_libraries_own_files(tmp_path):
    """Published examples: HU, dose, colours, frames; every one comes back as it was."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    for name in (
        "CT_small",
        "MR_small_bigendian",
        "rtdose",
        "SC_rgb_small_odd",
        "SC_rgb_rle_2frame",
    ):
        data = ti.io.read(folder / f"{name}.dcm")
        ti.io.write(tmp_path / "again.dcm", data.values, like=data)
        again = ti.io.read(tmp_path / "again.dcm")
        assert torch.allclose(again.values, data.values, rtol=1e-7, atol=1e-7), name
        assert (again.units, again.spacing) == (data.units, data.spacing)
    data = ti.io.read(folder / "CT_small.dcm")
    assert (data.units, data.shape, data.spacing) == ("HU", (1, 128, 128), (0.661468, 0.661468))
    assert float(data.values.min()) == -896


def test_steps_that_no_unit_explains_are_said(tmp_path):
    """Spacing that is left out in silence would be taken for one that the file does not have."""
    header = fits.Header({"CTYPE1": "NO-SUCH", "CUNIT1": "furlong", "CDELT1": 1e-3, "CDELT2": 1e-3})
    fits.PrimaryHDU(numbers(*GRID), header).writeto(tmp_path / "a.fits")
    data = ti.io.read(tmp_path / "a.fits")
    assert data.spacing is None
    assert any("no one distance between pixels" in note for note in data.notes)
