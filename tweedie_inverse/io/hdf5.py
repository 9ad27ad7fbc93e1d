"""HDF5 by h5py: one array of a file, by its name; nothing is read from any other file."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io.accompany import Meaning, meaning_of
from tweedie_inverse.io.arrays import chosen
from tweedie_inverse.io.guarded import Refused, refuse_size
from tweedie_inverse.io.kinds import library
from tweedie_inverse.io.numbers import as_tensor

_OURS = ("units", "spacing", "spacing_unit", "affine")


def read(path: Path, key: str | int | None) -> Data:
    h5py = library("io.read", "hdf5")
    with h5py.File(path, "r") as file:
        known: dict[str, Any] = {}
        file.visititems(lambda name, found: _note(h5py, known, name, found))
        wanted = key.strip("/") if isinstance(key, str) else key
        if isinstance(wanted, str):
            _refuse_links(h5py, file, wanted)
            if wanted not in known and isinstance(file.get(wanted), h5py.Dataset):
                _note(h5py, known, wanted, file[wanted])  # through a link inside the file
        name = chosen("HDF5", wanted, list(known), lambda one: f"{one} {known[one].shape}")
        found = known[name]
        if found.external or found.is_virtual:
            raise Refused(f"{name}: its numbers lie in other files, which are not read; copy them")
        refuse_size(found.shape or (1,), found.dtype.itemsize)
        values = as_tensor(found[()])
        attributes = {one: found.attrs[one] for one in found.attrs if not _is_reference(found, one)}
    said = {one: _plain(attributes[one]) for one in _OURS if one in attributes}
    other = {one: value for one, value in attributes.items() if one not in _OURS}
    return Data(values, "hdf5", header={"key": name, "attributes": other}, **_meaning(said))


def _meaning(said: dict[str, Any]) -> dict[str, Any]:
    """Units and spacing of attributes, as far as they are what `write` makes of them."""
    try:
        return meaning_of(said)
    except (TypeError, ValueError):
        return {"units": str(said.get("units", ""))}


def _note(h5py: Any, known: dict[str, Any], name: str, found: Any) -> None:
    if isinstance(found, h5py.Dataset) and found.dtype.kind in "biufc" and found.shape is not None:
        known[name] = found


def _refuse_links(h5py: Any, file: Any, key: str) -> None:
    """Links on the way to an array must stay in the file."""
    parts = key.split("/")
    for last in range(1, len(parts) + 1):
        link = file.get("/".join(parts[:last]), getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise Refused(f"key={key!r} leads to another file, {link.filename}, which is not read")
        if isinstance(link, h5py.SoftLink):
            _refuse_links(h5py, file, link.path.strip("/"))


def _is_reference(found: Any, name: str) -> bool:
    """Attributes that point to places of the old file mean nothing in a new one."""
    dtype = found.attrs.get_id(name).dtype
    return dtype.kind == "O" and not isinstance(found.attrs[name], str)


def _plain(value: Any) -> Any:
    value = value.decode(errors="replace") if isinstance(value, bytes) else value
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def write(values: np.ndarray[Any, Any], meaning: Meaning) -> bytes:
    h5py, content = library("io.write", "hdf5"), io.BytesIO()
    header = meaning.header_of("hdf5") or {}
    with h5py.File(content, "w") as file:
        array = file.create_dataset(meaning.key("values"), data=values)
        for name, value in header.get("attributes", {}).items():
            array.attrs[name] = value
        for name, value in meaning.plain().items():
            if value is not None and value != "":
                array.attrs[name] = value
    return content.getvalue()
