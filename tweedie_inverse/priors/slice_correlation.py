"""How alike neighbouring slices of a volume are: stated as a length, or measured on volumes.

The correlation of two slices falls off as ``exp(-distance / length)``, the law of an autoregressive
process across them.  A length for every spatial frequency lets fine detail be forgotten sooner than
the outline of a body.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import number
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.numerics.slice_modes import exponential

# Rings of frequencies, and the range of correlations of neighbours that they may have.
_RINGS, _MOST = 12, 0.999


@dataclass(frozen=True, eq=False)
class SliceCorrelation:
    """Lengths over which slices stay alike, by spatial frequency.

    Attributes:
        frequency: ``(rings,)``, increasing, in cycles a pixel: the middle of each ring.
        length: ``(rings,)``, in slices, 0 or more.
    """

    frequency: Tensor
    length: Tensor

    def matrices(self, depth: int) -> Tensor:
        """Correlations across so many slices, ``(rings, depth, depth)``."""
        return torch.stack([exponential(one, depth) for one in self.length.tolist()])

    def ring(self, frequencies: Sequence[Tensor]) -> Tensor:
        """The ring of every frequency, ``(height, width)``, from those along both axes."""
        lengths = torch.stack(torch.meshgrid(*frequencies, indexing="ij")).norm(dim=0)
        edges = (self.frequency[1:] + self.frequency[:-1]) / 2
        return torch.bucketize(lengths.double(), edges.double())

    def __repr__(self) -> str:
        low, high = float(self.length.min()), float(self.length.max())
        return f"SliceCorrelation({low:.3g} to {high:.3g} slices)"


def correlation_of(deviations: Tensor) -> SliceCorrelation:
    """Ring by ring, of deviations from a mean, ``(count, channels, depth, height, width)``.

    Raises:
        ValueError: there are none.
    """
    spectra = torch.fft.fft2(deviations.double(), norm="ortho")
    before, after = spectra[:, :, :-1], spectra[:, :, 1:]
    cross = (before * after.conj()).real.sum((0, 1, 2)).cpu()
    power = ((before.abs().square() + after.abs().square()) / 2).sum((0, 1, 2)).cpu()
    if not float(power.sum()) > 0:
        raise ValueError("measure_slice_correlation: the volumes are the same everywhere")
    rows, columns = (torch.fft.fftfreq(n) for n in deviations.shape[-2:])
    middles = torch.linspace(0, 0.5, _RINGS, dtype=torch.float64)
    ring = SliceCorrelation(middles, middles).ring((rows, columns)).flatten()
    sums = torch.zeros(2, _RINGS, dtype=torch.float64)
    sums.index_add_(1, ring, torch.stack([cross.flatten(), power.flatten()]))
    seen = sums[1] > 1e-12 * sums[1].max()
    alike = (sums[0] / sums[1].clamp(min=1e-300)).clamp(0, _MOST)[seen]
    length = torch.where(alike > 0, -1 / alike.clamp(min=1e-30).log(), 0.0)
    return SliceCorrelation(middles[seen], length)


def checked_correlation(given: Any, depth: int) -> float | Tensor | SliceCorrelation:
    """What `Slices` was given as its correlation: a length, a matrix or a measured one.

    Raises:
        TypeError, ValueError: none of these, or a matrix that is no correlation.
    """
    if isinstance(given, SliceCorrelation):
        return given
    if not isinstance(given, Tensor) and not hasattr(given, "__array__"):
        need = (
            "the number of slices over which images stay alike, 0 for slices that know nothing of "
            "each other, a matrix (depth, depth), or measure_slice_correlation(volumes)"
        )
        return number("Slices", "correlation", given, low=0, need=need)
    matrix = real_tensor("Slices", "correlation", given).double()
    if matrix.ndim == 0:
        return checked_correlation(float(matrix), depth)
    shape = tuple(matrix.shape)
    if shape != (depth, depth):
        raise ValueError(f"Slices(correlation=): needs a matrix ({depth}, {depth}), got {shape}")
    is_symmetric = torch.allclose(matrix, matrix.mT, rtol=0, atol=1e-6)
    if not is_symmetric or not torch.allclose(matrix.diagonal(), torch.ones(depth).double()):
        raise ValueError(
            "Slices(correlation=): needs a symmetric matrix with ones on the diagonal: slices have "
            "the variance that their prior says"
        )
    least = float(torch.linalg.eigvalsh(matrix)[0])
    if least < -1e-6 * depth or not math.isfinite(least):
        raise ValueError(
            f"Slices(correlation=): is no correlation, its least eigenvalue is {least:.3g}"
        )
    return matrix
