"""The table behind every view of the results: its columns, its rows, and the text about them."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch

from tweedie_inverse.benchmarks.harness import records
from tweedie_inverse.benchmarks.harness.metrics import unflatness
from tweedie_inverse.benchmarks.harness.profile import NETWORK, PARTS
from tweedie_inverse.benchmarks.problems.suites import STUDIES, SUITES


class Column(NamedTuple):
    """A column: where a record has its number, its head, its digits, and which value is best."""

    group: str
    key: str
    head: str
    digits: int
    best: str  # "high", "low", "none", or the number that it should have
    kind: str = "f"  # of the number's format, or "e"


# The method of rows that compare two independent sets of exact samples: a perfect sampler's score.
FLOOR = "exact against exact"
# How many standard errors follow "+-", where a protocol asks for another number than one.
ERRORS = {"mixture": 1.96}
# Rows are sorted by the first of these columns that they have.
_ORDER = ("crps", "sliced_wasserstein", "ratio_to_ours", "ratio_to_network", "ratio_to_whole")

COLUMNS = (
    Column("metrics", "psnr_sample", "PSNR sample", 2, "high"),
    Column("metrics", "psnr_mean", "PSNR mean", 2, "high"),
    Column("metrics", "psnr_best", "PSNR best", 2, "high"),
    Column("metrics", "ssim_sample", "SSIM sample", 3, "high"),
    Column("metrics", "ssim_mean", "SSIM mean", 3, "high"),
    Column("metrics", "ssim_best", "SSIM best", 3, "high"),
    Column("metrics", "haarpsi_sample", "HaarPSI sample", 3, "high"),
    Column("metrics", "haarpsi_mean", "HaarPSI mean", 3, "high"),
    Column("metrics", "lpips_sample", "LPIPS sample", 3, "low"),
    Column("metrics", "lpips_mean", "LPIPS mean", 3, "low"),
    Column("metrics", "crps", "CRPS", 4, "low"),
    Column("metrics", "energy_score", "energy score", 4, "low"),
    Column("metrics", "coverage", "90 % coverage", 3, "0.9"),
    Column("metrics", "interval_width", "width", 3, "none"),
    Column("metrics", "unflatness", "rank unflatness", 2, "low"),
    Column("metrics", "chi_square", "chi-square", 2, "1"),
    Column("metrics", "mean_error", "mean error", 3, "low"),
    Column("metrics", "variance_ratio", "variance ratio", 2, "1"),
    Column("metrics", "sliced_wasserstein", "sliced W1", 4, "low"),
    Column("metrics", "log_evidence_error", "log-evidence error", 3, "0"),
    Column("metrics", "log_evidence_rms", "rms of it", 3, "0"),
    Column("metrics", "psnr", "PSNR", 2, "none"),
    Column("metrics", "border_jumps", "border jumps", 3, "none"),
    Column("metrics", "adjoint_error", "adjoint error", 0, "none", "e"),
    Column("cost", "evaluations", "evaluations", 0, "none"),
    Column("cost", "vector_jacobian_products", "VJPs", 0, "none"),
    Column("run", "build_seconds", "build, s", 2, "none"),
    Column("run", "forward_ms", "forward, ms", 2, "none"),
    Column("run", "adjoint_ms", "adjoint, ms", 2, "none"),
    Column("run", "ratio_to_ours", "both, ratio to ours", 1, "none"),
    Column("run", "matrices", "matrices, MiB", 1, "none"),
    Column("run", "seconds", "seconds", 2, "none"),
    Column("run", "ratio_to_network", "ratio to the network", 2, "none"),
    Column("run", "ratio_to_whole", "ratio to the whole", 1, "none"),
    *(Column("run", part, f"{part}, %", 0, "none") for part in PARTS if part != NETWORK),
    Column("run", "samples_per_second", "samples/s", 2, "none"),
    Column("run", "peak_memory", "peak MiB", 0, "none"),
)


class Cell(NamedTuple):
    """Mean over the images and its standard error, NaN for one image."""

    mean: float
    error: float


class Row(NamedTuple):
    """One method on one task.

    Attributes:
        label: the method; with what distinguishes it, where it ran with several settings.
        cells: by the keys of the columns.
        note: why it has no numbers, or on how few images.
        first: name of the unit of its first image.
    """

    suite: str
    task: str
    method: str
    label: str
    images: int
    cells: dict[str, Cell]
    note: str
    first: str


def rows(found: Iterable[dict[str, Any]]) -> list[Row]:
    """Records of the same suite, task, method and settings, averaged over images."""
    return [_row(*one) for one in labelled_groups(found)]


class Group(NamedTuple):
    """Records of one suite, task and method with one set of settings, image by image."""

    suite: str
    task: str
    method: str
    label: str
    records: list[dict[str, Any]]


def labelled_groups(found: Iterable[dict[str, Any]]) -> list[Group]:
    """Records by suite, task, method and settings; the label says what distinguishes these."""
    groups: dict[tuple[str, str, str], dict[str, list[dict[str, Any]]]] = {}
    for record in found:
        unit = record["unit"]
        variants = groups.setdefault((unit["suite"], unit["task"], unit["method"]), {})
        variants.setdefault(_variant(unit), []).append(record)
    return [
        Group(*key, label, group)
        for key, variants in sorted(groups.items())
        for label, group in _labelled(key[2], variants)
    ]


def _variant(unit: dict[str, Any]) -> str:
    """Everything that the units of one row have in common, as a key."""
    return json.dumps({key: unit[key] for key in unit if key != "image"}, sort_keys=True)


def _labelled(
    method: str, variants: dict[str, list[dict[str, Any]]]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Groups of records, each labelled by the method and by the settings that differ."""
    facts = {}
    for key, group in variants.items():
        unit = group[0]["unit"]
        source = unit["settings"]["source"]
        facts[key] = {
            **{name: f"{name} {_short(value)}" for name, value in unit["settings"].items()},
            "source": "tuned" if "tuned by" in source else "published",
            "split": unit["problem"].rpartition("; ")[2],
            "samples": f"{unit['samples']} samples",
            "seed": f"seed {unit['seed']}",
            "weights": f"weights {unit['weights']}",
        }
    for key in sorted(variants):
        mine = facts[key]
        other = [text for name, text in mine.items() if len({f[name] for f in facts.values()}) > 1]
        yield f"{method} [{', '.join(other)}]" if other else method, variants[key]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _row(suite: str, task: str, method: str, label: str, group: list[dict[str, Any]]) -> Row:
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
    known = [record["metrics"].get("log_evidence_error") for record in done]
    if known and None not in known:
        cells["log_evidence_rms"] = Cell(math.hypot(*known) / math.sqrt(len(known)), math.nan)
    histograms = [record["metrics"].get("rank_histogram") for record in done]
    if histograms and histograms[0] is not None:
        pooled = torch.tensor(histograms).sum(0)  # a single image's is never flat
        cells["unflatness"] = Cell(unflatness(pooled), math.nan)
    first = min(group, key=lambda record: record["unit"]["image"])["unit"]
    name = records.Unit(**first).name
    return Row(suite, task, method, label, len(done), cells, note, name)


def _unit(column: Column) -> float:
    return 2.0**-20 if column.key in ("matrices", "peak_memory") else 1.0


def tasks(of_suite: list[Row]) -> list[str]:
    """Names of the tasks in order."""
    return in_order(row.task for row in of_suite)


def in_order(names: Iterable[str]) -> list[str]:
    """Each name once, numbers in them by their value."""

    def key(name: str) -> list[str | int]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]

    return sorted(set(names), key=key)


def preface(table: list[Row]) -> str:
    """An explanation of the tables."""
    text = (
        "Mean over test images, +- its standard error; bold is the best of a column (coverage: "
        "nearest 0.9; chi-square and variance ratio: nearest 1). PSNR and SSIM of one sample "
        "(average over samples), of the samples' mean, and of the best sample are different "
        "questions. CRPS of a point estimate is its mean absolute error. HaarPSI is a perceptual "
        "similarity that needs no network weights."
    )
    if not any("lpips_sample" in row.cells for row in table):
        text += " LPIPS is left out: the weights of its network were not on the machine."
    return text


def title(suite: str) -> str:
    return SUITES[suite].title if suite in SUITES else STUDIES.get(suite, suite)


def problem(found: list[dict[str, Any]], suite: str, task: str) -> str:
    units = [record["unit"] for record in found]
    units = [unit for unit in units if (unit["suite"], unit["task"]) == (suite, task)]
    title, *inside, last = units[0]["problem"].split("; ")
    if not inside:  # a timing, and where it was made
        return f"{title}; {last}."
    images = 1 + max(unit["image"] for unit in units)
    samples = max(unit["samples"] for unit in units)
    what = _counted(images, "problem" if suite in STUDIES else "image")
    text = (
        f"{title}. Prior {inside[-1]}, {what} of the {last} split, {_counted(samples, 'sample')} "
        "each"
    )
    return f"{text}; +- {ERRORS[suite]} standard errors." if suite in ERRORS else f"{text}."


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def shown(mine: list[Row]) -> list[Column]:
    """The columns that any row has a number for."""
    return [column for column in COLUMNS if any(column.key in row.cells for row in mine)]


def ordered(mine: list[Row]) -> list[Row]:
    """Rows sorted by CRPS, the best first; by another column where there is no CRPS."""

    def key(row: Row) -> float:
        return next((row.cells[name].mean for name in _ORDER if name in row.cells), math.inf)

    return sorted(mine, key=key)


def best_of(column: Column, mine: list[Row]) -> float | None:
    rivals = [row for row in mine if row.method != FLOOR]
    values = [row.cells[column.key].mean for row in rivals if column.key in row.cells]
    if column.best == "none" or len(values) < 2:
        return None
    if column.best in ("high", "low"):
        return (max if column.best == "high" else min)(values)
    return min(values, key=lambda value: abs(value - float(column.best)))


def cell(column: Column, row: Row) -> str:
    """The number with its digits and its standard error."""
    if column.key not in row.cells:
        return "-"
    mean, error = row.cells[column.key]
    text = f"{mean:.{column.digits}{column.kind}}"
    if math.isnan(error) or column.group != "metrics":
        return text
    return f"{text} +- {ERRORS.get(row.suite, 1.0) * error:.{column.digits}f}"


def settings(found: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(method, settings, source); with the tasks, where they are not the same everywhere."""
    tasks: dict[str, dict[tuple[str, str], set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in found:
        unit = record["unit"]
        used = dict(unit["settings"])
        source = used.pop("source")
        text = ", ".join(f"{name} {_short(value)}" for name, value in sorted(used.items()))
        tasks[unit["method"]][text, source].add(f"{unit['suite']}: {unit['task']}")
    lines = []
    for method, variants in sorted(tasks.items()):
        for (text, source), where in sorted(variants.items()):
            of = f" ({'; '.join(sorted(where))})" if len(variants) > 1 else ""
            lines.append((method + of, text, source))
    return lines


def origin(found: list[dict[str, Any]]) -> list[str]:
    """Machines, versions, commits, seeds, weights, and the splits of the images."""
    runs = [record["run"] for record in found if "commit" in record.get("run", {})]
    units = [record["unit"] for record in found]
    problems = [unit["problem"].split("; ") for unit in units]
    named = {
        "seeds": {str(unit["seed"]) for unit in units},
        "weights": {unit["weights"] for unit in units} - {""},
        "split": {parts[-1] for parts in problems if len(parts) > 2},  # timings have none
    }
    return [
        *sorted({f"{run['machine']}; {run['versions']}" for run in runs}),
        f"commit {', '.join(sorted({run['commit'] for run in runs})) or 'unknown'}",
        *(f"{name} {', '.join(sorted(values))}" for name, values in named.items() if values),
    ]
