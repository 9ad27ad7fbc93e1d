"""The leaderboard in words: markdown to read, and a page that needs nothing else."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tweedie_inverse.benchmarks.harness import records
from tweedie_inverse.benchmarks.harness.leaderboard import (
    BUDGETS,
    LEVEL,
    TARGET,
    Board,
    Place,
    Standing,
    boards,
    standings,
)
from tweedie_inverse.benchmarks.harness.page import TEMPLATES, environment
from tweedie_inverse.benchmarks.harness.table import origin, problem, settings, title
from tweedie_inverse.runtime.atomic import ready_folder, replace
from tweedie_inverse.runtime.html import document

SUMMARY_HEADS = (
    "method",
    "tasks",
    "first, or tied with it",
    "CRPS over the lowest",
    "90 % coverage",
    "coverage fits",
)
HEADS = (
    "rank",
    "method",
    "evaluations",
    "CRPS",
    "behind the first",
    "p",
    "90 % coverage",
    "interval",
)
COMMITTED = Path(__file__).parent / "committed" / "leaderboard.jsonl"


def preface() -> str:
    """How the tables are to be read."""
    return (
        "Lower CRPS is better. Methods that may spend the same number of network evaluations for a "
        "sample stand in one table; a vector-Jacobian product (VJP) costs one to two evaluations "
        "more and is named beside them. A rank is one more than the number of methods with a lower "
        "CRPS by more than chance: paired differences over the images, Student's t, "
        f"{100 * LEVEL:g} % for all pairs of a table together (Holm). Methods that cannot be told "
        "apart share a rank, marked =; with few images that is most of them. +- is one standard "
        "error over the images, of a difference that of the paired differences. Coverage is the "
        f"share of pixels inside the {100 * TARGET:g} % interval: it fits, or it differs from "
        f"{TARGET:g} by more than chance (the same test, for the methods of a table together). "
        "CRPS of a point estimate is its mean absolute error. CRPS over the lowest is a geometric "
        "mean over the tasks."
    )


def by_budget(found: Sequence[Board]) -> list[tuple[int, list[Board]]]:
    """Boards in the order of their budgets."""
    budgets = sorted({board.budget for board in found})
    return [(budget, [one for one in found if one.budget == budget]) for budget in budgets]


def markdown(found: list[dict[str, Any]], budgets: Sequence[int] = BUDGETS) -> Iterator[str]:
    """Lines of the page in markdown."""
    yield f"# Leaderboard\n\n{preface()}\n"
    for budget, mine in by_budget(boards(found, budgets)):
        yield f"\n## At most {budget} evaluations a sample\n"
        yield from _lines(SUMMARY_HEADS, [summary(one) for one in standings(mine)])
        for board in mine:
            yield f"\n### {board.suite}: {board.task}, at most {budget}\n"
            yield f"{problem(found, board.suite, board.task)}\n"
            yield from _lines(HEADS, [cells(place, board) for place in board.places])
            for label, reason in board.left_out:
                yield f"\nNot ranked: {label}, {reason}."
    yield "\n## Settings and their sources\n"
    yield from _lines(("method", "settings", "source"), settings(_ranked(found)))
    yield "\n## Origin\n"
    for text in origin(found):
        yield f"- {text}"


def _ranked(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in found if "metrics" in one]


def _lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def summary(one: Standing) -> tuple[str, ...]:
    """A row of the table over the tasks."""
    has_coverage = not math.isnan(one.coverage)
    return (
        one.label,
        str(one.tasks),
        str(one.firsts),
        f"{one.ratio:.3f}",
        f"{one.coverage:.3f}" if has_coverage else "-",
        f"{one.fits} of {one.tasks}" if has_coverage else "-",
    )


def cells(place: Place, board: Board) -> tuple[str, ...]:
    """A row of a task's table."""
    entry, crps = place.entry, place.crps
    evaluations = f"{entry.evaluations:.0f}"
    if entry.vjps >= 0.5:
        evaluations += f" + {entry.vjps:.0f} VJPs"
    behind, chance = "-", "-"
    if place.behind is not None:
        share = f" ({100 * place.behind.mean / board.places[0].crps.mean:+.1f} %)"
        behind = f"{place.behind.mean:.4f}{_error(place.behind.error)}{share}"
        chance = "-" if place.behind.pairs < 2 else _probability(place.raised)
    covered = "-"
    if place.covered is not None:
        covered = f"{TARGET + place.covered.mean:.3f}{_error(place.covered.error, 3)}"
    label = entry.label + (f" ({entry.note})" if entry.note else "")
    return (
        f"{place.rank}{'=' * (place.ties > 0)}",
        label,
        evaluations,
        f"{crps.mean:.4f}{_error(crps.error)}",
        behind,
        chance,
        covered,
        place.verdict,
    )


def _error(error: float, digits: int = 4) -> str:
    return "" if math.isnan(error) else f" +- {error:.{digits}f}"


def _probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def html(found: list[dict[str, Any]], budgets: Sequence[int] = BUDGETS) -> str:
    """The page in HTML."""
    body = (
        environment()
        .get_template("leaderboard.html")
        .render(
            preface=preface(),
            heads=HEADS,
            summary_heads=SUMMARY_HEADS,
            budgets=[
                {
                    "budget": budget,
                    "summary": [summary(one) for one in standings(mine)],
                    "tasks": [
                        {
                            "name": f"{board.suite}: {board.task}",
                            "title": title(board.suite),
                            "problem": problem(found, board.suite, board.task),
                            "rows": [cells(place, board) for place in board.places],
                            "left_out": board.left_out,
                        }
                        for board in mine
                    ],
                }
                for budget, mine in by_budget(boards(found, budgets))
            ],
            settings=settings(_ranked(found)),
            origin=origin(found),
        )
    )
    return document("Leaderboard", body, style=(TEMPLATES / "page.css").read_text())


def write(places: Sequence[str], to: str | Path | None, budgets: Sequence[int] = BUDGETS) -> str:
    """The leaderboard of folders or files of records, the package's own by default.

    Args:
        to: a file ending in .html or .md; None returns the markdown.

    Returns:
        The path of the file, or the text.

    Raises:
        ValueError: no records to rank, or a file of another kind.
    """
    kinds = (".html", ".md")
    if to is not None:
        _refuse_kind(to, kinds, "leaderboard")
    found = records.read(places or [COMMITTED])
    if not boards(found, budgets):
        raise ValueError(
            "leaderboard: nothing to rank, it needs records of two methods with a CRPS on one task "
            f"within {max(budgets)} evaluations; got {len(found)} records"
        )
    if to is not None and Path(to).suffix == ".html":
        return put(to, html(found, budgets), kinds, "leaderboard")
    text = "\n".join(markdown(found, budgets))
    return text if to is None else put(to, text + "\n", kinds, "leaderboard")


def put(to: str | Path, text: str, kinds: Sequence[str], caller: str) -> str:
    """Write a file of one of the kinds; its path."""
    path = _refuse_kind(to, kinds, caller)
    ready_folder(path.parent)
    replace(path, text.encode())
    return str(path.resolve())


def _refuse_kind(to: str | Path, kinds: Sequence[str], caller: str) -> Path:
    path = Path(to)
    if path.suffix not in kinds:
        raise ValueError(f"{caller}(--out {path}): needs a file that ends in {' or '.join(kinds)}")
    return path
