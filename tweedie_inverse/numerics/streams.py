"""Random numbers of walkers: keyed by name, step and place, and made where they are needed.

Every walker has a stream at every step, and a number is a function of (name, step, place in the
stream): not of the batch it is drawn in, of the device, or of what was drawn before that step.  So
a step of a walk is pure, a walk can be taken up at any level, and CPU and GPU walk alike.

The same words make float32 and float64 numbers, which agree to rounding.
"""

import math
import zlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tweedie_inverse.numerics import random
from tweedie_inverse.numerics.philox import Words, philox, write_normal, write_uniform
from tweedie_inverse.numerics.random import Key
from tweedie_inverse.numerics.residence import resident_on

# Blocks of four numbers that are made at once: on a CPU as many as its cache holds.
_BLOCKS_CPU, _BLOCKS = 2**17, 2**20
# Draws of at least so many numbers a walker begin with a block, and are laid out lane by lane.
_LARGE = 2**10
# Smaller ones are made ahead, at least so many numbers of all walkers together: what takes time
# there is the number of operations.
_AHEAD, _MOST_AHEAD = 2**12, 2**20
_WORD = 0xFFFFFFFF

Write = Callable[[Words, Tensor], None]


class Streams:
    """One stream of random numbers for each walker, at one step.

    Args:
        keys: one for each walker, such as ("walk", seed, measurement, sample), equally long.
    """

    def __init__(self, keys: Sequence[Key]):
        self._names = _names(keys)
        # How many numbers a step took, by kind; it changes what is made at once, and no number.
        self._taken: dict[tuple, int] = {}
        self._begin(0)

    def __len__(self) -> int:
        return len(self._names)

    def at(self, step: int) -> "Streams":
        """The streams of the same walkers at a step, from their first number on."""
        other = object.__new__(Streams)
        other._names, other._taken = self._names, self._taken
        other._begin(step)
        return other

    def _begin(self, step: int) -> None:
        self._step, self._position = step, 0
        self._made: dict[tuple, tuple[int, Tensor]] = {}

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """``(walkers, *shape)`` standard normal numbers with dtype and device of `like`."""
        return self._next(write_normal, shape, like)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """``(walkers, *shape)`` numbers strictly between 0 and 1, as of `normal`."""
        return self._next(write_uniform, shape, like)

    def _next(self, write: Write, shape: Sequence[int], like: Tensor) -> Tensor:
        """The next numbers of every walker."""
        count = math.prod(shape)
        if count >= _LARGE:
            first = -(-self._position // 4) * 4
            # Lane by lane: what is written lies together.
            numbers = self._lanes(write, first, count, like).flatten(1)[:, :count]
        else:
            first = self._position
            numbers = self._small(write, first, count, like)
        self._position = first + count
        return numbers.reshape(len(self), *shape).to(like.dtype)

    def _small(self, write: Write, first: int, count: int, like: Tensor) -> Tensor:
        """``(walkers, count)``, those from place `first` on, taken from what was made ahead."""
        kind = write, like.dtype, like.device
        start, made = self._made.get(kind, (0, None))
        if made is None or not start <= first <= start + made.shape[1] - count:
            start = first // 4 * 4
            expected = max(self._taken.get(kind, 0) - start, _AHEAD // max(1, len(self)))
            ahead = max(count + 3, min(expected, _MOST_AHEAD // max(1, len(self))))
            made = self._lanes(write, start, ahead, like).mT.flatten(1)
            self._made[kind] = start, made
        self._taken[kind] = max(first + count, self._taken.get(kind, 0))
        return made[:, first - start : first - start + count]

    def _lanes(self, write: Write, first: int, count: int, like: Tensor) -> Tensor:
        """At least `count` numbers from place `first` on, a multiple of 4.

        They are ``(walkers, 4, blocks)``: number ``4 b + l`` of the stream is in lane l of block b.
        """
        blocks, begin = -(-count // 4), first // 4
        # What has fewer digits is made in float32.
        dtype = like.dtype if like.dtype == torch.float64 else torch.float32
        out = torch.empty((len(self), 4, blocks), dtype=dtype, device=like.device)
        names = resident_on(self._names, like.device)
        size = _BLOCKS_CPU if like.device.type == "cpu" else _BLOCKS
        rows = max(1, size // blocks)
        for row in range(0, len(self), rows):
            # One number a walker, ``(walkers, 1)``.
            k0, k1, last = names[row : row + rows].unsqueeze(-1).unbind(1)
            step, zero = torch.full_like(k0[:1], self._step), torch.zeros_like(k0[:1])
            for block in range(0, blocks, size):
                part = out[row : row + rows, :, block : block + size]
                stop = block + part.shape[-1]
                place = torch.arange(begin + block, begin + stop, device=like.device)
                write(philox((place[None], zero, step, last), (k0, k1)), part)
        return out


def _names(keys: Sequence[Key]) -> Tensor:
    """Three words for each key, ``(walkers, 3)``: they are the same for equal keys only, by chance.

    The numbers of a key are taken in one after the other, for all walkers together.
    """
    length = len(keys[0]) if keys else 0
    salt = zlib.crc32(f"salt {random.SALT}".encode()) if random.SALT else 0
    zero = torch.zeros(len(keys), dtype=torch.int64)
    k0, k1, last = zero, zero, zero
    table = [[_number(part) for part in key] for key in keys]
    for place in range(length + 1):
        # The length goes first, or a key could be the beginning of another.
        column = [row[place - 1] for row in table] if place else [length + (salt << 32)] * len(keys)
        low, high = (
            torch.tensor([number >> shift & _WORD for number in column], dtype=torch.int64)
            for shift in (0, 32)
        )
        k0, k1, last, _ = philox((low, high, zero + place, last), (k0, k1))
    return torch.stack([k0, k1, last], 1)


def _number(part: int | str) -> int:
    return zlib.crc32(part.encode()) if isinstance(part, str) else random.word(part)
