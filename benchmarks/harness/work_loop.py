"""The loop of every suite: pieces of work, each done once, whoever does it.

A piece is units that run together.  Its records are written before the next piece begins, so that
a killed run loses the piece in flight; what is finished is left alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor

from tweedie_inverse.app.distributed import Place, shard
from tweedie_inverse.benchmarks.harness.pictures import Pictures
from tweedie_inverse.benchmarks.harness.records import Store, Unit, provenance

# Errors of a method that are its own result, and not the harness's fault.
FAILURES = (ArithmeticError, ValueError)


class Piece(Protocol):
    """Anything that has units."""

    @property
    def units(self) -> tuple[Unit, ...]: ...


class Result(NamedTuple):
    """Of one unit: what goes into its record, and what is kept beside it.

    The outcome has "metrics", "cost" and "run", as `report.COLUMNS` has them, or says why not:
    "failed" and "run", or "skipped".
    """

    outcome: dict[str, Any]
    samples: Tensor | None = None
    pictures: Pictures | None = None


P = TypeVar("P", bound=Piece)


def finish(
    pieces: Sequence[P],
    act: Callable[[P], Sequence[Result]],
    store: Store,
    device: str,
    *,
    place: Place | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Do this process's share of the pieces, each of which anything is missing as a whole.

    Args:
        act: a result for every unit of a piece.
        device: that it runs on, for the records.
    """
    mine = shard(pieces, place or Place(0, 1))
    origin = provenance(device)
    for number, piece in enumerate(mine, 1):
        if all(store.is_finished(unit) for unit in piece.units):
            continue
        for unit, (outcome, samples, pictures) in zip(piece.units, act(piece), strict=True):
            if "run" not in outcome:
                store.write(unit, outcome)
                continue
            store.write(unit, {**outcome, "run": {**outcome["run"], **origin}}, samples, pictures)
            seconds = outcome["run"].get("seconds")
            told = "" if seconds is None else f", {seconds:.1f} s"
            told += ", failed" * ("failed" in outcome)
            tell(f"{number}/{len(mine)} {unit.task}, {unit.image}: {unit.method}{told}")
