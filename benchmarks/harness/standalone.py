"""What studies that run as suites have in common: what is asked of them, and tables to print.

Their records are units like any others, so that `report` shows them beside the suites'.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from tweedie_inverse.benchmarks.harness import records, report
from tweedie_inverse.benchmarks.harness.plan import refuse_unknown_tasks
from tweedie_inverse.benchmarks.harness.records import Store
from tweedie_inverse.benchmarks.harness.work_loop import W
from tweedie_inverse.boundary.arguments import count, seed


@dataclass(frozen=True)
class Request:
    """What ``benchmarks run`` asks of a study, which ignores what does not concern it.

    Attributes:
        images: problems of each task; None is the study's own number, as it is for `samples`.
        cap: network evaluations per sample, at most.
        methods, tasks: by name; none means all.
        smoke: tiny, to see that it runs.
    """

    images: int | None = None
    samples: int | None = None
    cap: int | None = None
    seed: int = 0
    split: str = "test"
    device: str = "cpu"
    methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    smoke: bool = False

    def __post_init__(self) -> None:
        for name in ("images", "samples", "cap"):
            if getattr(self, name) is not None:
                count("benchmarks", name, getattr(self, name))
        seed("benchmarks", "seed", self.seed)


def of_tasks(items: Sequence[W], tasks: tuple[str, ...]) -> list[W]:
    """The work items of the named tasks; all, where none is named.

    Raises:
        ValueError: there is no task of one of the names.
    """
    known = list(dict.fromkeys(item.units[0].task for item in items))
    refuse_unknown_tasks(items[0].units[0].suite, known, tasks)
    return [item for item in items if not tasks or item.units[0].task in tasks]


class Fill(Protocol):
    """Puts records into a store and logs its progress."""

    def __call__(self, *, store: Store, log: Callable[[str], None]) -> None: ...


def show(suite: str, fill: Fill, out: str | None = None) -> None:
    """Print the tables of the records that `fill` makes, kept in folder `out` if one is given.

    Progress goes to the standard error.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(out or temporary)
        fill(store=Store(folder), log=partial(print, file=sys.stderr, flush=True))
        found = [one for one in records.read([folder]) if one["unit"]["suite"] == suite]
    print("\n".join(report.tables(found)))
