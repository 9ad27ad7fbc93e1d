"""Choose settings on the validation split, from the same number of candidates for every method.

The candidates of a method are its published settings and random draws from its space; each task
gets the one with the best mean score.  The candidates' records are units like any others, so that
a killed run goes on where it stopped.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from tweedie_inverse.app.distributed import Place
from tweedie_inverse.benchmarks.harness.plan import Pack, Plan, Tuned, packs
from tweedie_inverse.benchmarks.harness.records import Store, provenance
from tweedie_inverse.benchmarks.harness.runner import work_off
from tweedie_inverse.benchmarks.harness.table import COLUMNS
from tweedie_inverse.benchmarks.methods.base import Method
from tweedie_inverse.numerics.random import generator
from tweedie_inverse.runtime.atomic import ready
from tweedie_inverse.runtime.atomic import replace as replace_file

# 1 where lower is better, -1 where higher is; the other columns cannot choose a setting.
METRICS = {
    column.key: 1.0 if column.best == "low" else -1.0
    for column in COLUMNS
    if column.group == "metrics" and column.best in ("low", "high")
}


# The values of each setting that may be tried, by method.
Spaces = Mapping[str, Mapping[str, tuple[Any, ...]]]


class Choice(NamedTuple):
    """The settings chosen for a method on a task; scores are means over the validation images."""

    suite: str
    task: str
    method: str
    settings: dict[str, Any]
    score: float
    published: float | None  # score of the published settings, None if they failed
    failed: int  # of the candidates


def candidates(
    name: str, published: Method, space: Mapping[str, tuple[Any, ...]], count: int
) -> list[Method]:
    """The published settings and `count` - 1 others, which are the same in every process.

    Raises:
        ValueError: the method has fewer settings than that.
    """
    all_ = [dict(zip(space, values, strict=True)) for values in product(*space.values())]
    others = [settings for settings in all_ if replace(published, **settings) != published]
    if count - 1 > len(others):
        raise ValueError(
            f"tune: {name} has {len(others) + 1} settings to choose from; every method gets the "
            f"same number of candidates, so take --candidates {len(others) + 1} at most"
        )
    order = generator(("candidates", zlib.crc32(name.encode()))).permutation(len(others))
    return [published, *(replace(published, **others[index]) for index in order[: count - 1])]


def tune(
    plan: Plan,
    chosen: Mapping[str, Method],
    spaces: Spaces,
    folder: Path,
    *,
    count: int,
    metric: str = "crps",
    place: Place | None = None,
    log: Callable[[str], None] = print,
) -> Path | None:
    """Finish this process's share of the candidates; choose when nothing is missing.

    Args:
        folder: gets ``tuned-<suite>.json``, and the candidates' records in a folder of their own.
        count: candidates of each method.
        metric: a key of `METRICS`.

    Returns:
        The file; None while units of other processes are missing.
    """
    plan = replace(plan, split="validation", pictures=0)
    tried = {
        name: candidates(name, method, spaces[name], count)
        for name, method in chosen.items()
        if spaces.get(name)
    }
    mine = [
        pack
        for name, settings in tried.items()
        for one in settings
        for pack in packs(plan, {name: one})
    ]
    if not mine:
        raise ValueError(f"tune: none of {', '.join(chosen)} has settings to choose from")
    # Some settings are meant to diverge, and would do so again.
    store = Store(folder / "tuning", keep_diverged=True)
    path = folder / f"tuned-{plan.suite.name}.json"
    ready(path)
    work_off(mine, plan, store, place=place, log=log)
    missing = sum(not store.is_there(unit) for pack in mine for unit in pack.units)
    if missing:
        log(f"{missing} units of other processes are missing; tune again when they are done")
        return None
    content = {
        "suite": plan.suite.name,
        "metric": metric,
        "candidates": count,
        "split": plan.split,
        "images": plan.images,
        "samples": plan.samples,
        "cap": plan.budget,
        "commit": provenance(plan.device)["commit"],
        "choices": [choice._asdict() for choice in choose(mine, store, metric, spaces)],
    }
    replace_file(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def choose(tried: Sequence[Pack], store: Store, metric: str, spaces: Spaces) -> list[Choice]:
    """The best candidate of every task and method, of those that failed on no image."""
    scores: dict[tuple[str, str], dict[Method, list[float]]] = {}
    for pack in tried:
        records = [store.read(unit) for unit in pack.units]
        if any("skipped" in record for record in records):
            continue
        of_method = scores.setdefault((pack.task.name, pack.units[0].method), {})
        of_method.setdefault(pack.method, []).extend(
            METRICS[metric] * record["metrics"][metric] if "metrics" in record else math.inf
            for record in records
        )
    suite = tried[0].units[0].suite
    return [
        _choice(
            suite,
            task,
            name,
            {one: fmean(values) for one, values in found.items()},
            metric,
            spaces[name],
        )
        for (task, name), found in sorted(scores.items())
        if not all(math.isinf(fmean(values)) for values in found.values())
    ]


def _choice(
    suite: str,
    task: str,
    name: str,
    scores: Mapping[Method, float],
    metric: str,
    space: Mapping[str, tuple[Any, ...]],
) -> Choice:
    """The best candidate; the published settings come first and therefore win a draw."""
    best, published = min(scores, key=scores.__getitem__), next(iter(scores))
    sign = METRICS[metric]
    known = not math.isinf(scores[published])
    return Choice(
        suite,
        task,
        name,
        {key: asdict(best)[key] for key in space},
        sign * scores[best],
        sign * scores[published] if known else None,
        sum(math.isinf(score) for score in scores.values()),
    )


def load(paths: Iterable[str | Path], known: Mapping[str, Method]) -> Tuned:
    """What `tune` wrote about the known methods, each with a note for the report.

    Raises:
        ValueError: a file that is not of this kind, or settings that its method lacks.
    """
    found: dict[tuple[str, str, str], tuple[Method, str]] = {}
    for path in map(Path, paths):
        try:
            written = json.loads(path.read_text())
            digest = hashlib.sha256(json.dumps(written["choices"]).encode()).hexdigest()
            note = (
                f"tuned by {written['metric']} on {written['images']} {written['split']} images, "
                f"{written['candidates']} candidates, at most {written['cap']} evaluations "
                f"({path.name}, {digest[:8]})"
            )
            for one in written["choices"]:
                if one["method"] not in known:  # a user's method that does not run this time
                    continue
                settings: dict[str, Any] = {
                    key: tuple(value) if isinstance(value, list) else value
                    for key, value in one["settings"].items()
                }
                method = replace(known[one["method"]], **settings)
                found[one["suite"], one["task"], one["method"]] = (method, note)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"--tuned {path}: not a file that tune wrote ({error!r})") from error
    return found
