"""An instrument with unknown scalars, as each walker takes it to be.

The unknowns of a walker are coordinates u, `(walkers, count)`: the logarithms of the noise levels
first, then the numbers of a `Parametric` operator.  For given u the measurement is a `Problem` with
white unit noise, whose images are counted in the walker's own noise level (`conditional.units`).
Other noise levels than the first, and operators of walkers, stand in `Members`.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.problem import Applications, Problem
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.numerics.spectral import Basis, Pixels
from tweedie_inverse.operators import (
    BlindBlur,
    GaussianNoise,
    LinearOperator,
    NoiseModel,
    Operator,
    Parametric,
    ScalarPrior,
    UnknownGaussianNoise,
    UnknownNoise,
    UnknownPhase,
    estimate_noise,
)
from tweedie_inverse.operators.parametric import Members

# The range of a noise level that nothing else is known of, in units of the root mean square of y.
_LOWEST, _HIGHEST = 1e-4, 2.0
# The noise level at which moves begin where `estimate_noise` has no answer.
_START = 0.1
# Probes for the diagonal of the normal equations of each walker; it is averaged over neighbours.
_PROBES = 4


def has_unknowns(operator: Operator, noise: NoiseModel | None) -> bool:
    """Whether numbers of the operator, or the noise level, are to be drawn."""
    operators = getattr(operator, "operators", (operator,))
    parametric = any(isinstance(each, Parametric) for each in operators)
    return parametric or isinstance(noise, UnknownNoise)


class Unknowns(NamedTuple):
    """What is known beforehand of the unknowns, ``(walkers, count)`` each, in coordinates."""

    low: Tensor
    high: Tensor
    centre: Tensor  # of a normal prior
    precision: Tensor  # of a normal prior; 0 where it is flat
    deviation: Tensor  # standard deviation of the prior
    is_logarithmic: tuple[bool, ...]

    def log_density(self, u: Tensor) -> Tensor:
        """Logarithm of the prior, ``(walkers,)``, without its constant; -inf outside of it."""
        inside = ((u >= self.low) & (u <= self.high)).all(1)
        bend = -0.5 * (self.precision * (u - self.centre).square()).sum(1)
        return torch.where(inside, bend, -math.inf)

    def drawn(self, uniform: Tensor) -> Tensor:
        """Coordinates from the prior, of uniform random numbers like those."""
        flat = self.low + uniform * (self.high - self.low)
        normal = self.centre + self.deviation * torch.special.ndtri(uniform)
        return torch.where(self.precision > 0, normal, flat).clamp(self.low, self.high)

    def values(self, u: Tensor) -> Tensor:
        """The numbers of these coordinates, ``(..., count)``."""
        columns = zip(u.unbind(-1), self.is_logarithmic, strict=True)
        return torch.stack([each.exp() if is_log else each for each, is_log in columns], -1)


class Instrument:
    """Of the walkers of a problem whose operator or noise has unknowns.

    Attributes:
        levels: how many of the unknowns are noise levels; they come first.
        kernel, phase: the prior of an unknown kernel or phase, whose numbers are then the other
            unknowns.
        unknowns: their priors.
        counts: ``(levels,)``, observed measurements that share each noise level.
    """

    def __init__(self, problem: Problem):
        operator = problem.operator
        assert isinstance(operator, LinearOperator)
        self._problem, self._operator, self._noise = problem, operator, problem.noise
        self._is_parametric = isinstance(operator, Parametric)
        shape, y = tuple(operator.range_shape), problem.y
        seen = torch.ones(shape, dtype=torch.bool)
        if operator.observed is not None:
            seen = operator.observed.cpu().expand(shape)
        self.observed = seen.to(y.device)
        self._groups, self.levels = self._grouped(shape)
        self.counts = self._counted()
        self.kernel = operator.prior if isinstance(operator, BlindBlur) else None
        self.phase = operator.prior if isinstance(operator, UnknownPhase) else None
        self.unknowns = self._priors()
        self._calls: list[Applications] = []
        self._shared: Problem | None = None

    def _grouped(self, shape: tuple[int, ...]) -> tuple[Tensor, int]:
        """The noise level of each entry of y, and how many levels are unknown."""
        groups, levels = torch.zeros(shape, dtype=torch.long), 0
        if isinstance(self._noise, UnknownGaussianNoise):
            given = self._noise.group_of(shape)
            groups = groups if given is None else given
            levels = int(groups.max()) + 1
        return groups.to(self._problem.y.device), levels

    def _counted(self) -> Tensor:
        """How many entries of y tell each level, ``(levels,)``, or ``(1,)`` where all is known."""
        return torch.stack(
            [(self.observed & (self._groups == each)).sum() for each in range(self.levels)]
            or [self.observed.sum()]
        ).double()

    @property
    def y(self) -> Tensor:
        """``(walkers, *range_shape)``, in its own units."""
        return self._problem.y

    @property
    def operator(self) -> LinearOperator:
        """With its unknowns."""
        return self._operator

    @property
    def singly(self) -> range:
        """Which of the operator's unknowns are moved one by one."""
        count = self.unknowns.low.shape[1]
        together = self.kernel is not None or self.phase is not None
        return range(count, count) if together else range(self.levels, count)

    def noise_levels(self, u: Tensor) -> Tensor:
        """The standard deviation of white noise, ``(walkers,)``."""
        if self.levels:
            return u[:, 0].exp()
        assert isinstance(self._noise, GaussianNoise)
        return resident(self._noise.std.reshape(()), u).expand(len(u))

    def start(self) -> Tensor:
        """Coordinates at which moves begin: a guess of the noise level, and middles of ranges."""
        u = (self.unknowns.low + self.unknowns.high) / 2
        u = torch.where(self.unknowns.precision > 0, self.unknowns.centre, u)
        if self.levels:
            guess = self._first_levels()
            low, high = (end[:, : self.levels] for end in (self.unknowns.low, self.unknowns.high))
            u = torch.cat([guess.clamp(low, high), u[:, self.levels :]], 1)
        if isinstance(self._operator, UnknownPhase):
            found = rows_of(self._problem.y, self._operator.guess)
            u = torch.cat([u[:, : self.levels], found], 1)
        return u

    def _first_levels(self) -> Tensor:
        """A guess of the noise levels' coordinates, ``(walkers, levels)``."""
        guess = each_of(self._problem.y, self._guess).log()[:, None]
        return guess.expand(-1, self.levels)

    def tuned(self, u: Tensor, like: Problem | None = None) -> Problem:
        """The measurement if the unknowns are u, with white noise of standard deviation 1.

        Args:
            like: that of unknowns nearby, whose curvature is then good enough.
        """
        y, values = self._problem.y, self.unknowns.values(u)
        unit, rows = None, None
        noise = self._noise
        if self.levels:
            levels = values[:, : self.levels].to(y)
            unit = levels[:, 0]
            noise = GaussianNoise(1.0)
            if self.levels > 1:
                rows = (unit[:, None] / levels)[:, self._groups.flatten()].reshape_as(y)
            y = y / _column(unit, y) if rows is None else y / _column(unit, y) * rows
        if self._is_parametric or rows is not None:
            members = Members(self._operators(values), rows)
            curvatures = like.curvatures if isinstance(like, MembersProblem) else {}
            made: Problem = MembersProblem(y, members, noise, curvatures)
        else:
            if self._shared is None:
                self._shared = Problem(y, self._operator, noise)
                self._shared.is_diagonal(Pixels())  # a spectrum is worked out once
            made = copy.copy(self._shared)
            made.y = y
            made.applications = Applications()
        if unit is not None:
            made.unit = unit.reshape(-1, *[1] * len(self._operator.domain_shape))
        self._calls.append(made.applications)
        return made

    def whiten(self, r: Tensor, tuned: Problem) -> Tensor:
        """Residuals in units of y to standard normal ones, with the unknowns of `tuned`."""
        if tuned.unit is None:
            return tuned.gaussian_noise.whiten(r)
        r = r / _column(tuned.unit, r)
        return r * self._rows(tuned, r)

    def colour(self, white: Tensor, tuned: Problem) -> Tensor:
        """The inverse of `whiten`."""
        if tuned.unit is None:
            return tuned.gaussian_noise.colour(white)
        return white / self._rows(tuned, white) * _column(tuned.unit, white)

    def predict(self, x: Tensor, tuned: Problem) -> Tensor:
        """``A x`` in units of y."""
        if tuned.unit is None:
            return tuned.forward(x)
        return self.colour(tuned.forward(x / tuned.unit), tuned)

    def chi_square(self, x: Tensor, u: Tensor) -> Tensor:
        """Mean squared standardized residual of each walker's image with its own unknowns."""
        tuned = self.tuned(u)
        residual = self.whiten(self._problem.y - self.predict(x, tuned), tuned).square()
        seen = self.observed.to(residual)
        return (residual * seen).flatten(1).sum(1) / seen.sum()

    def known(self, u: Tensor) -> tuple[LinearOperator, GaussianNoise]:
        """Operator and noise if the unknowns of all walkers are u, ``(count,)``."""
        values = self.unknowns.values(u)
        operator, noise = self._operator, self._noise
        if isinstance(operator, Parametric):
            operator = operator.member(values[self.levels :].tolist())
        if self.levels:
            noise = GaussianNoise(values[: self.levels].cpu()[self._groups.cpu()])
        if self.levels == 1:
            noise = GaussianNoise(float(values[0]))
        assert isinstance(noise, GaussianNoise)
        return operator, noise

    def sums_of_squares(self, r: Tensor) -> Tensor:
        """Of the observed entries of ``(walkers, *range_shape)``, by noise level."""
        squares = (r.double().square() * self.observed).flatten(1)
        sums = squares.new_zeros((len(r), max(self.levels, 1)))
        return sums.index_add_(1, self._groups.flatten(), squares)

    def take_calls(self) -> int:
        """Applications of operators since this was last asked."""
        calls = sum(each.count for each in self._calls)
        self._calls.clear()
        return calls

    def _rows(self, tuned: Problem, like: Tensor) -> Tensor:
        rows = tuned.operator.rows if isinstance(tuned.operator, Members) else None
        return like.new_ones(()) if rows is None else resident(rows, like)

    def _operators(self, values: Tensor) -> LinearOperator | Sequence[LinearOperator]:
        operator = self._operator
        if not isinstance(operator, Parametric):
            return operator
        return operator.members(values[:, self.levels :])

    def _guess(self, y: Tensor) -> float:
        """A noise level of one measurement."""
        try:
            found = estimate_noise(y)
        except ValueError:
            found = 0.0
        return found if found > 0 else _START * self._size(y)

    def _size(self, y: Tensor) -> float:
        """Root mean square of the observed entries of one measurement."""
        return max(float(y[self.observed].double().square().mean().sqrt()), 1e-30)

    def _priors(self) -> Unknowns:
        """Of all walkers; measurements that are the same are asked once."""
        y, columns = self._problem.y, self._noise_columns()
        logarithmic = [True] * self.levels
        if isinstance(self._operator, Parametric):
            for prior in self._operator.unknowns.values():
                columns.append(column_of(prior, y))
                logarithmic.append(prior.is_logarithmic)
        low, high, centre, precision, deviation = torch.stack(columns, -1)
        return Unknowns(low, high, centre, precision, deviation, tuple(logarithmic))

    def _noise_columns(self) -> list[Tensor]:
        """Priors of the noise levels."""
        y, noise = self._problem.y, self._noise
        if not isinstance(noise, UnknownGaussianNoise):
            return []
        if noise.prior is not None:
            return [column_of(noise.prior, y)] * self.levels
        size = each_of(y, self._size)
        return [flat_column(size * _LOWEST, size * _HIGHEST)] * self.levels


class MembersProblem(Problem):
    """Each walker has its own operator, and so its own curvature."""

    def __init__(
        self, y: Tensor, operator: Operator, noise: NoiseModel, curvatures: dict[Basis, Tensor]
    ):
        super().__init__(y, operator, noise)
        self.curvatures = curvatures
        self.differs = True

    def curvature(self, basis: Basis) -> Tensor:
        """As of `Problem`, one for each walker."""
        if basis not in self.curvatures:
            shape, total = (len(self.y), *self.operator.domain_shape), torch.zeros(())
            for sign in normal(("probes",), (_PROBES, *shape[1:])).sign().to(self.y):
                probe = basis.transform(sign[None]).sign()
                image = basis.inverse(probe).expand(shape).contiguous()
                z = self.gaussian_noise.whiten(self.forward(image))
                back = basis.transform(self.adjoint(self.gaussian_noise.whiten_transposed(z)))
                total = total.to(back) + probe * back
            self.curvatures[basis] = basis.smooth(total / _PROBES).abs()
        return self.curvatures[basis]


def rows_of(y: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Numbers of each measurement, ``(walkers, count)``; equal neighbours are asked once."""
    found: list[Tensor] = []
    for index, one in enumerate(y):
        same = index > 0 and torch.equal(one, y[index - 1])
        found.append(found[-1] if same else function(one))
    return torch.stack(found).double()


def each_of(y: Tensor, function: Callable[[Tensor], float]) -> Tensor:
    """A number of each measurement, ``(walkers,)`` float64; equal neighbours are asked once."""
    found: list[float] = []
    for index, one in enumerate(y):
        same = index > 0 and torch.equal(one, y[index - 1])
        found.append(found[-1] if same else function(one))
    return torch.tensor(found, dtype=torch.float64, device=y.device)


def flat_column(low: Tensor, high: Tensor) -> Tensor:
    """As of `column_of`, of a number that is flat in its logarithm between ends ``(walkers,)``."""
    low, high, zero = low.log(), high.log(), torch.zeros_like(low)
    return torch.stack([low, high, zero, zero, (high - low) / math.sqrt(12)])


def column_of(prior: ScalarPrior, y: Tensor) -> Tensor:
    """low, high, centre, precision and deviation for every walker, ``(5, walkers)``."""
    ends = prior.coordinate(prior.low), prior.coordinate(prior.high)
    bend = (0.0, 0.0)
    if prior.centre is not None and prior.spread is not None:
        bend = (prior.centre, prior.spread**-2)
    numbers = torch.tensor([*ends, *bend, prior.deviation], dtype=torch.float64, device=y.device)
    return numbers[:, None].expand(-1, len(y))


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
