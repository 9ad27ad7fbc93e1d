"""Where the numbers of an array are: its frequency bands, and a few blocks of neighbours."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Ends of the bands, in shares of the highest frequency of the axes; each is an octave, but the
# lowest, which takes all the rest without the mean.
_ENDS = (0.0, 0.125, 0.25, 0.5, 1.0)
_NAMES = ("lowest", "low", "middle", "high")
# Blocks along an axis of an image, and of an array of one axis.
_BLOCKS, _SEGMENTS = 4, 8


class Layout(NamedTuple):
    """How arrays of one shape are split.

    Attributes:
        axes: the last two axes with more than one entry, from the end; or one; or none.
        bands: names of the frequency bands that hold any frequency.
        band: number of the band of every frequency, -1 for the mean; of the shape of the axes.
        blocks: names of the blocks.
        block: number of the block of every place; of the shape of the axes.
    """

    axes: tuple[int, ...]
    bands: tuple[str, ...]
    band: Tensor
    blocks: tuple[str, ...]
    block: Tensor

    @staticmethod
    def of(shape: Sequence[int]) -> "Layout":
        """For arrays ``(*shape)``; all other axes are summed over."""
        found = [axis - len(shape) for axis, size in enumerate(shape) if size > 1]
        # Of (channels, height, width) the last two are places; (2, n) is two channels of n.
        axes = tuple(axis for axis in found[-2:] if axis >= -2) or tuple(found[-1:])
        if len(shape) == 2 and shape[0] <= 4 < shape[1]:
            axes = (-1,)
        sizes = [shape[axis] for axis in axes]
        band = _bands(sizes)
        there = [k for k in range(len(_NAMES)) if bool((band == k).any())]
        number = torch.full((len(_NAMES) + 1,), -1)
        number[there] = torch.arange(len(there))
        block, blocks = _blocks(sizes)
        return Layout(axes, tuple(_NAMES[k] for k in there), number[band], blocks, block)

    def in_bands(self, x: Tensor) -> Tensor:
        """Mean square of ``(batch, *shape)`` in every band, ``(batch, bands)``."""
        if not self.bands:
            return x.new_zeros(len(x), 0)
        power = torch.fft.fftn(x, dim=self.axes, norm="ortho").abs().square()
        return _means(self._last(power), self.band, len(self.bands))

    def in_blocks(self, x: Tensor) -> Tensor:
        """Mean of ``(batch, *shape)`` in every block, ``(batch, blocks)``."""
        return _means(self._last(x), self.block, len(self.blocks))

    def _last(self, x: Tensor) -> Tensor:
        """The mean over all other axes, ``(batch, places)``."""
        others = [axis for axis in range(1, x.ndim) if axis - x.ndim not in self.axes]
        return (x.mean(others) if others else x).reshape(len(x), -1)


def _bands(sizes: Sequence[int]) -> Tensor:
    """The octave of every frequency, -1 for the mean: by its largest share along an axis."""
    share = torch.zeros(tuple(sizes), dtype=torch.float64)
    for axis, size in enumerate(sizes):
        along = (torch.fft.fftfreq(size, dtype=torch.float64) * 2).abs()
        places = [1] * len(sizes)
        places[axis] = size
        share = torch.maximum(share, along.reshape(places))
    return torch.bucketize(share, torch.tensor(_ENDS, dtype=torch.float64)) - 1


def _blocks(sizes: Sequence[int]) -> tuple[Tensor, tuple[str, ...]]:
    most = _BLOCKS if len(sizes) > 1 else _SEGMENTS
    numbers = [min(most, size) for size in sizes]
    block, names = torch.zeros(tuple(sizes), dtype=torch.long), [""]
    for axis, (size, count) in enumerate(zip(sizes, numbers, strict=True)):
        places = [1] * len(sizes)
        places[axis] = size
        block = block * count + (torch.arange(size) * count // size).reshape(places)
        word = ("row", "column")[axis] if len(sizes) > 1 else "part"
        names = [
            f"{name}{', ' if name else ''}{word} {k + 1} of {count}"
            for name in names
            for k in range(count)
        ]
    return block, tuple(names)


def _means(values: Tensor, owner: Tensor, count: int) -> Tensor:
    """The means of ``(batch, places)`` over the places of each owner; those of -1 are left out."""
    flat = owner.flatten().to(values.device)
    table = torch.nn.functional.one_hot(flat + 1, count + 1)[:, 1:].to(values)
    return values @ (table / table.sum(0))
