"""Random numbers that depend on names, not on order: one independent stream a key.

Counter-based (Philox), so a stream is fixed by its key alone: the batch it runs in, the number of
devices and the global state of any generator make no difference, and CPU and GPU see the same
numbers.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# Numbers are drawn in blocks: a Python call a stream and step would dominate small problems.
_BLOCK = 1024


def generator(key: Sequence[int]) -> np.random.Generator:
    """The random stream named `key`."""
    # The length goes first: SeedSequence cannot tell [1] from [1, 0].
    sequence = np.random.SeedSequence([len(key), *(int(part) & (2**64 - 1) for part in key)])
    return np.random.Generator(np.random.Philox(sequence))


def normal(key: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal numbers of `shape`, float64, from the stream named `key`."""
    return torch.from_numpy(generator(key).standard_normal(tuple(shape)))


class Streams:
    """One stream of standard normal numbers for each walker.

    Args:
        keys: one tuple of integers a walker, such as (seed, measurement, sample).
    """

    def __init__(self, keys: Sequence[Sequence[int]]):
        self._streams = [generator(key) for key in keys]
        self._buffer = np.empty((len(self._streams), 0))

    def __len__(self) -> int:
        return len(self._streams)

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """``(walkers, *shape)`` standard normal numbers with dtype and device of `like`."""
        count = math.prod(shape)
        missing = count - self._buffer.shape[1]
        if missing > 0:
            fresh = np.empty((len(self), -(-missing // _BLOCK) * _BLOCK))
            for row, stream in zip(fresh, self._streams, strict=True):
                stream.standard_normal(out=row)
            self._buffer = np.concatenate([self._buffer, fresh], axis=1)
        out, self._buffer = self._buffer[:, :count], self._buffer[:, count:]
        numbers = torch.tensor(out, dtype=like.dtype, device=like.device)
        return numbers.reshape(len(self), *shape)
