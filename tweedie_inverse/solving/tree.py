"""States of walks as tensors and JSON: NamedTuples, tensors and numbers, in any nesting."""

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_PLAIN = (bool, int, float, str)


def flattened(value: Any) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a value by number, and the rest of it as JSON.

    Raises:
        TypeError: it holds something else.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _noted(value, tensors)


def rebuilt(tensors: Mapping[str, Tensor], note: Any) -> Any:
    """The value that `flattened` took apart.

    Raises:
        ValueError: it is of a class that is not there.
    """
    if not isinstance(note, dict):
        return note
    if "tensor" in note:
        return tensors[note["tensor"]]
    parts = [rebuilt(tensors, part) for part in note["parts"]]
    kind = note["kind"]
    if kind in ("list", "tuple"):
        return parts if kind == "list" else tuple(parts)
    return _class_of(kind)._make(parts)


def _noted(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, list | tuple):
        kind = type(value).__name__
        if hasattr(value, "_fields"):
            kind = f"{type(value).__module__}:{type(value).__qualname__}"
        return {"kind": kind, "parts": [_noted(part, tensors) for part in value]}
    if value is None or isinstance(value, _PLAIN):
        return value
    raise TypeError(
        f"a state that is saved may hold NamedTuples, tensors and numbers, got "
        f"{type(value).__name__}; give the walk `portable` and `restored`"
    )


def _class_of(kind: str) -> Any:
    """A NamedTuple of a module that is loaded; a file can make no other be loaded."""
    module, _, name = kind.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_fields")):
        raise ValueError(f"it holds a {name} of {module}, which is not imported or no NamedTuple")
    return found
