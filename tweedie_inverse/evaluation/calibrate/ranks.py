"""Ranks of a truth among its samples, and the scores that tell a shift from a wrong spread.

If the samples are independent draws of the posterior, then the truth and its S samples are, given
y, S + 1 draws of the same law: every one of them could have been the truth.  The rank of any
quantity f(x, y) is then uniform (Cook, Gelman and Rubin 2006; Talts et al. 2018; Modrak et al.
2023), and the whole table of ranks is exchangeable, which is what `null` builds on.
"""

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import generator

# Location, spread, skewness and tails.
ORDERS = 4
# Truths that are added up at a time.
_TOGETHER = 50


def pooled_ranks(values: Tensor, seed: int) -> Tensor:
    """Rank of every value among those of its truth, from 0; ties are broken at random.

    Args:
        values: ``(truths, m, statistics)``.

    Returns:
        ``(truths, m, statistics)``, int64: permutations of 0 to m - 1 along the middle axis.
    """
    count, size, _ = values.shape
    # A stable sort of shuffled values breaks ties by the shuffle.
    keys = torch.from_numpy(generator(("calibrate ties", seed)).random((count, size, 1)))
    shuffle = keys.argsort(dim=1).expand(values.shape)
    order = shuffle.gather(1, values.gather(1, shuffle).argsort(dim=1, stable=True))
    places = torch.arange(size).reshape(1, -1, 1).expand(values.shape)
    return torch.empty_like(order).scatter_(1, order, places)


def ranks_among(points: Tensor, others: Tensor, allowed: Tensor, key: tuple[int, int]) -> Tensor:
    """Rank of each point among the samples of a truth, leaving out the one that it came from.

    Args:
        points: ``(S, statistics)``, each standing for the truth.
        others: ``(S, statistics)``, the samples it is ranked in.
        allowed: ``(S,)``, boolean, samples that are there.
        key: of the random numbers: seed and truth.

    Returns:
        ``(S, statistics)``, int16, from 0 to S - 1; where some samples are not there, brought to
        this range at random.
    """
    random, size = generator(("calibrate ranks", *key)), len(points)
    here = allowed[None, :] & ~torch.eye(size, dtype=torch.bool)  # (point, sample)
    below = torch.zeros(points.shape, dtype=torch.float64)
    equal = torch.zeros_like(below)
    for seen, value in zip(here.mT, others, strict=True):
        below += (value < points) & seen[:, None]
        equal += (value == points) & seen[:, None]
    ties, jitter = (torch.from_numpy(random.random(points.shape)) for _ in range(2))
    place = below + torch.floor(ties * (equal + 1)).clamp(max=equal)
    spread = (place + jitter) / (here.sum(1)[:, None] + 1) * size
    return spread.clamp(max=size - 1).to(torch.int16)


def score_table(size: int) -> Tensor:
    """Orthonormal polynomials of the normal scores of `size` ranks, ``(orders, size)``.

    Under uniform ranks each has mean 0 and variance 1, and they are uncorrelated.  The first sees
    a shift, the second a wrong spread, the others wrong tails and lopsidedness.
    """
    orders = min(ORDERS, size - 1)
    z = torch.special.ndtri((torch.arange(size).double() + 0.5) / size)
    powers = torch.stack([z**k for k in range(orders + 1)], dim=1)
    basis, triangle = torch.linalg.qr(powers)
    return (basis * triangle.diagonal().sign() * size**0.5)[:, 1:].mT.contiguous()


def summed(values: Tensor, choices: Tensor) -> Tensor:
    """What the chosen draws add up to over the truths, ``(rows, ...)``.

    Args:
        values: ``(truths, m, ...)``, of every draw that could be the truth.
        choices: ``(rows, truths)``, which of the m is.
    """
    total = values.new_zeros(len(choices), values[0, 0].numel())
    # A product with zeros and ones is faster than gathering the rows one by one.
    for part, chosen in zip(values.split(_TOGETHER), choices.split(_TOGETHER, 1), strict=True):
        ones = torch.nn.functional.one_hot(chosen, values.shape[1]).to(values)
        total += ones.flatten(1) @ part.flatten(0, 1).flatten(1)
    return total.reshape(len(choices), *values.shape[2:])
