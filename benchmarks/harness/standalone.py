"""What the suites that are programs have in common: what to run, and tables to print.

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
from tweedie_inverse.benchmarks.harness.records import Store
from tweedie_inverse.benchmarks.harness.work_loop import P


@dataclass(frozen=True)
class Order:
    """What ``benchmarks run`` asks of a program, as far as it concerns it.

    Attributes:
        images: problems of each task; None is the program's own number, as it is for `samples`.
        cap: evaluations a sample at most.
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


def only(pieces: Sequence[P], tasks: tuple[str, ...]) -> list[P]:
    """Those of the named tasks, all without a name.

    Raises:
        ValueError: there are none.
    """
    found = [piece for piece in pieces if not tasks or piece.units[0].task in tasks]
    if not found:
        known = ", ".join(dict.fromkeys(piece.units[0].task for piece in pieces))
        raise ValueError(f"--tasks: {pieces[0].units[0].suite} has {known}; got {', '.join(tasks)}")
    return found


class Fill(Protocol):
    """Puts records into a store, and tells how far it is."""

    def __call__(self, *, store: Store, tell: Callable[[str], None]) -> None: ...


def show(suite: str, fill: Fill, out: str | None = None) -> None:
    """Print the tables of what is put into a store: in folder `out` or a passing one.

    Progress goes to the standard error.
    """
    with TemporaryDirectory() as passing:
        folder = Path(out or passing)
        fill(store=Store(folder), tell=partial(print, file=sys.stderr, flush=True))
        found = [one for one in records.read([folder]) if one["unit"]["suite"] == suite]
    print("\n".join(report.tables(found)))
