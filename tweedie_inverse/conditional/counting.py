"""An instrument that counts, with unknown gain or read-out noise, as each walker takes it to be.

Counts ``y = g k + s n``, ``k ~ Poisson(A x / g)``, are seen in two ways.

`counted` is the measurement as it is, in units of each walker's own gain: ``y / g`` are counts of
the image ``x / g``, so that one noise model serves all walkers.  Images are drawn with it, and the
unknowns given an image.

`about` is the Gaussian that has the same mean and covariance where ``x ~ N(m, V)``: ``y ~ N(A m,
A V A^T + diag(g A m + s^2))``, because the variance of a count is linear in its rate.  The unknowns
are moved with it where the image is left out.
"""

import copy
import math

import torch
from torch import Tensor

from tweedie_inverse.conditional.instrument import (
    Instrument,
    MembersProblem,
    column_of,
    each_of,
    flat_column,
)
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.operators import (
    GaussianNoise,
    LinearOperator,
    NoiseModel,
    PoissonGaussianNoise,
    PoissonNoise,
    UnknownCountingNoise,
)
from tweedie_inverse.operators.parametric import Members

# Ranges where none is given: of the gain in units of the largest entry, of the read-out noise in
# units of the root mean square.
_LOWEST, _HIGHEST = 1e-4, 1.0
# Read-out noise of more counts is Gaussian noise, and its exact likelihood takes long.
_MOST_COUNTS = 20.0
# The variance of an entry is that of so many counts at least: a rate may be negative on the way.
_LEAST_COUNTS = 0.1
# Metropolis steps of each number given the image; they need no application of the operator.
_MOVES = 8
_WANTED, _GAIN = 0.4, 0.25


class CountingInstrument(Instrument):
    """Of the walkers of a problem whose noise is that of counts."""

    def __init__(self, problem: Problem):
        self._seen: Tensor | None = None  # A m of `about`
        super().__init__(problem)

    def about(self, mean: Tensor) -> "CountingInstrument":
        """With the Gaussian noise of images about `mean`, ``(walkers, *domain_shape)``."""
        other = copy.copy(self)
        other._seen = self._operator.forward(mean)
        return other

    def counted(self, u: Tensor) -> Problem:
        """The measurement if the unknowns are u, in counts, with images in units of the gain."""
        gain, std = self.numbers(u)
        shaped = _column(gain, self._problem.y)
        noise: NoiseModel = PoissonNoise(1.0)
        if std is not None:
            noise = PoissonGaussianNoise.of_walkers(_column(std / gain, self._problem.y))
        made = Problem(self._problem.y / shaped, self._operator, noise)
        made.unit = gain.to(self._problem.y).reshape(-1, *[1] * len(self._operator.domain_shape))
        self._calls.append(made.applications)
        return made

    def tuned(self, u: Tensor, like: Problem | None = None) -> Problem:
        """The Gaussian of `about`, with white noise of standard deviation 1."""
        y, (gain, std) = self._problem.y, self.numbers(u)
        assert self._seen is not None
        rate = self._seen
        gain = _column(gain, y)
        variance = gain * rate.maximum(_LEAST_COUNTS * gain)
        if std is not None:
            variance = variance + _column(std, y).square()
        deviation = variance.sqrt()
        unit = variance.flatten(1).mean(1).sqrt()
        rows = _column(unit, y) / deviation
        curvatures = like.curvatures if isinstance(like, MembersProblem) else {}
        made = MembersProblem(
            y / deviation, Members(self._operator, rows), GaussianNoise(1.0), curvatures
        )
        made.unit = unit.reshape(-1, *[1] * len(self._operator.domain_shape))
        self._calls.append(made.applications)
        return made

    def numbers(self, u: Tensor) -> tuple[Tensor, Tensor | None]:
        """Gain and read-out noise of each walker, ``(walkers,)``; None where there is none."""
        noise = self._noise
        assert isinstance(noise, UnknownCountingNoise)
        found = {name: u.new_full((len(u),), value) for name, value in noise.known.items()}
        for place, name in enumerate(noise.unknown_names):
            found[name] = u[:, place].exp()
        return found["gain"], found.get("std")

    def log_density(self, ax: Tensor, u: Tensor) -> Tensor:
        """``log p(y, u | x)`` for ``A x`` ``(walkers, *range_shape)``, ``(walkers,)`` float64."""
        y, (gain, std) = self._problem.y, self.numbers(u)
        shaped = _column(gain, y)
        noise: PoissonNoise | PoissonGaussianNoise = PoissonNoise(1.0)
        if std is not None:
            noise = PoissonGaussianNoise.of_walkers(_column(std / gain, y))
        entries = noise.entries(y / shaped, ax / shaped).double() * self.observed
        # A density of y, and not of y / g.
        whole = entries.flatten(1).sum(1) - self.observed.sum() * gain.log()
        return whole + self.prior(u)

    def prior(self, u: Tensor) -> Tensor:
        """Logarithm of the prior; -inf outside of it, and where the read-out noise hides counts."""
        gain, std = self.numbers(u)
        density = self.unknowns.log_density(u)
        return density if std is None else density.where(std <= _MOST_COUNTS * gain, -math.inf)

    def chi_square(self, x: Tensor, u: Tensor) -> Tensor:
        tuned = self.counted(u)
        assert tuned.unit is not None
        noise, ax = tuned.noise, tuned.operator.forward(x / tuned.unit)
        squares = noise.standardize(tuned.y, ax).square() * self.observed
        return squares.flatten(1).sum(1) / self.observed.sum()

    def known(self, u: Tensor) -> tuple[LinearOperator, NoiseModel]:  # type: ignore[override]
        gain, std = (None if each is None else float(each) for each in self.numbers(u[None]))
        assert gain is not None
        noise = PoissonNoise(gain) if std is None else PoissonGaussianNoise(gain, std)
        return self._operator, noise

    def _grouped(self, shape: tuple[int, ...]) -> tuple[Tensor, int]:
        noise = self._noise
        assert isinstance(noise, UnknownCountingNoise)
        levels = len(noise.unknown_names)
        return torch.zeros(shape, dtype=torch.long, device=self._problem.y.device), levels

    def _counted(self) -> Tensor:
        return self.observed.sum().double().expand(self.levels)

    def _first_levels(self) -> Tensor:
        """From a noise level of all of y, half of it from either source."""
        assert isinstance(self._noise, UnknownCountingNoise)
        y = self._problem.y
        variance = each_of(y, self._guess).square() / (2 if self._noise.reads_out else 1)
        brightness = each_of(y, lambda one: max(float(one[self.observed].mean()), 1e-30))
        guess = {"gain": variance / brightness, "std": variance.sqrt()}
        return torch.stack([guess[name].log() for name in self._noise.unknown_names], 1)

    def _noise_columns(self) -> list[Tensor]:
        noise, y = self._noise, self._problem.y
        assert isinstance(noise, UnknownCountingNoise)
        largest = each_of(y, lambda one: max(float(one[self.observed].abs().max()), 1e-30))
        sizes = {"gain": largest, "std": each_of(y, self._size)}
        return [
            flat_column(sizes[name] * _LOWEST, sizes[name] * _HIGHEST)
            if prior is None
            else column_of(prior, y)
            for name, prior in noise.priors.items()
        ]


def instrument_of(problem: Problem) -> Instrument:
    """The instrument of a problem whose operator or noise has unknowns."""
    is_counting = isinstance(problem.noise, UnknownCountingNoise)
    return CountingInstrument(problem) if is_counting else Instrument(problem)


def moved_given_image(
    u: Tensor, steps: Tensor, x0: Tensor, instrument: CountingInstrument, streams: Streams
) -> tuple[Tensor, Tensor]:
    """Metropolis steps of the noise's numbers given the image: u and steps after them."""
    counted = instrument.counted(u)
    assert counted.unit is not None
    ax = counted.forward(x0 / counted.unit) * _column(instrument.numbers(u)[0], counted.y)
    here = instrument.log_density(ax, u)
    for which in _MOVES * list(range(instrument.levels)):
        proposed = u.clone()
        proposed[:, which] += steps[:, which] * streams.normal((1,), like=x0)[:, 0].double()
        valid = instrument.prior(proposed).isfinite()
        proposed = torch.where(valid[:, None], proposed, u)
        there = instrument.log_density(ax, proposed)
        uniform = streams.uniform((1,), like=x0)[:, 0].double()
        taken = valid & (uniform.log() < there - here)
        u, here = torch.where(taken[:, None], proposed, u), torch.where(taken, there, here)
        steps = steps.clone()
        steps[:, which] *= torch.exp(_GAIN * (taken.double() - _WANTED))
    return u, steps


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like).reshape(-1, *[1] * (like.ndim - 1))
