"""`read`: a file or a folder of DICOM slices as numbers with what they mean."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io import arrays, dicom, dicom_series, fits, hdf5, nifti, pictures, tiff
from tweedie_inverse.io.guarded import reading
from tweedie_inverse.io.kinds import kind_by_name, kind_of_file

_READERS: dict[str, Callable[[Path, Any], Data]] = {
    "npy": arrays.read_npy,
    "npz": arrays.read_npz,
    "hdf5": hdf5.read,
    "dicom": dicom.read,
    "nifti": nifti.read,
    "fits": fits.read,
    "tiff": tiff.read,
    "png": pictures.read,
    "jpeg": pictures.read,
}


def read(path: str | Path, *, key: str | int | None = None) -> Data:
    """The numbers of a file, with units, spacing and place in space (`Data`).

    Slopes and offsets of the file are applied: CT is in HU.  A picture is ``(1, height, width)`` or
    ``(3, height, width)``, a stack or volume ``(depth, height, width)``; arrays of npy, npz and
    HDF5 keep their shape.  docs/your-data.md says for each kind what is kept.

    Args:
        path: a file; its name and its first bytes must say the same kind.  A folder is one series
            of DICOM slices, a volume in the order of their positions.
        key: which array of an npz or HDF5 file, which image of a FITS or TIFF file (name or
            number), or which series of a folder (number or UID), where there are several.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: a package is missing; the message names it.
        ValueError: another kind of file, a damaged one, several arrays and no key, more than memory
            holds, pickles, or links to other files.
    """
    path = checked_path("io.read", "path", path)
    if isinstance(key, bool) or not isinstance(key, str | int | None):
        raise TypeError(f"io.read(key={key!r}): needs a name or a number")
    if path.is_dir():
        if path.suffix.lower() == ".zarr":
            kind_by_name("io.read", path)
        with reading(path, "dicom"):
            return dicom_series.read(path, key)
    if not path.exists():
        raise FileNotFoundError(f"io.read: {path}: there is no such file")
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"io.read: {path}: is a pipe or a device; name a file")
    kind = kind_of_file(path)
    with reading(path, kind):
        return _READERS[kind](path, key)
