"""Tables of any number of result folders: markdown to read, CSV to compute with."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch

from tweedie_inverse.atomic import replace

from . import records
from .metrics import unflatness
from .suites import SUITES


class Column(NamedTuple):
    """A column: where its number is, its head, its digits, and which value is best."""

    group: str
    key: str
    head: str
    digits: int
    best: str  # "high", "low", "none", or the number that it should have


COLUMNS = (
    Column("metrics", "psnr_sample", "PSNR sample", 2, "high"),
    Column("metrics", "psnr_mean", "PSNR mean", 2, "high"),
    Column("metrics", "psnr_best", "PSNR best", 2, "high"),
    Column("metrics", "ssim_sample", "SSIM sample", 3, "high"),
    Column("metrics", "ssim_mean", "SSIM mean", 3, "high"),
    Column("metrics", "ssim_best", "SSIM best", 3, "high"),
    Column("metrics", "haarpsi_sample", "HaarPSI sample", 3, "high"),
    Column("metrics", "crps", "CRPS", 4, "low"),
    Column("metrics", "energy_score", "energy score", 4, "low"),
    Column("metrics", "coverage", "90 % coverage", 3, "0.9"),
    Column("metrics", "interval_width", "width", 3, "none"),
    Column("metrics", "unflatness", "rank unflatness", 2, "low"),
    Column("metrics", "chi_square", "chi-square", 2, "1"),
    Column("metrics", "mean_error", "mean error", 3, "low"),
    Column("metrics", "variance_ratio", "variance ratio", 2, "1"),
    Column("metrics", "sliced_wasserstein", "sliced W1", 4, "low"),
    Column("cost", "evaluations", "evaluations", 0, "none"),
    Column("cost", "vector_jacobian_products", "VJPs", 0, "none"),
    Column("run", "seconds", "seconds", 1, "none"),
    Column("run", "samples_per_second", "samples/s", 2, "none"),
    Column("run", "peak_memory", "peak MiB", 0, "none"),
)


class Cell(NamedTuple):
    """Mean over the images and its standard error, NaN for one image."""

    mean: float
    error: float


class Row(NamedTuple):
    """One method on one task; `note` says why it has no numbers, or on how few images."""

    suite: str
    task: str
    method: str
    images: int
    cells: dict[str, Cell]
    note: str


def rows(found: Iterable[dict[str, Any]]) -> list[Row]:
    """Records of the same suite, task and method, averaged over images."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in found:
        unit = record["unit"]
        groups[unit["suite"], unit["task"], unit["method"]].append(record)
    return [_row(*key, group) for key, group in sorted(groups.items())]


def _row(suite: str, task: str, method: str, group: list[dict[str, Any]]) -> Row:
    done = [record for record in group if "metrics" in record]
    notes = {record.get("skipped") or record.get("failed") for record in group} - {None}
    note = "; ".join(sorted(map(str, notes)))
    if done and len(done) < len(group):
        note = f"failed on {len(group) - len(done)} of {len(group)} images: {note}"
    cells = {}
    for column in COLUMNS:
        values = [record[column.group].get(column.key) for record in done]
        known = [value * _unit(column) for value in values if value is not None]
        if known:
            error = stdev(known) / math.sqrt(len(known)) if len(known) > 1 else math.nan
            cells[column.key] = Cell(fmean(known), error)
    histograms = [record["metrics"]["rank_histogram"] for record in done]
    if histograms and histograms[0] is not None:
        pooled = torch.tensor(histograms).sum(0)  # a single image's is never flat
        cells["unflatness"] = Cell(unflatness(pooled), math.nan)
    return Row(suite, task, method, len(done), cells, note)


def _unit(column: Column) -> float:
    return 2.0**-20 if column.key == "peak_memory" else 1.0


def markdown(found: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of the report: a table a task, then settings and origin."""
    table = rows(found)
    yield "# Benchmark results\n"
    yield (
        "Mean over test images, +- its standard error; bold is the best of a column (coverage: "
        "nearest 0.9; chi-square and variance ratio: nearest 1). PSNR and SSIM of one sample "
        "(average over samples), of the samples' mean, and of the best sample are different "
        "questions. CRPS of a point estimate is its mean absolute error.\n"
    )
    for suite in sorted({row.suite for row in table}):
        title = SUITES[suite].title if suite in SUITES else suite
        yield f"\n## {suite}: {title}\n"
        for task in sorted({row.task for row in table if row.suite == suite}):
            mine = [row for row in table if (row.suite, row.task) == (suite, task)]
            yield f"\n### {task}\n\n{_problem(found, suite, task)}\n"
            yield from _table(mine)
    yield "\n## Settings and their sources\n"
    yield from _settings(found)
    yield "\n## Origin\n"
    yield from _origin(found)


def _problem(found: list[dict[str, Any]], suite: str, task: str) -> str:
    units = [record["unit"] for record in found]
    units = [unit for unit in units if (unit["suite"], unit["task"]) == (suite, task)]
    images = 1 + max(unit["image"] for unit in units)
    samples = max(unit["samples"] for unit in units)
    title, _, prior, split = units[0]["problem"].split("; ")
    return f"{title}. Prior {prior}, {images} images of the {split} split, {samples} samples each."


def _table(mine: list[Row]) -> Iterator[str]:
    shown = [column for column in COLUMNS if any(column.key in row.cells for row in mine)]
    best = {column.key: _best(column, mine) for column in shown}
    yield "| method | " + " | ".join(column.head for column in shown) + " |"
    yield "|---" * (len(shown) + 1) + "|"
    for row in sorted(mine, key=lambda row: row.cells.get("crps", Cell(math.inf, 0)).mean):
        if not row.cells:
            yield f"| {row.method} | {row.note} |" + " |" * (len(shown) - 1)
            continue
        cells = (_cell(column, row, best[column.key]) for column in shown)
        note = f" ({row.note})" if row.note else ""
        yield f"| {row.method}{note} | " + " | ".join(cells) + " |"


def _best(column: Column, mine: list[Row]) -> float | None:
    values = [row.cells[column.key].mean for row in mine if column.key in row.cells]
    if column.best == "none" or len(values) < 2:
        return None
    if column.best in ("high", "low"):
        return (max if column.best == "high" else min)(values)
    return min(values, key=lambda value: abs(value - float(column.best)))


def _cell(column: Column, row: Row, best: float | None) -> str:
    if column.key not in row.cells:
        return "-"
    mean, error = row.cells[column.key]
    text = f"{mean:.{column.digits}f}"
    text = f"**{text}**" if mean == best else text
    if math.isnan(error) or column.group != "metrics":
        return text
    return f"{text} +- {error:.{column.digits}f}"


def _settings(found: list[dict[str, Any]]) -> Iterator[str]:
    yield "| method | settings | source |\n|---|---|---|"
    seen = set()
    for record in found:
        settings = dict(record["unit"]["settings"])
        source = settings.pop("source")
        text = ", ".join(f"{name} {value}" for name, value in sorted(settings.items()))
        seen.add(f"| {record['unit']['method']} | {text} | {source} |")
    yield from sorted(seen)


def _origin(found: list[dict[str, Any]]) -> Iterator[str]:
    runs = [record["run"] for record in found if "commit" in record.get("run", {})]
    for line in sorted({f"{run['machine']}; {run['versions']}" for run in runs}):
        yield f"- {line}"
    yield f"- commit {', '.join(sorted({run['commit'] for run in runs})) or 'unknown'}"
    yield f"- seeds {', '.join(sorted({str(record['unit']['seed']) for record in found}))}"
    yield f"- weights {', '.join(sorted({record['unit']['weights'] for record in found}))}"


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
        writer.writerow([row.suite, row.task, row.method, row.images, *numbers, row.note])
    return text.getvalue()


def write(folders: list[str], to: str | Path) -> Path:
    """``report.md`` and ``report.csv`` in folder `to`; the path of the first."""
    found = records.read(folders)
    if not found:
        raise ValueError(f"report: no results in {', '.join(map(str, folders))}")
    to = Path(to)
    to.mkdir(parents=True, exist_ok=True)
    replace(to / "report.csv", comma_separated(found).encode())
    path = to / "report.md"
    replace(path, ("\n".join(markdown(found)) + "\n").encode())
    return path
