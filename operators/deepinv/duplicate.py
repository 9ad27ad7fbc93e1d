"""A copy of somebody else's object that computes in another number type, or on another device.

The copy is made in two steps, because neither ``copy.deepcopy`` nor ``Module.to`` does it alone:

1. `copy.deepcopy` copies everything, so that the object itself is never changed.  It fails on
   random generators and on tensors with a gradient history, so these are copied beforehand and
   handed to it.  (`Physics.clone` does the same for generators, but looks at every attribute of
   everything in sight, classes included, which takes a quarter of a second.)
2. In the copy, tensors and number types are converted.  ``Module.to`` would drop the imaginary part
   of complex buffers, and does not find tensors in plain attributes, lists and dictionaries.

Both steps look into modules, dictionaries, lists and tuples, and at nothing else: the inside of any
other object is copied by `deepcopy` and left as it is.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def duplicate(original: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A copy of `original` with its floating-point tensors in `dtype`, all tensors on `device`."""
    by_hand = {id(part): _copied(part) for part in _parts(original) if _needs_a_hand(part)}
    made = copy.deepcopy(original, by_hand)
    for container in list(_parts(made)):
        _convert_entries(container, dtype, device)
    return made


def _parts(root: Any) -> Iterator[Any]:
    """`root` and everything that its modules, dictionaries, lists and tuples hold, each once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) not in seen:
            seen.add(id(value))
            yield value
            waiting.extend(_contents(value))


def _contents(value: Any) -> list[Any]:
    if isinstance(value, torch.nn.Module):
        return list(vars(value).values())
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def _needs_a_hand(value: Any) -> bool:
    """Whether `deepcopy` fails on it."""
    return isinstance(value, torch.Generator) or (
        isinstance(value, Tensor) and value.grad_fn is not None
    )


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    twin = torch.Generator(value.device)
    twin.set_state(value.get_state())
    return twin


def _convert_entries(container: Any, dtype: torch.dtype, device: torch.device) -> None:
    """Replace the tensors and number types that a module, a dictionary or a list holds."""
    entries = vars(container) if isinstance(container, torch.nn.Module) else container
    if isinstance(entries, dict):
        for key in entries:
            entries[key] = _converted(entries[key], dtype, device)
    elif isinstance(entries, list):
        entries[:] = [_converted(entry, dtype, device) for entry in entries]


def _converted(value: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A tensor or a number type converted, a tuple of them made anew, anything else as it is."""
    if isinstance(value, Tensor):
        return value.detach().to(device, _like(value.dtype, dtype))
    if isinstance(value, torch.dtype):
        return _like(value, dtype)
    if type(value) is tuple:
        return tuple(_converted(entry, dtype, device) for entry in value)
    return value


def _like(old: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    """What stands for `old` where floating-point numbers are `dtype`; integers stay."""
    if old.is_complex:
        return dtype.to_complex()
    return dtype if old.is_floating_point else old
