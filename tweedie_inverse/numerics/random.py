"""Random numbers that depend on names and not on order: every key has an independent stream.

The generator is counter-based (Philox), so that a stream is fixed by its key alone: the batch it
runs in, the number of devices and the global state of any generator make no difference, and CPU and
GPU get the same numbers.

A key begins with a word for what the numbers are used for: a mask, the noise of a measurement and
the walk that inverts it must not share their numbers because the user gave all three seed 0.
"""

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import seed

# Numbers are drawn in blocks: one Python call for each stream and step would dominate small
# problems.
_BLOCK = 1024

# Mixed into every key; the tests set it to see whether they hold with other numbers.  Nothing else
# does: with the empty salt, samples of a seed are the same for ever.
SALT = ""

# What the numbers are for, then whole numbers: a seed, a place in the batch.
Key = Sequence[int | str]


def generator(key: Key) -> np.random.Generator:
    """The random stream named `key`."""
    # The length goes first, because SeedSequence cannot tell [1] from [1, 0].
    first, *rest = key
    use = zlib.crc32(first.encode()) if isinstance(first, str) else first
    words = [len(key), *(_word(number) for number in (use, *rest))]
    if SALT:
        words.append(zlib.crc32(f"salt {SALT}".encode()))
    sequence = np.random.SeedSequence(words)
    return np.random.Generator(np.random.Philox(sequence))


def _word(number: int | str) -> int:
    """A whole number as one word of 64 bits; negative ones are the uppermost."""
    return seed("", "seed", number, least=-(2**63)) % 2**64


def normal(key: Key, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers of `shape`, float64, from the stream named `key`."""
    return torch.from_numpy(generator(key).standard_normal(tuple(shape)))


class Streams:
    """One stream of standard normal numbers for each walker.

    Args:
        keys: one for each walker, such as ("walk", seed, measurement, sample).
    """

    def __init__(self, keys: Sequence[Key]):
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
            del fresh  # for large images it takes as much memory as the result
        out, self._buffer = self._buffer[:, :count], self._buffer[:, count:]
        if self._buffer.shape[1] < count:  # a view would keep all the numbers in memory
            self._buffer = self._buffer.copy()
        numbers = torch.tensor(out, dtype=like.dtype, device=like.device)
        return numbers.reshape(len(self), *shape)
