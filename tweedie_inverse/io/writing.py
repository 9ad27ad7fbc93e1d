"""`write`: numbers to a file of the kind that its name says, with the meaning of a file like it."""

import dataclasses
import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tweedie_inverse.boundary.arguments import pair
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.boundary.arrays import tensor_of
from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io import arrays, dicom_write, fits, hdf5, nifti, pictures, tiff
from tweedie_inverse.io.accompany import Meaning, accompany
from tweedie_inverse.io.kinds import kind_by_name, known_suffix
from tweedie_inverse.io.numbers import as_array
from tweedie_inverse.io.reading import read
from tweedie_inverse.runtime.atomic import ready_folder, replace

_WRITERS: dict[str, Callable[[Any, Meaning], bytes]] = {
    "npy": arrays.write_npy,
    "npz": arrays.write_npz,
    "hdf5": hdf5.write,
    "dicom": dicom_write.write,
    "fits": fits.write,
    "tiff": tiff.write,
    "png": pictures.write_png,
}


def write(
    path: str | Path,
    values: Any,
    *,
    like: Data | str | Path | None = None,
    units: str | None = None,
    spacing: Sequence[float] | None = None,
    value_range: tuple[float, float] | None = None,
    key: str | None = None,
) -> None:
    """Write values, such as ``posterior.mean``, to a file of the kind that its suffix says.

    Numbers keep their type; DICOM has 16 bits with slope and intercept, which hold whole numbers
    like those of the source exactly and others to ``(largest - smallest) / 131070``; PNG has 8 or
    16 bits from black to white.  Samples ``(n, *shape)`` go along a further axis where the kind has
    one: the fourth of NIfTI, pages of TIFF, a FITS cube, HDF5, npz, npy.

    Along with `like` go units, spacing, and of the same kind of file the header: affine map and
    codes (NIfTI; from DICOM, too), all cards (FITS), ImageJ's or OME's form (TIFF), attributes
    (HDF5), bits (PNG), patient, study and geometry (DICOM: a new instance in a new series, see
    `dicom_write`).  Where the new pixels are a whole number of times as wide or as narrow, the
    spacing is scaled with a warning; on any other grid spacing and place are left out with one.

    Args:
        path: with the suffix of a kind; without one a folder of DICOM slices, like a series.
        values: a tensor or an array, in the layout of `Data`.
        like: what `read` returned, or a path.
        units: of the values, instead of those of `like`.
        spacing: instead of that of `like`, in its unit, or in mm: ``(row, column)`` or ``(depth,
            row, column)``.
        value_range: black and white of a PNG, in units of the values.
        key: the name of the array in npz and HDF5, default "values" or that of `like`.

    Raises:
        TypeError: no numbers.
        ValueError: the kind is not written, or cannot hold the values.
        ImportError: a package is missing.
    """
    path = checked_path("io.write", "path", path)
    if like is not None and not isinstance(like, Data):
        like = read(checked_path("io.write", "like", like))
    array = as_array(tensor_of("io.write", "values", values))
    if array.size == 0 or array.ndim == 0:
        raise ValueError(f"io.write: needs an array of numbers, got shape {array.shape}")
    if units is not None and not isinstance(units, str):
        raise TypeError(f"io.write(units={units!r}): needs a text, such as 'HU'")
    is_folder = not path.suffix and like is not None and like.kind == "dicom"
    kind = "dicom" if is_folder else kind_by_name("io.write", path)
    meaning = accompany(array.shape, like, units, spacing)
    meaning = _with(meaning, value_range, key, kind)
    if array.ndim == 1 and kind not in ("npy", "npz", "hdf5"):
        raise ValueError(f"io.write: {path}: needs a picture, got shape {array.shape}")
    try:
        if is_folder:
            _write_folder(path, dicom_write.write_series(array, meaning))
            return
        content = _encode(path, kind, array, meaning)
    except ImportError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"io.write: {path}: {' '.join(str(error).split())}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, content)


def _with(
    meaning: Meaning, value_range: tuple[float, float] | None, key: str | None, kind: str
) -> Meaning:
    """The meaning with black and white, and the array's name, where the kind has them."""
    changes: dict[str, Any] = {}
    if value_range is not None:
        need = "two numbers, black and white"
        ends = pair("io.write", "value_range", value_range, need=need)
        if not ends[0] < ends[1]:
            raise ValueError(f"io.write(value_range={ends}): white must be larger than black")
        changes["black_and_white"] = ends
    if key is not None:
        if not isinstance(key, str) or not key:
            raise TypeError(f"io.write(key={key!r}): needs a name")
        if kind not in ("npz", "hdf5"):
            raise ValueError(f"io.write(key={key!r}): names an array of npz and HDF5 only")
        changes["name"] = key
    return dataclasses.replace(meaning, **changes)


def _encode(path: Path, kind: str, array: np.ndarray[Any, Any], meaning: Meaning) -> bytes:
    known = known_suffix(path)
    is_compressed = known is not None and known[1].endswith(".gz")
    if kind == "jpeg":
        raise ValueError("JPEG rounds what it holds, and is not written; write PNG or TIFF")
    if kind == "nifti":
        return nifti.write(array, meaning, is_compressed)
    if kind == "fits" and is_compressed:
        return gzip.compress(fits.write(array, meaning), 6, mtime=0)
    return _WRITERS[kind](array, meaning)


def _write_folder(folder: Path, files: list[bytes]) -> None:
    """One file for each slice, in a folder that held none."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError("is there already; a series of slices needs a new or an empty folder")
    ready_folder(folder)
    for name, content in zip(dicom_write.slice_names(len(files)), files, strict=True):
        replace(folder / name, content)
