"""Moves of an instrument's unknowns given y, in which the image is integrated out.

At a level the walk believes ``x0 ~ N(m, V)``, so that ``y ~ N(A_t m, K_t)`` for unknowns t, with
``K_t = S_t + A_t V A_t^T``.  A step ``t | x0, y`` would stick, because x0 has been fitted to y
under the old t; here x0 is left out, and drawn after t.  The determinant of ``K_t``, which nobody
knows, is not needed either (the exchange algorithm): with t' proposed and data ``w ~ N(A_t' m,
K_t')`` drawn,

    log a = 1/2 (E(y|t) - E(y|t') + E(w|t') - E(w|t)) + log pi(t') - log pi(t)

with ``E(y|t) = (y - A_t m)^T K_t^-1 (y - A_t m)`` accepts t' and leaves ``p(t | m, V, y)`` exactly
as it is.  Each E takes one linear solve, and none where K is diagonal; no network is evaluated.

V is what a denoiser does not know of an average image.  An image with more edges than most has more
left to know, and a Gaussian that is sure of V then takes its edges for a sharper instrument.  Where
V is not exact, its amplitude is therefore unknown too, ``K_t = S_t + a A_t V A_t^T``, and moved as
the unknowns are: they are then told by the shape of spectra, and not by their height.

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
_GAIN_AT_FIRST, _GAIN = 0.7, 0.25
# One move in so many is so much longer, for starts that are far off and for two modes.
_SELDOM, _LONGER = 0.2, 8.0
# Metropolis steps of each number of the operator given the image.
_NEAR = 3
# Standard deviation of the prior of log a, and of its first proposals.
_AMPLITUDE, _AMPLITUDE_STEP = 1.0, 0.2
# In an order of moves, that of the amplitude.
AMPLITUDE = -1


class Moved(NamedTuple):
    """The unknowns after some moves."""

    u: Tensor  # (walkers, count), coordinates
    steps: Tensor  # (walkers, count), standard deviations of the proposals from now on
    trace: Tensor  # (moves, walkers, count), u after each of them
    accepted: Tensor  # (walkers,), share of the moves
    amplitude: Tensor  # (walkers, 2): log a, and the standard deviation of its proposals


class Believed(NamedTuple):
    """What is believed of the images, and what the data say if the unknowns are u."""

    u: Tensor  # (walkers, count + 1), with log a
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
    amplitude: Tensor | None = None,
    at_first: bool = False,
) -> Moved:
    """Move the unknowns of each walker, one after the other.

    Args:
        u, steps: ``(walkers, count)`` float64.
        mean, covariance: m ``(walkers, *domain_shape)`` and V.
        y: ``(walkers, *range_shape)``, in its own units.
        order: which unknown each move is of, or `AMPLITUDE`.
        amplitude: as of `Moved`; by default V is as large as it says.
        at_first: whether steps still have to find their size.
    """
    amplitude = no_amplitude(u) if amplitude is None else amplitude
    if not order:
        none = u.new_zeros((0, *u.shape))
        return Moved(u, steps, none, torch.zeros_like(u[:, 0]), amplitude)
    scene = Scene(mean, covariance, instrument, y)
    u, steps = (torch.cat(pair, 1) for pair in ((u, amplitude[:, :1]), (steps, amplitude[:, 1:])))
    here, visited, accepted = scene.at(u), [], torch.zeros_like(u[:, 0])
    gain = _GAIN_AT_FIRST if at_first else _GAIN
    for which in order:
        proposed = _proposal(here.u, steps, which, streams, like=y)
        here, taken = _exchange(here, proposed, scene, streams)
        steps = _adapted(steps, which, taken, gain, scene.deviations)
        accepted = accepted + taken
        visited.append(here.u[:, :-1])
    amplitude = torch.stack([here.u[:, -1], steps[:, -1]], 1)
    accepted = accepted / len(order)
    return Moved(here.u[:, :-1], steps[:, :-1], torch.stack(visited), accepted, amplitude)


def no_amplitude(u: Tensor) -> Tensor:
    """V as large as it says, and first proposals, for unknowns ``(walkers, count)``."""
    return u.new_tensor([0.0, _AMPLITUDE_STEP]).expand(len(u), 2)


class Scene(NamedTuple):
    """What is the same for all moves of a level; coordinates u come with log a."""

    mean: Tensor
    covariance: Covariance
    instrument: Instrument
    y: Tensor

    def at(self, u: Tensor, like: Problem | None = None, start: Tensor | None = None) -> Believed:
        tuned = self.instrument.tuned(u[:, :-1], like)
        predicted = self.instrument.predict(self.mean, tuned)
        energy = self.energy(self.y - predicted, u, tuned, start)
        return Believed(u, tuned, predicted, energy)

    @property
    def deviations(self) -> Tensor:
        """Of the priors of all that is moved, ``(walkers, count + 1)``."""
        deviation = self.instrument.unknowns.deviation
        return torch.cat([deviation, torch.full_like(deviation[:, :1], _AMPLITUDE)], 1)

    def log_density(self, u: Tensor) -> Tensor:
        """Of the priors of all that is moved; -inf outside of them."""
        bend = 0.5 * (u[:, -1] / _AMPLITUDE).square()
        return self.instrument.unknowns.log_density(u[:, :-1]) - bend

    def energy(
        self, residual: Tensor, u: Tensor, tuned: Problem, start: Tensor | None = None
    ) -> Energy:
        """``r^T K^-1 r`` of residuals in units of y."""
        white = self.instrument.whiten(residual, tuned)
        covariance = in_units(self.covariance, tuned)
        larger = u[:, -1].exp().to(covariance.variance)
        covariance = covariance.map(lambda variance: variance * _column(larger, variance))
        return squared_norm(white, covariance, tuned, start)

    def simulated(self, u: Tensor, tuned: Problem, streams: Streams) -> Tensor:
        """``w - A m`` for data w as they would be, in units of y."""
        instrument, like = self.instrument, self.mean
        image = self.covariance.colour(streams.normal(like.shape[1:], like=like))
        image = image * _column((u[:, -1] / 2).exp().to(image), image)
        white = streams.normal(self.y.shape[1:], like=like) * instrument.observed
        return instrument.predict(image, tuned) + instrument.colour(white, tuned)


def _exchange(
    here: Believed, proposed: Tensor, scene: Scene, streams: Streams
) -> tuple[Believed, Tensor]:
    """One move: the belief after it, and who took it, ``(walkers,)`` float64."""
    # Outside of its prior nothing is tried: the operator may not exist there.
    valid = scene.log_density(proposed).isfinite()
    proposed = torch.where(valid[:, None], proposed, here.u)
    there = scene.at(proposed, here.tuned, here.energy.solution)
    away = scene.simulated(there.u, there.tuned, streams)
    back = away + there.predicted - here.predicted
    of_there = scene.energy(away, there.u, there.tuned)
    of_here = scene.energy(back, here.u, here.tuned, of_there.solution)
    ratio = 0.5 * (here.energy.value - there.energy.value + of_there.value - of_here.value)
    ratio = ratio + scene.log_density(proposed) - scene.log_density(here.u)
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
    return Believed(u, scene.instrument.tuned(u[:, :-1], here.tuned), predicted, energy)


def _proposal(u: Tensor, steps: Tensor, which: int, streams: Streams, like: Tensor) -> Tensor:
    """u with another number in column `which`."""
    far = streams.uniform((1,), like=like)[:, 0] < _SELDOM
    factor = torch.where(far, _LONGER, 1.0).double()
    change = steps[:, which] * factor * streams.normal((1,), like=like)[:, 0].double()
    proposed = u.clone()
    proposed[:, which] += change
    return proposed


def _adapted(steps: Tensor, which: int, taken: Tensor, gain: float, deviations: Tensor) -> Tensor:
    """Steps that are a little longer after a move that was taken; a walker knows its own only."""
    adapted = steps.clone()
    longest = 2 * deviations[:, which]
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
        modes = problem.spectrum.to_modes(residual)
        information = resident(covariance.variance, modes) * problem.response.square()
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
        steps = _adapted(steps, which, taken.double(), _GAIN, instrument.unknowns.deviation)
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
    steps = 0.3 * unknowns.deviation.clone()
    for which in range(instrument.levels):
        sharpest = 3 / math.sqrt(2 * max(1.0, float(instrument.counts[which])))
        steps[:, which] = steps[:, which].clamp(max=sharpest)
    return steps


def _square(r: Tensor) -> Tensor:
    return r.double().square().flatten(1).sum(1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
