"""The loop of every suite: each work item is done once, by whichever process it belongs to.

A work item is a set of units that run together.  Its records are written before the next item
begins, so that a killed run loses only the item that it was working on; finished ones are left
alone, and failed ones are tried again.  Whatever goes wrong in an item becomes the record of its
units, and the others go on.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor

from tweedie_inverse.app.distributed import Place, shard
from tweedie_inverse.app.endings import in_one_line
from tweedie_inverse.benchmarks.harness.pictures import Pictures
from tweedie_inverse.benchmarks.harness.records import Store, Unit, provenance


class WorkItem(Protocol):
    """Anything that has units."""

    @property
    def units(self) -> tuple[Unit, ...]: ...


class Result(NamedTuple):
    """The result of one unit: what goes into its record, and what is kept beside it.

    The outcome has "metrics", "cost" and "run", as `table.COLUMNS` has them, or says why not:
    "failed" and "run", with "diverged" where numbers became infinite, or "skipped".
    """

    outcome: dict[str, Any]
    samples: Tensor | None = None
    pictures: Pictures | None = None


def failure(error: Exception, **run: Any) -> Result:
    """The result of a unit that stopped with an error."""
    kind = {"diverged": True} if isinstance(error, ArithmeticError) else {}
    return Result({"failed": in_one_line(error), **kind, "run": run})


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
    store.ready()
    for number, item in enumerate(mine, 1):
        if all(store.is_finished(unit) for unit in item.units):
            continue
        try:
            results = act(item)
        except Exception as error:
            results = [failure(error)] * len(item.units)
        for unit, (outcome, samples, pictures) in zip(item.units, results, strict=True):
            if "run" not in outcome:
                store.write(unit, outcome)
                continue
            store.write(unit, {**outcome, "run": {**outcome["run"], **origin}}, samples, pictures)
            seconds = outcome["run"].get("seconds")
            spent = "" if seconds is None else f", {seconds:.1f} s"
            spent += f", failed: {outcome['failed']}" if "failed" in outcome else ""
            log(f"{number}/{len(mine)} {unit.task}, {unit.image}: {unit.method}{spent}")
