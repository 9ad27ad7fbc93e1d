"""Which frequencies share a variance, when a covariance is read from few numbers.

Coefficients whose frequency has one length share a *fine bin*; fine bins of similar length share a
*ring*, of which there are about twenty, even in the logarithm of the frequency.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.residence import derived, resident_on
from tweedie_inverse.numerics.slice_modes import SliceModes
from tweedie_inverse.numerics.spectral import Basis, Chained, Channels, Cosines, Fourier, Pixels

_RINGS = 20


@dataclass(frozen=True, eq=False)
class Layout:
    """Bins of the coefficients of one image.

    Attributes:
        basis: of the coefficients ``(channels, *size)``, or ``(n,)`` for vectors.
        bins: fine bin of each coefficient of a channel, ``(height, width)``, with a depth before
            them for volumes; all 0 where the shape has no frequencies.
        sizes: ``(bins,)``, coefficients in each fine bin.
        rings: ``(bins,)``, ring of each fine bin; ring 0 is the mean.
        radii: ``(bins,)``, logarithm of the frequency over the lowest one; 0 in ring 0.
        noise: variances of the noise that the denoiser answers for, over sigma^2, like the
            coefficients; None where it is white.
    """

    basis: Basis
    bins: Tensor
    sizes: Tensor
    rings: Tensor
    radii: Tensor
    noise: Tensor | None = None

    @property
    def is_of_images(self) -> bool:
        """Whether neighbouring places can be compared."""
        return not isinstance(self.basis, Pixels)

    @cached_property
    def lonely(self) -> Tensor:
        """``(rings,)``, whether no two coefficients of the ring share a fine bin."""
        shared = torch.zeros(int(self.rings.max()) + 1).long()
        return shared.index_add(0, self.rings, self.sizes - 1) == 0

    @cached_property
    def neighbours(self) -> Tensor:
        """``(rings,)``, the ring itself, or the next one towards the middle where it is lonely."""
        ring = torch.arange(len(self.lonely))
        return torch.where(self.lonely, torch.where(ring == 0, 1, ring - 1), ring)

    def over_bins(self, coefficients: Tensor) -> Tensor:
        """Sums ``(batch, channels, bins)`` over the fine bins."""
        flat = coefficients.reshape(*coefficients.shape[: -self.bins.ndim], -1)
        flat = flat if flat.ndim == 3 else flat[:, None]
        sums = flat.new_zeros(*flat.shape[:2], len(self.sizes))
        return sums.index_add_(2, resident_on(derived(self.bins, _flat), flat.device), flat)

    def over_rings(self, values: Tensor) -> Tensor:
        """Sums ``(batch, channels, rings)`` of values ``(batch, channels, bins)``."""
        sums = values.new_zeros(*values.shape[:2], len(self.lonely))
        return sums.index_add_(2, resident_on(self.rings, values.device), values)

    def spread(self, values: Tensor) -> Tensor:
        """One value for each coefficient of values ``(batch, channels, bins)``."""
        found = values[..., resident_on(self.bins, values.device)]
        return found if self.is_of_images else found[:, 0]


def _flat(bins: Tensor) -> Tensor:
    return bins.flatten()


@lru_cache(maxsize=32)
def layout_for(
    shape: tuple[int, ...], noise: Covariance | None = None, basis: Basis | None = None
) -> Layout:
    """Fourier for images and volumes; one variance for any other shape.

    Cosines, which know no periodic borders, were tried on the validation split and are no better.

    Args:
        shape: ``(channels, height, width)`` or ``(channels, depth, height, width)``.
        noise: what the prior's `noise_covariance` is: the frequencies are then those of the slices,
            and the same in all of them.
        basis: of waves, instead of the plain one; of a slice, where the noise is correlated.
    """
    if noise is not None:
        return _of_slices(shape, noise, basis)
    if len(shape) not in (3, 4):
        one = torch.zeros(1)
        bins = torch.zeros(shape, dtype=torch.long)
        return Layout(Pixels(), bins, torch.tensor([math.prod(shape)]), one.long(), one)
    channels, *size = shape
    return _layout(basis or _mixed(Fourier(len(size)), channels), _waves(size))


def _of_slices(shape: tuple[int, ...], noise: Covariance, basis: Basis | None) -> Layout:
    modes = noise.basis
    assert isinstance(modes, SliceModes)
    channels, *size = shape
    depth = size.pop(modes.axis)
    if isinstance(modes.slices, Cosines):
        slices: Basis = Cosines(_opponent_colours() if channels == 3 else None)
        frequencies = [torch.arange(n, dtype=torch.float64) / (2 * n) for n in size]
    else:
        slices, frequencies = basis or _mixed(Fourier(), channels), _waves(size)
    one = _layout(slices, frequencies)
    return replace(
        one,
        basis=replace(modes, slices=slices),
        bins=one.bins.expand(depth, *one.bins.shape),
        sizes=one.sizes * depth,
        noise=noise.variance,
    )


def _mixed(basis: Basis, channels: int) -> Basis:
    return Chained(Channels(_opponent_colours()), basis) if channels == 3 else basis


def _waves(size: Sequence[int]) -> list[Tensor]:
    return [torch.fft.fftfreq(n, dtype=torch.float64) for n in size]


def _layout(basis: Basis, frequencies: list[Tensor]) -> Layout:
    squares = torch.stack(torch.meshgrid(*frequencies, indexing="ij")).square().sum(0)
    # Rounded, so that equal lengths are equal numbers.
    _, bins = (squares * 2**40).round().unique(return_inverse=True)
    sizes = bins.flatten().bincount()
    lengths = torch.zeros(len(sizes)).double().index_copy_(0, bins.flatten(), squares.flatten())
    lengths = lengths.sqrt()
    lowest = lengths[1] if len(lengths) > 1 else 1.0
    radii = (lengths.clamp(min=lowest) / lowest).log()
    rings = (radii / radii.max().clamp(min=1e-9) * (_RINGS - 2)).round().long() + 1
    rings[0] = 0
    _, rings = rings.unique(return_inverse=True)
    return Layout(basis, bins, sizes, rings, radii)


def _opponent_colours() -> Tensor:
    """Orthonormal: brightness, red against blue, green against both."""
    k = torch.arange(3, dtype=torch.float64)
    matrix = torch.cos(math.pi / 3 * k[:, None] * (k + 0.5)) * math.sqrt(2 / 3)
    matrix[0] /= math.sqrt(2)
    return matrix
