"""Where the moves of an operator's unknowns begin: near the most probable ones, image left out.

Moves are short, and would not arrive from the other end of a wide range.  So each unknown is looked
for on a grid first, and on finer ones about the best.  The image is taken for a draw of the prior's
own moments, ``N(m, V)``; along neighbours t and t' of a grid, and data ``w ~ N(A_s m, K_s)`` of
their middle s,

    log p(y | t') - log p(y | t) = 1/2 (E(y|t) - E(y|t')) + 1/2 <E(w|t') - E(w|t)>

up to third order in their distance, because the average is that of the determinants.  It decides
nothing: moves that leave the law as it is follow.

Cost: for each unknown and each different measurement some 200 linear solves; no network evaluation.
"""

import torch
from torch import Tensor

from tweedie_inverse.conditional.collapsed import Scene, no_amplitude
from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.streams import Streams

# Places of the first grid, and of the finer ones.
_COUNTS = (13, 7, 7)
_SIMULATED = 3
# Rounds over the unknowns where there are several.
_ROUNDS = 2
# A normal prior is searched so many standard deviations to both sides.
_REACH = 3.0
# Numbers of the images that are solved for at once: bounds the memory.
_TOGETHER = 2**22


def first_guess(problem: Problem, mean: Tensor, covariance: Covariance, u: Tensor) -> Tensor:
    """Coordinates ``(walkers, count)`` at which moves begin.

    Args:
        mean, covariance: the prior's moments, m ``(*domain_shape)`` and V.
        u: where the search begins, ``(walkers, count)``; noise levels stay.
    """
    rows: list[Tensor] = []
    for index, one in enumerate(problem.y):
        same = index > 0 and torch.equal(one, problem.y[index - 1])
        rows.append(rows[-1] if same else _of_one(problem, index, mean, covariance, u[index]))
    return torch.stack(rows)


def _of_one(
    problem: Problem, index: int, mean: Tensor, covariance: Covariance, u: Tensor
) -> Tensor:
    search = _Search(problem, index, mean, covariance)
    instrument = search.instrument(1)
    unknowns, singly = instrument.unknowns, list(instrument.singly)
    u = u.clone()
    for _ in range(_ROUNDS if len(singly) > 1 else 1):
        for which in singly:
            low, high = unknowns.low[0, which], unknowns.high[0, which]
            if float(unknowns.precision[0, which]) > 0:
                reach = _REACH * unknowns.deviation[0, which]
                low, high = (unknowns.centre[0, which] + side * reach for side in (-1, 1))
            u[which] = search.along(u, which, float(low), float(high))
    problem.operator_calls += search.calls
    return u


class _Search:
    """Of one measurement."""

    def __init__(self, problem: Problem, index: int, mean: Tensor, covariance: Covariance):
        self._problem, self._index = problem, index
        self._mean, self._covariance = mean.to(problem.y), covariance
        self.calls = 0

    def instrument(self, walkers: int) -> Instrument:
        y = self._problem.y[[self._index]].expand(walkers, *self._problem.y.shape[1:])
        return Instrument(Problem(y, self._problem.operator, self._problem.noise))

    def along(self, u: Tensor, which: int, low: float, high: float) -> float:
        """The best coordinate `which` between two ends, the others being those of u."""
        best = (low + high) / 2
        for count in _COUNTS:
            grid = torch.linspace(low, high, count, dtype=torch.float64).to(u)
            density = self._relative_density(u, which, grid)
            best, step = float(grid[density.argmax()]), float(grid[1] - grid[0])
            low, high = max(low, best - step), min(high, best + step)
        return best

    def _relative_density(self, u: Tensor, which: int, grid: Tensor) -> Tensor:
        """Logarithm of the posterior's density along a grid, up to a constant."""
        at, middle = _varied(u, which, grid), _varied(u, which, (grid[1:] + grid[:-1]) / 2)
        own = torch.cat([self._energies(part) for part in at.split(self._most)])
        found = []
        for first in range(0, len(middle), self._most):
            part = slice(first, first + self._most)
            found.append(self._of_simulated(middle[part], at[:-1][part], at[1:][part]))
        steps = 0.5 * (own[:-1] - own[1:]) + 0.5 * torch.cat(found)
        likelihood = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
        return likelihood + self.instrument(len(at)).unknowns.log_density(at)

    @property
    def _most(self) -> int:
        return max(1, _TOGETHER // self._mean.numel())

    def _scene(self, walkers: int) -> Scene:
        instrument = self.instrument(walkers)
        mean = self._mean.expand(walkers, *self._mean.shape)
        y = self._problem.y[[self._index]].expand(walkers, *self._problem.y.shape[1:])
        return Scene(mean, self._covariance, instrument, y)

    def _energies(self, u: Tensor) -> Tensor:
        """``E(y | u)``, ``(walkers,)``."""
        scene = self._scene(len(u))
        found = scene.at(_whole(u)).energy.value
        self.calls += scene.instrument.take_calls()
        return found

    def _of_simulated(self, middle: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """``E(w | right) - E(w | left)`` of data w from `middle`, on average, ``(walkers,)``."""
        scene = self._scene(len(middle))
        here, low, high = (scene.at(_whole(u)) for u in (middle, left, right))
        total = torch.zeros_like(here.energy.value)
        for sample in range(_SIMULATED):
            # The same random numbers at all places, so that their differences are smooth.
            streams = Streams([("first guess", sample)] * len(middle))
            away = scene.simulated(here.u, here.tuned, streams) + here.predicted
            below = scene.energy(away - low.predicted, low.u, low.tuned)
            above = scene.energy(away - high.predicted, high.u, high.tuned, below.solution)
            total = total + (above.value - below.value) / _SIMULATED
        self.calls += scene.instrument.take_calls()
        return total


def _varied(u: Tensor, which: int, values: Tensor) -> Tensor:
    """Copies of u ``(count,)`` with these values of one of its coordinates."""
    varied = u.expand(len(values), len(u)).clone()
    varied[:, which] = values
    return varied


def _whole(u: Tensor) -> Tensor:
    """With V as large as it says."""
    return torch.cat([u, no_amplitude(u)[:, :1]], 1)
