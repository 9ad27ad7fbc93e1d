"""Files in and out: numbers, units, spacing and place in space come back as they were."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops

h5py = pytest.importorskip("h5py")
nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")
tifffile = pytest.importorskip("tifffile")
fits = pytest.importorskip("astropy.io.fits")
image_of = pytest.importorskip("PIL.Image")

GRID = (12, 16)
# A map that turns, flips and scales, with a place: what a header may hold.
AFFINE = np.array([[0, -2.0, 0, 30], [1.5, 0, 0, -7], [0, 0, 4.0, 11], [0, 0, 0, 1]])


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def dicom_slice(folder, place=0.0, name="one.dcm", pixels=None, **changes):
    """A CT slice with slope 2 and intercept -1000, at a height of `place` mm."""
    uid, dataset = pydicom.uid, pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.CTImageStorage, uid.generate_uid()
    dataset.SeriesInstanceUID, dataset.Modality = "1.2.3", "CT"
    dataset.PatientName, dataset.ImageType = "Nobody", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1000
    dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.75], 3
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-10, 20, place]
    if pixels is None:
        pixels = np.random.default_rng(int(place) + 9).integers(0, 2000, GRID).astype(np.int16)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.PixelData = pixels.tobytes()
    for element, value in changes.items():
        setattr(dataset, element, value)
    dataset.save_as(folder / name, enforce_file_format=True)
    return folder / name


def make_nifti(path):
    image = nibabel.Nifti1Image(numbers(16, 12, 5), AFFINE)
    image.header["descrip"] = b"a scan"
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(AFFINE, 4)
    nibabel.save(image, path)


def make_fits(path):
    cards = {"BUNIT": "counts", "OBJECT": "M51", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
    cards |= {"CRPIX1": 3.0, "CRPIX2": 4.0, "CRVAL1": 150.0, "CRVAL2": 2.0, "CDELT1": -1e-3}
    cards |= {"CDELT2": 1e-3, "CUNIT1": "deg", "CUNIT2": "deg"}
    header = fits.Header(list(cards.items()))
    fits.PrimaryHDU(numbers(*GRID), header).writeto(path)


def make_packed_fits(path):
    packed = fits.CompImageHDU(np.arange(192, dtype=np.int32).reshape(GRID), name="SCI")
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(path)


def make_cube(path):
    fits.PrimaryHDU(numbers(4, 1, *GRID)).writeto(path)


def make_tiff(path):
    options = {"resolution": (20.0, 10.0), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, numbers(*GRID), photometric="minisblack", **options)


def make_imagej(path):
    metadata = {"axes": "ZYX", "unit": "micron", "spacing": 3.0}
    tifffile.imwrite(path, numbers(5, *GRID), imagej=True, resolution=(2, 4), metadata=metadata)


def make_ome(path):
    metadata = {"axes": "ZYX"}
    for name, size in (("X", 0.5), ("Y", 0.25), ("Z", 2.0)):
        metadata |= {f"PhysicalSize{name}": size, f"PhysicalSize{name}Unit": "µm"}
    tifffile.imwrite(path, numbers(5, *GRID), ome=True, metadata=metadata)


def make_hdf5(path):
    with h5py.File(path, "w") as file:
        array = file.create_dataset("entry/data", data=numbers(2, 3, 4).astype(np.float64))
        array.attrs["units"], array.attrs["detector"] = "counts", 7


def make_grey(path):
    whole = np.arange(192, dtype=np.uint16).reshape(GRID) * 300
    image_of.fromarray(whole).save(path, dpi=(254, 127))


def make_colour(path):
    image_of.fromarray(np.arange(576, dtype=np.uint8).reshape(*GRID, 3)).save(path)


# name of the file, how it is made, shape, units, spacing in its unit
FILES = [
    ("a.nii.gz", make_nifti, (5, 12, 16), "", (4.0, 2.0, 1.5), "mm"),
    ("a.nii", make_nifti, (5, 12, 16), "", (4.0, 2.0, 1.5), "mm"),
    ("a.fits", make_fits, (1, *GRID), "counts", (1e-3, 1e-3), "deg"),
    ("p.fits", make_packed_fits, (1, *GRID), "", None, ""),
    ("c.fits.gz", make_cube, (4, 1, *GRID), "", None, ""),
    ("a.tif", make_tiff, (1, *GRID), "", (1.0, 0.5), "mm"),
    ("j.tif", make_imagej, (5, *GRID), "", (3e-3, 0.25e-3, 0.5e-3), "mm"),
    ("a.ome.tif", make_ome, (5, *GRID), "", (2e-3, 0.25e-3, 0.5e-3), "mm"),
    ("a.h5", make_hdf5, (2, 3, 4), "counts", None, ""),
    ("a.png", make_grey, (1, *GRID), "", (0.2, 0.1), "mm"),
    ("c.png", make_colour, (3, *GRID), "", None, ""),
    ("a.npy", lambda path: np.save(path, numbers(3, 4)), (3, 4), "", None, ""),
    ("a.npz", lambda path: np.savez(path, y=numbers(3, 4)), (3, 4), "", None, ""),
    (
        "a.dcm",
        lambda path: dicom_slice(path.parent, name=path.name),
        (1, *GRID),
        "HU",
        (0.5, 0.75),
        "mm",
    ),
]


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
