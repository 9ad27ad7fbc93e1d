"""The report of any number of result folders: markdown to read, CSV to compute with, a page."""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tweedie_inverse.benchmarks.harness import records
from tweedie_inverse.benchmarks.harness.figures import cost_figure, panels, png
from tweedie_inverse.benchmarks.harness.page import page
from tweedie_inverse.benchmarks.harness.table import (
    COLUMNS,
    Row,
    best_of,
    cell,
    ordered,
    origin,
    preface,
    problem,
    rows,
    settings,
    shown,
    tasks,
    title,
)
from tweedie_inverse.runtime.atomic import ready_folder, replace


def markdown(found: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of the report: a table a task, then settings and origin."""
    table = rows(found)
    yield f"# Benchmark results\n\n{preface(table)}\n"
    yield from tables(found)
    yield "\n## Settings and their sources\n"
    yield "| method | settings | source |\n|---|---|---|"
    for line in settings(found):
        yield f"| {' | '.join(line)} |"
    yield "\n## Origin\n"
    for text in origin(found):
        yield f"- {text}"


def tables(found: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of the tables alone."""
    table = rows(found)
    for suite in sorted({row.suite for row in table}):
        of_suite = [row for row in table if row.suite == suite]
        yield f"\n## {suite}: {title(suite)}\n"
        for task in tasks(of_suite):
            yield f"\n### {task}\n\n{problem(found, suite, task)}\n"
            yield from _table([row for row in of_suite if row.task == task])


def _table(mine: list[Row]) -> Iterator[str]:
    columns = shown(mine)
    best = {column.key: best_of(column, mine) for column in columns}
    yield "| method | " + " | ".join(column.head for column in columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for row in ordered(mine):
        if not row.cells:
            yield f"| {row.label} | {row.note} |" + " |" * (len(columns) - 1)
            continue
        cells = []
        for column in columns:
            text = cell(column, row)
            is_best = column.key in row.cells and row.cells[column.key].mean == best[column.key]
            cells.append(f"**{text}**" if is_best else text)
        note = f" ({row.note})" if row.note else ""
        yield f"| {row.label}{note} | " + " | ".join(cells) + " |"


def comma_separated(found: list[dict[str, Any]]) -> str:
    """One line a suite, task and method: means, and standard errors as ``<name>_se``."""
    text = io.StringIO()
    names = [name for column in COLUMNS for name in (column.key, f"{column.key}_se")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["suite", "task", "method", "images", *names, "note"])
    for row in rows(found):
        numbers = [
            "" if column.key not in row.cells or math.isnan(value) else f"{value:.6g}"
            for column in COLUMNS
            for value in row.cells.get(column.key, (math.nan, math.nan))
        ]
        writer.writerow([row.suite, row.task, row.label, row.images, *numbers, row.note])
    return text.getvalue()


def write(folders: list[str], to: str | Path) -> Path:
    """``report.md``, ``.csv``, ``.html`` and a figure a suite in folder `to`; path of the page."""
    found = records.read(folders)
    if not found:
        raise ValueError(f"report: no results in {', '.join(map(str, folders))}")
    to = Path(to)
    ready_folder(to)
    replace(to / "report.csv", comma_separated(found).encode())
    replace(to / "report.md", ("\n".join(markdown(found)) + "\n").encode())
    table = rows(found)
    for suite in sorted({row.suite for row in table}):
        of_suite = [row for row in table if row.suite == suite]
        if panels(of_suite):
            replace(to / f"cost-{suite}.png", png(cost_figure(of_suite)))
    path = to / "report.html"
    replace(path, page(found, records.read_pictures(folders)).encode())
    return path
