"""Who is ahead: methods ranked on each task by CRPS, among those of equal network evaluations.

Rows of one task are compared image by image.  A method's rank is one more than the number of
methods that are better by more than chance (`paired`), so that methods that cannot be told apart
share a rank.  The 5 % are of all comparisons of one table together.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any, NamedTuple

from tweedie_inverse.benchmarks.harness.paired import Paired, holm, paired
from tweedie_inverse.benchmarks.harness.table import FLOOR, in_order, labelled_groups

BUDGETS = (20, 50, 100, 1000)
LEVEL = 0.05
# What the intervals are meant to cover.
TARGET = 0.9


class Entry(NamedTuple):
    """A method with its settings on one task: its numbers, image by image.

    Attributes:
        label: as in the report: the method, with what distinguishes its settings.
        evaluations, vjps: of the network for a sample: calls, and vector-Jacobian products.
        crps, coverage: by image; no coverage for point estimates.
        note: how many images it failed on, and why.
    """

    method: str
    label: str
    evaluations: float
    vjps: float
    crps: dict[int, float]
    coverage: dict[int, float]
    note: str

    def mean(self, images: Sequence[int]) -> Paired:
        """CRPS over these images, with its standard error."""
        return paired([self.crps[image] for image in images])


class Place(NamedTuple):
    """An entry in a table.

    Attributes:
        rank: one more than the number of entries that are significantly better.
        ties: how many others share the rank.
        behind: CRPS less that of the first entry, image by image; None for the first.
        raised: the p-value of that difference, raised for all comparisons of the table.
        covered: coverage over the images less `TARGET`; None for a point estimate.
        verdict: what the coverage says: "fits", "too narrow", "too wide"; "point estimate",
            or "not known" of one image.
    """

    rank: int
    ties: int
    entry: Entry
    crps: Paired
    behind: Paired | None
    raised: float
    covered: Paired | None
    verdict: str


class Board(NamedTuple):
    """The entries of one task within one budget.

    Attributes:
        images: which all places have in common.
        left_out: entries that lack images, with the reason.
    """

    suite: str
    task: str
    budget: int
    images: tuple[int, ...]
    places: tuple[Place, ...]
    left_out: tuple[tuple[str, str], ...]


class Standing(NamedTuple):
    """A method over the tasks of one budget.

    Attributes:
        tasks: on how many it is placed.
        firsts: on how many nothing is significantly better.
        ratio: geometric mean of its CRPS over the lowest of each task.
        coverage: mean over the tasks; NaN for point estimates.
        fits: on how many tasks the coverage is within chance of `TARGET`.
    """

    label: str
    tasks: int
    firsts: int
    ratio: float
    coverage: float
    fits: int


def boards(found: Iterable[dict[str, Any]], budgets: Sequence[int] = BUDGETS) -> list[Board]:
    """A board for each task and budget that brings a method that the smaller ones have not.

    Records without a CRPS, as those of timings, are left alone.
    """
    made = []
    for (suite, task), entries in _entries(found).items():
        before: set[str] = set()
        for budget in budgets:
            within = [one for one in entries if one.evaluations <= budget]
            labels = {one.label for one in within}
            if len(within) > 1 and labels != before:
                made.append(_board(suite, task, budget, within))
            before = labels
    return made


def _entries(found: Iterable[dict[str, Any]]) -> dict[tuple[str, str], list[Entry]]:
    """All methods of each task, the tasks in order."""
    tables: dict[tuple[str, str], list[Entry]] = {}
    for suite, task, method, label, group in labelled_groups(found):
        if method == FLOOR:
            continue
        done = [one for one in group if (one.get("metrics") or {}).get("crps") is not None]
        if not done:
            continue
        failed = len(group) - len(done)
        reasons = sorted({str(one["failed"]) for one in group if "failed" in one})
        note = f"failed on {failed} of {len(group)} images: {'; '.join(reasons)}" if failed else ""
        tables.setdefault((suite, task), []).append(
            Entry(
                method,
                label,
                fmean(one["cost"]["evaluations"] for one in done),
                fmean(one["cost"].get("vector_jacobian_products") or 0.0 for one in done),
                {one["unit"]["image"]: one["metrics"]["crps"] for one in done},
                {
                    one["unit"]["image"]: one["metrics"]["coverage"]
                    for one in done
                    if one["metrics"].get("coverage") is not None
                },
                note,
            )
        )
    names = {suite: in_order(task for one, task in tables if one == suite) for suite, _ in tables}
    return {(suite, task): tables[suite, task] for suite in sorted(names) for task in names[suite]}


def _board(suite: str, task: str, budget: int, entries: Sequence[Entry]) -> Board:
    """Ranks among the entries that have all images; the others are named with the reason."""
    images = tuple(sorted(set().union(*(one.crps for one in entries))))
    whole = [one for one in entries if len(one.crps) == len(images)]
    left_out = [
        (one.label, one.note or f"ran on {len(one.crps)} of {len(images)} images")
        for one in entries
        if len(one.crps) < len(images)
    ]
    return Board(suite, task, budget, images, _ranked(whole, images), tuple(left_out))


def _ranked(entries: Sequence[Entry], images: Sequence[int]) -> tuple[Place, ...]:
    entries = sorted(entries, key=lambda one: (one.mean(images).mean, one.label))
    pairs = list(combinations(range(len(entries)), 2))  # the first of a pair has the lower mean
    gaps = {pair: _gap(entries[pair[1]], entries[pair[0]], images) for pair in pairs}
    raised = dict(zip(pairs, holm([gap.p_value for gap in gaps.values()]), strict=True))
    ranks = [
        1 + sum(raised[other, mine] <= LEVEL for other in range(mine))
        for mine in range(len(entries))
    ]
    covered = [_covered(one, images) for one in entries]
    tests = [one.p_value for one in covered if one is not None]
    known = iter(holm(tests))
    return tuple(
        Place(
            ranks[mine],
            ranks.count(ranks[mine]) - 1,
            one,
            one.mean(images),
            gaps[0, mine] if mine else None,
            raised[0, mine] if mine else 1.0,
            covered[mine],
            _verdict(covered[mine], math.nan if covered[mine] is None else next(known)),
        )
        for mine, one in enumerate(entries)
    )


def _gap(mine: Entry, other: Entry, images: Sequence[int]) -> Paired:
    return paired([mine.crps[image] - other.crps[image] for image in images])


def _covered(one: Entry, images: Sequence[int]) -> Paired | None:
    if len(one.coverage) < len(images):
        return None
    return paired([one.coverage[image] - TARGET for image in images])


def _verdict(covered: Paired | None, raised: float) -> str:
    if covered is None:
        return "point estimate"
    if covered.pairs < 2:
        return "not known"
    if raised > LEVEL:
        return "fits"
    return "too narrow" if covered.mean < 0 else "too wide"


def standings(of_budget: Sequence[Board]) -> list[Standing]:
    """Methods over the boards of one budget, those that are placed on most tasks first."""
    rows: dict[str, list[tuple[Place, float]]] = {}
    for board in of_budget:
        for place in board.places:
            best, own = board.places[0].crps.mean, place.crps.mean
            ratio = own / best if best > 0 else (1.0 if own == best else math.inf)
            rows.setdefault(place.entry.label, []).append((place, ratio))
    made = []
    for label, mine in rows.items():
        covered = [TARGET + p.covered.mean for p, _ in mine if p.covered is not None]
        made.append(
            Standing(
                label,
                len(mine),
                sum(place.rank == 1 for place, _ in mine),
                math.exp(fmean(math.log(ratio) for _, ratio in mine)),
                fmean(covered) if covered else math.nan,
                sum(place.verdict == "fits" for place, _ in mine),
            )
        )
    return sorted(made, key=lambda one: (-one.tasks, one.ratio, one.label))
