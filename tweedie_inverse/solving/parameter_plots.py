"""Pictures of what was drawn of an instrument."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import path as checked_path

_STD = "standard deviation"


class Shown(Protocol):
    """One unknown of one measurement, as `solving.parameters.Parameter` is."""

    @property
    def name(self) -> str: ...

    @property
    def samples(self) -> Tensor: ...

    @property
    def trace(self) -> Tensor: ...

    @property
    def mean(self) -> Tensor: ...

    @property
    def std(self) -> Tensor: ...


def histograms(ones: Sequence[Shown], truths: Sequence[Any], path: str | Path | None):
    """Samples and trace of numbers, one below the other; returns the figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.4 + 2.6 * len(ones)), layout="constrained")
    rows = figure.subplots(len(ones), 2, squeeze=False)
    for one, truth, (left, right) in zip(ones, truths, rows, strict=True):
        left.hist(one.samples.cpu().numpy())
        left.set(xlabel=one.name, ylabel="samples")
        right.plot(one.trace.movedim(1, 0).flatten(1).cpu().numpy(), linewidth=0.7)
        right.set(xlabel="noise level of the walk, high to low", ylabel=one.name)
        if truth is not None:
            left.axvline(truth, color="black")
            right.axhline(truth, color="black")
    if path is not None:
        figure.savefig(checked_path("plot", "path", path))
    return figure


def pictures(one: Shown, path: str | Path | None, truth: Any):
    """Some samples, mean and standard deviation of arrays ``(num_samples, height, width)``.

    Of volumes it is the middle slice.  The standard deviation has a scale of its own.
    """
    from matplotlib.figure import Figure

    shown = {f"sample {place + 1}": one.samples[place] for place in range(len(one.samples))[:3]}
    shown |= {"mean": one.mean, _STD: one.std}
    if truth is not None:
        shown = {"truth": torch.as_tensor(truth)} | shown
    if one.samples.ndim == 4:
        shown = {name: array[len(array) // 2] for name, array in shown.items()}
    figure = Figure(figsize=(2.2 * len(shown), 2.4), layout="constrained")
    values = [array for name, array in shown.items() if name != _STD]
    ends = min(0.0, *(float(one.min()) for one in values)), max(float(one.max()) for one in values)
    for axes, (name, array) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
        low, high = (0.0, float(array.max())) if name == _STD else ends
        picture = axes.imshow(array.cpu().numpy(), cmap="gray", vmin=low, vmax=high)
        axes.set(title=name, xticks=[], yticks=[])
        if name in ("mean", _STD):
            figure.colorbar(picture, ax=axes, shrink=0.7)
    if path is not None:
        figure.savefig(checked_path("plot", "path", path))
    return figure
