"""The loop of every suite: each work item is done once, by whichever process it belongs to.

A work item is a set of units that run together.  Its records are written before the next item
begins, so that a killed run loses only the item that it was working on; finished ones are left
alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor

from tweedie_inverse.app.distributed import Place, shard
from tweedie_inverse.benchmarks.harness.pictures import Pictures
from tweedie_inverse.benchmarks.harness.records import Store, Unit, provenance

# Errors that are a result of the method which raises them; all others stop the run.
FAILURES = (ArithmeticError, ValueError)


class WorkItem(Protocol):
    """Anything that has units."""

    @property
    def units(self) -> tuple[Unit, ...]: ...


class Result(NamedTuple):
    """The result of one unit: what goes into its record, and what is kept beside it.

    The outcome has "metrics", "cost" and "run", as `table.COLUMNS` has them, or says why not:
    "failed" and "run", or "skipped".
    """

    outcome: dict[str, Any]
    samples: Tensor | None = None
    pictures: Pictures | None = None


W = TypeVar("W", bound=WorkItem)


def finish(
    items: Sequence[W],
    act: Callable[[W], Sequence[Result]],
    store: Store,
    device: str,
    *,
    place: Place | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Do this process's share; an item of which any unit is missing is done as a whole.

    Args:
        act: gives a result for every unit of an item.
        device: where it runs, for the records.
        log: gets a line for every unit.
    """
    mine = shard(items, place or Place(0, 1))
    origin = provenance(device)
    for number, item in enumerate(mine, 1):
        if all(store.is_finished(unit) for unit in item.units):
            continue
        for unit, (outcome, samples, pictures) in zip(item.units, act(item), strict=True):
            if "run" not in outcome:
                store.write(unit, outcome)
                continue
            store.write(unit, {**outcome, "run": {**outcome["run"], **origin}}, samples, pictures)
            seconds = outcome["run"].get("seconds")
            spent = "" if seconds is None else f", {seconds:.1f} s"
            spent += ", failed" * ("failed" in outcome)
            log(f"{number}/{len(mine)} {unit.task}, {unit.image}: {unit.method}{spent}")
