"""The report as one page that needs nothing else: tables to sort, pictures, plots, origin.

This module says what is on the page; ``templates/page.html`` says what it looks like, and
`runtime.html` makes it complete in itself.
"""

import base64
import io
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from tweedie_inverse.benchmarks.harness.figures import cost_figure, panels, svg
from tweedie_inverse.benchmarks.harness.pictures import Pictures
from tweedie_inverse.benchmarks.harness.table import (
    Column,
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
from tweedie_inverse.runtime.html import document

TEMPLATES = Path(__file__).parent / "templates"


class Image(NamedTuple):
    """A picture in the page: its description, and a JPEG in base64."""

    text: str
    data: str


def environment() -> Any:
    """jinja2 for our templates: everything escaped, and nothing left empty by mistake."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )


def page(found: list[dict[str, Any]], pictures: Mapping[str, Pictures]) -> str:
    """The whole page; `pictures` by the names of their units."""
    table = rows(found)
    body = (
        environment()
        .get_template("page.html")
        .render(
            preface=preface(table),
            suites=[
                _suite(found, suite, [row for row in table if row.suite == suite], pictures)
                for suite in sorted({row.suite for row in table})
            ],
            settings=settings(found),
            origin=origin(found),
            warnings=_warnings(found),
        )
    )
    style, script = ((TEMPLATES / f"page.{kind}").read_text() for kind in ("css", "js"))
    return document("Benchmark results", body, style=style, script=script)


def _suite(
    found: list[dict[str, Any]], suite: str, mine: list[Row], pictures: Mapping[str, Pictures]
) -> dict[str, Any]:
    return {
        "name": suite,
        "title": title(suite),
        "figure": svg(cost_figure(mine)) if panels(mine) else "",
        "tasks": [
            {
                "name": task,
                "problem": problem(found, suite, task),
                **_table(of_task := [row for row in mine if row.task == task]),
                "gallery": _gallery(of_task, pictures),
            }
            for task in tasks(mine)
        ],
    }


def _table(mine: list[Row]) -> dict[str, Any]:
    """Heads, and for every row its label, note and cells."""
    columns = shown(mine)
    best = {column.key: best_of(column, mine) for column in columns}
    return {
        "heads": ["method", *(column.head for column in columns)],
        "rows": [
            {
                "label": row.label,
                "note": row.note,
                "cells": [_cell(column, row, best[column.key]) for column in columns],
            }
            for row in ordered(mine)
        ],
    }


def _cell(column: Column, row: Row, best: float | None) -> dict[str, Any]:
    """What a cell shows, and the value that it is sorted by: nothing where there is none."""
    mean = row.cells[column.key].mean if column.key in row.cells else math.nan
    value = f"{mean:.9g}" if math.isfinite(mean) else ""
    return {"text": cell(column, row), "value": value, "best": mean == best}


def _warnings(found: list[dict[str, Any]]) -> list[str]:
    """What methods warned of while they ran, and in how many units."""
    counts = Counter(
        (record["unit"]["method"], text) for record in found for text in record.get("warnings", [])
    )
    return [f"{method}: {text} ({count} units)" for (method, text), count in sorted(counts.items())]


def _gallery(mine: list[Row], pictures: Mapping[str, Pictures]) -> dict[str, Any] | None:
    """A row for each method, best CRPS first; one colour scale of the spread for all of them."""
    known = [row for row in ordered(mine) if row.first in pictures and row.cells]
    if not known:
        return None
    spreads = [float(pictures[row.first].std.float().max()) for row in known]
    top = next((spread for spread in spreads if spread > 0), 1.0)  # that of the best CRPS
    return {
        "heads": [
            "method",
            "mean",
            f"std, black 0 to yellow {top:.2g}",
            "sample",
            "another sample",
        ],
        "rows": [
            ("truth", [_image(pictures[known[0].first].truth, "truth")]),
            *((row.label, _images(row.label, pictures[row.first], top)) for row in known),
        ],
    }


def _images(label: str, taken: Pictures, top: float) -> list[Image]:
    """The mean alone for a point estimate; else mean, spread and samples."""
    mean = _image(taken.mean, f"{label}: mean")
    if len(taken.samples) < 2:
        return [mean]
    spread = _spread(taken.std, top, f"{label}: standard deviation")
    return [mean, spread, *(_image(one, f"{label}: sample") for one in taken.samples)]


def _image(image: Tensor, text: str) -> Image:
    """Values from 0 to 1; three channels are colours, of others the first is shown."""
    channels = image.float().clamp(0, 1).nan_to_num().numpy()
    return _jpeg(channels.transpose(1, 2, 0) if len(channels) == 3 else channels[0], text)


def _spread(std: Tensor, top: float, text: str) -> Image:
    """Root mean square over the channels, through a colour map."""
    from matplotlib import colormaps

    level = std.float().square().mean(0).sqrt() / top
    return _jpeg(colormaps["inferno"](level.clamp(0, 1).nan_to_num().numpy())[..., :3], text)


def _jpeg(values: np.ndarray, text: str) -> Image:
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray((255 * values).round().astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return Image(text, base64.b64encode(buffer.getvalue()).decode())
