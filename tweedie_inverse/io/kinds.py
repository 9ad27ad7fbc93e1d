"""Kinds of files: their suffixes, their first bytes, the package that each needs, and refusals."""

import importlib
import re
from pathlib import Path
from typing import Any

# The suffixes that a kind is written and recognised by; the first is the usual one.
SUFFIXES = {
    "npy": (".npy",),
    "npz": (".npz",),
    "hdf5": (".h5", ".hdf5", ".hdf", ".he5"),
    "dicom": (".dcm", ".dicom", ".ima"),
    "nifti": (".nii.gz", ".nii"),
    "fits": (".fits", ".fit", ".fts", ".fits.gz"),
    "tiff": (".tif", ".tiff", ".btf"),
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg"),
}
# Module, and the name that it is installed by; all of them are the extra `io`.
_PACKAGES = {
    "hdf5": ("h5py", "h5py"),
    "dicom": ("pydicom", "pydicom"),
    "nifti": ("nibabel", "nibabel"),
    "fits": ("astropy", "astropy"),
    "tiff": ("tifffile", "tifffile"),
    "png": ("PIL", "pillow"),
    "jpeg": ("PIL", "pillow"),
}
# What is not read, and the way to something that is.
_ELSEWHERE = {
    ".zarr": "np.save('y.npy', zarr.open(path)[...])",
    ".nrrd": "nrrd.read(path) of pynrrd and np.save, or convert it to NIfTI",
    ".nhdr": "nrrd.read(path) of pynrrd and np.save, or convert it to NIfTI",
    ".mha": "convert it to NIfTI with SimpleITK",
    ".mhd": "convert it to NIfTI with SimpleITK",
    ".mrc": "mrcfile.open(path).data and np.save",
    ".map": "mrcfile.open(path).data and np.save",
    ".mat": "scipy.io.loadmat(path)['name'], or h5py for version 7.3, and np.save",
    ".img": "convert the pair of .hdr and .img to one file .nii",
    ".hdr": "convert the pair of .hdr and .img to one file .nii",
    ".mgz": "nibabel.load(path) and nibabel.save as .nii.gz",
    ".mnc": "nibabel.load(path) and nibabel.save as .nii.gz",
    ".nc": "xarray.open_dataset(path) and np.save",
    ".gif": "convert it to PNG or TIFF",
    ".bmp": "convert it to PNG or TIFF",
    ".webp": "convert it to PNG or TIFF",
    ".jp2": "convert it to TIFF",
    ".czi": "convert it to OME-TIFF with Bio-Formats",
    ".nd2": "convert it to OME-TIFF with Bio-Formats",
    ".lif": "convert it to OME-TIFF with Bio-Formats",
    ".svs": "cut a region out with OpenSlide and save it as TIFF",
    ".safetensors": "a saved posterior is read by ti.Posterior.load(path)",
    ".pt": "torch.load(path, weights_only=True) and np.save",
    ".pkl": "np.save what is in it; pickles run code, and are not read",
    ".csv": "np.loadtxt(path, delimiter=',') and np.save",
    ".txt": "np.loadtxt(path) and np.save",
}
_READABLE = "npy, npz, HDF5, DICOM, NIfTI, FITS, TIFF, PNG, JPEG"
# In this order: a DICOM file may begin as a TIFF file does, in its preamble.
_MAGIC = (
    (128, b"DICM", "dicom"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"II+\0", "tiff"),
    (0, b"MM\0+", "tiff"),
    (0, b"SIMPLE  =", "fits"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (512, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (0, b"PK\x03\x04", "npz"),
    (0, b"PK\x05\x06", "npz"),
    (0, b"\x93NUMPY", "npy"),
    (344, b"n+1\0", "nifti"),
    (4, b"n+2\0", "nifti"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"NRRD000", "NRRD"),
    (208, b"MAP ", "MRC"),
    (0, b"GIF8", "GIF"),
    (0, b"MATLAB", "MATLAB"),
    (0, b"BM", "BMP"),
)


def kind_by_name(caller: str, path: Path) -> str:
    """The kind that a file's name promises.

    Raises:
        ValueError: it promises none, or one that is not read and written here.
    """
    kind = known_suffix(path)
    if kind is not None:
        return kind[0]
    suffix = path.suffix.lower()
    way = _ELSEWHERE.get(suffix)
    if way is not None:
        raise ValueError(f"{caller}: {path}: {suffix} files are not supported; {way}")
    said = f"the suffix {path.suffix}" if path.suffix else "a name without a suffix"
    raise ValueError(f"{caller}: {path}: {said} names no kind of file known here ({_READABLE})")


def known_suffix(path: Path) -> tuple[str, str] | None:
    """Kind and suffix of a name, the longest that fits."""
    name = path.name.lower()
    found = [(kind, one) for kind, ends in SUFFIXES.items() for one in ends if name.endswith(one)]
    return max(found, key=lambda pair: len(pair[1]), default=None)


def stem(path: Path) -> str:
    """The name without its suffix: ``scan`` for ``scan.nii.gz``."""
    known = known_suffix(path)
    return path.stem if known is None else path.name[: -len(known[1])]


def kind_of_file(path: Path) -> str:
    """The kind of a file by its name and its first bytes, which must agree.

    A file whose name promises nothing, as many DICOM files have it, is what its bytes say.

    Raises:
        ValueError: they do not agree, the file is empty, or the kind is not known.
    """
    with open(path, "rb") as file:
        head = file.read(600)
    if not head:
        raise ValueError(f"io.read: {path}: is empty, damaged")
    found = _sniffed(head)
    named = known_suffix(path)
    if named is None:
        if found in SUFFIXES and (found == "dicom" or not path.suffix):
            return found
        return kind_by_name("io.read", path)
    kind, suffix = named
    gzipped = suffix.endswith(".gz")
    if found is None or (found == kind and not gzipped) or (found == "gzip" and gzipped):
        return kind
    if kind == "dicom" and head[:1] in (b"\x08", b"\x00", b"\x02"):
        return kind  # without a preamble, its first element may look like anything
    is_one = "an uncompressed" if found == kind else "a"
    raise ValueError(
        f"io.read: {path}: the name says {suffix}, but the content is {is_one} {_spelt(found)} "
        "file; rename it" + ("" if found in SUFFIXES or found == "gzip" else ", or convert it")
    )


def _sniffed(head: bytes) -> str | None:
    for place, magic, kind in _MAGIC:
        if head[place : place + len(magic)] == magic:
            return kind
    return None


def _spelt(kind: str | None) -> str:
    if kind == "npz":
        return "zip (npz)"
    return {"dicom": "DICOM", "nifti": "NIfTI", "gzip": "gzip"}.get(
        kind or "", (kind or "").upper()
    )


def library(caller: str, kind: str, module: str = "") -> Any:
    """A package that reads a kind, imported now.

    Args:
        module: one of its modules, such as "io.fits"; default the package itself.

    Raises:
        ImportError: it is not installed; the message says how to.
    """
    package, installed = _PACKAGES[kind]
    try:
        return importlib.import_module(f"{package}.{module}" if module else package)
    except ImportError as error:
        raise ImportError(
            f"{caller}: {_spelt(kind)} files need {installed}: pip install {installed}, or all of "
            f"the extra io: pip install 'tweedie-inverse[io]' ({error})"
        ) from None


def ready(kind: str, caller: str) -> None:
    """Raise an `ImportError` where the package that writes a kind is not installed."""
    if kind in _PACKAGES:
        library(caller, kind)


def in_order(text: str) -> list[Any]:
    """A key that sorts numbers in names as numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]
