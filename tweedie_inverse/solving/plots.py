"""Pictures of a posterior.  matplotlib is imported when one is drawn."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Summary(NamedTuple):
    """One posterior to draw: samples ``(count, *shape)``, mean and std ``(*shape)``."""

    samples: Tensor
    mean: Tensor
    std: Tensor


def plot_posterior(summary: Summary, path: str | Path | None = None, truth: Tensor | None = None):
    """Up to three samples, mean and standard deviation in a row; returns the figure.

    Args:
        path: where to save the picture; None only returns the figure.
        truth: ``(*shape)``, shown first where it is known, and the error last.
    """
    panels = [("sample", image, "image") for image in summary.samples[:3]]
    panels += [("posterior mean", summary.mean, "image"), ("posterior std", summary.std, "spread")]
    if truth is not None:
        panels.insert(0, ("truth", truth, "image"))
        panels.append(("|mean - truth|", (summary.mean - truth).abs(), "spread"))
    return draw_panels(panels, path, columns=len(panels))


def plot_problem(
    summary: Summary,
    path: str | Path,
    *,
    truth: Tensor,
    measurement: Tensor,
    first_guess: Tensor,
    title: str,
):
    """One inverse problem on one page: data, samples, mean, spread and error.

    Args:
        truth, first_guess: ``(*shape)``; the guess is an adjoint or pseudo-inverse.
        measurement: ``(*range_shape)``; three channels are drawn as a colour image.
    """
    error = (summary.mean - truth).abs()
    panels = [
        ("truth", truth, "image"),
        ("measurement", measurement, "data"),
        ("pseudo-inverse", first_guess, "image"),
        *(
            (f"posterior sample {i + 1}", image, "image")
            for i, image in enumerate(summary.samples[:3])
        ),
        ("posterior mean", summary.mean, "image"),
        ("posterior std", summary.std, "spread"),
        ("|mean - truth|", error, "spread"),
        ("|mean - truth| / std", error / summary.std.clamp(min=1e-6), "ratio"),
    ]
    return draw_panels(panels, path, columns=5, title=title)


def draw_panels(panels, path: str | Path | None, *, columns: int, title: str = ""):
    """A grid of (name, image, kind); panels of kind "spread" share one colour scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.95 * rows + 0.3))
    figure.subplots_adjust(0.01, 0.06, 0.99, 0.9, wspace=0.06, hspace=0.15)
    FigureCanvasAgg(figure)
    spreads = [_flat(image).max() for _, image, kind in panels if kind == "spread"]
    top = max(spreads) if spreads else 1.0
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, (name, image, kind) in zip(axes, panels, strict=False):
        axis.set_title(name, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_box_aspect(1)
        _draw(figure, axis, image, kind, top)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=12, y=0.985)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    return figure


def _draw(figure, axis, image: Tensor, kind: str, top: float) -> None:
    from matplotlib.ticker import MaxNLocator

    if kind == "image":
        axis.imshow(_pixels(image), cmap="gray", vmin=0, vmax=1)
        return
    if kind == "data":
        pixels = _pixels(image)
        colour = pixels.ndim == 3
        limits = (0, 1) if colour else (None, None)
        aspect = "equal" if colour else "auto"
        axis.imshow(pixels, cmap="gray", vmin=limits[0], vmax=limits[1], aspect=aspect)
        return
    limit, colours = (top, "magma") if kind == "spread" else (4.0, "viridis")
    shown = axis.imshow(_flat(image), cmap=colours, vmin=0, vmax=limit)
    scale = axis.inset_axes((0.0, -0.06, 1.0, 0.04))
    figure.colorbar(shown, cax=scale, orientation="horizontal").locator = MaxNLocator(4)
    scale.tick_params(labelsize=7, pad=1)


def _pixels(image: Tensor) -> np.ndarray:
    """(height, width) or (height, width, 3), colour clipped to [0, 1]."""
    image = torch.atleast_2d(image.detach().cpu().float())
    image = image.reshape(-1, *image.shape[-2:])
    if image.shape[0] == 3:
        return image.permute(1, 2, 0).clamp(0, 1).numpy()
    return image[0].numpy()


def _flat(image: Tensor) -> np.ndarray:
    """Root mean square over the channels, (height, width)."""
    image = torch.atleast_2d(image.detach().cpu().float())
    return image.reshape(-1, *image.shape[-2:]).square().mean(0).sqrt().numpy()
