"""The images of one measurement on a page: samples, what sums them up, and the truth."""

import math
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from tweedie_inverse.solving.blocks import of_samples
from tweedie_inverse.solving.interval import central_interval
from tweedie_inverse.solving.origin import Origin
from tweedie_inverse.solving.page.numbers import encoded
from tweedie_inverse.solving.page.reduction import Reduction, as_volume
from tweedie_inverse.solving.panels import range_shown
from tweedie_inverse.solving.posterior_file import Made
from tweedie_inverse.solving.recalibrated import Recalibrated

LEVEL = 0.9


class Reported(Made, Protocol):
    """What a page needs of a posterior."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any) -> "Reported": ...
    def recalibrated(self) -> Recalibrated: ...


class Views(NamedTuple):
    """For the script of the page, and in words what is not as it was."""

    block: dict[str, Any]
    notes: list[str]
    error: float  # of the numbers, at most, in data units


def views(one: Reported, truth: Tensor | None, budget: int) -> Views:
    """Of a single measurement.

    Args:
        truth: ``(*shape)``.
        budget: how many numbers its images may have on the page.
    """
    shape = tuple(one.samples.shape[1:])
    whole = as_volume(one.samples.detach().cpu(), 1)
    reduction = Reduction.of(tuple(whole.shape[1:]), len(whole), budget)
    samples = torch.cat([reduction.applied(part) for part in of_samples(whole)]).double()
    notes = reduction.notes(tuple(whole.shape[1:]), len(whole))
    images = summaries(samples, one.diagnostics.effective_sample_size)
    if len(samples) == 1:
        notes.append("There is a single sample: how uncertain the image is, is unknown.")
    else:
        images |= _recalibrated(one, reduction, notes)
    if truth is not None:
        images["truth"] = reduction.applied(as_volume(truth.detach().cpu(), 0)).double()
        images["error"] = images["mean"] - images["truth"]
    if not bool(samples.isfinite().all()):
        share = float((~samples.isfinite()).double().mean())
        notes.append(f"{share:.2g} of the values are NaN or infinite, and shown as holes.")
    kind = _kind(shape)
    window = _window(one.origin, [samples, images.get("truth", samples[:1])], kind)
    width = window[1] - window[0]
    shown = encoded(samples[: reduction.samples], width)
    block = {
        "kind": kind,
        "shape": list(samples.shape[1:]),
        "count": reduction.samples,
        "slices": list(reduction.slices),
        "block": reduction.block,
        "window": list(window),
        "samples": shown,
        "images": {
            name: encoded(image, width if name in ("mean", "lower", "upper", "truth") else None)
            for name, image in images.items()
        },
    }
    return Views(block, notes, shown.get("step", 0.0) / 2)


def summaries(samples: Tensor, effective: Tensor) -> dict[str, Tensor]:
    """Mean, and where there are several samples standard deviation and interval."""
    found = {"mean": samples.mean(0)}
    if len(samples) > 1:
        lower, upper = central_interval(samples, 0, LEVEL, effective)
        found |= {"std": samples.std(0), "lower": lower, "upper": upper, "width": upper - lower}
    return found


def _recalibrated(one: Reported, reduction: Reduction, notes: list[str]) -> dict[str, Tensor]:
    """Lower and upper ends that the prior's calibration gives; none where it has none."""
    try:
        ends = one.recalibrated().interval(LEVEL)
    except ValueError:
        return {}
    if reduction.block > 1:
        notes.append(
            "The prior's calibration is of single pixels, and says nothing of these averages; "
            "posterior.recalibrated() has its intervals."
        )
        return {}
    names = ("recalibrated lower", "recalibrated upper")
    return {
        name: reduction.applied(as_volume(end.detach().cpu(), 0)).double()
        for name, end in zip(names, ends, strict=True)
    }


def _kind(shape: tuple[int, ...]) -> str:
    """How an image of this shape is drawn."""
    if len(shape) < 2:
        return "line"
    if len(shape) == 2 or shape[0] == 1:
        return "grey"
    return {2: "complex", 3: "colour"}.get(shape[0], "channels")


def _window(origin: Origin | None, shown: list[Tensor], kind: str) -> tuple[float, float]:
    """The range of colours: that of the prior where it holds the images, else their own."""
    known = None if origin is None else origin.value_range
    if kind == "complex":
        largest = max(float(x.square().sum(-4).sqrt().nan_to_num(0, 0, 0).max()) for x in shown)
        return 0.0, largest or 1.0
    low, high = range_shown(known, shown)
    if not (math.isfinite(high - low) and high > low):
        return low - 0.5, low + 0.5
    return low, high
