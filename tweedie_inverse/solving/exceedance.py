"""Where an image lies above a threshold: pixel by pixel, and for a whole set at once.

A pixel that exceeds with probability 0.9 says nothing of its neighbours: that all of a thousand
such pixels exceed together may be almost impossible.  The excursion set (Bolin and Lindgren,
"Excursion and contour uncertainty regions for latent Gaussian models", JRSS B 77, 2015) is the
largest set of pixels, in the order of their own probabilities, that lies above the threshold as a
whole.

Differs from the paper: the joint probability is estimated from samples, and not by integrals of a
Gaussian.  Each sample is judged by sets made from the others, because a set made from n samples
fits these n better than the next one; and of n judged samples the next one is worse than all with
probability ``1 / (n + 1)`` (as in conformal prediction).  Among pixels with equal shares of samples
the order is by ``(mean - threshold) / std``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import number
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.boundary.arrays import real_tensor, refuse_spread
from tweedie_inverse.solving.panels import Panel, draw, plane

_LEVEL = 0.9
# Of float32, which the probabilities may have.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class Exceedance:
    """Probabilities of lying above a threshold; without `batch` when y came without one.

    Attributes:
        threshold: that of every value, a number or an image.
        probability: ``(batch, *shape)``, of each value by itself: the share of the samples.
        joint_probability: ``(batch, *shape)``, the largest level at which a value belongs to the
            excursion set: the probability that it and all values that are at least as likely to
            exceed lie above the threshold at once.  At most ``n / (n + 1)`` for n samples.
        mean, std: ``(batch, *shape)``, of the values.
        effective_sample_size: ``(batch,)``.
        units, value_range: of the values, where they are known.
    """

    threshold: Tensor
    probability: Tensor
    joint_probability: Tensor
    mean: Tensor
    std: Tensor
    effective_sample_size: Tensor
    units: str = ""
    value_range: tuple[float, float] | None = None

    def __repr__(self) -> str:
        one = f" {float(self.threshold):.4g}" if self.threshold.ndim == 0 else " an image"
        return f"Exceedance(of{one}{' ' * bool(self.units)}{self.units}, {_shape(self)})"

    def excursion_set(self, level: float = _LEVEL) -> Tensor:
        """The largest set that lies above the threshold as a whole, ``(batch, *shape)`` boolean.

        With probability `level` or more, all of its values exceed the threshold; for the next
        sample of the posterior, on average over the samples that the set was made from.

        Args:
            level: between 0 and 1.

        Raises:
            ValueError: a level outside (0, 1), or too few samples to say anything at that level.
        """
        need = "a share between 0 and 1, such as 0.9"
        level = number("excursion_set", "level", level, above=0, high=1 - 1e-9, need=need)
        size = float(self.effective_sample_size.min())
        if size / (size + 1) < level - _ROUNDING:
            raise ValueError(
                f"excursion_set(level={level:g}): needs {level / (1 - level):.0f} samples or more, "
                f"got {size:.3g} (effective); take more, or a level up to {size / (size + 1):.2f}"
            )
        return self.joint_probability >= level - _ROUNDING

    def plot(self, path: str | Path | None = None, *, index: int = 0):
        """Mean, standard deviation, and both probabilities of one measurement; returns the figure.

        Args:
            path: where to save the picture; its suffix says the format.
            index: which measurement of a batch.

        Raises:
            IndexError: there is no such measurement.
            ValueError: the values are single numbers, not images.
        """
        path = None if path is None else checked_path("plot", "path", path)
        maps = [self.mean, self.std, self.probability, self.joint_probability]
        if self.effective_sample_size.ndim:
            if not -len(self.mean) <= index < len(self.mean):
                raise IndexError(f"plot(index={index}): it holds {len(self.mean)} measurement(s)")
            maps = [one[index] for one in maps]
        if maps[0].ndim == 0:
            raise ValueError("plot: one number for each image is no picture; see .probability")
        mean, std, single, joint = maps
        above = "above threshold"
        if self.threshold.ndim == 0:
            above = f"above {float(self.threshold):.3g} {self.units}".rstrip()
        row = [
            Panel("posterior mean" + plane(mean)[1], mean, "image", self.units),
            Panel("standard deviation", std, "spread", self.units),
            Panel(f"P({above})", single, "probability"),
            Panel("P(it and all likelier ones)", joint, "probability"),
        ]
        return draw([row], path, value_range=self.value_range)


def exceedance_of(
    samples: Tensor,
    sources: Tensor,
    effective: Tensor,
    threshold: Any,
    *,
    units: str = "",
    value_range: tuple[float, float] | None = None,
) -> Exceedance:
    """Probabilities of exceeding a threshold, of each value and of sets.

    Args:
        samples, sources, effective: as of `Functional`.
        threshold: a number, or what broadcasts to one image.

    Raises:
        ValueError: a threshold of another shape, or NaN.
    """
    axis = effective.ndim
    if isinstance(threshold, bool):
        raise TypeError(f"exceedance(threshold={threshold}): needs a number, or an image")
    level = real_tensor("exceedance", "threshold", threshold)
    refuse_spread("exceedance", "threshold", level.shape, samples.shape[axis + 1 :], "image")
    level = level.to(samples)
    if axis:
        joint = torch.stack(
            [
                _joint(one, names, float(size), level)
                for one, names, size in zip(samples, sources, effective, strict=True)
            ]
        )
    else:
        joint = _joint(samples, sources, float(effective), level)
    single = samples.shape[axis] == 1
    mean = samples.mean(axis)
    return Exceedance(
        level,
        (samples > level).to(samples.dtype).mean(axis),
        joint,
        mean,
        torch.full_like(mean, torch.nan) if single else samples.std(axis),
        effective,
        units,
        value_range,
    )


def _joint(samples: Tensor, sources: Tensor, size: float, level: Tensor) -> Tensor:
    """`joint_probability` of one measurement, ``(*shape)``; NaN where samples are too few.

    Args:
        samples: ``(num_samples, *shape)``.
        sources: ``(num_samples, k)``; samples that share one are left out together.
    """
    names, count = sources.cpu(), len(samples)
    values = (samples - level).detach().cpu().double().reshape(count, -1)
    totals = _sums(values)
    worst = torch.full((count,), torch.nan, dtype=torch.float64)
    for k, one in enumerate(values):
        related = (names[:, :, None] == names[k][None, None]).any(-1).any(-1)
        others = count - int(related.sum())
        if others < 2:
            return torch.full_like(samples[0], torch.nan)
        held = _sums(values[related])
        order = _order([total - part for total, part in zip(totals, held, strict=True)], others)
        worst[k] = order.where(one <= 0, -torch.inf).max()  # where this sample does not exceed
    order = _order(totals, count)
    below = torch.searchsorted(worst.sort().values, order)  # samples that exceed on the whole set
    joint = below.double() / count * size / (size + 1)
    return joint.reshape(samples.shape[1:]).to(samples)


def _sums(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many are positive, the sum and the sum of squares of every value."""
    return (values > 0).double().sum(0), values.sum(0), values.square().sum(0)


def _order(sums: Sequence[Tensor], count: int) -> Tensor:
    """A number that grows with the probability of being positive; equal shares are told apart.

    Args:
        sums: as of `_sums`.
    """
    positive, total, squares = sums
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    ratio = (mean / variance.sqrt().clamp(min=1e-30)).clamp(-1e12, 1e12)
    # Between 0 and 1, and smaller than one sample more or less.
    return positive / count + (1 + ratio / (1 + ratio.abs())) / (4 * count)


def _shape(found: Exceedance) -> str:
    batch = found.effective_sample_size.ndim
    many = f" for each of {len(found.mean)} measurements" if batch else ""
    return f"{tuple(found.mean.shape[batch:])}{many}"
