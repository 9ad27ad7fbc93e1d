"""Pictures of a walk on its way: the noisy states above, the denoised images below.

They are made of pixels and not by matplotlib, because there are many of them.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import instance
from tweedie_inverse.sampling.sampling import SampleStep
from tweedie_inverse.solving.loop import Step
from tweedie_inverse.solving.panels import plane, range_shown
from tweedie_inverse.walks.base import Level

AnyStep = Step | SampleStep
# In pixels: sides of an image, larger ones are averaged and smaller ones enlarged; the gap between
# images, and the line of text above.
_MOST_SIDE, _LEAST_SIDE, _GAP, _LINE = 256, 128, 4, 18
_PAPER = 255
_INK = (30, 30, 30)


class Moment(NamedTuple):
    """What is kept of a step for a picture, on the CPU.

    Attributes:
        level: where the walk stands.
        x, denoised: ``(count, channels, height, width)`` float32, 1 or 3 channels.
        known: value range of the images, where the prior has one.
    """

    level: Level
    x: Tensor
    denoised: Tensor
    known: tuple[float, float] | None


def moment_of(caller: str, step: Any, count: int) -> Moment:
    """The first walkers of a step.

    Raises:
        TypeError: no step of `iterate` or `trajectory`.
        ValueError: its images are vectors.
    """
    need = "steps of ti.iterate or ti.trajectory"
    instance(caller, "steps", step, AnyStep, need=need)
    denoised = step.info.denoised if isinstance(step, Step) else step.denoised
    known = step.run.prior.value_range if isinstance(step, Step) else None
    if step.x.ndim < 3:
        raise ValueError(
            f"{caller}(steps=): draws images, and these are vectors of {tuple(step.x.shape[1:])}"
        )
    is_complex = step.x.ndim > 3 and step.x.shape[1] == 2
    x, clean = (_shown(images[:count], is_complex) for images in (step.x, denoised))
    return Moment(step.level, x, clean, None if is_complex else known)


def frame(moment: Moment, limits: tuple[float, float]) -> np.ndarray[Any, Any]:
    """A picture, ``(height, width, 3)`` uint8 with even sides.

    Args:
        limits: black and white of the denoised images; those of the states are further apart by two
            standard deviations of their noise at both ends.
    """
    from PIL import Image, ImageDraw

    level, (low, high) = moment.level, limits
    reach = 2 * level.sigma_next
    rows = [
        _row(moment.x, low - reach, high + reach),
        _row(moment.denoised, low, high),
    ]
    pixels = np.concatenate([_blank(_LINE, rows[0].shape[1]), *rows])
    pixels = np.pad(
        pixels, [(0, side % 2) for side in pixels.shape[:2]] + [(0, 0)], constant_values=_PAPER
    )
    picture = Image.fromarray(pixels)
    text = f"step {level.index + 1} of {level.steps}, noise level {level.sigma_next:.3g}"
    ImageDraw.Draw(picture).text((_GAP, 3), text, fill=_INK)
    return np.asarray(picture)


def limits_of(moment: Moment) -> tuple[float, float]:
    """Black and white for its denoised images."""
    low, high = range_shown(moment.known, [moment.denoised])
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _shown(images: Tensor, is_complex: bool) -> Tensor:
    """``(count, 1 or 3, height, width)``: a modulus, colours, or the first channel."""
    images = images.detach().cpu().float()
    if is_complex:
        images = images.square().sum(1, keepdim=True).sqrt()
    planes = torch.stack([plane(image)[0] for image in images])
    planes = planes[:, None] if planes.ndim == 3 else planes
    block = -(-max(planes.shape[-2:]) // _MOST_SIDE)
    return torch.nn.functional.avg_pool2d(planes, block, ceil_mode=True) if block > 1 else planes


def _row(images: Tensor, low: float, high: float) -> np.ndarray[Any, Any]:
    """Images side by side, with a gap to the left of each and below."""
    levels = ((images - low) / (high - low)).nan_to_num(0.5).clamp(0, 1)
    pixels = (255 * levels).round().byte().permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()
    larger = max(1, _LEAST_SIDE // max(pixels.shape[1:3]))
    pixels = pixels.repeat(larger, 1).repeat(larger, 2)
    around = ((0, 0), (0, _GAP), (_GAP, 0), (0, 0))
    return np.concatenate([*np.pad(pixels, around, constant_values=_PAPER)], 1)


def _blank(height: int, width: int) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), _PAPER, dtype=np.uint8)
