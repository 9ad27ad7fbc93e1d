"""Files that are damaged, hostile or of another kind: one sentence with the file's name."""

import io
import struct
import sys
import warnings
import zipfile
import zlib
from contextlib import suppress

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests import data_files as good
from tests.data_files import fits, h5py, image_of, nibabel, pydicom, tifffile
from tweedie_inverse.io.guarded import UnreadableError

MAKERS = {name: make for name, make, *_ in good.FILES}


def refused(path, reason=".", **options):
    """Reading fails with one line that names the file, and without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=reason) as caught:
            ti.io.read(path, **options)
    said = str(caught.value)
    assert said.startswith(f"io.read: {path}")
    assert len(said.splitlines()) == 1
    assert len(said) < 600 + len(str(path))


@pytest.mark.parametrize("name", MAKERS)
def test_cut_off_files_are_refused(name, tmp_path):
    MAKERS[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for share in (0.0, 0.02, 0.3, 0.7, 0.95):
        # The last block of a FITS file is padding, and so may be the end of another.
        if share == 0.95 and name in ("a.fits", "a.ome.tif", "j.tif", "a.h5"):
            continue
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        refused(tmp_path / name)


@pytest.mark.parametrize("name", MAKERS)
def test_any_spoilt_byte_ends_in_numbers_or_a_sentence(name, tmp_path):
    MAKERS[name](tmp_path / name)
    content = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    for _ in range(12):
        spoilt = content.copy()
        places = random.integers(0, min(len(spoilt), 700), 3)
        spoilt[places] = random.integers(0, 256, 3)
        (tmp_path / name).write_bytes(spoilt.tobytes())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with suppress(UnreadableError):  # and no other error
                ti.io.read(tmp_path / name)


def header_of_png(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + b"\0\0\0\0IDAT"
    )


def claiming_npy(numbers):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({numbers},), }}".encode()
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


_TOO_LARGE = "claims an array of shape|more pixels than Pillow opens"


def huge_npy(path):
    path.write_bytes(claiming_npy(2 * 10**13))


def huge_npz(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("y.npy", claiming_npy(2 * 10**13) + bytes(10**6))


def huge_png(path):
    path.write_bytes(header_of_png(2**30, 2**30))


def huge_tiff(path):
    tifffile.imwrite(path, np.zeros((4, 4), np.uint8), photometric="minisblack")
    content = bytearray(path.read_bytes())
    for tag in (256, 257):  # width and height, as whole numbers of 32 bits
        place = (
            content.index(struct.pack("<HH", tag, 4))
            if struct.pack("<HH", tag, 4) in content
            else (content.index(struct.pack("<HH", tag, 3)))
        )
        content[place : place + 12] = struct.pack("<HHII", tag, 4, 1, 2**30)
    path.write_bytes(content)


def huge_fits(path):
    header = fits.Header([("SIMPLE", True), ("BITPIX", -64), ("NAXIS", 2)])
    header["NAXIS1"], header["NAXIS2"] = 10**7, 10**7
    path.write_bytes(header.tostring().encode())


def huge_nifti(path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    header["magic"] = b"n+1"
    import gzip

    path.write_bytes(gzip.compress(header.binaryblock + bytes(4)))


def huge_hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("y", shape=(10**7, 10**7), dtype="f8", chunks=(100, 100))


def huge_dicom(path):
    good.dicom_slice(path.parent, name=path.name, Rows=65535, Columns=65535, NumberOfFrames=10**5)


HUGE = {
    "y.npy": huge_npy,
    "y.npz": huge_npz,
    "y.png": huge_png,
    "y.tif": huge_tiff,
    "y.fits": huge_fits,
    "y.nii.gz": huge_nifti,
    "y.h5": huge_hdf5,
    "y.dcm": huge_dicom,
}


@pytest.mark.parametrize("name", HUGE)
def test_what_claims_more_than_memory_is_refused_before_it_is_made(name, tmp_path):
    HUGE[name](tmp_path / name)
    # astropy finds out that a file is shorter than that before anybody can ask.
    refused(tmp_path / name, "damaged" if name == "y.fits" else _TOO_LARGE)


def test_names_and_contents_must_agree(tmp_path):
    good.make_grey(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for name in ("a.tif", "a.npy", "a.dcm", "a.nii.gz", "a.h5"):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "the content is a PNG file; rename it")
    good.make_nifti(tmp_path / "b.nii")
    (tmp_path / "b.nii").rename(tmp_path / "b.nii.gz")
    refused(tmp_path / "b.nii.gz", "the content is an uncompressed NIfTI file")
    good.dicom_slice(tmp_path, name="IM0001")
    assert ti.io.read(tmp_path / "IM0001").kind == "dicom"
    good.dicom_slice(tmp_path, name="1.2.840.7")
    assert ti.io.read(tmp_path / "1.2.840.7").kind == "dicom"


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("y.nrrd", "pynrrd"),
        ("y.mrc", "mrcfile"),
        ("y.mat", "loadmat"),
        ("y.zarr", "zarr.open"),
        ("y.img", "one file .nii"),
        ("y.gif", "PNG or TIFF"),
        ("y.pkl", "run code"),
        ("y.xyz", "the suffix .xyz names no kind"),
        ("y", "without a suffix"),
    ],
)
def test_other_kinds_are_refused_by_name_with_the_way_out(name, way, tmp_path):
    (tmp_path / name).write_bytes(b"something")
    refused(tmp_path / name, way)
    with pytest.raises(ValueError, match=r"io.write: .*" + way):
        ti.io.write(tmp_path / name, torch.zeros(2, 2))


def test_of_several_arrays_none_is_guessed(tmp_path):
    np.savez(tmp_path / "y.npz", a=np.zeros((2, 3)), b=np.ones(4), text="x")
    refused(tmp_path / "y.npz", r"holds several arrays \(a \(2, 3\), b \(4,\), text \(\)\)")
    refused(tmp_path / "y.npz", "none of that name; there are a", key="c")
    assert ti.io.read(tmp_path / "y.npz", key="b").shape == (4,)
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["scan/a"], file["scan/b"], file["name"] = np.zeros((2, 3)), np.ones(4), "text"
    refused(tmp_path / "y.h5", r"holds several arrays \(scan/a \(2, 3\), scan/b \(4,\)\)")
    assert ti.io.read(tmp_path / "y.h5", key="/scan/b").shape == (4,)
    units = [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 3)), name="SCI")]
    units += [fits.ImageHDU(np.ones((4, 3)), name="ERR")]
    fits.HDUList(units).writeto(tmp_path / "y.fits")
    refused(tmp_path / "y.fits", r"1 SCI \(2, 3\), 2 ERR \(4, 3\)")
    for key in ("ERR", 2, "2"):
        assert ti.io.read(tmp_path / "y.fits", key=key).shape == (1, 4, 3)
    refused(tmp_path / "y.fits", "there is no such unit", key="DQ")
    with tifffile.TiffWriter(tmp_path / "y.tif") as file:
        for size in (4, 6):
            file.write(np.zeros((size, size), np.float32), photometric="minisblack")
    refused(tmp_path / "y.tif", r"several images \(0 YX \(4, 4\), 1 YX \(6, 6\)\)")
    assert ti.io.read(tmp_path / "y.tif", key=1).shape == (1, 6, 6)


def test_no_pickle_runs_and_no_other_file_is_read(tmp_path):
    np.save(tmp_path / "y.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused(tmp_path / "y.npy", "pickles, which run code")
    np.savez(tmp_path / "y.npz", y=np.array([{}], dtype=object))
    refused(tmp_path / "y.npz", "pickles, which run code")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["y"] = np.ones(3)
    (tmp_path / "raw").write_bytes(bytes(24))
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["link"] = h5py.ExternalLink("secret.h5", "y")
        file["soft"] = h5py.SoftLink("/link")
        file.create_dataset("raw", (3,), "f8", external=[(str(tmp_path / "raw"), 0, 24)])
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "y", (3,))
        file.create_virtual_dataset("virtual", layout)
    for key in ("link", "soft"):
        refused(tmp_path / "y.h5", "leads to another file", key=key)
    for key in ("raw", "virtual"):
        refused(tmp_path / "y.h5", "lie in other files", key=key)


def test_pictures_that_hold_more_than_brightnesses(tmp_path):
    for mode in ("RGBA", "LA", "P"):
        image_of.new(mode, (4, 4)).save(tmp_path / "y.png")
        refused(tmp_path / "y.png", f"mode '{mode}', which holds more than brightnesses")
    image_of.new("RGB", (4, 4)).save(tmp_path / "y.png", transparency=(0, 0, 0))
    refused(tmp_path / "y.png", "opacity")
    image_of.new("CMYK", (4, 4)).save(tmp_path / "y.jpg")
    refused(tmp_path / "y.jpg", "inks")
    tifffile.imwrite(
        tmp_path / "y.tif",
        np.zeros((4, 4, 4), np.uint8),
        photometric="rgb",
        extrasamples=["unassalpha"],
    )
    refused(tmp_path / "y.tif", "opacity")
    rows = b"".join(b"\0" + bytes(4 * 6) for _ in range(4))
    body = b"IHDR" + struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    chunks = [body, b"IDAT" + zlib.compress(rows), b"IEND"]
    parts = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    (tmp_path / "y.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    refused(tmp_path / "y.png", "16 bits, of which Pillow would drop 8")


def test_dicom_without_an_image_or_a_decoder(tmp_path):
    path = good.dicom_slice(tmp_path)
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    refused(path, r"holds no image \(modality CT\)")
    dataset = pydicom.dcmread(good.dicom_slice(tmp_path))
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(100)])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
    dataset.save_as(path)
    refused(path, "is compressed .* or a decoder is missing")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "a folder without DICOM images")
    (tmp_path / "empty" / "a.dcm").write_bytes(b"\0" * 132)
    with pytest.raises(ValueError, match=r"a\.dcm"):
        ti.io.read(tmp_path / "empty")


def test_keys_where_there_are_no_names(tmp_path):
    for name in ("a.npy", "a.nii", "a.png", "a.dcm"):
        MAKERS[name](tmp_path / name)
        refused(tmp_path / name, "without a name", key="y")
    with pytest.raises(TypeError, match="needs a name or a number"):
        ti.io.read(tmp_path / "a.npy", key=1.5)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        ti.io.read(tmp_path / "gone.tif")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    good.make_hdf5(tmp_path / "y.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install h5py, .*'tweedie-inverse\[io\]'"):
        ti.io.read(tmp_path / "y.h5")
    with pytest.raises(ImportError, match="pip install h5py"):
        ti.io.write(tmp_path / "z.h5", torch.zeros(2, 2))


X = torch.linspace(-1, 1, 12).reshape(1, 3, 4)
UNWRITABLE = [
    ("y.png", X, {}, r"give value_range=\(black, white\).* -1 to 1"),
    ("y.png", X, {"value_range": (0, 1)}, "outside black and white"),
    ("y.png", X, {"value_range": (1, 0)}, "white must be larger"),
    ("y.png", X * torch.nan, {"value_range": (0, 1)}, "no complex, NaN"),
    ("y.png", X.expand(2, 3, 4), {"value_range": (-1, 1)}, "write one file for each"),
    ("y.jpg", X, {}, "JPEG rounds"),
    ("y.dcm", X * torch.nan, {}, "no complex, NaN"),
    ("y.dcm", X + 1j, {}, "no complex"),
    ("y.dcm", X, {"units": "a unit with many letters"}, "16 characters"),
    ("y.fits", X + 1j, {}, "no complex"),
    ("y.tif", X + 1j, {}, "no complex"),
    ("y.tif", torch.zeros(0, 3), {}, "needs an array"),
    ("y.tif", torch.zeros(3), {}, "needs a picture"),
    ("y.tif", X, {"key": "y"}, "npz and HDF5 only"),
    ("y.tif", X, {"spacing": (1, -1)}, "positive distances"),
    ("y.xyz", X, {}, "names no kind"),
]


@pytest.mark.parametrize(("name", "values", "options", "reason"), UNWRITABLE)
def test_what_a_kind_cannot_hold_is_refused_and_nothing_is_written(
    name, values, options, reason, tmp_path
):
    with pytest.raises(ValueError, match=reason):
        ti.io.write(tmp_path / name, values, **options)
    assert not list(tmp_path.iterdir())


def test_a_mean_is_not_taken_for_the_numbers_of_the_picture_like_it(tmp_path):
    """In [0, 1] it lies between 0 and 255, and would be black."""
    good.make_colour(tmp_path / "c.png")
    mean = torch.full((3, *good.GRID), 0.5)
    with pytest.raises(ValueError, match="give value_range="):
        ti.io.write(tmp_path / "m.png", mean, like=tmp_path / "c.png")
    ti.io.write(tmp_path / "m.png", mean, like=tmp_path / "c.png", value_range=(0, 1))
    assert set(np.array(image_of.open(tmp_path / "m.png")).flatten()) == {128}


def test_a_failed_write_leaves_the_old_file(tmp_path):
    np.save(tmp_path / "y.npy", np.zeros(2))
    content = io.BytesIO()
    np.save(content, np.zeros(2))
    (tmp_path / "y.tif").write_bytes(content.getvalue())
    with pytest.raises(ValueError, match="no complex"):
        ti.io.write(tmp_path / "y.tif", X + 1j)
    assert (tmp_path / "y.tif").read_bytes() == content.getvalue()
    assert len(list(tmp_path.iterdir())) == 2
