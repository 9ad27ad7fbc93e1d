"""The report as one page that needs nothing else: tables to sort, pictures, plots, origin."""

import base64
import io
import math
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

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

# A click on a column's head sorts its table: numbers by their value, empty cells last.
SCRIPT = """
"use strict";
function key(row, column) {
  const text = row.cells[column].dataset.value;
  return text === undefined || text === "" ? null : isNaN(text) ? text : Number(text);
}
function order(a, b, up) {
  if (a === null || b === null) return (a === null) - (b === null);
  const less = typeof a === "number" && typeof b === "number" ? a - b
    : String(a).localeCompare(String(b));
  return up ? less : -less;
}
function sortTable(table, column) {
  const heads = table.tHead.rows[0].cells, body = table.tBodies[0];
  const up = heads[column].getAttribute("aria-sort") !== "ascending";
  const found = Array.from(body.rows);
  found.sort(function (a, b) { return order(key(a, column), key(b, column), up); });
  found.forEach(function (row) { body.appendChild(row); });
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
}
document.querySelectorAll("table.sortable").forEach(function (table) {
  Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
    head.querySelector("button").addEventListener("click", function () {
      sortTable(table, column);
    });
  });
});
"""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1500px;
  padding: 0 1em; color: #222; background: #fff; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid #ccc; padding: 2px 6px; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
td.best { font-weight: bold; background: #e8f4e8; }
td.note { text-align: left; color: #666; white-space: normal; }
th button { font: inherit; font-weight: bold; border: 0; background: none; cursor: pointer;
  padding: 0; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.wide { overflow-x: auto; margin-bottom: 1em; }
.pictures td, .pictures th { border: 0; text-align: center; }
.pictures img { width: 112px; height: 112px; image-rendering: pixelated; display: block; }
.settings th, .settings td { white-space: normal; text-align: left; }
svg { max-width: 100%; height: auto; }
"""


def page(found: list[dict[str, Any]], pictures: Mapping[str, Pictures]) -> str:
    """The whole page; `pictures` by the names of their units."""
    table = rows(found)
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Benchmark results</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            f"<h1>Benchmark results</h1>\n<p>{escape(preface(table))} A click on a column's head "
            "sorts by it.</p>",
            *_contents(table),
            *_suites(found, table, pictures),
            '<h2 id="settings">Settings and their sources</h2>',
            '<div class="wide"><table class="settings">',
            "<thead><tr><th>method</th><th>settings</th><th>source</th></tr></thead><tbody>",
            *(_line(line) for line in settings(found)),
            '</tbody></table></div>\n<h2 id="origin">Origin</h2>\n<ul>',
            *(f"<li>{escape(text)}</li>" for text in origin(found)),
            *(f"<li>warning: {escape(text)}</li>" for text in _warnings(found)),
            f"</ul>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        ]
    )


def _contents(table: list[Row]) -> Iterator[str]:
    links = [(suite, f"{suite}: {title(suite)}") for suite in sorted({row.suite for row in table})]
    links += [("settings", "Settings and their sources"), ("origin", "Origin")]
    yield "<ul>"
    yield from (f'<li><a href="#{escape(name)}">{escape(text)}</a></li>' for name, text in links)
    yield "</ul>"


def _suites(
    found: list[dict[str, Any]], table: list[Row], pictures: Mapping[str, Pictures]
) -> Iterator[str]:
    for suite in sorted({row.suite for row in table}):
        of_suite = [row for row in table if row.suite == suite]
        yield f'<h2 id="{escape(suite)}">{escape(suite)}: {escape(title(suite))}</h2>'
        if panels(of_suite):
            yield svg(cost_figure(of_suite))
            yield "<p>Methods without a network are dashed lines; values far worse than the best "
            yield "lie outside the panels.</p>"
        for task in tasks(of_suite):
            mine = [row for row in of_suite if row.task == task]
            yield f"<h3>{escape(task)}</h3>\n<p>{escape(problem(found, suite, task))}</p>"
            yield from _table(mine)
            yield from _pictures(mine, pictures)


def _table(mine: list[Row]) -> Iterator[str]:
    columns = shown(mine)
    best = {column.key: best_of(column, mine) for column in columns}
    heads = "".join(
        f'<th scope="col"><button type="button">{escape(head)}</button></th>'
        for head in ["method", *(column.head for column in columns)]
    )
    yield f'<div class="wide"><table class="sortable"><thead><tr>{heads}</tr></thead><tbody>'
    for row in ordered(mine):
        note = (
            f' <small title="{escape(row.note)}">({escape(row.note)})</small>' if row.note else ""
        )
        cells = "".join(_cell(column, row, best[column.key]) for column in columns)
        name = f'<td data-value="{escape(row.label)}">{escape(row.label)}{note}</td>'
        yield f"<tr>{name}{cells}</tr>"
    yield "</tbody></table></div>"


def _cell(column: Column, row: Row, best: float | None) -> str:
    if column.key not in row.cells:
        return '<td data-value="">-</td>'
    mean = row.cells[column.key].mean
    kind = ' class="best"' if mean == best else ""
    value = f"{mean:.9g}" if math.isfinite(mean) else ""
    return f'<td{kind} data-value="{value}">{escape(cell(column, row))}</td>'


def _line(texts: tuple[str, ...]) -> str:
    return f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in texts)}</tr>"


def _warnings(found: list[dict[str, Any]]) -> list[str]:
    """What methods said while they ran, and how often."""
    counts: dict[tuple[str, str], int] = {}
    for record in found:
        for text in record.get("warnings", []):
            name = (record["unit"]["method"], text)
            counts[name] = counts.get(name, 0) + 1
    return [f"{method}: {text} ({count} units)" for (method, text), count in sorted(counts.items())]


def _pictures(mine: list[Row], pictures: Mapping[str, Pictures]) -> Iterator[str]:
    """Methods a row, best CRPS first; one colour scale of the spread for all of them."""
    known = [row for row in ordered(mine) if row.first in pictures and row.cells]
    if not known:
        return
    spreads = [float(pictures[row.first].std.float().max()) for row in known]
    top = next((spread for spread in spreads if spread > 0), 1.0)  # that of the best CRPS
    yield "<details open><summary>Pictures of the first image</summary>"
    yield '<div class="wide"><table class="pictures"><thead><tr><th>method</th>'
    heads = ("mean", f"std, black 0 to yellow {top:.2g}", "sample", "another sample")
    yield "".join(f"<th>{head}</th>" for head in heads) + "</tr></thead><tbody>"
    truth = pictures[known[0].first].truth
    yield f"<tr><td>truth</td><td>{_image(truth, 'truth')}</td></tr>"
    for row in known:
        taken = pictures[row.first]
        images = [_image(taken.mean, f"{row.label}: mean")]
        if len(taken.samples) > 1:
            images.append(_spread(taken.std, top, f"{row.label}: standard deviation"))
            images += [_image(one, f"{row.label}: sample") for one in taken.samples]
        cells = "".join(f"<td>{image}</td>" for image in images)
        yield f"<tr><td>{escape(row.label)}</td>{cells}</tr>"
    yield "</tbody></table></div></details>"


def _image(image: Tensor, text: str) -> str:
    """Values from 0 to 1; three channels are colours, of others the first is shown."""
    channels = image.float().clamp(0, 1).nan_to_num().numpy()
    shown_ = channels.transpose(1, 2, 0) if len(channels) == 3 else channels[0]
    return _tag(shown_, text)


def _spread(std: Tensor, top: float, text: str) -> str:
    """Root mean square over the channels, through a colour map."""
    from matplotlib import colormaps

    level = std.float().square().mean(0).sqrt() / top
    return _tag(colormaps["inferno"](level.clamp(0, 1).nan_to_num().numpy())[..., :3], text)


def _tag(values: np.ndarray, text: str) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((255 * values).round().astype(np.uint8)).save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(text)}" src="data:image/jpeg;base64,{data}">'
