"""Volumes as stacks of slices: a basis in the slices, then one across them.

A field whose slices have the covariance C and are correlated by R across the slices, ``R (x) C``,
is diagonal here.  R may differ from frequency to frequency: fine detail is forgotten within fewer
slices than the outline of a body.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from tweedie_inverse.numerics.residence import resident, resident_on
from tweedie_inverse.numerics.spectral import Basis


@dataclass(frozen=True, eq=False)
class SliceModes(Basis):
    """Coefficients of every slice, turned across the slices.

    A volume is ``(batch, channels, *size)``; coefficients are ``(batch, channels, depth, height,
    width)`` with the modes across the slices as depth, or ``(batch, n, depth)`` where the basis of
    the slices flattens them.

    Attributes:
        slices: basis of one slice ``(channels, height, width)``.
        vectors: ``(groups, depth, depth)``, orthonormal columns: the modes of each group.
        group: of every frequency, ``(height, width)``; None where there is only one.
        axis: along which of the axes of `size` the slices follow each other.
    """

    slices: Basis
    vectors: Tensor
    group: Tensor | None = None
    axis: int = 0

    def transform(self, x: Tensor) -> Tensor:
        x = x.movedim(2 + self.axis, 1)  # (batch, depth, channels, height, width)
        coefficients = self.slices.transform(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.across_slices(coefficients.movedim(1, 2))

    def inverse(self, coefficients: Tensor) -> Tensor:
        turned = self.back_to_slices(coefficients).movedim(2, 1)
        x = self.slices.inverse(turned.flatten(0, 1)).unflatten(0, turned.shape[:2])
        return x.movedim(1, 2 + self.axis)

    def across_slices(self, c: Tensor) -> Tensor:
        """The modes of coefficients ``(batch, channels, depth, ...)`` of every slice."""
        return self._turned(c, resident(self.vectors, c).mT)

    def back_to_slices(self, c: Tensor) -> Tensor:
        """The inverse, and transpose, of `across_slices`."""
        return self._turned(c, resident(self.vectors, c))

    def _turned(self, c: Tensor, matrices: Tensor) -> Tensor:
        """The matrix of its group times the coefficients of every frequency, along the slices."""
        if self.group is None:
            return torch.einsum("kd,bcd...->bck...", matrices[0], c)
        order, back, sizes = self._by_group
        sorted_by_group = c.flatten(3)[..., resident_on(order, c.device)]
        parts = zip(matrices, sorted_by_group.split(sizes, -1), strict=True)
        turned = torch.cat([matrix @ part for matrix, part in parts], -1)
        return turned[..., resident_on(back, c.device)].reshape(c.shape)

    @cached_property
    def _by_group(self) -> tuple[Tensor, Tensor, list[int]]:
        """Places of the frequencies, height and width flattened, one group after the other.

        Returns:
            The places, where each frequency then is, and the size of each group.
        """
        assert self.group is not None
        flat = self.group.flatten()
        order = flat.argsort(stable=True)
        return order, order.argsort(), flat.bincount(minlength=len(self.vectors)).tolist()

    def smooth(self, spectrum: Tensor) -> Tensor:
        # What a stack of scans measures of a frequency is the same for all modes, on average.
        mean = self.slices.smooth(spectrum.mean(2))
        return mean.unsqueeze(2).expand(spectrum.shape)

    def unmixed(self) -> Basis:
        return self._unmixed

    @cached_property
    def _unmixed(self) -> "SliceModes":
        # Made once: it is asked for at every product, and what it holds is sent once.
        slices = self.slices.unmixed()
        if slices == self.slices:
            return self
        return SliceModes(slices, self.vectors, self.group, self.axis)

    def unturned(self) -> Basis:
        return self if self.slices.unturned() is self.slices else self._unturned

    @cached_property
    def _unturned(self) -> Basis:
        return replace(self, slices=self.slices.unturned())

    def across(self, values: Tensor, slice_axes: int) -> Tensor:
        """Eigenvalues ``(groups, depth)`` of R as coefficients have them, but for the first axis.

        Args:
            slice_axes: axes that the coefficients of one slice have.
        """
        if self.group is not None:
            return values[self.group].movedim(-1, 0)
        return values[0].reshape(-1, *[1] * (slice_axes - 1))


def lifted(variance: Tensor, across: Tensor) -> Tensor:
    """Variances of ``R (x) C`` from those of C, one slice's or those of a batch of volumes.

    Args:
        across: `SliceModes.across`, which has as many axes as the coefficients of one slice.
    """
    across = resident(across, variance)
    if variance.ndim < across.ndim:
        return across * variance
    return across * variance.unsqueeze(variance.ndim - across.ndim + 1)


def exponential(length: float, depth: int) -> Tensor:
    """Correlations ``exp(-|i - j| / length)``, ``(depth, depth)``; the identity for length 0."""
    place = torch.arange(depth, dtype=torch.float64)
    if length == 0:
        return torch.eye(depth, dtype=torch.float64)
    return torch.exp(-(place[:, None] - place).abs() / length)
