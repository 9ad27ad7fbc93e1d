"""One large array in an HDF5 file, in one piece: written by its place, and mapped into memory.

HDF5 lays the file out once, with all the room that the array will take.  After that the numbers go
straight to their place, so that a process that is killed leaves a whole file, and are mapped into
memory to be read: an ordinary tensor of which the system reads what is asked for.
"""

import mmap
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.io.kinds import library

_TYPES = {"float32": torch.float32, "float64": torch.float64}
# Address space for pages of the reader's own, which are few: without it a file larger than memory
# could not be mapped.  Python names it from 3.13 on.
_NO_RESERVE = 0x4000 if platform.machine() in ("x86_64", "aarch64") else 0


class Place(NamedTuple):
    """Where an array lies in a file: its first byte, shape, and number type by name."""

    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.itemsize


def opened(path: Path, mode: str, caller: str) -> Any:
    """The file by h5py, without a lock of its own.

    Raises:
        ImportError: h5py is not installed.
        OSError: there is none, or no HDF5 file.
    """
    return library(caller, "hdf5").File(path, mode, locking=False)


def laid_out(
    path: Path, name: str, shape: tuple[int, ...], dtype: torch.dtype, texts: Mapping[str, str],
    caller: str,
) -> Place:  # fmt: skip
    """Make a file with room for an array, and with texts by name; an old one is lost.

    Raises:
        OSError: the room is not there.
    """
    h5py = library(caller, "hdf5")
    kind = next(known for known, one in _TYPES.items() if one == dtype)
    # Aligned, because a tensor's numbers must be.
    with h5py.File(path, "w", locking=False, alignment_threshold=1, alignment_interval=64) as file:
        for one, text in texts.items():
            file[one] = text
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_layout(h5py.h5d.CONTIGUOUS)
        settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space, number = h5py.h5s.create_simple(shape), h5py.h5t.py_create(np.dtype(kind))
        h5py.h5d.create(file.id, name.encode(), number, space, settings)
        place = place_of(file, name)
    if hasattr(os, "posix_fallocate"):  # the room is taken now, or refused now
        with open(path, "r+b") as raw:
            os.posix_fallocate(raw.fileno(), place.offset, place.nbytes)
    return place


def place_of(file: Any, name: str) -> Place:
    """Where an array lies.

    Raises:
        ValueError: it is not there, not in one piece, or of another number type.
    """
    found = file.get(name)
    offset = found.id.get_offset() if hasattr(found, "dtype") else None
    if offset is None or found.dtype.name not in _TYPES or not found.dtype.isnative:
        raise ValueError(f"there is no array {name} in one piece, in float32 or float64")
    return Place(offset, tuple(found.shape), found.dtype.name)


def write(path: Path, place: Place, first: int, rows: Tensor) -> None:
    """Numbers from item `first` of the flattened array on; they are on the disk afterwards."""
    with open(path, "r+b") as raw:
        raw.seek(place.offset + first * place.itemsize)
        for row in rows:
            numbers = row.detach().cpu().contiguous().numpy().astype(place.dtype, copy=False)
            raw.write(memoryview(numbers.reshape(-1)).cast("B"))
        raw.flush()
        os.fsync(raw.fileno())


def mapped(path: Path, place: Place) -> Tensor:
    """The array as a tensor on the CPU, read when it is used; changing it leaves the file alone."""
    with open(path, "rb") as raw:
        if os.name == "posix":
            there = mmap.mmap(
                raw.fileno(),
                place.offset + place.nbytes,
                flags=mmap.MAP_PRIVATE | (_NO_RESERVE if sys.platform == "linux" else 0),
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
            )
        else:
            there = mmap.mmap(raw.fileno(), place.offset + place.nbytes, access=mmap.ACCESS_COPY)
    count = place.nbytes // place.itemsize
    flat = torch.frombuffer(there, dtype=_TYPES[place.dtype], count=count, offset=place.offset)
    return flat.reshape(place.shape)


class Rest(NamedTuple):
    """Everything of a file but its array, to undo what an interrupted writer has done to it."""

    head: bytes
    tail: bytes

    @staticmethod
    def of(path: Path, place: Place) -> "Rest":
        with open(path, "rb") as raw:
            head = raw.read(place.offset)
            raw.seek(place.offset + place.nbytes)
            return Rest(head, raw.read())

    def restore(self, path: Path, place: Place) -> None:
        """Make the file as it was, with the numbers that the array has now."""
        with open(path, "r+b") as raw:
            raw.write(self.head)
            raw.seek(place.offset + place.nbytes)
            raw.write(self.tail)
            raw.truncate()
            with suppress(OSError):
                os.fsync(raw.fileno())
