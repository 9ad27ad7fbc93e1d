"""Samples in blocks, so that what is computed of many large images holds a few of them at once.

Samples may lie in a file (`streaming`), from which the system reads what is asked for: an operation
on all of them at once would copy them into memory.  Small ones are one block.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# Numbers in a block, but at least one image.
_NUMBERS = 2**22


def of_samples(samples: Tensor, like: Tensor | None = None) -> Iterator[Tensor]:
    """Consecutive images of ``(count, *shape)``, some at a time.

    Args:
        like: they are brought to its device.
    """
    size = max(1, _NUMBERS // max(1, samples[0].numel())) if len(samples) else 1
    for part in samples.split(size):
        yield part if like is None else part.to(like.device)


def over_pixels(function: Callable[[Tensor], Tensor], samples: Tensor, axis: int) -> Tensor:
    """A function of all samples of every pixel, such as a quantile, for some pixels at a time.

    Args:
        function: ``(batch, count, ...) -> (..., batch, ...)``, pixel by pixel.
        samples: ``(batch, count, *shape)`` with `axis` 1, or ``(count, *shape)`` with `axis` 0.
    """
    shape = samples.shape[axis + 1 :]
    if not shape or samples.numel() <= _NUMBERS:
        return function(samples)
    size = max(1, _NUMBERS // samples.shape[: axis + 1].numel())
    parts = [function(part) for part in samples.flatten(axis + 1).split(size, -1)]
    return torch.cat(parts, -1).unflatten(-1, shape)
