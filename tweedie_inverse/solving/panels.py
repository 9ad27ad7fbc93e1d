"""Rows of images with colour bars, drawn without pyplot.

What an image looks like follows from its shape: ``(n,)`` a line, ``(height, width)`` and one
channel grey, three channels colour, a volume its middle slice, and of other numbers of channels the
first.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

# "image" shares one range of values, in which a "guess" is drawn too; "spread" shares one scale
# from 0 on; "data", "width" and "ratio" have their own; "phase" goes from -pi to pi, "probability"
# from 0 to 1, and "signed" as far below 0 as above.
Kind = Literal[
    "image", "guess", "data", "spread", "width", "ratio", "phase", "probability", "signed"
]
_COLOURS = {
    "spread": "magma",
    "width": "magma",
    "ratio": "viridis",
    "phase": "twilight",
    "probability": "viridis",
    "signed": "RdBu_r",
}
_MOST_DEVIATIONS = 4.0
# In inches: a panel, its title and its colour bar.
_SIDE, _ABOVE, _BELOW, _GAP = 2.2, 0.32, 0.46, 0.34


class Panel(NamedTuple):
    """One image of a figure.

    Attributes:
        name: its title.
        image: of any shape that the head of this file names.
        kind: which scale its colours have.
        units: what the numbers of its colour bar are.
        opacity: ``(height, width)`` in [0, 1], such as the magnitude of what has this phase.
    """

    name: str
    image: Tensor
    kind: Kind
    units: str = ""
    opacity: Tensor | None = None


def draw(
    rows: list[list[Panel]],
    path: str | Path | None,
    *,
    value_range: tuple[float, float] | None = None,
    title: str = "",
):
    """Rows of panels, saved to `path` if there is one; returns the figure.

    Args:
        value_range: of panels of kind "image"; they have the range of their own values where it is
            not known or hardly holds them.
    """
    from tweedie_inverse.solving.picture import Picture

    rows = [row for row in rows if row]
    columns, headline = max(map(len, rows)), 0.35 if title else 0.0
    width = columns * (_SIDE + _GAP) + _GAP
    height = len(rows) * (_SIDE + _ABOVE + _BELOW) + headline
    figure = Picture(width, height)
    panels = [panel for row in rows for panel in row]
    limits = range_shown(value_range, [panel.image for panel in panels if panel.kind == "image"])
    spreads = [_largest(panel.image) for panel in panels if panel.kind == "spread"]
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            left = _GAP + j * (_SIDE + _GAP)
            bottom = height - headline - (i + 1) * (_SIDE + _ABOVE + _BELOW) + _BELOW
            axis = figure.add_axes((left / width, bottom / height, _SIDE / width, _SIDE / height))
            axis.set_title(panel.name, fontsize=9)
            _draw(figure, axis, panel, limits, max(spreads, default=1.0))
    if title:
        figure.suptitle(title, fontsize=11, y=1 - 0.12 / height, va="top")
    if path is not None:
        kinds = figure.canvas.get_supported_filetypes()
        suffix = Path(path).suffix
        if suffix and suffix[1:].lower() not in kinds:
            raise ValueError(
                f"plot({str(path)!r}): no kind of picture has the suffix {suffix}; choose one of "
                f"{', '.join(sorted(kinds))}"
            )
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return figure


def range_shown(known: tuple[float, float] | None, images: list[Tensor]) -> tuple[float, float]:
    """The known range if nearly all values are in it, else the smallest and the largest value."""
    if not images:
        return known or (0.0, 1.0)
    values = torch.cat([image.detach().cpu().float().flatten() for image in images])
    values = values[values.isfinite()]
    if not len(values):
        return known or (0.0, 1.0)
    if known is not None:
        low, high = known
        margin = 0.05 * (high - low)
        beyond = (values < low - margin) | (values > high + margin)
        if float(beyond.double().mean()) < 0.01:
            return known
    return float(values.min()), float(values.max())


def _draw(figure, axis, panel: Panel, limits: tuple[float, float], top: float) -> None:
    if panel.image.ndim == 1:
        axis.plot(panel.image.detach().cpu().float().numpy(), linewidth=0.8)
        axis.tick_params(labelsize=7, pad=2)
        if panel.kind == "image":
            axis.set_ylim(*limits)
        return
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_box_aspect(1)
    low, high = {
        "image": limits,
        "guess": limits,
        "data": range_shown(None, [panel.image]),
        "spread": (0.0, top),
        "width": (0.0, _largest(panel.image)),
        "ratio": (0.0, _MOST_DEVIATIONS),
        "phase": (-np.pi, np.pi),
        "probability": (0.0, 1.0),
        "signed": (-_largest(panel.image.abs()), _largest(panel.image.abs())),
    }[panel.kind]
    colour = panel.kind in ("image", "guess", "data", "probability", "signed")
    pixels = _pixels(panel.image, low, high) if colour else _root_mean_square(panel)
    is_data = panel.kind == "data" and pixels.ndim == 2
    shown = axis.imshow(
        pixels,
        cmap=_COLOURS.get(panel.kind, "gray"),
        vmin=low,
        vmax=high,
        aspect="auto" if is_data else "equal",
        alpha=None if panel.opacity is None else panel.opacity.cpu().numpy(),
        interpolation="nearest",
    )
    if pixels.ndim == 2:
        _colour_bar(figure, axis, shown, panel)
    elif panel.units or (low, high) != (0.0, 1.0):
        text = f"black {low:.3g}, white {high:.3g} {panel.units}"
        axis.set_xlabel(text, fontsize=7, labelpad=3)


def _colour_bar(figure, axis, shown, panel: Panel) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator

    scale = axis.inset_axes((0.0, -0.06, 1.0, 0.035))
    bar = figure.colorbar(shown, cax=scale, orientation="horizontal")
    bar.locator = MaxNLocator(4)
    if panel.kind == "phase":
        bar.locator = FixedLocator([-3, 0, 3])
        bar.formatter = FixedFormatter(["-3", "0", "3 rad"])
    scale.tick_params(labelsize=7, pad=1, length=2)
    if panel.units:
        scale.set_xlabel(panel.units, fontsize=7, labelpad=1)


def plane(image: Tensor) -> tuple[Tensor, str]:
    """``(height, width)`` or ``(3, height, width)`` of an image or a volume, and which part it is.

    A vector stays as it is.
    """
    image, note = image.detach(), ""
    if image.ndim > 3:
        lead = image.shape[1:-2]
        middle = [size // 2 for size in lead]
        for place in middle:
            image = image[:, place]
        note = f", slice {'/'.join(map(str, middle))}"
    if image.ndim == 3 and image.shape[0] != 3:
        channels = image.shape[0]
        image, note = image[0], note + (f", channel 0 of {channels}" if channels > 1 else "")
    return image, note


def _pixels(image: Tensor, low: float, high: float) -> np.ndarray:
    """(height, width) as they are, or (height, width, 3) with [low, high] mapped to [0, 1]."""
    image = plane(image)[0].cpu().float()
    if image.ndim == 2:
        return image.numpy()
    scaled = (image - low) / ((high - low) or 1.0)
    return scaled.permute(1, 2, 0).clamp(0, 1).nan_to_num().numpy()


def _root_mean_square(panel: Panel) -> np.ndarray:
    """``(height, width)``: over three channels, or as it is."""
    image = plane(panel.image)[0].cpu().float()
    return (image.square().mean(0).sqrt() if image.ndim == 3 else image).numpy()


def _largest(image: Tensor) -> float:
    values = image.detach().cpu().float()
    values = values[values.isfinite()]
    return float(values.max()) if len(values) and float(values.max()) > 0 else 1.0
