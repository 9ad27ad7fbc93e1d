"""Which values become 0 and 1: what files say, what was asked for, or where the values lie."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tweedie_inverse.datasets.own.facts import Facts, pooled

# All but these shares of the pixels lie inside of a range that is found from values.
_OUTSIDE = 0.001
# Ends that are nearer than this part of the range are taken in.
_NEAR = 0.1
# A file of more than 8 bits whose bright pixels stay below this part of its white does not mean it.
_DARK = 0.25
_BYTE = 255.0


class ValueRange(NamedTuple):
    """`low` becomes 0, `high` becomes 1; `why` says where they are from."""

    low: float
    high: float
    why: str


def find_range(facts: Sequence[Facts], asked: tuple[float, float] | None) -> ValueRange:
    """The range of values of all files.

    Raises:
        ValueError: files of different whites or units, and no range was asked for.
    """
    units = Counter(one.units for one in facts)
    unit = f" {next(iter(units))}" if len(units) == 1 and next(iter(units)) else ""
    if asked is not None:
        return ValueRange(*asked, f"as asked for{f', in{unit}' if unit else ''}")
    whites = Counter(one.white for one in facts)
    if len(whites) > 1 or len(units) > 1:
        kinds = Counter(f"in {one.units}" if one.units else _white(one.white) for one in facts)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        raise ValueError(
            f"train: the files mean different things by their numbers ({listed}). Give "
            "--value-range LOW HIGH (value_range=) for all, or train on one kind"
        )
    (white,) = whites
    low, high = pooled(facts, (_OUTSIDE, 1 - _OUTSIDE))
    if white is not None and (white <= _BYTE or high >= _DARK * white):
        bits = {1.0: "1 bit", _BYTE: "8 bits", 65535.0: "16 bits"}
        return ValueRange(0.0, white, f"of {bits.get(white, 'a white of their own')}")
    least = min(one.quantiles[0] for one in facts)
    most = max(one.quantiles[-1] for one in facts)
    for ends in ((0.0, 1.0), (-1.0, 1.0)):
        inside = ends[0] <= least and most <= ends[1]
        if inside and high > 0.5 and (ends[0] == 0 or low < -0.5):
            return ValueRange(*ends, "the values lie in it")
    span = high - low
    low = least if least > low - _NEAR * span else low
    high = most if most < high + _NEAR * span else high
    why = f"found from the values, which go from {least:g} to {most:g}{unit}"
    if white is not None:
        why += f", far below the white of these files, {white:g}"
    return ValueRange(low, high, why)


def _white(white: float | None) -> str:
    named = {None: "without a white of their own", _BYTE: "of 8 bits", 65535.0: "of 16 bits"}
    return named.get(white, f"with white {white:g}" if white is not None else "")
