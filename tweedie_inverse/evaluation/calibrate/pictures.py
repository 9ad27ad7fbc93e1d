"""The figure of a calibration; matplotlib is imported when it is drawn."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.evaluation.calibrate.curves import Curve, rank_curve
from tweedie_inverse.evaluation.calibrate.families import slices
from tweedie_inverse.evaluation.calibrate.faults import NONE

_SHOWN = ("whole image", "data", "prior density", "distances", "nearest sample")
# Of matplotlib's usual cycle; further lines are dashed.
_COLOURS = 10


def draw(calibration: Any, path: Path | None = None):
    """All panels; returns the figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 11), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(3, 3)
    for axes, panel in zip(panels.flat, PANELS, strict=True):
        panel(axes, calibration)
    figure.suptitle(_wrapped(calibration.verdict), fontsize=11)
    if path is not None:
        figure.savefig(path, dpi=110)
    return figure


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 130))


def _ranks(axes, calibration) -> None:
    """Distribution functions of ranks less the uniform one."""
    band, size = calibration.rank_band, calibration.num_samples + 1
    levels = band.levels.numpy()
    axes.fill_between(levels, band.low.numpy(), band.high.numpy(), color="0.88", lw=0)
    for family, place in zip(calibration.families, slices(calibration.families), strict=True):
        if family.name not in _SHOWN and len(family.columns) > 1:
            continue
        for k, name in enumerate(family.columns):
            curve = rank_curve(calibration.ranks[:, place.start + k], size)
            shown = len(axes.lines)
            look = {"color": f"C{shown % _COLOURS}", "ls": "-" if shown < _COLOURS else "--"}
            axes.plot(levels, curve.numpy(), lw=1.2, label=name, **look)
    axes.axhline(0, color="k", lw=0.5)
    axes.set_ylim(bottom=2.5 * float(band.low.min()))
    axes.legend(fontsize=5, ncols=2, loc="lower center", framealpha=0.5)
    axes.set(title="ranks of single statistics", xlabel="rank", ylabel="ECDF - uniform")


def _alike(axes, calibration) -> None:
    """Histogram of ranks of the families of many statistics."""
    size = calibration.num_samples + 1
    for family, place in zip(calibration.families, slices(calibration.families), strict=True):
        if not family.alike or len(family.columns) == 1:
            continue
        counts = torch.bincount(calibration.ranks[:, place].flatten(), minlength=size).double()
        shares = (counts / counts.mean()).numpy()
        axes.step(range(size), shares, where="mid", lw=1.2, label=family.name)
    axes.axhline(1, color="k", lw=0.5)
    axes.legend(fontsize=6)
    axes.set(title="ranks, many statistics together", xlabel="rank", ylabel="1 is uniform")
    axes.set_ylim(bottom=0)


def _curve(axes, curve: Curve, title: str, level: str) -> None:
    levels, found, low, high = (column.numpy() for column in curve)
    axes.fill_between(levels, low - levels, high - levels, color="0.88", lw=0)
    axes.plot(levels, found - levels, "o-", ms=3, lw=1.2)
    axes.axhline(0, color="k", lw=0.5)
    axes.set(title=title, xlabel=level, ylabel="reached - nominal", xlim=(0, 1))


def _coverage(axes, calibration) -> None:
    _curve(axes, calibration.coverage, "coverage of pixel intervals", "nominal coverage")


def _points(axes, calibration) -> None:
    title = "coverage of balls about random points"
    _curve(axes, calibration.expected_coverage, title, "credibility")


def _skill(axes, calibration) -> None:
    """Error against spread of pixels alike in spread."""
    spread, error = calibration.groups.unbind(1)
    factor = (1 + 1 / calibration.num_samples) ** 0.5
    end = float(torch.maximum(spread * factor, error).max()) * 1.05 or 1.0
    axes.plot([0, end], [0, end], color="k", lw=0.5)
    axes.plot((spread * factor).numpy(), error.numpy(), "o", ms=4)
    axes.set(
        title=f"spread over skill {calibration.scores['spread over skill']:.3f}",
        xlabel="spread of the samples, times sqrt(1 + 1/S)",
        ylabel="error of their mean (RMS)",
        xlim=(0, end),
        ylim=(0, end),
    )


def _plane(values: Tensor) -> Tensor:
    """One plane of an image, channels averaged; of a volume its middle slice."""
    if values.ndim == 1:
        return values[None]
    planes = values.reshape(-1, *values.shape[-2:])
    return planes.mean(0) if values.ndim <= 3 else planes[len(planes) // 2]


def _bias_map(axes, calibration) -> None:
    image = axes.imshow(
        _plane(calibration.places).numpy(), cmap="coolwarm", vmin=0, vmax=1, aspect="auto"
    )
    axes.figure.colorbar(image, ax=axes)
    axes.set(title="share of samples below the truth (1/2)", xticks=[], yticks=[])


def _spread_map(axes, calibration) -> None:
    factor = (1 + 1 / calibration.num_samples) ** 0.5
    ratio = factor * (_plane(calibration.spread) / _plane(calibration.error)).sqrt()
    image = axes.imshow(ratio.numpy(), cmap="coolwarm", vmin=0, vmax=2, aspect="auto")
    axes.figure.colorbar(image, ax=axes)
    axes.set(title="spread over error (1)", xticks=[], yticks=[])


def _p_values(axes, calibration) -> None:
    names = list(calibration.p_values)
    values = [calibration.p_values[name] for name in names]
    axes.barh(names, values, color=["C3" if p <= calibration.level else "C0" for p in values])
    axes.axvline(calibration.level, color="k", lw=0.5)
    axes.set_xscale("log")
    axes.set_xlim(3e-4, 1)
    axes.tick_params(axis="y", labelsize=7)
    axes.invert_yaxis()
    axes.set(title=f"p-values of families; together {calibration.p_value:.2g}")


def _power(axes, calibration) -> None:
    found = [one for one in calibration.power.values() if one.fault != NONE]
    axes.barh([_short(one.fault) for one in found], [one.seen for one in found], color="C2")
    axes.axvline(0.9, color="k", lw=0.5)
    axes.tick_params(axis="y", labelsize=7)
    axes.invert_yaxis()
    axes.set(title="faults that would have been seen", xlim=(0, 1))


def _short(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 30))


PANELS = (
    _ranks,
    _alike,
    _p_values,
    _coverage,
    _points,
    _skill,
    _bias_map,
    _spread_map,
    _power,
)
