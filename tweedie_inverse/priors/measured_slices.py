"""How alike the slices of volumes are: as they stand, or as a prior of slices errs in them.

For a Gaussian field both are the same.  A network knows more of a slice than its spectrum, and
what it does not know is less alike from slice to slice than the slices are: with the correlation
of the slices themselves, samples would be too smooth across them.  The correlation R wanted is the
one that returns: with noise of this correlation, the errors of the denoiser have it, too.
"""

from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, instance
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.slice_correlation import SliceCorrelation, correlation_of
from tweedie_inverse.priors.slices import Slices

# Noise levels at which errors are measured, in standard deviations of the volumes, and rounds from
# one correlation to the next.  Errors answer to the noise by most of it, so that the correlation
# returns slowly: each round goes further than it was sent, by this power.
_LEVELS, _ROUNDS, _FURTHER = (0.2, 0.5, 1.0), 6, 2.0
_FIRST = 4.0  # slices
_SHORTEST, _LONGEST = 0.05, 500.0


@torch.no_grad()
def measure_slice_correlation(
    volumes: Any, prior: Prior | None = None, *, axis: int = 0, seed: int = 0
) -> SliceCorrelation:
    """How alike neighbouring slices of volumes are, for every spatial frequency.

    Args:
        volumes: ``(count, channels, depth, height, width)``, one or more, such as earlier scans or
            reconstructions from many views; noise in them makes slices less alike.
        prior: of the slices, which `Slices` will be made of: its errors are then what counts. None
            takes the volumes as they stand, less the mean of each channel, which is right for
            Gaussian fields and too much for networks.
        axis: along which the slices follow each other: 0 depth, 1 height, 2 width.
        seed: of the noise in which the prior errs.

    Raises:
        TypeError, ValueError: no volumes, fewer than two slices, volumes that are the same
            everywhere, or a prior of other slices.

    Cost: with a prior, 18 evaluations of every slice.
    """
    caller = "measure_slice_correlation"
    volumes = real_tensor(caller, "volumes", volumes)
    axis, seed = count(caller, "axis", axis, least=0, most=2), checked_seed(caller, "seed", seed)
    if volumes.ndim != 5 or len(volumes) == 0 or volumes.shape[2 + axis] < 2:
        raise ValueError(
            f"{caller}: needs volumes (count, channels, depth, height, width) of two slices or "
            f"more, got shape {tuple(volumes.shape)}"
        )
    if prior is None:
        mean = volumes.mean((0, 2, 3, 4), keepdim=True)
        return correlation_of((volumes - mean).movedim(2 + axis, 2))
    instance(caller, "prior", prior, Prior, need="a prior of the slices, or None")
    slices = prior.for_shape(tuple(volumes.movedim(2 + axis, 2)[0, :, 0].shape))
    depth, floating = (
        volumes.shape[2 + axis],
        volumes.to(torch.promote_types(volumes.dtype, torch.float32)),
    )
    correlation: float | SliceCorrelation = _FIRST
    for number in range(_ROUNDS):
        stack = Slices(slices, depth=depth, axes=axis, correlation=correlation)
        found = correlation_of(_errors(stack, floating, (seed, number)).movedim(2 + axis, 2))
        before = correlation.length if isinstance(correlation, SliceCorrelation) else _FIRST
        length = before * (found.length / before) ** _FURTHER
        correlation = SliceCorrelation(found.frequency, length.clamp(_SHORTEST, _LONGEST))
    assert isinstance(correlation, SliceCorrelation)
    return correlation


def _errors(stack: Slices, volumes: Tensor, key: tuple[int, int]) -> Tensor:
    """Errors of the denoiser at each level, each of energy 1, one after the other."""
    found = []
    for index, level in enumerate(_LEVELS):
        sigma = level * float(volumes.std())
        white = normal(("slice correlation", *key, index), volumes.shape).to(volumes)
        denoised = stack.denoise(volumes + sigma * stack.coloured(white), sigma)
        error = denoised - volumes
        found.append(error / error.square().mean().sqrt())
    return torch.cat(found)
