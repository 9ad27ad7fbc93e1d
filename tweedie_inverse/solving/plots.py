"""Pictures of a posterior.  matplotlib is imported when one is drawn.

Truth, samples and mean share one range of values, their smallest to their largest: a prior's range
is not known here.
"""

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
        ("pseudo-inverse", first_guess, "guess"),
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
    """A grid of (name, image, kind), saved to `path` if there is one; returns the figure.

    Panels of kind "image" share one range of values, in which a "guess" is drawn too; those of kind
    "spread" share one colour scale, and "data" has a range of its own.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.95 * rows + 0.3))
    figure.subplots_adjust(0.01, 0.06, 0.99, 0.9, wspace=0.06, hspace=0.15)
    FigureCanvasAgg(figure)
    spreads = [_flat(image).max() for _, image, kind in panels if kind == "spread"]
    top = max(spreads) if spreads else 1.0
    limits = _limits([image for _, image, kind in panels if kind == "image"])
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, (name, image, kind) in zip(axes, panels, strict=False):
        axis.set_title(name, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_box_aspect(1)
        _draw(figure, axis, image, kind, limits, top)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=12, y=0.985)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    return figure


def _limits(images: list[Tensor]) -> tuple[float, float]:
    """Smallest and largest value of all images; 0 and 1 where there is no image."""
    if not images:
        return 0.0, 1.0
    return min(float(i.min()) for i in images), max(float(i.max()) for i in images)


def _draw(figure, axis, image: Tensor, kind: str, limits: tuple[float, float], top: float) -> None:
    from matplotlib.ticker import MaxNLocator

    if kind in ("image", "guess", "data"):
        low, high = _limits([image]) if kind == "data" else limits
        pixels = _pixels(image, low, high)
        aspect = "auto" if kind == "data" and pixels.ndim == 2 else "equal"
        axis.imshow(pixels, cmap="gray", vmin=low, vmax=high, aspect=aspect)
        return
    limit, colours = (top, "magma") if kind == "spread" else (4.0, "viridis")
    shown = axis.imshow(_flat(image), cmap=colours, vmin=0, vmax=limit)
    scale = axis.inset_axes((0.0, -0.06, 1.0, 0.04))
    figure.colorbar(shown, cax=scale, orientation="horizontal").locator = MaxNLocator(4)
    scale.tick_params(labelsize=7, pad=1)


def _pixels(image: Tensor, low: float, high: float) -> np.ndarray:
    """(height, width) as they are, or (height, width, 3) with [low, high] mapped to [0, 1]."""
    image = torch.atleast_2d(image.detach().cpu().float())
    image = image.reshape(-1, *image.shape[-2:])
    if image.shape[0] == 3:
        scaled = (image - low) / (high - low or 1.0)
        return scaled.permute(1, 2, 0).clamp(0, 1).numpy()
    return image[0].numpy()


def _flat(image: Tensor) -> np.ndarray:
    """Root mean square over the channels, (height, width)."""
    image = torch.atleast_2d(image.detach().cpu().float())
    return image.reshape(-1, *image.shape[-2:]).square().mean(0).sqrt().numpy()
