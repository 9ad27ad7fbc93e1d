"""One p-value of a measurement among references, with the right level whatever the statistics.

If the measurement was made as the references were, all of them are exchangeable.  Each is held to
all the others, in the same way; the rank of the measurement's number is then uniform, and its
p-value exact: the share of all that are as unusual as it.  Two stages: deviations of every
statistic from the others, in their standard deviations, are summed up for each kind, and how
unusual that sum is is found from the others again.  Student's law turns it into a tail, so that
families compare; the inverse tails are averaged (Wilson 2019), families equally.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Weight of the identity in the correlations of a family: references are few.
_SHRINKAGE = 0.5
# A deviation that cannot be told from a larger one: its square must not overflow.
_MOST = 1e9
# Rows that are held to their others at once.
_TOGETHER = 64


class Judgement(NamedTuple):
    """Of the first row.

    Attributes:
        p_value: of all families together.
        p_values: of each family.
        deviations: of each statistic, in standard deviations of the references.
    """

    p_value: float
    p_values: tuple[float, ...]
    deviations: Tensor


def judge(values: Tensor, families: Sequence[Sequence[slice]]) -> Judgement:
    """How unusual the first row is.

    Args:
        values: ``(1 + references, statistics)``.
        families: the columns of each, by kind; those of a kind are summed up together.
    """
    values = values.double()
    deviations = held_to_others(values)
    unusual = []
    for family in families:
        parts = [_scores(values[:, kind], deviations[:, kind]) for kind in family]
        unusual.append(_combined(_log_inverse_tail(held_to_others(torch.cat(parts, dim=1)))))
    table = torch.stack(unusual, dim=1)  # (rows, families)
    return Judgement(
        p_of_first(_combined(table)),
        tuple(p_of_first(column) for column in table.unbind(1)),
        deviations[0],
    )


def p_of_first(unusual: Tensor) -> float:
    """The share of all rows that are as unusual as the first, which counts itself."""
    return float((unusual >= unusual[0]).double().mean())


def held_to_others(values: Tensor) -> Tensor:
    """Deviation of each row from the mean of all others, in the standard deviation of these."""
    found = []
    for rows, others in _others(values):
        centre = others.mean(1)
        # Where all others are equal, what differs deviates much, and what is equal not at all.
        floor = 1e-9 * (centre.abs() + values[rows].abs()) + 1e-300
        spread = others.std(1) * math.sqrt(1 + 1 / others.shape[1])
        found.append((values[rows] - centre) / torch.maximum(spread, floor))
    return torch.cat(found).clamp(-_MOST, _MOST)


def _others(values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of some rows, and all other rows for each of them, ``(some, rows - 1, ...)``."""
    everyone = torch.arange(len(values))
    for rows in everyone.split(_TOGETHER):
        left_out = everyone[None, :] != rows[:, None]
        index = everyone.expand(len(rows), -1)[left_out].reshape(len(rows), -1)
        yield rows, values[index]


def _scores(values: Tensor, deviations: Tensor) -> Tensor:
    """What is large where a kind is unusual, ``(rows, 4)``.

    All of it the same way, all of it some way, one of it, its pattern.
    """
    square = deviations.square()
    found = [deviations.mean(1).square(), square.mean(1), square.amax(1)]
    found.append(_distances(values, deviations))
    # The root, not the logarithm, which would hide what is far out in a long tail of what is not.
    return torch.stack(found, dim=1).clamp(min=0).sqrt()


def _distances(values: Tensor, deviations: Tensor) -> Tensor:
    """Squared distance of each row from the others, with their correlations (Mahalanobis)."""
    found, eye = [], torch.eye(values.shape[1], dtype=values.dtype)
    for rows, others in _others(values):
        centre = others.mean(1, keepdim=True)
        # Equal numbers differ from their mean by rounding, which is no spread.
        floor = 1e-9 * centre.abs() + 1e-300
        apart = (others - centre) / torch.maximum(others.std(1, keepdim=True), floor)
        correlation = apart.mT @ apart / (others.shape[1] - 1)
        system = (1 - _SHRINKAGE) * correlation + _SHRINKAGE * eye
        solved = torch.linalg.solve(system, deviations[rows, :, None])[..., 0]
        found.append((deviations[rows] * solved).sum(1))
    return torch.cat(found)


def _log_inverse_tail(t: Tensor) -> Tensor:
    """``-log P(T > t)`` of Student's law with as many degrees of freedom as the others leave."""
    from scipy.stats import t as student

    return -torch.from_numpy(student.logsf(t.numpy(), len(t) - 2)).to(t)


def _combined(log_inverse: Tensor) -> Tensor:
    """Logarithm of the mean inverse tail, along the second axis."""
    return torch.logsumexp(log_inverse, dim=1) - math.log(log_inverse.shape[1])
