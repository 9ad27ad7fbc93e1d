"""Tensors by name and notes as JSON, in one safetensors file that says what it is."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.runtime.atomic import replace

# How the format names its number types; their bytes are little-endian, as on all usual machines.
_NUMBERS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write(
    path: str | Path, format: str, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]
) -> None:
    """Write a file in one stroke, one tensor after the other.

    safetensors itself copies all of them into memory first, which samples in a file do not fit.

    Args:
        format: name and version of what it holds.
    """
    metadata = {"format": format, "notes": json.dumps(notes, default=str)}
    replace(path, _content(tensors, metadata))


def _content(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[Any]:
    """The pieces of a safetensors file: the length of the header, the header, the numbers."""
    # Wide numbers first, so that all of them are aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    place = 0
    for name in names:
        tensor = tensors[name]
        last = place + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NUMBERS[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, last],
        }
        place = last
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in names:
        # Some may be views of one, or expanded: each is written as it is.
        numbers = tensors[name].detach().cpu().resolve_conj().contiguous().reshape(-1)
        yield numbers.view(torch.uint8).numpy().data


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
