"""A prior as deepinv's denoiser, and an operator as its physics: the one place that converts."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.problems.task import Task
from tweedie_inverse.priors.base import Prior, sigma_column

# An operator whose norm is as near to 1 as this stays as it is.
_NEAR_ONE = 0.05


class PriorDenoiser(nn.Module):
    """``D(x, sigma)`` in data units, which are deepinv's: images in [0, 1], sigma likewise.

    deepinv calls a denoiser and asks nothing else of it; not deriving from its base class keeps
    this module free of that import.

    deepinv's schedules leave the range that a network is trained for.  Below it, the smallest
    level is asked for; above, the largest, with x drawn towards the centre of the data by
    ``(sigma_max / sigma)^2``: that is how much less a denoiser answers to x at such levels,
    ``D(x) = centre + C (x - centre) / (C + sigma^2)`` for data of covariance C.  (Drawn by the
    first power, which makes the noise that of the largest level, it answers too strongly, and
    samplers that differentiate it are driven too far.)
    """

    def __init__(self, prior: Prior):
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor, sigma: float | Tensor, **kwargs: Any) -> Tensor:
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1)
        level = level.expand(len(x)) if len(level) == 1 else level
        if self.prior.any_sigma:
            return self.prior.denoise(x, level.clamp(min=1e-6))
        known = level.clamp(self.prior.sigma_min, self.prior.sigma_max)
        shrink = sigma_column(x, (known / level.clamp(min=1e-12)).clamp(max=1).square())
        centre = torch.as_tensor(self.prior.centre).to(x)
        return self.prior.denoise(centre + shrink * (x - centre), known)


class Converted(NamedTuple):
    """What a deepinv sampler is given: a measurement for every sample."""

    denoiser: PriorDenoiser
    physics: Any
    y: Tensor  # (samples, *range_shape)
    start: Tensor  # (samples, *shape), a first image for those that need one
    std: float


def convert(y: Tensor, task: Task, prior: Prior) -> Converted:
    """The same operator object; a linear one and y divided by its norm, if that is not 1.

    deepinv's samplers take the norm of the operator for 1; division changes the units of y and
    nothing else.

    Args:
        y: ``(samples, *range_shape)``, equal ones next to each other.
    """
    operator, std = task.operator, task.std
    assert std is not None
    start = torch.as_tensor(prior.centre).to(y).expand(len(y), *prior.shape)
    if isinstance(operator, ops.LinearOperator):
        own, which = y.flatten(1).unique_consecutive(dim=0, return_inverse=True)
        start = operator.pseudo_inverse(own.reshape(-1, *y.shape[1:]))[which]
        norm = ops.operator_norm(operator)
        if abs(norm - 1) > _NEAR_ONE:
            operator, y, std = ops.scale(operator, 1 / norm), y / norm, std / norm
    physics = ops.to_deepinv(operator).to(y.device)  # singular values, for DDRM
    return Converted(PriorDenoiser(prior), physics, y.clone(), start.clone(), std)
