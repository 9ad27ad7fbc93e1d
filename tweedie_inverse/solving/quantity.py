"""A quantity of the image: a function of it, or the mean over a region given by a mask."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arrays import tensor_of
from tweedie_inverse.boundary.contracts import called
from tweedie_inverse.solving.blocks import of_samples

Quantity = Callable[[Tensor], Tensor] | Tensor

# Relative difference between an image among all and the same image among two: rounding is below,
# even of accelerators, which convolve float32 with ten bits.
_ROUNDING = 1e-2
# Answers of yes and no may turn over by rounding, where they hang on a threshold.
_TURNED = 0.1


def values_of(caller: str, of: Any, samples: Tensor, axis: int) -> Tensor:
    """A quantity of every sample, ``(batch, num_samples, ...)``, real numbers.

    Args:
        of: ``(walkers, *shape) -> (walkers, ...)``, or a boolean mask of a region.
        samples: ``(batch, num_samples, *shape)`` with `axis` 1, or without batch with `axis` 0.

    Raises:
        TypeError: neither a function nor a mask, or complex values.
        ValueError: the function does not keep the first axis, mixes the images or is not finite; a
            mask of another shape, or one without a pixel.
    """
    shape = samples.shape[axis + 1 :]
    if isinstance(of, Tensor) or (not callable(of) and hasattr(of, "__array__")):
        return _region_means(caller, of, samples, tuple(shape))
    if not callable(of):
        raise TypeError(
            f"{caller}: needs a function of images (walkers, *shape), or a boolean mask of a "
            f"region, got {type(of).__name__}"
        )
    found = answers_of(caller, of, samples, axis)
    if found.is_complex():
        raise TypeError(
            f"{caller}: needs a function with real values; it returned {found.dtype}; take .abs(), "
            ".angle(), .real or .imag"
        )
    found = found if found.is_floating_point() else found.to(samples.dtype)
    if not found.is_meta and not bool(found.isfinite().all()):
        bad = ~found.reshape(*found.shape[: axis + 1], -1).isfinite().all(-1)
        raise ValueError(
            f"{caller}: the function is NaN or infinite for {int(bad.sum())} of {bad.numel()} "
            "samples; its law has no quantiles then"
        )
    return found


def answers_of(
    caller: str, function: Any, values: Tensor, axis: int, *, what: str = "images"
) -> Tensor:
    """What a function of the user answers for every sample, ``(batch, num_samples, ...)``.

    It is given a copy, so that it may change its argument, and may answer with a tensor, an array
    or a list of numbers.

    Args:
        what: it is given, for messages.

    Raises:
        TypeError: no function.
        ValueError: it does not keep the first axis, or an answer depends on other samples.
    """
    shape = "*shape" if what == "images" else "..."
    need = f"a function of {what} (walkers, {shape}), such as lambda x: x > 0.5"
    if not callable(function):
        raise TypeError(f"{caller}: needs {need}, got {type(function).__name__}")
    lead = values.shape[: axis + 1]
    flat = values.reshape(-1, *values.shape[axis + 1 :])
    name = f"the function of {caller}"

    def asked(some: Tensor) -> Any:
        answer = called(name, function, some.clone())
        if not isinstance(answer, np.ndarray | list):
            return answer
        answer = tensor_of(caller, "function", answer)  # of NumPy, or one image after the other
        return answer.to(some.device, some.dtype if answer.is_floating_point() else None)

    parts = []
    for part in of_samples(flat):
        found = asked(part)
        if not isinstance(found, Tensor) or found.ndim == 0 or found.shape[0] != len(part):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"{caller}: the function is given {what} {tuple(part.shape)} and must return "
                f"a tensor whose first axis is {len(part)}; it returned {got}"
            )
        parts.append(found)
    found = parts[0] if len(parts) == 1 else torch.cat(parts)
    if len(flat) > 2 and not found.is_meta:
        # Another number of images than it was given before.
        few = 2 if len(parts[0]) > 2 else 3 - len(parts[0])
        alone = asked(flat[:few])
        sums = float(flat[:few].detach().abs().sum()) * torch.finfo(flat.dtype).eps
        if not isinstance(alone, Tensor) or not _same(found[:few], alone, 4 * sums):
            raise ValueError(
                f"{caller}: the function mixes the samples, or is random: the first "
                f"{'two' if few == 2 else 'one'} of {len(flat)} alone gave another answer; take "
                "sums and means over the axes after the first"
            )
    return found.reshape(*lead, *found.shape[1:])


def _same(first: Tensor, second: Tensor, least: float) -> bool:
    """Whether two answers differ by rounding alone, of sums of an image by `least`."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    is_real = first.is_floating_point() or first.is_complex()
    wide = torch.complex64 if first.is_complex() else torch.float32
    first, second = first.detach().to(wide), second.detach().to(wide)
    if not bool(first.isfinite().all()):
        return bool(torch.equal(first.isfinite(), second.isfinite()))
    size = float(first.norm())
    allowed = _ROUNDING * size + least if is_real else _TURNED * max(size, 1.0)
    return float((first - second).norm()) <= allowed


def _region_means(caller: str, of: Any, samples: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Means over a region; axes of the image before those of the mask stay, but not one channel."""
    mask = region(caller, of, shape).to(samples.device)
    places = mask.flatten()
    lead = samples.shape[: samples.ndim - mask.ndim]
    means = samples.reshape(*lead, -1)[..., places].mean(-1)
    one_channel = mask.ndim < len(shape) and shape[0] == 1
    return means.squeeze(len(lead) - (len(shape) - mask.ndim)) if one_channel else means


def region(caller: str, of: Any, shape: tuple[int, ...]) -> Tensor:
    """The mask of a region, checked: of an image's shape, or of its last axes from two on."""
    mask = tensor_of(caller, "mask", of)
    if mask.dtype != torch.bool:
        raise TypeError(
            f"{caller}: needs a function or a boolean mask, got {mask.dtype}; write mask > 0.5, say"
        )
    fits = [shape[first:] for first in range(max(len(shape) - 1, 1))]
    if tuple(mask.shape) not in fits:
        raise ValueError(
            f"{caller}: needs a mask of shape {' or '.join(map(str, fits))}, the same for all "
            f"measurements, got {tuple(mask.shape)}"
        )
    if not mask.is_meta and not bool(mask.any()):
        raise ValueError(f"{caller}: the mask holds no pixel: it is False everywhere")
    return mask
