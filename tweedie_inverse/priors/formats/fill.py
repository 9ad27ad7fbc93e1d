"""Weights of JAX, MATLAB and NumPy into a torch module: names or order, and the order of axes.

flax and Keras keep kernels as ``(height, width, in, out)`` and dense ones as ``(in, out)``,
MatConvNet likewise; Equinox as torch does, except that it neither flips nor exchanges the axes of a
transposed convolution.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from tweedie_inverse.boundary.arguments import instance
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.priors.formats.reading.foreign import kind_of, read

Rename = Callable[[str], str | None] | Mapping[str, str | None]
M = TypeVar("M", bound=nn.Module)

# The last part of a name in flax and Keras, and what torch calls it.
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "gamma": "weight",
    "beta": "bias",
    "embedding": "weight",
    "embeddings": "weight",
    "mean": "running_mean",
    "moving_mean": "running_mean",
    "var": "running_var",
    "moving_variance": "running_var",
}
# Of its two kinds of networks: layers in a cell, parameters in a struct.
_OF_MATCONVNET = re.compile(r"/weights/\d+$|/params/\d+/value$")
_COLLECTIONS = ("params", "batch_stats")


class Slot(NamedTuple):
    """A weight of the module: its name, the layer it belongs to, its shape."""

    name: str
    layer: nn.Module
    value: Tensor


def fill(module: M, path: str | Path, rename: Rename | None = None) -> M:
    """Put the weights of a foreign file into `module`, and return it.

    By name for flax, NumPy and MATLAB files: ``params/Conv_0/kernel`` is the weight of the layer
    ``Conv_0``, turned into torch's order of axes.  By order for Equinox and MatConvNet, which have
    no names that say more: the n-th array is the n-th parameter of the module, whose layers must
    have been made in the order of the fields there; single numbers among the arrays are left out
    where the module has none.

    Args:
        rename: the module's name for a name in the file, as a function or a dictionary; None for
            an array that the module does not have.  What a dictionary does not hold keeps its name.

    Raises:
        ValueError: weights that are missing, left over or of another shape; the module is then as
            it was.
    """
    instance("fill", "module", module, nn.Module, need="a torch.nn.Module")
    path = checked_path("fill", "path", path)
    arrays, kind = read(path), kind_of(path)
    by_order = rename is None and (kind == "equinox" or (kind == "matlab" and _matconvnet(arrays)))
    pairs = _by_order(module, arrays, kind) if by_order else _by_name(module, arrays, kind, rename)
    found = list(pairs)
    wrong = [
        f"{slot.name} {tuple(value.shape)} instead of {tuple(slot.value.shape)}"
        for slot, value in found
        if value.shape != slot.value.shape
    ]
    if wrong:
        raise ValueError(f"fill: {path}: {len(wrong)} weights have another shape, first {wrong[0]}")
    broken = [slot.name for slot, value in found if not bool(value.isfinite().all())]
    if broken:
        raise ValueError(f"fill: {path}: NaN or infinity in {', '.join(broken[:5])}")
    with torch.no_grad():
        for slot, value in found:
            slot.value.copy_(value)
    return module


def _slots(module: nn.Module, *, buffers: bool) -> list[Slot]:
    """Weights in the order in which the layers were made; counters are none."""
    found = []
    for prefix, layer in module.named_modules():
        own = list(layer.named_parameters(recurse=False))
        if buffers:
            own += [(n, b) for n, b in layer.named_buffers(recurse=False) if b.is_floating_point()]
        saved = layer._non_persistent_buffers_set
        found += [
            Slot(f"{prefix}.{name}" if prefix else name, layer, value)
            for name, value in own
            if name not in saved
        ]
    return found


def _by_name(
    module: nn.Module, arrays: dict[str, Tensor], kind: str | None, rename: Rename | None
) -> Iterator[tuple[Slot, Tensor]]:
    slots = {slot.name: slot for slot in _slots(module, buffers=True)}
    given: dict[str, tuple[str, Tensor]] = {}
    for name, value in arrays.items():
        target = _target(name, rename)
        if target is None:
            continue
        if target in given:
            raise ValueError(f"fill: {given[target][0]} and {name} both stand for {target}")
        given[target] = (name, value)
    for problem, names in (
        ("has no weights for", [name for name in slots if name not in given]),
        ("has weights that the module has not:", [name for name in given if name not in slots]),
    ):
        if names:
            raise ValueError(
                f"fill: the file {problem} {', '.join(names[:5])} ({len(names)} of {len(slots)}); "
                f"say which is which by rename=. It begins with {', '.join(list(arrays)[:4])}"
            )
    for name, slot in slots.items():
        origin, value = given[name]
        channels_last = kind == "matlab" or origin.replace("/", ".").endswith("kernel")
        yield slot, _of_channels_last(slot, value) if channels_last else value


def _target(name: str, rename: Rename | None) -> str | None:
    """The module's name for an array: what the user says, else torch's word for the same."""
    if callable(rename):
        return rename(name)
    if rename is not None and name in rename:
        return rename[name]
    parts = name.replace("/", ".").split(".")
    if parts[0] in _COLLECTIONS and len(parts) > 1:
        parts = parts[1:]
    return ".".join([*parts[:-1], _LEAVES.get(parts[-1], parts[-1])])


def _of_channels_last(slot: Slot, value: Tensor) -> Tensor:
    """``(height, width, in, out)`` as torch has it; other weights as they are."""
    if isinstance(slot.layer, _ConvTransposeNd) and value.ndim == slot.value.ndim > 2:
        space = tuple(range(value.ndim - 2))
        return value.flip(space).permute(-2, -1, *space)
    if isinstance(slot.layer, _ConvNd) and slot.value.ndim > 2:
        # MATLAB drops a last axis of one.
        value = value.reshape(*value.shape, *[1] * (slot.value.ndim - value.ndim))
        return value.permute(-1, -2, *range(value.ndim - 2))
    if isinstance(slot.layer, nn.Linear) and value.ndim == 2 and slot.value.ndim == 2:
        return value.mT
    return value.reshape(-1) if slot.value.ndim == 1 and value.numel() == len(slot.value) else value


def _by_order(
    module: nn.Module, arrays: dict[str, Tensor], kind: str | None
) -> Iterator[tuple[Slot, Tensor]]:
    slots = _slots(module, buffers=False)
    found = list(arrays.items())
    if kind == "matlab":
        found = [(name, value) for name, value in found if _OF_MATCONVNET.search(name)]
    if all(slot.value.ndim > 0 for slot in slots):
        found = [(name, value) for name, value in found if value.ndim > 0]
    turned = _of_channels_last if kind == "matlab" else _of_equinox
    for index in range(max(len(slots), len(found))):
        if index >= len(slots) or index >= len(found):
            raise ValueError(_first_difference(slots, found, index))
        value = turned(slots[index], found[index][1])
        if value.shape != slots[index].value.shape:
            raise ValueError(_first_difference(slots, found, index))
        yield slots[index], value


def _of_equinox(slot: Slot, value: Tensor) -> Tensor:
    if isinstance(slot.layer, _ConvTransposeNd) and value.ndim > 2 and slot.value.ndim > 2:
        return value.transpose(0, 1).flip(tuple(range(2, value.ndim)))
    if isinstance(slot.layer, _ConvNd) and slot.value.ndim == 1:  # biases (out, 1, 1)
        return value.reshape(-1)
    return value


def _first_difference(slots: list[Slot], found: list[tuple[str, Tensor]], index: int) -> str:
    """Both sides round the first pair that does not fit."""
    rows = []
    for place in range(max(0, index - 1), index + 2):
        left = f"{tuple(found[place][1].shape)}" if place < len(found) else "nothing"
        right = "nothing"
        if place < len(slots):
            right = f"{slots[place].name} {tuple(slots[place].value.shape)}"
        if (left, right) != ("nothing", "nothing"):
            rows.append(f"array {place}: {left} for {right}")
    return (
        f"fill: {len(found)} arrays in the file and {len(slots)} parameters in the module do not "
        f"fit, first at {index}; make its layers in the order of the file's ({'; '.join(rows)})"
    )


def _matconvnet(arrays: dict[str, Tensor]) -> bool:
    return any(_OF_MATCONVNET.search(name) for name in arrays)
