"""Moves of an instrument's unknowns given y, in which the image is integrated out.

At a level the walk believes ``x0 ~ N(m, V)``, so that ``y ~ N(A_t m, K_t)`` for unknowns t, with
``K_t = S_t + A_t V A_t^T``.  A step ``t | x0, y`` would stick, because x0 has been fitted to y
under the old t; here x0 is left out, and drawn after t.  The determinant of ``K_t``, which nobody
knows, is not needed either (the exchange algorithm): with t' proposed and data ``w ~ N(A_t' m,
K_t')`` drawn,

    log a = 1/2 (E(y|t) - E(y|t') + E(w|t') - E(w|t)) + log pi(t') - log pi(t)

with ``E(y|t) = (y - A_t m)^T K_t^-1 (y - A_t m)`` accepts t' and leaves ``p(t | m, V, y)`` exactly
as it is.  Each E takes one linear solve, and none where K is diagonal; no network is evaluated.

Source: Murray, Ghahramani, MacKay, "MCMC for doubly-intractable distributions", UAI 2006.
"""

import math
from collections.abc import Sequence
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

# The acceptance that steps are tuned for; auxiliary data make the best one lower than elsewhere.
_WANTED = 0.35
# How far one move changes the logarithm of the step: at a walk's first level, and later.
_GAIN_AT_FIRST, _GAIN = 0.7, 0.4
# A first step of an operator's number, in standard deviations of its prior.
_FIRST_STEP = 0.1
# One move in so many is so much longer, for starts that are far off and for two modes.
_SELDOM, _LONGER = 0.2, 8.0
# Metropolis steps of each number of the operator given the image.
_NEAR = 3


class Moved(NamedTuple):
    """The unknowns after some moves."""

    u: Tensor  # (walkers, count), coordinates
    steps: Tensor  # (walkers, count), standard deviations of the proposals from now on
    trace: Tensor  # (moves, walkers, count), u after each of them
    accepted: Tensor  # (walkers,), share of the moves


class Believed(NamedTuple):
    """What is believed of the images, and what the data say if the unknowns are u."""

    u: Tensor
    tuned: Problem
    predicted: Tensor  # A_t m, in units of y
    energy: "Energy"  # E(y | t)


class Energy(NamedTuple):
    """``r^T K^-1 r`` of residuals, and where it was found."""

    value: Tensor  # (walkers,), float64
    solution: Tensor | None  # of the linear solve, where there was one; near-by ones begin there


def collapsed_moves(
    u: Tensor,
    steps: Tensor,
    mean: Tensor,
    covariance: Covariance,
    instrument: Instrument,
    streams: Streams,
    y: Tensor,
    *,
    order: Sequence[int],
    at_first: bool = False,
) -> Moved:
    """Move the unknowns of each walker, one after the other.

    Args:
        u, steps: ``(walkers, count)`` float64.
        mean, covariance: m ``(walkers, *domain_shape)`` and V.
        y: ``(walkers, *range_shape)``, in its own units.
        order: which unknown each move is of.
        at_first: whether steps still have to find their size.
    """
    if not order:
        return Moved(u, steps, u.new_zeros((0, *u.shape)), torch.zeros_like(u[:, 0]))
    scene = Scene(mean, covariance, instrument, y)
    here, visited, accepted = scene.at(u), [], torch.zeros_like(u[:, 0])
    gain = _GAIN_AT_FIRST if at_first else _GAIN
    for which in order:
        proposed = _proposal(here.u, steps, which, streams, like=y)
        here, taken = exchange(here, proposed, scene, streams)
        steps = _adapted(steps, which, taken, gain, instrument)
        accepted = accepted + taken
        visited.append(here.u)
    return Moved(here.u, steps, torch.stack(visited), accepted / len(order))


class Scene(NamedTuple):
    """What is the same for all moves of a level."""

    mean: Tensor
    covariance: Covariance
    instrument: Instrument
    y: Tensor

    def at(self, u: Tensor, like: Problem | None = None, start: Tensor | None = None) -> Believed:
        tuned = self.instrument.tuned(u, like)
        predicted = self.instrument.predict(self.mean, tuned)
        energy = self.energy(self.y - predicted, tuned, start)
        return Believed(u, tuned, predicted, energy)

    def energy(self, residual: Tensor, tuned: Problem, start: Tensor | None = None) -> Energy:
        """``r^T K^-1 r`` of residuals in units of y."""
        white = self.instrument.whiten(residual, tuned)
        return squared_norm(white, in_units(self.covariance, tuned), tuned, start)

    def simulated(self, tuned: Problem, streams: Streams) -> Tensor:
        """``w - A m`` for data w as they would be, in units of y."""
        instrument, like = self.instrument, self.mean
        image = self.covariance.colour(streams.normal(like.shape[1:], like=like))
        white = streams.normal(self.y.shape[1:], like=like) * instrument.observed
        return instrument.predict(image, tuned) + instrument.colour(white, tuned)


def exchange(
    here: Believed, proposed: Tensor, scene: Scene, streams: Streams
) -> tuple[Believed, Tensor]:
    """One move: the belief after it, and who took it, ``(walkers,)`` float64."""
    unknowns = scene.instrument.unknowns
    # Outside of its prior nothing is tried: the operator may not exist there.
    valid = unknowns.log_density(proposed).isfinite()
    proposed = torch.where(valid[:, None], proposed, here.u)
    there = scene.at(proposed, here.tuned, here.energy.solution)
    away = scene.simulated(there.tuned, streams)
    back = away + there.predicted - here.predicted
    of_there = scene.energy(away, there.tuned)
    of_here = scene.energy(back, here.tuned, of_there.solution)
    ratio = 0.5 * (here.energy.value - there.energy.value + of_there.value - of_here.value)
    ratio = ratio + unknowns.log_density(proposed) - unknowns.log_density(here.u)
    uniform = streams.uniform((1,), like=scene.y)[:, 0].double()
    taken = valid & (uniform.log() < ratio)
    return _merged(there, here, taken, scene), taken.double()


def _merged(there: Believed, here: Believed, taken: Tensor, scene: Scene) -> Believed:
    """`there` for those who took the move, `here` for the others."""
    u = torch.where(taken[:, None], there.u, here.u)
    predicted = torch.where(_column(taken, here.predicted), there.predicted, here.predicted)
    value = torch.where(taken, there.energy.value, here.energy.value)
    solution = here.energy.solution
    if solution is not None and there.energy.solution is not None:
        solution = torch.where(_column(taken, solution), there.energy.solution, solution)
    energy = Energy(value, solution)
    return Believed(u, scene.instrument.tuned(u, here.tuned), predicted, energy)


def _proposal(u: Tensor, steps: Tensor, which: int, streams: Streams, like: Tensor) -> Tensor:
    """u with another number in column `which`."""
    far = streams.uniform((1,), like=like)[:, 0] < _SELDOM
    factor = torch.where(far, _LONGER, 1.0).double()
    change = steps[:, which] * factor * streams.normal((1,), like=like)[:, 0].double()
    proposed = u.clone()
    proposed[:, which] += change
    return proposed


def _adapted(
    steps: Tensor, which: int, taken: Tensor, gain: float, instrument: Instrument
) -> Tensor:
    """Steps that are a little longer after a move that was taken; a walker knows its own only."""
    adapted = steps.clone()
    longest = 2 * instrument.unknowns.deviation[:, which]
    longer = steps[:, which] * torch.exp(gain * (taken - _WANTED))
    adapted[:, which] = torch.minimum(longer, longest)
    return adapted


def squared_norm(
    residual: Tensor, covariance: Covariance, problem: Problem, start: Tensor | None = None
) -> Energy:
    """``r^T K^-1 r`` of whitened residuals, with ``K = I + A V A^T`` whitened.

    It is the minimum over q of ``|r - A F q|^2 + q . T^-2 q`` with ``V = F T^2 F^T``, so that an
    error of q enters in second order only.

    Args:
        residual: ``(walkers, *range_shape)``.
        covariance: V of images in the units of the problem, one for each walker.
        start: the solution for residuals nearby.
    """
    plain = covariance.scale is None and not covariance.secants
    if plain and problem.is_diagonal(covariance.basis):
        spectrum = problem.spectrum_in(covariance.basis)
        assert spectrum is not None
        modes = spectrum.to_modes(residual)
        response = problem.response_of(spectrum)
        information = resident(covariance.variance, modes) * response.square()
        share = information / (1 + information)
        return Energy(_square(residual) - _square(share.sqrt() * modes), None)
    measurement = IterativeMeasurement(problem, covariance.basis)
    q = measurement.solve(covariance, residual, start=start).solution
    noise = problem.gaussian_noise
    rest = residual - noise.whiten(problem.forward(covariance.filter(q)))
    cost = (q.double() * covariance.precision(q)).flatten(1).sum(1)
    return Energy(_square(rest) + cost, q)


def conditional_moves_of(
    u: Tensor, steps: Tensor, x0: Tensor, instrument: Instrument, streams: Streams, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw the unknowns given the image: u and steps after it.

    A noise level with a prior flat in its logarithm is ``|y - A x0| / |n|`` with n white noise,
    exactly; other priors accept or refuse that.  Numbers of the operator make a few Metropolis
    steps each, for one application of the operator.
    """
    tuned = instrument.tuned(u)
    residual = y - instrument.predict(x0, tuned)
    for which in _NEAR * list(instrument.singly):
        proposed = _proposal(u, steps, which, streams, like=y)
        valid = instrument.unknowns.log_density(proposed).isfinite()
        proposed = torch.where(valid[:, None], proposed, u)
        other = instrument.tuned(proposed, tuned)
        left = y - instrument.predict(x0, other)
        ratio = 0.5 * (
            _square(instrument.whiten(residual, tuned)) - _square(instrument.whiten(left, other))
        )
        density = instrument.unknowns.log_density
        ratio = ratio + density(proposed) - density(u)
        taken = valid & (streams.uniform((1,), like=y)[:, 0].double().log() < ratio)
        u = torch.where(taken[:, None], proposed, u)
        residual = torch.where(_column(taken, left), left, residual)
        tuned = instrument.tuned(u, tuned)
        steps = _adapted(steps, which, taken.double(), _GAIN, instrument)
    if not instrument.levels:
        return u, steps
    white = streams.normal(y.shape[1:], like=y)
    squares = instrument.sums_of_squares(residual) / instrument.sums_of_squares(white)
    proposed = u.clone()
    proposed[:, : instrument.levels] = 0.5 * squares.clamp(min=1e-60).log()
    # Level by level, because each is refused by itself.
    for which in range(instrument.levels):
        one = u.clone()
        one[:, which] = proposed[:, which]
        ratio = instrument.unknowns.log_density(one) - instrument.unknowns.log_density(u)
        uniform = streams.uniform((1,), like=y)[:, 0].double()
        u = torch.where((uniform.log() < ratio)[:, None], one, u)
    return u, steps


def first_steps(instrument: Instrument) -> Tensor:
    """Proposals of a walk's first moves, ``(walkers, count)``."""
    unknowns = instrument.unknowns
    steps = _FIRST_STEP * unknowns.deviation.clone()
    for which in range(instrument.levels):
        sharpest = 3 / math.sqrt(2 * max(1.0, float(instrument.counts[which])))
        steps[:, which] = steps[:, which].clamp(max=sharpest)
    return steps


def _square(r: Tensor) -> Tensor:
    return r.double().square().flatten(1).sum(1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
