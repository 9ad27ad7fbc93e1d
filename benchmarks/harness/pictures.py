"""What a report shows of a unit, small enough to keep: truth, mean, spread, two samples."""

from typing import NamedTuple

import torch
from torch import Tensor

# How many samples are kept beside the mean and the standard deviation.
_SAMPLES = 2


class Pictures(NamedTuple):
    """Images ``(channels, height, width)``; `samples` has an axis more, `std` is 0 for one."""

    truth: Tensor
    mean: Tensor
    std: Tensor
    samples: Tensor


def take(samples: Tensor, truth: Tensor) -> Pictures:
    """Of samples ``(count, *shape)``, in half precision on the CPU."""
    std = samples.std(0) if len(samples) > 1 else torch.zeros_like(truth)
    images = Pictures(truth, samples.mean(0), std, samples[:_SAMPLES])
    return Pictures(*(image.detach().half().cpu().contiguous() for image in images))
