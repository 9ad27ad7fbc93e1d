"""Philox4x32-10 in torch's integer arithmetic: random words that are a function of a counter.

A word is a function of (counter, key) and of nothing else, so that numbers can be made in any order
and anywhere, with the same bits on every device.  Words of 32 bits lie in int64, whose products
wrap around as the generator wants them to.

Source: Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"; the
tests hold its published answers.
"""

import math

import torch
from torch import Tensor

_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_WORD = 0xFFFFFFFF
_ROUNDS = 10
# After this many rounds every word depends on the counter's first; before, a word is as large as
# what it depends on.
_SPREADS = 2

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Four random words for each counter; int64 below 2^32, of one shape.

    Args:
        counter: four words, int64 below 2^32, whose shapes broadcast.
        key: two words that broadcast with them; they may not be larger.
    """
    keys = list(zip(*map(_of_rounds, key, _WEYL), strict=True))
    for k0, k1 in keys[:_SPREADS]:
        counter = _round(*counter, k0, k1)
    c0, c1, c2, c3 = (word.contiguous() for word in torch.broadcast_tensors(*counter))
    # From here on in place: `p0` and `p1` take turns with the words whose products they were.
    p0, p1 = torch.empty_like(c0), torch.empty_like(c0)
    for k0, k1 in keys[_SPREADS:]:
        torch.mul(c0, _MULTIPLIERS[0], out=p0)
        torch.mul(c2, _MULTIPLIERS[1], out=p1)
        torch.bitwise_right_shift(p1, 32, out=c0)
        c0.bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(_WORD)
        torch.bitwise_right_shift(p0, 32, out=c2)
        c2.bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(_WORD)
        c1, p1 = p1, c1
        c3, p0 = p0, c3
    return c0, c1.bitwise_and_(_WORD), c2, c3.bitwise_and_(_WORD)


def _round(c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor, k0: Tensor, k1: Tensor) -> Words:
    """One round; words 1 and 3 of the result have more than 32 bits, of which the lower count."""
    p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
    return ((p1 >> 32) ^ c1 ^ k0) & _WORD, p1, ((p0 >> 32) ^ c3 ^ k1) & _WORD, p0


def _of_rounds(key: Tensor, step: int) -> tuple[Tensor, ...]:
    """The word of a key for every round."""
    made = torch.arange(_ROUNDS, device=key.device) * step
    return ((key[..., None] + made) & _WORD).unbind(-1)


def write_normal(words: Words, out: Tensor) -> None:
    """Standard normal numbers of the words: to `out`, ``(rows, 4, blocks)``.

    By Box and Muller 1958: two words make two numbers.  The largest is 6.8.
    """
    for place, (first, second) in ((0, words[:2]), (2, words[2:])):
        # The middle of one of 2^32 cells; never 0, so that its logarithm is finite.
        radius = first.to(out.dtype).mul_(2.0**-32).add_(2.0**-33)
        radius.log_().mul_(-2).sqrt_()
        angle = second.to(out.dtype).mul_(2 * math.pi * 2.0**-32)
        torch.mul(radius, angle.cos(), out=out[:, place])
        torch.mul(radius, angle.sin_(), out=out[:, place + 1])


def write_uniform(words: Words, out: Tensor) -> None:
    """Numbers strictly between 0 and 1: to `out`, as normal ones; the same bits everywhere."""
    for place, word in enumerate(words):
        # As many bits as the number type holds, and half a cell, so that none is 0 or 1.
        bits = 32 if out.dtype == torch.float64 else 23
        torch.mul((word >> (32 - bits)).to(out.dtype).add_(0.5), 2.0**-bits, out=out[:, place])
