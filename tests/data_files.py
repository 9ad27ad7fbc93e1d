"""Small files of every kind that `ti.io` reads, written by the kinds' own libraries."""

import numpy as np
import pytest

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
