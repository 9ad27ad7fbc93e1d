"""Random numbers that depend on names and not on order: every key has an independent stream.

Those of an instrument, a data set or a benchmark are made here, by NumPy and on the CPU; those of
walkers are made where the walkers are (`streams`).  A stream is fixed by its key alone: the batch
it runs in, the number of devices and the global state of any generator make no difference.

A key begins with a word for what the numbers are used for: a mask, the noise of a measurement and
the walk that inverts it must not share their numbers because the user gave all three seed 0.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import seed

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
    words = [len(key), *(word(number) for number in (use, *rest))]
    if SALT:
        words.append(zlib.crc32(f"salt {SALT}".encode()))
    sequence = np.random.SeedSequence(words)
    return np.random.Generator(np.random.Philox(sequence))


def word(number: int | str) -> int:
    """A whole number as one word of 64 bits; negative ones are the uppermost."""
    return seed("", "seed", number, least=-(2**63)) % 2**64


def normal(key: Key, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers of `shape`, float64, from the stream named `key`."""
    return torch.from_numpy(generator(key).standard_normal(tuple(shape)))
