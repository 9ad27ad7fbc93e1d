"""Tensors by name and notes as JSON, in one safetensors file that says what it is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tweedie_inverse.runtime.atomic import replace


def write(
    path: str | Path, format: str, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]
) -> None:
    """Write a file in one stroke.

    Args:
        format: name and version of what it holds.
    """
    from safetensors.torch import save

    # Some may be views of one, or expanded: each is written as it is.
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    replace(path, save(own, metadata={"format": format, "notes": json.dumps(notes, default=str)}))


def read(
    path: str | Path, format: str, *, caller: str, need: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and notes of a file, on the CPU.

    Args:
        caller, need: for messages, such as ``"Posterior.load"`` and ``"a file of posterior.save"``.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is damaged, of another kind, or of another version of this package.
    """
    with opened(path, caller) as file:
        notes = notes_in(file, path, format, caller=caller, need=need)
        return {name: file.get_tensor(name) for name in file.keys()}, notes  # noqa: SIM118


def opened(path: str | Path, caller: str) -> Any:
    """The file, opened by safetensors; raises as `read`."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        kind = "a folder or a device" if Path(path).exists() else "not there"
        raise FileNotFoundError(f"{caller}({str(path)!r}): needs a file, this is {kind}")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{caller}({str(path)!r}): no safetensors file ({error})") from error


def notes_in(file: Any, path: str | Path, format: str, *, caller: str, need: str) -> dict[str, Any]:
    """The notes of an opened file; raises as `read`."""
    header = file.metadata() or {}
    if header.get("format") != format:
        found = header.get("format", "another kind, or of an older version of this package")
        raise ValueError(
            f"{caller}({str(path)!r}): needs {need} ({format}), this one is of {found}"
        )
    return json.loads(header["notes"])
