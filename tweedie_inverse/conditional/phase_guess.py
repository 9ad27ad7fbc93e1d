"""Where the moves of an unknown phase begin: draws of its Laplace approximation, image left out.

The image is taken for a draw of the prior's own moments, ``N(m, V)``, and ``E(y|t) / 2`` less the
logarithm of the prior is made small by Gauss-Newton steps from the phase of the middle of k-space.
With ``r = y - A_t m`` and ``m' = m + V A_t^T K^-1 r``, the image that y and t suggest, its slope is

    d/dt_k E/2 = -<A_t (i b_k m'), K^-1 r>

for one linear solve, b_k being the phase of number k.  The determinant of K is left out: a phase
changes it little.  It decides nothing: moves that leave the law as it is follow.

Cost: for each different measurement a few times as many linear solves as there are numbers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.linear_gaussian import IterativeMeasurement
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.conditional.units import in_units
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.numerics.streams import Streams

_ROUNDS, _HALVINGS = 8, 4
# Steps of less than so many posterior deviations end the search.
_SMALL = 0.1
# After steps of less the information is as it was.
_NEAR = 3.0
_PROBE = ("phase information", 0)


class PhaseGuess:
    """Of the walkers of a problem; measurements that are the same are asked once.

    Args:
        mean, covariance: the prior's moments, m ``(*domain_shape)`` and V.
    """

    def __init__(self, problem: Problem, mean: Tensor, covariance: Covariance):
        self._each: list[_Place] = []
        self._instruments: list[Instrument] = []
        rows: list[int] = []
        for index, one in enumerate(problem.y):
            if not index or not torch.equal(one, problem.y[index - 1]):
                instrument = Instrument(Problem(one[None], problem.operator, problem.noise))
                self._instruments.append(instrument)
                self._each.append(_searched(instrument, mean.to(one)[None], covariance))
                problem.operator_calls += instrument.take_calls()
            rows.append(len(self._each) - 1)
        self._rows = torch.tensor(rows, device=problem.y.device)
        self._covariance = covariance

    def drawn(self, streams: Streams) -> Tensor:
        """Numbers of each walker, ``(walkers, numbers)`` float64."""
        found = torch.cat([place.t for place in self._each])[self._rows]
        like = self._each[0].image
        white = streams.normal(found.shape[1:], like=like).double()
        return found + steps_of(self.information_root(self._covariance), white)

    def information_root(self, covariance: Covariance) -> Tensor:
        """Cholesky factor of what y and the prior tell of the numbers, where V is `covariance`.

            I_jk = <A_t (i b_j x), K_t^-1 A_t (i b_k x)> + prior,    x ~ N(m', V)

        ``(walkers, numbers, numbers)`` float64, by one linear solve for each number and each
        different measurement.  It depends on y and V alone, and not on where a walker is.
        """
        pairs = zip(self._each, self._instruments, strict=True)
        roots = [_information_root(place, covariance, one) for place, one in pairs]
        return torch.cat(roots)[self._rows]


def steps_of(root: Tensor, white: Tensor) -> Tensor:
    """Normal numbers of the covariance I^-1, ``(walkers, numbers)``, from white ones."""
    return torch.linalg.solve_triangular(root.mT, white[..., None], upper=True)[..., 0]


class _Place(NamedTuple):
    """Of one measurement."""

    u: Tensor  # (1, count) float64, coordinates of all unknowns
    t: Tensor  # (1, numbers), those of the phase
    value: Tensor  # E/2 less the logarithm of the prior
    slope: Tensor  # (1, numbers), minus its gradient
    image: Tensor  # m', (1, *domain_shape)


def _searched(instrument: Instrument, mean: Tensor, covariance: Covariance) -> _Place:
    here, root = _place(instrument.start(), instrument, mean, covariance), None
    for _ in range(_ROUNDS):
        if root is None:
            root = _information_root(here, covariance, instrument)
        step = torch.cholesky_solve(here.slope[..., None], root)[..., 0]
        for _ in range(_HALVINGS):
            proposed = torch.cat([here.u[:, : instrument.levels], here.t + step], 1)
            there = _place(proposed, instrument, mean, covariance)
            if float(there.value) < float(here.value):
                break
            step = step / 2
        else:
            return here
        here, length = there, float((root[0].mT @ step[0]).norm())
        if length < _SMALL:
            break
        if length > _NEAR:
            root = None
    return here


def _place(u: Tensor, instrument: Instrument, mean: Tensor, covariance: Covariance) -> _Place:
    tuned, unknowns = instrument.tuned(u), instrument.unknowns
    unit = 1.0 if tuned.unit is None else tuned.unit
    own, noise = in_units(covariance, tuned), tuned.gaussian_noise
    residual = instrument.whiten(instrument.y - instrument.predict(mean, tuned), tuned)
    q = IterativeMeasurement(tuned, own.basis).solve(own, residual).solution
    change = own.filter(q)
    rest = residual - noise.whiten(tuned.forward(change))
    squares = rest.double().square().sum() + (q.double() * own.precision(q)).sum()
    image = mean / unit + change
    back = tuned.adjoint(noise.whiten_transposed(rest))
    along = (back * quarter_turned(image)).double().sum(1, keepdim=True)
    slope = (along * resident(_phases(instrument), along)).flatten(2).sum(2)
    of = slice(instrument.levels, None)
    bend = unknowns.precision[:, of] * (u[:, of] - unknowns.centre[:, of])
    value = 0.5 * squares - unknowns.log_density(u)[0]
    return _Place(u, u[:, of], value, slope - bend, image * unit)


def _information_root(place: _Place, covariance: Covariance, instrument: Instrument) -> Tensor:
    tuned, like, unknowns = instrument.tuned(place.u), place.image, instrument.unknowns
    own, noise = in_units(covariance, tuned), tuned.gaussian_noise
    white = Streams([_PROBE]).normal(like.shape[1:], like=like)
    turned = quarter_turned(like + covariance.colour(white))
    measurement = IterativeMeasurement(tuned, own.basis)
    found = []
    for phase in resident(_phases(instrument), like):
        slope = instrument.whiten(instrument.predict(turned * phase, tuned), tuned)
        # r^T K^-1 s = (r - W q_r)^T (s - W q_s) + q_r^T T^-2 q_s with q of `squared_norm`.
        q = measurement.solve(own, slope).solution
        rest = slope - noise.whiten(tuned.forward(own.filter(q)))
        found.append(torch.cat([rest.flatten(), own.unscaled(q).flatten()]).double())
    slopes, of = torch.stack(found), slice(instrument.levels, None)
    known = unknowns.precision[0, of] + unknowns.deviation[0, of] ** -2
    return torch.linalg.cholesky(slopes @ slopes.mT + known.diag())[None]


def quarter_turned(image: Tensor) -> Tensor:
    """``i`` times images ``(batch, 2, *size)``."""
    return torch.stack([-image[:, 1], image[:, 0]], 1)


def _phases(instrument: Instrument) -> Tensor:
    assert instrument.phase is not None
    return instrument.phase.basis
