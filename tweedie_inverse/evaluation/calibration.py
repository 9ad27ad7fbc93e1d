"""Whether samples spread as much as they err (coverage, CRPS), and their distance from exact ones.

Coverage of a central interval says whether its width is right; CRPS (Gneiting and Raftery 2007) is
a proper score, lowest for the true posterior.  Where exact samples exist, the sliced Wasserstein
distance (Bonneel et al. 2015) compares whole distributions.
"""

from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count as whole_number
from tweedie_inverse.boundary.arguments import instance, number
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.arrays import (
    advice_on_shape,
    real_tensor,
    refuse_type,
    truth_tensor,
)
from tweedie_inverse.evaluation.scores import crps_of, energy_score_of
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.solving.posterior import Posterior


def coverage(posterior: Posterior, truth: Tensor, level: float = 0.9) -> Tensor:
    """Share of pixels inside `Posterior.interval`, ``(batch,)``; `level` if calibrated.

    Args:
        truth: ``(batch, *shape)``, or without batch like the posterior.

    Raises:
        ValueError: a single sample, which has no spread, or a level outside (0, 1).
    """
    truth = _like("coverage", posterior, truth)
    axis = _sample_axis(posterior)
    if posterior.samples.shape[axis] < 2:
        raise ValueError("coverage: needs two or more samples a measurement, got 1")
    lower, upper = posterior.interval(level)
    inside = ((truth >= lower) & (truth <= upper)).to(truth)
    return inside.flatten(axis).mean(-1)


def _sample_axis(posterior: Posterior) -> int:
    """The axis along which samples stand: the last one of numbers that each sample has."""
    return posterior.diagnostics.residual_chi_square.ndim - 1


def _like(caller: str, posterior: Posterior, truth: Any) -> Tensor:
    """The truth as a tensor like the posterior's mean: one image would broadcast to a batch."""
    need = "a posterior, such as ti.solve returns"
    axis = _sample_axis(instance(caller, "posterior", posterior, Posterior, need=need))
    found = truth_tensor(caller, truth, posterior.samples.shape[axis + 1 :])
    refuse_type(f"{caller}(truth=)", found)
    shape = (*posterior.samples.shape[:axis], *posterior.samples.shape[axis + 1 :])
    if found.shape != shape:
        raise ValueError(
            f"{caller}(truth=): needs the shape of the posterior's mean, {tuple(shape)}, got "
            f"{tuple(found.shape)}{advice_on_shape(found.shape, shape[axis:])}"
        )
    return found.to(posterior.samples)


def crps(posterior: Posterior, truth: Tensor) -> Tensor:
    """Continuous ranked probability score averaged over pixels, ``(batch,)``, in data units.

    ``E|x - truth| - E|x - x'| / 2``, with x and x' independent draws.  The second term is the fair
    estimate, which does not punish small ensembles: ``sum_ij |x_i - x_j| / (n (n - 1))``.
    """
    truth = _like("crps", posterior, truth)
    axis = _sample_axis(posterior)
    return crps_of(posterior.samples.movedim(axis, 0), truth).flatten(axis).mean(-1)


def energy_score(posterior: Posterior, truth: Tensor) -> Tensor:
    """Energy score of whole images, ``(batch,)``, in data units (Gneiting and Raftery 2007).

    ``E|x - truth| - E|x - x'| / 2`` with Euclidean norms, the second term again the fair estimate.
    Unlike `crps` it sees whether pixels go together as they should, though weakly.
    """
    truth = _like("energy_score", posterior, truth)
    axis = _sample_axis(posterior)
    samples, images = posterior.samples.flatten(axis + 1), truth.flatten(axis)
    if axis == 0:
        return energy_score_of(samples, images)
    pairs = zip(samples, images, strict=True)
    return torch.stack([energy_score_of(x, image) for x, image in pairs])


def spread_over_skill(posterior: Posterior, truth: Tensor) -> Tensor:
    """Spread of the samples over the error of their mean, ``(batch,)``; 1 on average if calibrated.

    Root mean squares over pixels; what the error of a mean of few samples adds is taken out
    (Fortin et al. 2014).

    Raises:
        ValueError: a single sample, which has no spread.
    """
    truth = _like("spread_over_skill", posterior, truth)
    axis = _sample_axis(posterior)
    count = posterior.samples.shape[axis]
    if count < 2:
        raise ValueError("spread_over_skill: needs two or more samples a measurement, got 1")
    variance, error = posterior.std.square(), (posterior.mean - truth).square()
    ratio = variance.flatten(axis).mean(-1) / error.flatten(axis).mean(-1)
    return (ratio * (1 + 1 / count)).sqrt()


def sliced_wasserstein(
    x: Tensor, y: Tensor, *, slices: int = 100, power: float = 1.0, seed: int = 0
) -> float:
    """``(mean over directions of W_p^p)^(1/p)`` of the projected samples, in data units.

    Args:
        x, y: ``(count, *shape)``, samples of equal weight; the counts may differ.
        slices: number of random directions, uniform on the sphere.
        power: p >= 1; 1 is the convention of the Gaussian-mixture benchmarks.
        seed: of the directions.
    """
    x, y = real_tensor("sliced_wasserstein", "x", x), real_tensor("sliced_wasserstein", "y", y)
    for name, given in (("x", x), ("y", y)):
        refuse_type(f"sliced_wasserstein({name}=)", given)
    slices = whole_number("sliced_wasserstein", "slices", slices, need="at least 1")
    seed = checked_seed("sliced_wasserstein", "seed", seed)
    power = number("sliced_wasserstein", "power", power)
    if x.shape[1:] != y.shape[1:] or not len(x) or not len(y):
        raise ValueError(
            f"sliced_wasserstein: needs samples (count, *shape) of one shape, got "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    if power < 1:
        raise ValueError(f"sliced_wasserstein(power={power}): must be at least 1")
    x, y = x.flatten(1).double(), y.flatten(1).double()
    directions = normal(("slices", seed), (x.shape[1], slices)).to(x)
    directions = directions / directions.norm(dim=0)
    a, b = ((z @ directions).sort(dim=0).values for z in (x, y))
    # Both quantile functions are constant between the multiples of 1/n and 1/m: exact integral.
    n, m = len(x), len(y)
    edges = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    widths = torch.diff(edges, prepend=edges.new_zeros(1)).to(x) / (n * m)
    distance = (a[(edges - 1) // m] - b[(edges - 1) // n]).abs() ** power
    return float((widths @ distance).mean() ** (1 / power))
