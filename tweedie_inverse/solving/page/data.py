"""The measurement on a page, and what the mean and a sample leave of it in units of the noise."""

import math
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.solving.measured import Measured
from tweedie_inverse.solving.page.numbers import encoded
from tweedie_inverse.solving.page.reduction import MOST_SLICES, as_volume, pooled

_MOST_SIDE = 640
_DECADES = 4.0
# Residuals are shown within so many standard deviations of the noise.
_MOST_DEVIATIONS = 4.0


def data(one: Measured, budget: int) -> dict[str, Any]:
    """Of a single measurement, for the script of the page.

    Complex measurements are shown by their modulus over all coils, and residuals of theirs by their
    root mean square over coils, real and imaginary parts, which is 1 on average.

    Args:
        budget: how many numbers each of its images may have.
    """
    seen = torch.ones(one.y.shape, dtype=torch.bool) if one.observed is None else one.observed.cpu()
    everything = torch.ones_like(seen)
    # The coefficients of another basis are not entries of y, which a mask is of.
    of_residual = seen if one.basis == "Pixels" else everything
    residuals = {"of mean": one.of_mean, "of sample": one.of_sample}
    found = {"y": _shown(one.y, seen, one.is_complex, is_data=True)}
    found |= {
        name: _shown(residual, of_residual, one.is_complex, is_data=False)
        for name, residual in residuals.items()
    }
    shape = found["y"].shape
    block = _block(tuple(shape), budget)
    images = {name: _pooled(image[:, :MOST_SLICES], block) for name, image in found.items()}
    kind = {3: "colour"}.get(shape[0], "channels" if shape[0] > 1 else "grey")
    signed = not one.is_complex
    name, _, axes = one.name.partition(" (")
    return {
        "name": name,
        "kind": "line" if one.y.ndim < 2 else kind,
        "shape": list(images["y"].shape),
        "slices": list(range(images["y"].shape[1])),
        "block": block,
        "logarithmic": one.is_complex,
        "signed": signed,
        "images": {name: encoded(image) for name, image in images.items()},
        "window": _window(images["y"], one.is_complex),
        "deviations": _MOST_DEVIATIONS,
        "notes": [*_axes(axes), *_notes(one, tuple(shape), block)],
        "sizes": {name: _size(each, of_residual) for name, each in residuals.items()},
    }


def _shown(values: Tensor, seen: Tensor, is_complex: bool, *, is_data: bool) -> Tensor:
    """``(channels, slices, height, width)``, NaN where nothing was observed."""
    values = values.detach().cpu().double()
    if not is_complex:
        return as_volume(torch.where(seen, values, torch.nan), 0)
    over = tuple(range(max(values.ndim - 2, 1)))  # real and imaginary parts, and coils
    if is_data:
        modulus = values.square().sum(over).sqrt()
        return as_volume(torch.where(seen.any(over), modulus, torch.nan).log10(), 0)
    squares = torch.where(seen, values.square(), torch.nan).nanmean(over)
    return as_volume(squares.sqrt(), 0)


def _block(shape: tuple[int, ...], budget: int) -> int:
    """Side of the squares of entries that are averaged."""
    channels, depth, height, width = shape
    block = math.ceil(max(height, width) / _MOST_SIDE) if height > 1 else 1
    size = channels * min(depth, MOST_SLICES)
    while size * math.ceil(height / block) * math.ceil(width / block) > budget and block < width:
        block += 1
    return block


def _pooled(image: Tensor, block: int) -> Tensor:
    """Averages over what was observed of each square; NaN where nothing was."""
    if block == 1:
        return image
    seen = image.isfinite().double()
    return pooled(image.nan_to_num(0, 0, 0) * seen, block) / pooled(seen, block)


def _window(y: Tensor, is_logarithm: bool) -> list[float]:
    values = y[y.isfinite()]
    if not len(values):
        return [0.0, 1.0]
    low, high = float(values.min()), float(values.max())
    if is_logarithm:
        low = max(low, high - _DECADES)
    return [low, high] if high > low else [low - 0.5, low + 0.5]


def _size(residual: Tensor, seen: Tensor) -> float | None:
    """Root mean square over what was observed; None where it is not finite."""
    size = float(residual.detach().cpu().double()[seen].square().mean().sqrt())
    return size if math.isfinite(size) else None


def _axes(axes: str) -> list[str]:
    """What rows and columns are, as a sentence."""
    return [f"{axes[:1].upper()}{axes[1:].removesuffix(')')}."] if axes else []


def _notes(one: Measured, shape: tuple[int, ...], block: int) -> list[str]:
    found = []
    if one.is_complex:
        coils = f" of {math.prod(one.y.shape[1:-2])} coils" if one.y.ndim > 3 else ""
        found.append(
            f"Shown is log10 of the modulus{coils}; residuals are the root mean square of their "
            "real and imaginary parts, near 1 on average."
        )
    if shape[0] == 3:
        found.append("Pictures of the residuals in colours are of their average over the colours.")
    if one.basis != "Pixels":
        found.append(f"Residuals are by coefficient of the noise in its {one.basis} basis.")
    if one.observed is not None:
        found.append("Nothing was observed where it is hatched.")
    if shape[1] > MOST_SLICES:
        found.append(f"The first {MOST_SLICES} of {shape[1]} planes are on this page.")
    if block > 1:
        found.append(f"Each entry is the average over {block} x {block} entries of y.")
    return found
