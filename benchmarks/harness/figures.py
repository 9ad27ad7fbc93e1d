"""Quality against cost: CRPS, PSNR of the mean, coverage, distance over network evaluations.

matplotlib is imported when a figure is drawn.
"""

import io
import math
from typing import Any, NamedTuple

from tweedie_inverse.benchmarks.harness.table import Row, tasks

# Our methods have warm colours; the others get theirs in the order in which they come.
_OURS = {
    "decoupled": "#d62728",
    "decoupled-20": "#ff7f0e",
    "isotropic": "#e377c2",
    "particle": "#fdae6b",
}
_COLOURS = (
    *("#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#17becf", "#bcbd22", "#393b79", "#637939"),
    *("#7f7f7f", "#b5cf6b", "#843c39", "#6baed6", "#c49c94", "#000000"),
)
_MARKERS = "osD^v<>pP*Xhd"
# Values far worse than the best lie outside a panel: a diverging method would flatten the others.
_SPAN, _PSNR_SPAN = 12.0, 18.0


class Panel(NamedTuple):
    """A number that is drawn over the network evaluations."""

    key: str
    label: str


PANELS = (
    Panel("crps", "CRPS (lower is better)"),
    Panel("psnr_mean", "PSNR of the mean, dB"),
    Panel("coverage", "coverage of the 90 % interval"),
    Panel("sliced_wasserstein", "sliced W1 (lower is better)"),
)


def panels(table: list[Row]) -> list[Panel]:
    """The panels that any row has a number for."""
    return [panel for panel in PANELS if any(panel.key in row.cells for row in table)]


def cost_figure(table: list[Row]):
    """A row of panels for every task; methods without a network are horizontal lines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names, drawn = tasks(table), panels(table)
    size = (4.3 * max(len(drawn), 2), 3.1 * len(names) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), len(drawn), squeeze=False)
    styles = _styles(sorted({row.method for row in table}))
    handles: dict[str, Any] = {}
    for line, task in zip(axes, names, strict=True):
        mine = [row for row in table if row.task == task and row.cells]
        for axis, panel in zip(line, drawn, strict=True):
            handles |= _draw(axis, panel, mine, styles)
            axis.set_title(f"{task}: {panel.label}", fontsize=10)
            axis.set_xlabel("network evaluations a sample", fontsize=9)
            axis.grid(alpha=0.25, which="both")
    labels = sorted(handles)
    figure.legend([handles[name] for name in labels], labels, loc="outside lower center", ncols=8)
    return figure


def _styles(names: list[str]) -> dict[str, dict[str, str]]:
    others = [name for name in names if name not in _OURS]
    colours = _OURS | {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(others)}
    return {
        name: {"color": colours[name], "marker": _MARKERS[number % len(_MARKERS)]}
        for number, name in enumerate(names)
    }


def _draw(axis, panel: Panel, mine: list[Row], styles: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Draw the points of each method, joined over its budgets; returns the legend's handles."""
    handles, values = {}, []
    for method in sorted({row.method for row in mine}):
        points = sorted(
            (row.cells["evaluations"].mean, row.cells[panel.key].mean)
            for row in mine
            if row.method == method and panel.key in row.cells
        )
        points = [point for point in points if math.isfinite(point[1])]
        if not points:
            continue
        values += [value for _, value in points]
        if points[0][0] == 0:
            handles[method] = axis.axhline(
                points[0][1], color=styles[method]["color"], linestyle="--", linewidth=1
            )
            continue
        (handles[method],) = axis.plot(
            *zip(*points, strict=True), linewidth=1, markersize=7, alpha=0.9, **styles[method]
        )
    axis.set_xscale("log")
    spent = sorted({round(row.cells["evaluations"].mean) for row in mine} - {0})
    axis.set_xticks(spent, [str(value) for value in spent], minor=False)
    axis.xaxis.set_minor_formatter("")
    _limit(axis, panel, values)
    return handles


def _limit(axis, panel: Panel, values: list[float]) -> None:
    if not values:
        return
    if panel.key in ("crps", "sliced_wasserstein"):
        best = max(min(values), 1e-6)
        axis.set_yscale("log")
        axis.set_ylim(best / 1.15, 1.15 * min(max(values), _SPAN * best))
    elif panel.key == "psnr_mean":
        best = max(values)
        axis.set_ylim(max(min(values), best - _PSNR_SPAN) - 0.7, best + 0.7)
    else:
        axis.axhline(0.9, color="black", linewidth=0.8, linestyle=":")
        axis.set_ylim(-0.03, 1.03)


def png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def svg(figure) -> str:
    """The ``<svg>`` element alone, with letters as text and not as outlines."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cost"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
