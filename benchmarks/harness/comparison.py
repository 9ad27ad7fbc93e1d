"""Two sets of results of the same problems: what became better, what became worse, and how sure.

Units are paired by everything but what may have changed: problem, image, seed, method, number of
samples.  Settings, prior file and code may differ; that is what is compared.  Losses are lower for
better: the metric itself, its negative where high is good, its distance from the ideal value.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tweedie_inverse.benchmarks.harness.paired import Paired, holm, paired
from tweedie_inverse.benchmarks.harness.table import COLUMNS, Column

LEVEL = 0.05
METRICS = {
    column.key: column
    for column in COLUMNS
    if column.group == "metrics" and column.best != "none" and column.key != "unflatness"
}
# Metrics of the table of `compare`, where the records have them.
USUAL = ("crps", "psnr_mean", "ssim_mean", "coverage", "chi_square")


class Key(NamedTuple):
    """What two units must have in common to be paired, beside the image."""

    suite: str
    task: str
    problem: str
    seed: int
    samples: int
    method: str


class Margin(NamedTuple):
    """How much worse is still accepted: a share of the old value, or an absolute number."""

    value: float
    is_share: bool

    def of(self, old: float) -> float:
        return self.value * abs(old) if self.is_share else self.value

    def __str__(self) -> str:
        return f"{100 * self.value:g} %" if self.is_share else f"{self.value:g}"


NOTHING = Margin(0.0, True)


class Change(NamedTuple):
    """One method on one task, image by image.

    Attributes:
        old, new: means over the images that both have.
        change: new less old, paired.
        worse: by how much the loss grew, paired; the margin is taken off.
        raised: p-value of any change, of both signs, raised for all rows of the metric.
        raised_worse: p-value of ``worse`` being above 0, raised likewise.
        failed: images that have a number in the old results, and failed in the new ones.
    """

    key: Key
    metric: str
    old: float
    new: float
    change: Paired
    worse: Paired
    raised: float
    raised_worse: float
    failed: tuple[int, ...]

    @property
    def verdict(self) -> str:
        """In a word: "better", "worse", "no difference seen", "the same", "failed"."""
        if self.failed:
            return "failed"
        if self.change.mean == 0 and not self.change.error > 0:
            return "the same"
        if self.raised > LEVEL:
            return "no difference seen" if self.change.pairs > 1 else "one image tells nothing"
        return "worse" if self.worse.mean > 0 else "better"

    @property
    def is_worse(self) -> bool:
        """Whether it is significantly worse than the margin allows, or fails where it did not."""
        return bool(self.failed) or self.raised_worse <= LEVEL


class Comparison(NamedTuple):
    """All changes of one metric, and what could not be paired.

    Attributes:
        only_old, only_new: problems that one side lacks, in words.
    """

    metric: Column
    margin: Margin
    changes: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]


# By image: the number, or None where the unit failed.
_Numbers = dict[Key, dict[int, float | None]]


def compare(
    old: Iterable[dict[str, Any]],
    new: Iterable[dict[str, Any]],
    metric: str,
    margin: Margin = NOTHING,
) -> Comparison:
    """Changes of a metric, for every method and task that both have.

    Raises:
        ValueError: there is no such metric, or none with such a margin; a method ran with several
            settings in one of the results, so that it is not clear what is to be paired; or nothing
            can be paired.
    """
    if metric not in METRICS:
        raise ValueError(f"--metric {metric}: there are {', '.join(METRICS)}")
    column = METRICS[metric]
    if margin.is_share and margin.value > 0 and column.best not in ("high", "low"):
        raise ValueError(
            f"--worse-than {margin}: {metric} is best at {column.best}, and its distance from "
            "there has no percentage; give a number, such as 0.02"
        )
    before, after = (_numbers(name, one, metric) for name, one in (("OLD", old), ("NEW", new)))
    rows = []
    for key in sorted(before.keys() & after.keys()):
        if (row := _change(key, before[key], after[key], column, margin)) is not None:
            rows.append(row)
    if not rows:
        raise ValueError(
            f"compare: the results have no unit in common that has {column.head}: suite, task, "
            "problem, image, seed, samples and method must agree"
        )
    judged = [index for index, row in enumerate(rows) if row.change.pairs > 1]
    both = holm([rows[index].change.p_value for index in judged])
    above = holm([rows[index].worse.p_above for index in judged])
    for place, index in enumerate(judged):
        rows[index] = rows[index]._replace(raised=both[place], raised_worse=above[place])
    missing = _missing(before, after), _missing(after, before)
    return Comparison(column, margin, tuple(rows), *missing)


def _numbers(side: str, found: Iterable[dict[str, Any]], metric: str) -> _Numbers:
    """The metric by key and image."""
    numbers: _Numbers = {}
    settings: dict[Key, dict[str, Any]] = {}
    for record in found:
        unit = record["unit"]
        if "skipped" in record or ("metrics" in record and record["metrics"].get(metric) is None):
            continue
        key = Key(*(unit[name] for name in Key._fields))
        known = settings.setdefault(key, unit)
        if any(known[name] != unit[name] for name in ("settings", "weights")):
            raise ValueError(
                f"{side} holds {key.method} with several settings or priors on {key.suite}: "
                f"{key.task}; give results in which each method ran with one"
            )
        value = record["metrics"][metric] if "metrics" in record else None
        numbers.setdefault(key, {})[unit["image"]] = value
    return numbers


def _change(
    key: Key,
    before: dict[int, float | None],
    after: dict[int, float | None],
    column: Column,
    margin: Margin,
) -> Change | None:
    """The change over the images that have a number on both sides; None where none has."""
    pairs = {
        image: (old, new)
        for image in sorted(before.keys() & after.keys())
        if (old := before[image]) is not None and (new := after[image]) is not None
    }
    failed = tuple(
        image for image in sorted(after) if after[image] is None and before.get(image) is not None
    )
    if not pairs and not failed:
        return None
    values = list(pairs.values()) or [(math.nan, math.nan)]
    losses = [(_loss(column, old), _loss(column, new), old) for old, new in values]
    return Change(
        key,
        column.key,
        sum(old for old, _ in values) / len(values),
        sum(new for _, new in values) / len(values),
        paired([new - old for old, new in values]),
        paired([new - old - margin.of(value) for old, new, value in losses]),
        1.0,
        1.0,
        failed,
    )


def _loss(column: Column, value: float) -> float:
    if column.best in ("high", "low"):
        return -value if column.best == "high" else value
    return abs(value - float(column.best))


def _missing(mine: _Numbers, other: _Numbers) -> tuple[str, ...]:
    """What `mine` has and `other` lacks, a line for each method and task."""
    lines = []
    for key in sorted(mine):
        images = sorted(mine[key].keys() - other.get(key, {}).keys())
        if images:
            shown = ", ".join(map(str, images))
            lines.append(
                f"{key.suite}: {key.task}: {key.method}, image{'s' * (len(images) > 1)} {shown} "
                f"({key.problem}; seed {key.seed}, {key.samples} samples)"
            )
    return tuple(lines)


def table(found: Comparison) -> list[str]:
    """Lines of markdown: a row for each method and task."""
    digits, kind = found.metric.digits, found.metric.kind
    lines = [
        f"| task | method | images | old {found.metric.head} | new | change | p | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found.changes:
        error = row.change.error
        spread = "" if math.isnan(error) else f" +- {error:.{digits + 1}{kind}}"
        judged = row.change.pairs > 1 and not math.isnan(row.change.mean)
        lines.append(
            f"| {row.key.suite}: {row.key.task} | {row.key.method} | {row.change.pairs} "
            f"| {row.old:.{digits}{kind}} | {row.new:.{digits}{kind}} "
            f"| {row.change.mean:+.{digits + 1}{kind}}{spread} "
            f"| {f'{row.raised:.3f}' if judged else '-'} | {row.verdict} |"
        )
    return lines


def in_words(found: Comparison) -> str:
    """The end of a comparison: how many rows of which kind."""
    kinds = [row.verdict for row in found.changes]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return (
        f"{found.metric.head}: {counted}. A difference counts where p, raised for the "
        f"{len(kinds)} rows (Holm), is at most {LEVEL:g}"
    )


def names(metrics: Sequence[str], old: Iterable[dict[str, Any]]) -> list[str]:
    """The metrics that are asked for; by default the usual ones that the records have."""
    if metrics:
        return list(metrics)
    there = {
        key
        for record in old
        for key, value in record.get("metrics", {}).items()
        if value is not None
    }
    return [name for name in USUAL if name in there]
