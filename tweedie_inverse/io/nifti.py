"""NIfTI by nibabel: the affine map is kept, the axes are turned round to (depth, row, column).

nibabel's array is ``(x, y, z, time)``; ``values[time, z, y, x]`` is the same in the order of this
package, where x counts columns, y rows and z slices.  `write` turns them back.
"""

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io.accompany import Meaning
from tweedie_inverse.io.guarded import Refused, refuse_size
from tweedie_inverse.io.kinds import library
from tweedie_inverse.io.numbers import as_tensor, scaled

_SAID = "units: "  # in a comment, because NIfTI has no field for the unit of the values
# The unit of length, which most files made by programs leave unsaid: mm, as all of them mean.
_LENGTHS = {"meter": "m", "micron": "um", "mm": "mm", "unknown": "mm"}
_UNSAID = "does not say its unit of length, which is taken for mm"
_UNPLACED = "spacing is given, but no place in space"
_MOST_AXES = 7


def read(path: Path, key: str | int | None) -> Data:
    if key is not None:
        raise Refused(f"key={key!r}: a NIfTI file holds one array, without a name")
    nibabel = library("io.read", "nifti")
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):  # those of version 2 are, too
        raise Refused(f"is no NIfTI image, but {type(image).__name__}; convert it with nibabel")
    header, shape = image.header, image.shape
    dtype = header.get_data_dtype()
    if dtype.kind not in "biufc":
        raise Refused(f"holds colours of type {dtype}, and numbers are needed")
    refuse_size(shape, dtype.itemsize)
    _refuse_cut_off(path, image, dtype)
    array = _numbers(image.dataobj)
    trailing = len(shape)
    array = array.reshape(*shape, *(1,) * (3 - len(shape)))
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    many = 2 if array.shape[2] == 1 else 3
    steps = tuple(float(step) for step in header.get_zooms()[:many][::-1])
    placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    unit = header.get_xyzt_units()[0]
    notes = (_UNSAID,) * (unit == "unknown") + (_UNPLACED,) * (not placed)
    return Data(
        as_tensor(array.transpose()),
        "nifti",
        units=_units(header),
        spacing=steps if len(steps) == many and min(steps) > 0 else None,
        spacing_unit=_LENGTHS.get(unit, ""),
        affine=np.array(image.affine, np.float64) if placed else None,
        notes=notes,
        header=(header.copy(), trailing),
    )


def _numbers(stored: Any) -> np.ndarray[Any, Any]:
    raw = np.asanyarray(stored.get_unscaled())
    if (stored.slope, stored.inter) == (1, 0):
        return raw
    if np.iscomplexobj(raw):
        raise Refused("has a slope for complex numbers; save it without one")
    return scaled(raw, stored.slope, stored.inter)


def _refuse_cut_off(path: Path, image: Any, dtype: np.dtype[Any]) -> None:
    """Uncompressed files show by their size that they are cut off, before memory is taken."""
    claimed = int(image.dataobj.offset) + int(np.prod(image.shape, dtype=object)) * dtype.itemsize
    there = path.stat().st_size
    if not path.name.lower().endswith(".gz") and there < claimed:
        raise Refused(f"damaged: its header claims {claimed} bytes, it has {there}")


def _units(header: Any) -> str:
    found = [text for text in map(_text, header.extensions) if text.startswith(_SAID)]
    return found[-1].removeprefix(_SAID) if found else ""


def _text(extension: Any) -> str:
    content = extension.get_content()
    text = content.decode(errors="replace") if isinstance(content, bytes) else str(content)
    return text.rstrip("\0 ")


def write(values: np.ndarray[Any, Any], meaning: Meaning, is_compressed: bool) -> bytes:
    """The bytes of a file; samples before ``(depth, row, column)`` are the fourth axis."""
    nibabel = library("io.write", "nifti")
    if values.ndim > _MOST_AXES:
        raise ValueError(f"NIfTI holds up to {_MOST_AXES} axes, got shape {values.shape}")
    header, axes = meaning.header_of("nifti") or (None, 3)
    array = _turned(values, axes)
    kept = None if header is None or meaning.ratio is None else header.copy()
    matrix = meaning.matrix()
    is_second = max(array.shape) > 32767 or isinstance(header, nibabel.Nifti2Header)
    make = nibabel.Nifti2Image if is_second else nibabel.Nifti1Image
    image = make(array, matrix, kept, dtype=array.dtype)
    if matrix is None:
        _space(image.header, meaning, is_kept=kept is not None)
    elif kept is None:
        image.header.set_xyzt_units("mm")
    elif not meaning.is_same_grid:
        image.set_sform(matrix, int(kept["sform_code"]) or 2)
    image.header["cal_min"] = image.header["cal_max"] = 0  # of a display of other values
    _note_units(image.header, meaning.units)
    content = image.to_bytes()
    return gzip.compress(content, 6, mtime=0) if is_compressed else content


def _turned(values: np.ndarray[Any, Any], axes: int) -> np.ndarray[Any, Any]:
    """``(x, y, z, ...)``, with as many axes as the file like it had."""
    array = values.transpose()
    while array.ndim < axes:
        array = array[..., None]
    if axes == 2 and array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return array


def _space(header: Any, meaning: Meaning, *, is_kept: bool) -> None:
    """Spacing and unit of length of pixels whose place in space is not known."""
    steps = meaning.spacing if is_kept else meaning.in_millimetres()
    if steps is None:
        return
    if not is_kept:
        header.set_xyzt_units("mm")
    zooms = list(header.get_zooms())
    many = min(len(steps), len(zooms))
    zooms[:many] = steps[::-1][:many]
    header.set_zooms(zooms)


def _note_units(header: Any, units: str) -> None:
    extensions = library("io.write", "nifti", "nifti1")
    for old in [one for one in header.extensions if _text(one).startswith(_SAID)]:
        header.extensions.remove(old)
    if units:
        said = f"{_SAID}{units}".encode()
        header.extensions.append(extensions.Nifti1Extension("comment", said))
