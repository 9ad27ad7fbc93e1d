"""Other random numbers for the whole suite: ``make test SALT=3``.

The environment variable SALT changes every stream of `numerics.random` and every seed that a test
takes from `salted`.  A test that passes with one salt and fails with another was met by luck: judge
it by a z-score, or draw more.  Without SALT all numbers are those of the release.
"""

import os
import zlib

import torch

from tweedie_inverse.numerics import random

SALT = os.environ.get("SALT", "")


def use() -> None:
    """Salt the keyed streams of this process."""
    random.SALT = SALT


def salted(number: int) -> int:
    """`number` itself without a salt, otherwise another seed below 2^31."""
    return zlib.crc32(f"{number} {SALT}".encode()) >> 1 if SALT else number


def torch_generator(number: int) -> torch.Generator:
    """A generator of torch whose numbers depend on the salt."""
    return torch.Generator().manual_seed(salted(number))
