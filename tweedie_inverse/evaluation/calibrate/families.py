"""Test quantities in families, and the numbers in which each family would show a fault."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Family(NamedTuple):
    """Quantities of one kind.

    Attributes:
        name: for tables.
        columns: names of its quantities.
        alike: whether they are of one kind and scale, such as pixels, so that a fault of all of
            them adds up; else each is judged by itself.
    """

    name: str
    columns: tuple[str, ...]
    alike: bool


def slices(families: Sequence[Family]) -> list[slice]:
    """Where the columns of each family stand."""
    found, first = [], 0
    for family in families:
        found.append(slice(first, first + len(family.columns)))
        first += len(family.columns)
    return found


def components(sums: Tensor, families: Sequence[Family]) -> tuple[Tensor, list[int]]:
    """What is large under a fault, ``(rows, components)``, and the family of each component.

    Args:
        sums: ``(rows, orders, statistics)``, scores added up over the truths, over the root of
            their number: of mean 0 and variance 1 where the ranks are uniform.
    """
    found: list[Tensor] = []
    owners: list[int] = []
    for number, (family, place) in enumerate(zip(families, slices(families), strict=True)):
        part = sums[:, :, place]
        several = _of_alike(part) if family.alike and part.shape[2] > 1 else _of_each(part)
        found += several
        owners += [number] * len(several)
    return torch.stack(found, dim=1), owners


def _of_each(part: Tensor) -> list[Tensor]:
    """Shift, spread and shape of every quantity by itself."""
    found = []
    for column in part.unbind(2):
        found += [order.abs() for order in column[:, :2].unbind(1)]
        if column.shape[1] > 2:
            found.append(column[:, 2:].square().sum(1))
    return found


def _of_alike(part: Tensor) -> list[Tensor]:
    """Of shift and of spread: all the same way, here and there, and in one place only."""
    found = []
    for order in part[:, :2].unbind(1):
        found += [order.sum(1).abs(), order.square().sum(1), order.abs().amax(1)]
    if part.shape[1] > 2:
        found.append(part[:, 2:].square().sum((1, 2)))
    return found
