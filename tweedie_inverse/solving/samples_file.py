"""Posteriors in HDF5 files: `samples` in one piece, read when they are used, and all else beside.

Other programs find the array ``samples``, those of the diagnostics under their names, and how the
samples were made as attributes.  This package reads what else there is from the text ``notes``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.io import hdf5_array
from tweedie_inverse.io.hdf5_array import Place

SUFFIXES = (".h5", ".hdf5")
_FORMAT = "tweedie-inverse-samples-1"
_SAMPLES, _CALL, _NOTES, _KIND = "samples", "call", "notes", "format"


def is_named_so(path: str | Path) -> bool:
    """Whether a file's name says that it is HDF5."""
    return Path(path).suffix.lower() in SUFFIXES


def laid_out(
    path: Path, shape: tuple[int, ...], dtype: torch.dtype, call: Mapping[str, Any]
) -> Place:
    """Make a file with room for samples, and say which call they are of."""
    texts = {_KIND: _FORMAT, _CALL: json.dumps(call)}
    return hdf5_array.laid_out(path, _SAMPLES, shape, dtype, texts, "solve(samples_to=)")


def complete(
    path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any], told: Mapping[str, Any]
) -> None:
    """Add what is known of all samples: it makes the file a posterior.

    Args:
        told: attributes for other programs.
    """
    with hdf5_array.opened(path, "r+", "solve(samples_to=)") as file:
        for name, tensor in tensors.items():
            file[name] = tensor.detach().cpu().numpy()
        file.attrs.update(told)
        file[_NOTES] = json.dumps(notes, default=str)  # last: it says that all is there


def call_of(path: Path) -> tuple[dict[str, Any], bool]:
    """The call that a file's samples are of, and whether they are all there.

    Raises:
        ValueError: no file of such samples.
    """
    try:
        with hdf5_array.opened(path, "r", "solve(samples_to=)") as file:
            _refuse_other_kind(file)
            return json.loads(file[_CALL].asstr()[()]), _NOTES in file
    except (OSError, ValueError) as error:
        raise ValueError(
            f"solve(samples_to={str(path)!r}): there is a file that holds no samples of solve, "
            f"and it is left alone ({error}); delete it, or name another"
        ) from error


def read(path: str | Path, caller: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and notes of a file; the samples are mapped into memory, and read when they are used.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: no file of such samples, or one whose samples have not all arrived.
    """
    path = Path(path)
    if not path.is_file():
        kind = "a folder or a device" if path.exists() else "not there"
        raise FileNotFoundError(f"{caller}({str(path)!r}): needs a file, this is {kind}")
    try:
        with hdf5_array.opened(path, "r", caller) as file:
            _refuse_other_kind(file)
            if _NOTES not in file:
                raise ValueError(
                    "its samples have not all arrived; the same call of solve with the same file "
                    "goes on"
                )
            notes = json.loads(file[_NOTES].asstr()[()])
            place = hdf5_array.place_of(file, _SAMPLES)
            names = [name for name in file if name not in (_SAMPLES, _CALL, _NOTES, _KIND)]
            tensors = {name: torch.as_tensor(file[name][()]) for name in names}
    except (OSError, ValueError) as error:
        raise ValueError(f"{caller}({str(path)!r}): {error}") from error
    return {_SAMPLES: hdf5_array.mapped(path, place), **tensors}, notes


def _refuse_other_kind(file: Any) -> None:
    kind = file[_KIND].asstr()[()] if _KIND in file else "of another kind"
    if kind != _FORMAT:
        raise ValueError(f"needs a file of ti.solve(samples_to=) ({_FORMAT}), this one is {kind}")
