"""The two pictures of a run in progress: samples beside training images, and its errors."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tweedie_inverse.runtime.atomic import replace
from tweedie_inverse.training.checks import Check

_DPI = 90


def draw_samples(path: Path, samples: Tensor, images: Tensor, step: int) -> None:
    """``(count, channels, h, w)`` in [0, 1] each: samples above, training images below."""
    figure, rows = _figure(2, 1, (1.35 * len(samples), 3.5))
    titles = f"samples of the prior, step {step}", "images trained on"
    for axis, row, title in zip(rows, (samples, images), titles, strict=True):
        whole = np.concatenate(list(row.clamp(0, 1).movedim(1, -1).numpy()), axis=1)
        axis.imshow(whole.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=9, loc="left")
        axis.axis("off")
    _write(figure, path)


def draw_curves(
    path: Path, history: Sequence[Sequence[float]], checks: Sequence[Check], levels: Sequence[float]
) -> None:
    """The loss of training, and the error by noise level, against the step."""
    figure, (left, right) = _figure(1, 2, (9.5, 3.8))
    if history:
        steps, losses = zip(*history, strict=True)
        left.plot(steps, losses, "." if len(steps) < 3 else "-", lw=1)
        left.set_ylim(*_without_the_start(losses))
    left.set(xlabel="step", ylabel="weighted loss of the training batches")
    at = [check.step for check in checks]
    for index, sigma in enumerate(levels):
        known, unknown = (
            [check.psnr(kind)[index] - checks[0].psnr(kind)[index] for check in checks]
            for kind in ("trained", "held_out")
        )
        label = f"sigma {sigma:g}: {checks[-1].psnr()[index]:.2f} dB"
        (line,) = right.plot(at, unknown, "o-", ms=3, lw=1.2, label=label)
        right.plot(at, known, "--", lw=0.9, color=line.get_color())
    right.set(xlabel="step", ylabel="gain in PSNR of denoised images, dB")
    right.set_title("held out (solid), trained on (dashed)", fontsize=9)
    right.legend(
        title="held out, now", fontsize=7, title_fontsize=7, loc="center left",
        bbox_to_anchor=(1.01, 0.5),
    )  # fmt: skip
    for axis in (left, right):
        axis.grid(alpha=0.3)
    warning = checks[-1].warning if checks else ""
    if warning:
        figure.suptitle(textwrap.fill(warning, 120), fontsize=8, color="firebrick")
    _write(figure, path)


def _without_the_start(losses: Sequence[float]) -> tuple[float, float]:
    """Limits that the first loss does not decide where it is far above the others."""
    rest = losses[1:] if len(losses) > 3 and losses[0] > 1.5 * max(losses[1:]) else losses
    low, high = min(losses), max(rest)
    margin = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """A figure that no window and no global state knows of."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns)


def _write(figure: Any, path: Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    replace(path, content.getvalue())
