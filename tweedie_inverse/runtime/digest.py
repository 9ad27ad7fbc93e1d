"""A checksum of an object: of everything that it holds, tensors, settings and code of functions."""

import functools
import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from inspect import ismodule
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

_DIGITS = 16


def digest(value: Any) -> str:
    """First digits of the SHA-256 of everything that an object holds: tensors and settings."""
    found = hashlib.sha256()
    for part in _parts(value, set()):
        found.update(part)
    return found.hexdigest()[:_DIGITS]


def code_of(function: Callable[..., Any]) -> str:
    """A checksum of a function's own code, and not of what it calls; empty where it has none."""
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    return digest([code.co_code, list(code.co_names), repr([*map(_plain, code.co_consts)])])


def _plain(constant: Any) -> Any:
    """A constant of a function's code, without addresses."""
    return constant.co_code if isinstance(constant, CodeType) else constant


_EMPTY = CellType()


def _parts(value: Any, seen: set[int]) -> Iterator[bytes | memoryview]:
    """The content of an object, part by part; what holds no data counts by its class."""
    if isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        if value.device.type != "meta":  # it has no numbers there
            plain = value.detach().to_dense() if value.is_sparse else value.detach()
            yield (plain.cpu().resolve_conj().contiguous().flatten().view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, str | bytes | int | float | complex | type(None) | torch.device):
        yield repr(value).encode()
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part, seen)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield repr(key).encode()
            yield from _parts(part, seen)
    else:
        yield type(value).__qualname__.encode()
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, nn.Module):
            yield _weights(value)
        elif isinstance(value, FunctionType | MethodType | functools.partial):
            yield from _parts(_of_function(value), seen)
        elif hasattr(value, "__dict__") and not isinstance(value, type) and not ismodule(value):
            # Results that it keeps for later are no part of what it is.
            yield from _parts(
                {
                    name: part
                    for name, part in vars(value).items()
                    if not name.startswith("_")
                    and not isinstance(getattr(type(value), name, None), cached_property)
                },
                seen,
            )


def _of_function(function: FunctionType | MethodType | functools.partial[Any]) -> list[Any]:
    """Its code, and what it was made with."""
    if isinstance(function, functools.partial):
        return [function.func, function.args, function.keywords]
    if isinstance(function, MethodType):
        return [function.__func__.__qualname__, function.__self__]
    # A cell is empty until its variable is set.
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != _EMPTY]
    return [code_of(function), function.__defaults__, function.__kwdefaults__, cells]


# Networks are large, and one is used for many measurements: they are read again only when changed.
_READ: WeakKeyDictionary[nn.Module, tuple[list[tuple[int, int]], bytes]] = WeakKeyDictionary()


def _weights(module: nn.Module) -> bytes:
    """The SHA-256 of a network's weights."""
    state = module.state_dict()
    stamp = [
        (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
        for tensor in state.values()
        if isinstance(tensor, Tensor)
    ]
    if module not in _READ or _READ[module][0] != stamp:
        digest = hashlib.sha256()
        for part in _parts(dict(state), set()):
            digest.update(part)
        _READ[module] = stamp, digest.digest()
    return _READ[module][1]
