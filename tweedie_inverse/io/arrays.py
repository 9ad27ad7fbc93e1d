"""Arrays of NumPy: npy holds numbers alone, npz names them, and may hold their meaning."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io.accompany import Meaning, meaning_of
from tweedie_inverse.io.guarded import Refused, listed, refuse_size
from tweedie_inverse.io.numbers import as_tensor

# The entry of an npz file of `write` with units, spacing and affine, as JSON.
_MEANING = "meaning"


def read_npy(path: Path, key: str | int | None) -> Data:
    if key is not None:
        raise Refused(f"key={key!r}: a .npy file holds one array, without a name")
    with open(path, "rb") as file:
        shape, dtype = _header(file)
        _refuse_objects(dtype)
        refuse_size(shape or (1,), dtype.itemsize)
        there = path.stat().st_size - file.tell()
        claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if there < claimed:
            raise Refused(f"damaged: its header claims {claimed} bytes of numbers, it has {there}")
        file.seek(0)
        return Data(as_tensor(np.load(file, allow_pickle=False)), "npy")


def read_npz(path: Path, key: str | int | None) -> Data:
    with zipfile.ZipFile(path) as archive:
        found = {}
        for entry in archive.infolist():
            with archive.open(entry) as file:
                found[entry.filename.removesuffix(".npy")] = _header(file)
    names = [name for name in found if name != _MEANING]
    name = chosen("npz", key, names, lambda one: f"{one} {found[one][0]}")
    shape, dtype = found[name]
    _refuse_objects(dtype)
    refuse_size(shape or (1,), dtype.itemsize)
    with np.load(path, allow_pickle=False) as arrays:
        meaning = json.loads(str(arrays[_MEANING])) if _MEANING in arrays else {}
        values = as_tensor(arrays[name])
    return Data(values, "npz", header={"key": name}, **meaning_of(meaning))


def chosen(kind: str, key: str | int | None, names: list[str], shown: Any) -> str:
    """The array that a key names, or the only one there is.

    Args:
        shown: name -> how it is listed, with its shape.
    """
    if not names:
        raise Refused(f"this {kind} file holds no array of numbers")
    text = listed([shown(name) for name in names])
    if key is None:
        if len(names) > 1:
            raise Refused(f"holds several arrays ({text}); choose one with key=, --key in a shell")
        return names[0]
    if key not in names:
        raise Refused(f"key={key!r}: there is none of that name; there are {text}")
    return str(key)


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        reader = np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(file)
    return shape, dtype


def _refuse_objects(dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise Refused(
            "Object arrays cannot be loaded: they are pickles, which run code; make an array of "
            "numbers of it and np.save that"
        )
    if dtype.kind not in "biufc":
        kind = "text" if dtype.kind in "US" else dtype.name
        raise Refused(f"holds an array of {kind}, and numbers are needed (got an array of {kind})")


def write_npy(values: np.ndarray[Any, Any], meaning: Meaning) -> bytes:
    content = io.BytesIO()
    np.save(content, values, allow_pickle=False)
    return content.getvalue()


def write_npz(values: np.ndarray[Any, Any], meaning: Meaning) -> bytes:
    content = io.BytesIO()
    beside = {_MEANING: np.array(json.dumps(meaning.plain()))}
    np.savez(content, allow_pickle=False, **{meaning.key("values"): values}, **beside)
    return content.getvalue()
