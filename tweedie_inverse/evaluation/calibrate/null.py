"""One p-value for many dependent statistics, exact at every number of truths.

Given y, the truth is one of S + 1 exchangeable draws.  The law of any combination of ranks under a
right sampler is therefore had by naming, for each truth at random, another of the S + 1 draws the
truth: a permutation test, which holds its level whatever the dependence between pixels and
statistics.  The components of `families` are each turned into a p-value by these permutations;
their inverses are averaged in a family and over families (the harmonic mean p-value, Wilson 2019),
and the average is judged by the same permutations.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.evaluation.calibrate.families import Family, components
from tweedie_inverse.evaluation.calibrate.ranks import score_table, summed
from tweedie_inverse.numerics.random import generator

PERMUTATIONS = 1999
# Truths whose scores are in memory at a time.
_TOGETHER = 50
# Share of the permutations that a tail is fitted to, and how far it goes, as a logarithm.
_TAIL, _MOST = 0.1, 50.0


class Judgement(NamedTuple):
    """P-values of one or more rows of ranks.

    Attributes:
        combined: ``(rows,)``.
        families: ``(rows, families)``.
    """

    combined: Tensor
    families: Tensor


class Null:
    """The law of everything under a right sampler, from ranks ``(truths, m, statistics)``."""

    def __init__(
        self,
        ranks: Tensor,
        families: Sequence[Family],
        seed: int,
        permutations: int = PERMUTATIONS,
    ):
        self.families, self.ranks = tuple(families), ranks
        self.table = score_table(ranks.shape[1]).float()
        random = generator(("calibrate null", seed))
        drawn = random.integers(ranks.shape[1], size=(permutations, len(ranks)))
        self.choices = torch.from_numpy(drawn)
        found, self._owners = components(self.sums(ranks, self.choices), self.families)
        self._sorted = found.double().sort(dim=0).values
        inverse = self._inverses(found)
        self._inverse_sorted = inverse.sort(dim=0).values
        self._total_sorted = inverse.mean(1).sort().values

    def sums(self, ranks: Tensor, choices: Tensor) -> Tensor:
        """Scores added up over truths, ``(rows, orders, statistics)``.

        Args:
            ranks: ``(truths, m, statistics)``, values 0 to (size of the table) - 1.
            choices: ``(rows, truths)``, which of the m is the truth.
        """
        total = torch.zeros(len(choices), len(self.table), ranks.shape[2])
        for part, chosen in zip(ranks.split(_TOGETHER), choices.split(_TOGETHER, 1), strict=True):
            scores = self.table[:, part].permute(1, 2, 0, 3)  # (truths, m, orders, statistics)
            total += summed(scores, chosen)
        return total / len(ranks) ** 0.5

    def judge(self, sums: Tensor) -> Judgement:
        """P-values of rows of `sums` that are none of the permutations."""
        found, _ = components(sums, self.families)
        inverse = self._inverses(found)
        families = torch.stack(
            [
                _as_large(ordered.contiguous(), column.contiguous())
                for ordered, column in zip(self._inverse_sorted.mT, inverse.mT, strict=True)
            ],
            dim=1,
        )
        return Judgement(_as_large(self._total_sorted, inverse.mean(1)), families)

    def _inverses(self, found: Tensor) -> Tensor:
        """Mean of ``1 / p`` over the components of each family, ``(rows, families)``."""
        each = torch.stack(
            [
                1 / _tail(ordered.contiguous(), column.double().contiguous())
                for ordered, column in zip(self._sorted.mT, found.mT, strict=True)
            ],
            dim=1,
        )
        owners = torch.tensor(self._owners)
        means = [each[:, owners == k].mean(1) for k in range(len(self.families))]
        return torch.stack(means, dim=1)


def _as_large(ordered: Tensor, values: Tensor) -> Tensor:
    """P-value of each value: share of the permutations, and of itself, that are as large."""
    below = torch.searchsorted(ordered, values, side="left")
    return (len(ordered) - below + 1).double() / (len(ordered) + 1)


def _tail(ordered: Tensor, values: Tensor) -> Tensor:
    """The same for a component, continued exponentially above the largest tenth.

    Without, no component could say more than that it is the largest of all, which one permutation
    in so many says of each.  It only weighs the components: the level does not depend on it.
    """
    start = int((1 - _TAIL) * len(ordered))
    threshold = ordered[start]
    scale = (ordered[start:] - threshold).mean().clamp(min=1e-12)
    beyond = _TAIL * torch.exp(-((values - threshold) / scale).clamp(min=0, max=_MOST))
    return torch.where(values > threshold, beyond, _as_large(ordered, values))
