"""The posterior of one unknown number, or of an array of them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import number
from tweedie_inverse.numerics.chains import r_hat
from tweedie_inverse.solving.interval import central_interval
from tweedie_inverse.solving.moments import OfSamples
from tweedie_inverse.solving.parameter_plots import histograms, pictures

_LEAST_DRAWS = 4
# Samples whose mean is fewer standard deviations away from an end of their range lie against it.
_EDGE, _ENOUGH = 1.25, 8


@dataclass(frozen=True, eq=False, repr=False)
class Parameter(OfSamples):
    """The posterior of one unknown number; without `batch` when y came without one.

    Attributes:
        name: that of `ops.parametric`, or "noise std".
        samples: ``(batch, num_samples)``, in its own units; sample k belongs to image k.  Noise by
            channel or group has a last axis of levels.
        prior_range: ``(batch, 2)``, ends of its prior (of all levels alike).
        trace: ``(batch, num_samples, levels, ...)``, after each noise level of the walk, from the
            highest to the lowest: where it still moves at the end, more steps are needed.
        r_hat: ``(batch, ...)``, split R-hat of the chains of the first noise level, one a sample,
            after half of their moves; NaN where there are too few.
        is_told: ``(batch, ...)``, whether the data tell: whether its posterior is narrower than 0.7
            of its prior, or less where few samples leave that to chance.
        is_logarithmic: whether its prior and its interval are of its logarithm.
    """

    name: str
    samples: Tensor
    prior_range: Tensor
    trace: Tensor
    r_hat: Tensor
    is_told: Tensor
    is_logarithmic: bool = False

    @property
    def _axis(self) -> int:
        return self.prior_range.ndim - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the samples."""
        return tuple(self.samples.shape)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return np.asarray(self.samples.cpu().numpy(), dtype=dtype)

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Lower and upper end of a central interval, ``(batch, ...)``, as of `Posterior.interval`.

        It is cut off at the ends of the prior.

        Raises:
            ValueError: a level outside (0, 1).
        """
        level = number("interval", "level", level, above=0.0, high=1.0)
        if level == 1:
            raise ValueError("interval(level=1): needs a level between 0 and 1")
        count = torch.full(self.prior_range.shape[:-1], float(self.samples.shape[self._axis]))
        scaled = self.samples.log() if self.is_logarithmic else self.samples
        ends = central_interval(scaled, self._axis, level, count)
        low, high = (end.exp() if self.is_logarithmic else end for end in ends)
        lowest, highest = (
            end.reshape((*end.shape, *[1] * (low.ndim - end.ndim)))
            for end in self.prior_range.unbind(-1)
        )
        return low.clamp(lowest, highest), high.clamp(lowest, highest)

    def at_ends(self) -> tuple[Tensor, Tensor] | None:
        """Whether the samples lie against the lower and against the upper end of the range.

        ``(batch, ...)`` each, boolean: where the density falls from an end on, as an exponential,
        the mean is a standard deviation away from it; it is 1.7 for what the data do not tell.
        None for fewer than 8 samples, which do not tell.
        """
        if self.samples.shape[self._axis] < _ENOUGH:
            return None
        u, ends = self.samples.double(), self.prior_range.double()
        if self.is_logarithmic:
            u, ends = u.log(), ends.log()
        mean, reach = u.mean(self._axis), _EDGE * u.std(self._axis)
        low, high = (
            end.reshape(*end.shape, *[1] * (mean.ndim - end.ndim)) for end in ends.unbind(-1)
        )
        return (mean - low < reach) & self.is_told, (high - mean < reach) & self.is_told

    def __repr__(self) -> str:
        if not self._axis and self.samples.ndim == 1:
            low, high = (float(end) for end in self.interval())
            told = "" if bool(self.is_told) else "; the data do not tell"
            return f"{self.name}: {float(self.mean):.4g}, 90 % in [{low:.4g}, {high:.4g}]{told}"
        untold = int((~self.is_told).sum())
        told = f"; the data do not tell {untold} of {self.is_told.numel()}" if untold else ""
        return f"{self.name}: samples {self.shape}{told}"

    def plot(self, path: str | Path | None = None, *, index: int = 0, truth: Any = None):
        """The samples within their prior's range, and their way there; returns the figure.

        Args:
            path: where to save it.
            index: which measurement of a batch.
            truth: where it is known; of a kernel or a phase an array.
        """
        one = self.of(index)
        if one.samples.ndim in (3, 4):
            return pictures(one, path, truth)
        return histograms([one], [truth], path)

    def of(self, index: int) -> "Parameter":
        """That of one measurement of a batch; itself where there is no batch."""
        return self._of(index) if self._axis else self

    def _of(self, place: int | slice) -> "Parameter":
        fields = ("samples", "prior_range", "trace", "r_hat", "is_told")
        return replace(self, **{field: getattr(self, field)[place] for field in fields})


def settled(start: Tensor, axis: int) -> Tensor:
    """Split R-hat of the later half of chains ``(batch, chains, draws, ...)``, ``(batch, ...)``."""
    half = start.narrow(axis + 1, start.shape[axis + 1] // 2, (start.shape[axis + 1] + 1) // 2)
    if half.shape[axis + 1] < _LEAST_DRAWS:
        return half.new_full((*half.shape[:axis], *half.shape[axis + 2 :]), torch.nan)
    return r_hat(half.movedim((axis, axis + 1), (0, 1)))
