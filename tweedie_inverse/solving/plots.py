"""Pictures of a posterior: which panels there are, and what their titles say.

matplotlib is imported when one is drawn.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.runtime.html import data_uri
from tweedie_inverse.solving.origin import Origin
from tweedie_inverse.solving.panels import Panel, draw, plane

_SAMPLES = 3
# Decades of a complex measurement that are shown.
_DECADES = 4.0
# Bytes of a picture in a notebook, 100 kB as text, and dots an inch until it has no more.
_LIGHT, _DOTS = 72_000, (110, 80, 55, 35)


class Summary(NamedTuple):
    """One posterior to draw.

    Attributes:
        samples: ``(count, *shape)``.
        mean, std: ``(*shape)``.
        interval: lower and upper end of the central 90 % of every value.
        value_range: of the images in data units, where it is known.
        units: of the images, for colour bars.
    """

    samples: Tensor
    mean: Tensor
    std: Tensor
    interval: tuple[Tensor, Tensor]
    value_range: tuple[float, float] | None = None
    units: str = ""

    @property
    def is_complex(self) -> bool:
        """Whether the two channels are real and imaginary part."""
        return self.mean.ndim > 2 and self.mean.shape[0] == 2

    def on_cpu(self) -> "Summary":
        """The same where matplotlib finds it."""
        lower, upper = (end.detach().cpu() for end in self.interval)
        samples, mean, std = (x.detach().cpu() for x in (self.samples, self.mean, self.std))
        return self._replace(samples=samples, mean=mean, std=std, interval=(lower, upper))


def summary_of(
    samples: Tensor,
    mean: Tensor,
    std: Tensor,
    interval: tuple[Tensor, Tensor],
    origin: Origin | None,
) -> Summary:
    """What to draw of one measurement, with the range and units of its origin."""
    if origin is None:
        return Summary(samples, mean, std, interval)
    return Summary(samples, mean, std, interval, origin.value_range, origin.units)


def plot_posterior(
    summary: Summary,
    path: str | Path | None = None,
    *,
    truth: Tensor | None = None,
    measurement: Tensor | None = None,
):
    """Samples and mean above, measurement, spread and error below; returns the figure.

    Args:
        path: where to save the picture; None only returns the figure.
        truth: ``(*shape)``, where it is known.
        measurement: ``(*range_shape)``.
    """
    summary = summary.on_cpu()
    truth = None if truth is None else truth.detach().to(summary.mean)
    images = [("truth", truth)] if truth is not None else []
    images += [(f"sample {i + 1}", x) for i, x in enumerate(summary.samples[:_SAMPLES])]
    if len(summary.samples) > 1:
        images.append(("posterior mean", summary.mean))
    images = [(_titled(name, image, truth, summary), image) for name, image in images]
    data = [_data(measurement)] if measurement is not None else []
    spreads = _spreads(summary, truth)
    if summary.is_complex:
        rows = [
            [_magnitude(name, image, summary.units) for name, image in images],
            [_phase(image) for _, image in images],
            [*data, *spreads],
        ]
        return draw(rows, path)
    panels = [Panel(name, image, "image", summary.units) for name, image in images]
    return draw([panels, [*data, *spreads]], path, value_range=summary.value_range)


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
    summary = summary.on_cpu()
    truth, first_guess = (x.detach().to(summary.mean) for x in (truth, first_guess))
    error, units = (summary.mean - truth).abs(), summary.units
    samples = [
        Panel(_titled(f"sample {i + 1}", image, truth, summary), image, "image", units)
        for i, image in enumerate(summary.samples[:_SAMPLES])
    ]
    mean = _titled("posterior mean", summary.mean, truth, summary)
    deviations = error / summary.std.clamp(min=1e-6)
    above = [
        Panel("truth", truth, "image", units),
        _data(measurement),
        Panel("pseudo-inverse", first_guess, "guess", units),
    ]
    below = [
        Panel(mean, summary.mean, "image", units),
        *_spreads(summary, truth),
        Panel("|mean - truth| / std", deviations, "ratio"),
    ]
    rows = [[*above, *samples], below]
    return draw(rows, path, value_range=summary.value_range, title=title)


def glance(samples: Tensor, origin: Origin | None) -> str:
    """Mean and standard deviation of one measurement as HTML, at most 100 kB, for notebooks.

    Args:
        samples: ``(count, *shape)``; of a volume only the middle slice is computed.
    """
    samples = samples.detach()
    where = ""
    if samples.ndim > 4:
        where = plane(samples[0])[1].partition(", channel")[0]
        for size in samples.shape[2:-2]:
            samples = samples[:, :, size // 2]
    samples = samples.cpu().float()
    mean, units = samples.mean(0), "" if origin is None else origin.units
    spread = samples.std(0) if len(samples) > 1 else None
    if mean.ndim > 2 and mean.shape[0] == 2:
        mean = mean.square().sum(0).sqrt()
        spread = None if spread is None else spread.square().sum(0).sqrt()
        units = f"magnitude {units}".strip()
    panels = [Panel(f"mean{where}", mean, "image", units)]
    if spread is not None:
        panels.append(Panel("standard deviation", spread, "spread", units))
    figure = draw([panels], None, value_range=None if origin is None else origin.value_range)
    picture = next(filter(_is_light, map(figure.png, _DOTS)), figure.png(_DOTS[-1]))
    return f'<img alt="mean and standard deviation" src="{data_uri(picture, "image/png")}">'


def _is_light(picture: bytes) -> bool:
    return len(picture) <= _LIGHT


def _titled(name: str, image: Tensor, truth: Tensor | None, summary: Summary) -> str:
    """The name, which part of a volume it is, and how close it is to the truth."""
    name += "" if summary.is_complex else plane(image)[1]
    if truth is None or image is truth:
        return name
    if summary.value_range is not None and not summary.is_complex:
        low, high = summary.value_range
        width = high - low
    elif summary.is_complex:
        width = float(truth.square().sum(0).sqrt().max())
    else:
        width = float(truth.max() - truth.min())
    error = float((image - truth).double().square().mean())
    if not (width > 0 and error > 0):
        return name
    return f"{name}, {10 * torch.tensor(width**2 / error).log10():.1f} dB"


def _spreads(summary: Summary, truth: Tensor | None) -> list[Panel]:
    """Standard deviation, interval and error; a single sample has no spread."""
    found = []
    lower, upper = summary.interval
    if len(summary.samples) > 1:
        covered = ""
        if truth is not None:
            inside = ((truth >= lower) & (truth <= upper)).double().mean()
            covered = f", holds {100 * float(inside):.0f} %"
        width = _size(summary, upper - lower)
        found = [
            Panel("standard deviation", _size(summary, summary.std), "spread", summary.units),
            Panel(f"width of 90 % interval{covered}", width, "width", summary.units),
        ]
    if truth is not None:
        error = _size(summary, (summary.mean - truth).abs())
        found.append(Panel("|mean - truth|", error, "spread", summary.units))
    return found


def _size(summary: Summary, image: Tensor) -> Tensor:
    """The modulus of complex spreads."""
    return image.square().sum(0).sqrt() if summary.is_complex else image


def _magnitude(name: str, image: Tensor, units: str) -> Panel:
    return Panel(name, image.square().sum(0).sqrt(), "image", f"magnitude {units}".strip())


def _phase(image: Tensor) -> Panel:
    """The phase, which means little where the magnitude is small: it is pale there."""
    magnitude = plane(image.square().sum(0).sqrt()[None])[0].cpu().float()
    opacity = (magnitude / magnitude.max().clamp(min=1e-30)).sqrt().clamp(0, 1)
    return Panel("phase", torch.atan2(image[1], image[0]), "phase", opacity=opacity)


def _data(measurement: Tensor) -> Panel:
    """Complex measurements span decades: the logarithm of their modulus, over all coils."""
    measurement = measurement.detach().cpu().float()
    if measurement.ndim > 2 and measurement.shape[0] == 2:
        axes = tuple(range(measurement.ndim - 2))
        decades = measurement.square().sum(axes).clamp(min=1e-30).log10() / 2
        shown = decades.clamp(min=float(decades.max()) - _DECADES)
        return Panel("measurement, log10 |y|", shown, "data")
    return Panel("measurement" + plane(measurement)[1], measurement, "data")
