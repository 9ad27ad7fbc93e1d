"""Where the moves of an operator's unknowns begin: near the most probable ones, image left out.

Moves are short, and would not arrive from the other end of a wide range.  So each unknown is looked
for on a grid first, and on finer ones about the best.  The image is taken for a draw of the prior's
own moments, ``N(m, V)``; along neighbours t and t' of a grid, and data ``w ~ N(A_s m, K_s)`` of
their middle s,

    log p(y | t') - log p(y | t) = 1/2 (E(y|t) - E(y|t')) + 1/2 <E(w|t') - E(w|t)>

up to third order in their distance, because the average is that of the determinants.  It decides
nothing: moves that leave the law as it is follow.

The second term, which does without y, also tells two kinds of numbers apart.  Widths, lengths and
gains change how large measurements are, and the determinant with it; a *geometric* number, such as
an offset, a shift or a centre of rotation, hardly does.

Cost: for each unknown and each different measurement some 200 linear solves; no network evaluation.
"""

from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.collapsed import Scene
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
# The logarithm of the determinant changes with a geometric number by less than so much in each of
# the steps that data can tell apart, on average over its range.
_GEOMETRIC = 1.0
# Places at which that is looked at.
_FEW = 7
# An image whose V is so many times as large is hardly held by the prior; a number that is then open
# over more than a share of its range is one that the image can follow.
_FREE, _OPEN = 100.0, 0.25
# For geometric numbers V is so many times as large.  Small ones are sure of where bodies are, and
# wrong: a detector offset is then off by 0.06 to 0.1 pixels, and by 0.01 with this.
WIDER = 5.0


class Guess(NamedTuple):
    """Where moves begin, in coordinates."""

    u: Tensor  # (walkers, count)
    deviation: Tensor  # like u: what such data leave open, if V is right; 0 of what was not sought


def first_guess(
    problem: Problem,
    mean: Tensor,
    covariance: Covariance,
    u: Tensor,
    geometric: Collection[int] = (),
    wider: float = 1.0,
) -> Guess:
    """Coordinates at which moves begin.

    Args:
        mean, covariance: the prior's moments, m ``(*domain_shape)`` and V.
        u: where the search begins, ``(walkers, count)``; noise levels stay.
        geometric: which of the numbers are: for them the determinant is left out.
        wider: how many times as large V is for them.
    """
    rows: list[tuple[Tensor, Tensor]] = []
    for index, one in enumerate(problem.y):
        same = index > 0 and torch.equal(one, problem.y[index - 1])
        if not same:
            search = _Search(problem, index, mean, covariance)
            rows.append(search.everything(u[index], geometric, wider))
        else:
            rows.append(rows[-1])
    return Guess(*(torch.stack(column) for column in zip(*rows, strict=True)))


def geometric_numbers(
    problem: Problem, mean: Tensor, covariance: Covariance, u: Tensor
) -> frozenset[int]:
    """Which of the operator's numbers are geometric, by the first measurement."""
    search = _Search(problem, 0, mean, covariance)
    return frozenset(which for which in search.singly if search.is_geometric(u[0], which))


def followed_numbers(
    problem: Problem, mean: Tensor, covariance: Covariance, u: Tensor, geometric: Collection[int]
) -> frozenset[int]:
    """Which of the geometric numbers the image can follow, by the first measurement.

    Whoever turns a scan can turn the image: y then says nothing of the angle, and what V says of it
    is only that images are Gaussian, which they are not.
    """
    search = _Search(problem, 0, mean, covariance)
    return frozenset(which for which in geometric if search.is_followed(u[0], which))


class _Density(NamedTuple):
    """Of the posterior along a grid, and what the data leave open."""

    logarithm: Tensor  # (count,), up to a constant
    deviation: float


Look = Callable[[Tensor, int, Tensor], _Density]


class _Search:
    """Of one measurement."""

    def __init__(self, problem: Problem, index: int, mean: Tensor, covariance: Covariance):
        self._problem, self._index = problem, index
        self._mean, self._covariance = mean.to(problem.y), covariance
        self._one = self._instrument(1)
        self.singly = list(self._one.singly)

    def everything(
        self, u: Tensor, geometric: Collection[int], wider: float
    ) -> tuple[Tensor, Tensor]:
        """The best coordinates ``(count,)``, and what is open of each."""
        u, deviation = u.clone(), torch.zeros_like(u)
        for _ in range(_ROUNDS if len(self.singly) > 1 else 1):
            for which in self.singly:
                look = partial(self._of_fit, factor=wider) if which in geometric else self._density
                u[which], deviation[which] = self._along(u, which, look)
        return u, deviation

    def is_geometric(self, u: Tensor, which: int) -> bool:
        """By simulated data alone."""
        grid = self._grid(which, _FEW)
        volume, deviation = self._volume(u, which, grid, 1.0)
        return abs(float(volume[-1])) * deviation < _GEOMETRIC * float(grid[-1] - grid[0])

    def is_followed(self, u: Tensor, which: int) -> bool:
        """By how well images that are hardly held by the prior fit y along its range."""
        grid = self._grid(which)
        found = self._of_fit(u, which, grid, _FREE)
        return found.deviation > _OPEN * float(grid[-1] - grid[0])

    def _grid(self, which: int, count: int = _COUNTS[0]) -> Tensor:
        unknowns = self._one.unknowns
        low, high = unknowns.low[0, which], unknowns.high[0, which]
        if float(unknowns.precision[0, which]) > 0:
            reach = _REACH * unknowns.deviation[0, which]
            low, high = (unknowns.centre[0, which] + side * reach for side in (-1, 1))
        return torch.linspace(float(low), float(high), count, dtype=torch.float64).to(low)

    def _along(self, u: Tensor, which: int, look: Look) -> tuple[float, float]:
        """The best coordinate `which`, the others being those of u, and what is open of it."""
        grid = self._grid(which)
        for count in (*_COUNTS[1:], 0):
            found = look(u, which, grid)
            best = float(grid[found.logarithm.argmax()])
            if count:
                step, (low, high) = float(grid[1] - grid[0]), (float(grid[0]), float(grid[-1]))
                ends = max(low, best - step), min(high, best + step)
                grid = torch.linspace(*ends, count, dtype=torch.float64).to(u)
        return best, found.deviation

    def _density(self, u: Tensor, which: int, grid: Tensor) -> _Density:
        """With both terms."""
        volume, deviation = self._volume(u, which, grid, 1.0)
        return _Density(self._fit(u, which, grid, 1.0) + volume, deviation)

    def _of_fit(self, u: Tensor, which: int, grid: Tensor, factor: float) -> _Density:
        """Without the determinant; the parabola through the fit says what is open."""
        fit = self._fit(u, which, grid, factor)
        places = grid - grid.mean()
        powers = torch.stack([places**2, places, torch.ones_like(places)], 1)
        bend = -2 * float(torch.linalg.lstsq(powers, fit[:, None]).solution[0])
        widest = float(grid[-1] - grid[0])
        return _Density(fit, min(max(bend, 1e-30) ** -0.5, widest))

    def _fit(self, u: Tensor, which: int, grid: Tensor, factor: float) -> Tensor:
        """The term of y and the prior, ``(count,)``."""
        at = _varied(u, which, grid)
        own = torch.cat([self._energies(part, factor) for part in at.split(self._most)])
        return 0.5 * (own[0] - own) + self._instrument(len(at)).unknowns.log_density(at)

    @property
    def _most(self) -> int:
        return max(1, _TOGETHER // self._mean.numel())

    def _volume(self, u: Tensor, which: int, grid: Tensor, factor: float) -> tuple[Tensor, float]:
        """Minus half of the determinant's logarithm along a grid, and what data leave open."""
        at, middle = _varied(u, which, grid), _varied(u, which, (grid[1:] + grid[:-1]) / 2)
        found, most = [], self._most
        for first in range(0, len(middle), most):
            part = slice(first, first + most)
            found.append(self._of_simulated(middle[part], at[:-1][part], at[1:][part], factor))
        simulated = 0.5 * torch.cat(found, 1)
        # The scatter of the score among data is what they tell.
        score = (simulated - simulated.mean(0)) / (grid[1] - grid[0])
        information = float(score.square().mean()) * _SIMULATED / (_SIMULATED - 1)
        volume = torch.cat([grid.new_zeros(1), simulated.mean(0).cumsum(0)])
        return volume, max(information, 1e-30) ** -0.5

    def _instrument(self, walkers: int) -> Instrument:
        y = self._problem.y[[self._index]].expand(walkers, *self._problem.y.shape[1:])
        return Instrument(Problem(y, self._problem.operator, self._problem.noise))

    def _scene(self, walkers: int, factor: float) -> Scene:
        mean = self._mean.expand(walkers, *self._mean.shape)
        y = self._problem.y[[self._index]].expand(walkers, *self._problem.y.shape[1:])
        covariance = self._covariance.map(lambda variance: factor * variance)
        return Scene(mean, covariance, self._instrument(walkers), y)

    def _energies(self, u: Tensor, factor: float) -> Tensor:
        """``E(y | u)``, ``(walkers,)``."""
        scene = self._scene(len(u), factor)
        found = scene.at(u).energy.value
        self._problem.operator_calls += scene.instrument.take_calls()
        return found

    def _of_simulated(self, middle: Tensor, left: Tensor, right: Tensor, factor: float) -> Tensor:
        """``E(w | right) - E(w | left)`` of data w from `middle`, ``(simulated, walkers)``."""
        scene = self._scene(len(middle), factor)
        here, low, high = (scene.at(u) for u in (middle, left, right))
        found = []
        for sample in range(_SIMULATED):
            # The same random numbers at all places, so that their differences are smooth.
            streams = Streams([("first guess", sample)] * len(middle))
            away = scene.simulated(here.tuned, streams) + here.predicted
            below = scene.energy(away - low.predicted, low.tuned)
            above = scene.energy(away - high.predicted, high.tuned, below.solution)
            found.append(above.value - below.value)
        self._problem.operator_calls += scene.instrument.take_calls()
        return torch.stack(found)


def _varied(u: Tensor, which: int, values: Tensor) -> Tensor:
    """Copies of u ``(count,)`` with these values of one of its coordinates."""
    varied = u.expand(len(values), len(u)).clone()
    varied[:, which] = values
    return varied
