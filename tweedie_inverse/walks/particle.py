"""The particle walk: a weighted population that converges to the posterior itself.

Walkers move through ``pi_k(x) ~ p_sigma_k(x) l_k(x)``; ``l_k`` is a path (`paths`) that ends in the
exact likelihood ``p(y | x)``.  A step denoises and weighs, then resamples where weights have
degenerated, and moves on:

    m  = D(x, sigma)
    w *= integral(bridge * l_{k+1}) / l_k(x)          what the walker explains of y, seen with m
    x' ~ bridge(x' | x, m) l_{k+1}(x')                a Gaussian, drawn exactly

with ``bridge = N(m + r^2 (x - m), sigma'^2 (1 - r^2) I + (1 - r^2)^2 V)``, ``r = sigma' / sigma``
and V the prior's denoising error, which makes it exact for Gaussian priors at any step length.
The product of the mean weights estimates the evidence ``p(y)``.  A corrector moves walkers at a
fixed level, by a Langevin step preconditioned with ``P = (I / sigma^2 - l'')^-1``:

    x <- mu + e^-t (x - mu) + sqrt(1 - e^-2t) P^1/2 n

with mu the mean of ``N(x; x0, sigma^2) l_k(x)`` and ``x0 ~ N(m, V)``.

Wu et al. 2023 (TDS) and Cardoso et al. 2024 (MCG-diff) are of this family.  Differs from them: no
gradient of the network, the bridge knows its denoising error, and weights are used before the
move wherever the path allows it.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.modes import Modes, modes_of
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance, along, common_basis
from tweedie_inverse.numerics.random import Streams
from tweedie_inverse.numerics.resampling import effective_size, normalize, systematic
from tweedie_inverse.numerics.schedules import karras
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.walks.base import Info, Level, PopulationInfo, Walk
from tweedie_inverse.walks.communicator import Crowd
from tweedie_inverse.walks.paths import PATHS, Bridge, Model, Moments, Wiener

# Of an effective size, relative.
_ROUNDING = 1e-9


class Frame(NamedTuple):
    """The same at all levels: the measurement in a basis, and the prior's moments there."""

    seen: Modes
    moments: Moments


class ParticleState(NamedTuple):
    """Walkers of all populations, one population after the other."""

    x: Tensor  # (walkers, *shape)
    log_weights: Tensor  # (populations, walkers of one), float64; weights sum to 1
    explained: Tensor  # like log_weights: log l_k(x) less `scale`; the weights already hold it
    scale: float  # the part of log l_k(x) that is the same for all walkers
    log_evidence: Tensor  # (populations,), float64
    ancestors: Tensor  # like log_weights: the walker of the start that each one descends from
    frame: Frame


@dataclass(frozen=True)
class Particle(Walk[ParticleState]):
    """Settings of the walk.

    Cost: one network evaluation a step, correctors included.

    Attributes:
        path: ``"tweedie"``, ``"wiener"`` or ``"flat"``.
        correctors: Langevin steps at each level but the first; they share the budget of
            evaluations.  For the Tweedie path, whose l is no Gaussian function of x, they are
            weighted steps that renew noise instead.
        corrector_time: t of a corrector.
        threshold: resample where the effective size falls below this share of the walkers.
        rho: of the Karras schedule.
        sigma_max: None is `reach` times the largest standard deviation of the prior in any
            direction; the start is exact in mean and covariance, so that a few times suffice.
        sigma_min: the last level before 0; None is the prior's own.
        crowd: ``ti.walks.Group()`` where every population is spread over a process group.
    """

    path: str = "tweedie"
    correctors: int = 0
    corrector_time: float = 0.5
    threshold: float = 0.5
    rho: float = 3.0
    reach: float = 3.0
    sigma_max: float | None = None
    sigma_min: float | None = None
    crowd: Crowd = Crowd()  # noqa: RUF009  (it is frozen)

    name = "particle"
    default_steps = 100
    is_population = True

    def __post_init__(self) -> None:
        if self.path not in PATHS:
            raise ValueError(f"Particle(path={self.path!r}): choose one of {sorted(PATHS)}")
        if self.correctors < 0 or not 0 <= self.threshold <= 1 or self.corrector_time <= 0:
            raise ValueError(
                f"Particle(correctors={self.correctors}, corrector_time={self.corrector_time}, "
                f"threshold={self.threshold}): needs correctors >= 0, a positive time and a "
                "threshold between 0 (never resample) and 1 (wherever weights differ)"
            )

    def sigmas(self, prior: Prior, steps: int) -> Tensor:
        spread = math.sqrt(float(prior.moments()[1].variance.max()))
        high = self.sigma_max or self.reach * spread
        if not prior.any_sigma:
            high = min(high, prior.sigma_max)
        low = min(self.sigma_min or prior.sigma_min, high)
        levels = -(-(steps + self.correctors) // (1 + self.correctors))
        grid = karras(levels, low, high, rho=self.rho)
        held = grid[:-1].repeat_interleave(1 + self.correctors)[-steps:]
        return torch.cat([held, grid[-1:]])

    def refuse(self, problem: Problem, prior: Prior) -> None:
        if not problem.is_linear_gaussian:
            raise ValueError(
                "the particle walk needs a linear operator with Gaussian noise, whose bridges it "
                f"can draw exactly; got {problem.operator!r} with {problem.noise!r}. Use "
                "method='decoupled', or linearize the operator"
            )
        if not prior.error_is_measured:
            raise ValueError(
                "the particle walk needs the denoising error of the prior, which says how far its "
                f"bridges reach, and {type(prior).__name__} has none measured. Use "
                "ti.measure_denoising_error, or method='decoupled'"
            )
        common_basis(*_covariances(prior, prior.sigma_max), problem.basis, prior.shape)

    def start(
        self, problem: Problem, prior: Prior, sigma: float, streams: Streams
    ) -> ParticleState:
        mean, covariance = prior.moments()
        basis = common_basis(*_covariances(prior, sigma), problem.basis, prior.shape)
        m = basis.transform(mean.to(problem.y)[None])
        moments = Moments(m, along(covariance, basis, prior.shape).to(problem.y))
        frame = Frame(modes_of(problem, basis), moments)
        # From infinitely far away: it forgets x, and D and V are the prior's mean and variance.
        m = m.expand(len(streams), *m.shape[1:])
        bridge = Bridge(m, m, moments.variance, 0.0, sigma)
        # No denoiser has spoken yet, so that the Tweedie path too begins with the moments alone.
        path = Wiener() if PATHS[self.path].remembers else PATHS[self.path]
        model = path.model(bridge, sigma, moments)
        size, ahead = len(streams) // problem.populations, _ahead(bridge, model)
        expected = frame.seen.log_marginal(*ahead).reshape(-1, size)
        everyone = torch.arange(self.crowd.size * size, device=m.device)
        x = _propose(bridge, model, frame.seen, streams)
        return ParticleState(
            basis.inverse(x),
            torch.full_like(expected, -math.log(len(everyone))),
            frame.seen.log_marginal(model.mean(x), model.variance).reshape(-1, size),
            frame.seen.log_scale(model.variance),
            expected[:, 0] + frame.seen.log_scale(ahead[1]),
            self.crowd.here(everyone.repeat(problem.populations, 1)),
            frame,
        )

    def step(
        self,
        state: ParticleState,
        level: Level,
        problem: Problem,
        prior: Prior,
        streams: Streams,
    ) -> tuple[ParticleState, Info]:
        denoised, frame = prior.denoise(state.x, level.sigma), state.frame
        path, moments, basis = PATHS[self.path], frame.moments, frame.seen.basis
        x, m = basis.transform(state.x), basis.transform(denoised)
        error = along(prior.denoising_error(level.sigma), basis, prior.shape).to(x)
        if level.sigma == level.sigma_next and not path.remembers:
            moved = self._corrected(Bridge(x, m, error, 1.0, 0.0), level.sigma, frame, streams)
            return self._arrive(state, *moved), self._info(state, denoised)

        bridge = self._bridge(x, m, error, level)
        model = path.model(bridge, level.sigma_next, moments)
        ahead = _ahead(bridge, model)
        expected = frame.seen.log_marginal(*ahead).reshape_as(state.explained)
        scale = frame.seen.log_scale(ahead[1]) - state.scale
        gain = expected - state.explained
        state, bridge, size, resampled = self._select(state, bridge, gain, scale, streams)
        model = path.model(bridge, level.sigma_next, moments)
        x = _propose(bridge, model, frame.seen, streams)
        return self._arrive(state, x, model), self._info(state, denoised, size, resampled)

    def _select(
        self, state: ParticleState, bridge: Bridge, gain: Tensor, scale: float, streams: Streams
    ) -> tuple[ParticleState, Bridge, Tensor, Tensor]:
        """Weigh by `gain`, and resample the populations whose weights have degenerated.

        Returns:
            State and bridge of the walkers that go on, the effective sizes before, and which
            populations were resampled.
        """
        crowd, moments = self.crowd, state.frame.moments
        log_weights, log_mean = normalize(crowd.gather(state.log_weights + gain))
        size = effective_size(log_weights)
        # Equal weights are no reason, whichever way their sum is rounded.
        resampled = size < self.threshold * log_weights.shape[1] * (1 - _ROUNDING)
        # A number of the first walker of a population is a number of that population.
        numbers = streams.normal((), like=log_weights).reshape_as(gain)
        ancestors = state.ancestors
        if bool(resampled.any()):
            place = crowd.gather(_places(bridge.denoised, moments).reshape_as(gain))
            uniform = torch.special.ndtr(crowd.gather(numbers)[:, 0])
            parents = _parents(log_weights, resampled, place, uniform)
            bridge = bridge._replace(
                x=crowd.fetch(bridge.x, parents), denoised=crowd.fetch(bridge.denoised, parents)
            )
            ancestors = crowd.here(crowd.gather(ancestors).gather(1, parents))
        even = torch.full_like(log_weights, -math.log(log_weights.shape[1]))
        state = state._replace(
            log_weights=crowd.here(torch.where(resampled[:, None], even, log_weights)),
            log_evidence=state.log_evidence + log_mean + scale,
            ancestors=ancestors,
        )
        return state, bridge, size, resampled

    def _bridge(self, x: Tensor, m: Tensor, error: Tensor, level: Level) -> Bridge:
        """The reverse of the noising process; at a fixed level, a partial renewal of the noise."""
        keep = (level.sigma_next / level.sigma) ** 2
        if level.sigma == level.sigma_next:
            keep = math.exp(-self.corrector_time)
        spread = math.sqrt(max(0.0, level.sigma_next**2 - (keep * level.sigma) ** 2))
        return Bridge(x, m, error, keep, spread)

    def _corrected(
        self, here: Bridge, sigma: float, frame: Frame, streams: Streams
    ) -> tuple[Tensor, Model]:
        """A Langevin step at a fixed level, invariant where the prior is Gaussian."""
        model = PATHS[self.path].model(here, sigma, frame.moments)
        x0 = here.denoised + here.error.sqrt() * streams.normal(here.x.shape[1:], like=here.x)
        around = Bridge(x0, x0, torch.zeros_like(here.error), 0.0, sigma)  # N(x0, sigma^2)
        white, fresh = (streams.normal(x0.shape[1:], like=x0) for _ in range(2))
        data_white = streams.normal(frame.seen.noise_shape, like=x0)
        clean = frame.seen.condition(*_ahead(around, model), white, data_white)
        centre, draw = (_behind(around, model, value) for value in clean)
        draw = draw + _left(around, model) * fresh
        stay = math.exp(-self.corrector_time)
        x = centre + stay * (here.x - centre) + math.sqrt(1 - stay**2) * (draw - centre)
        return x, model

    def _arrive(self, state: ParticleState, x: Tensor, model: Model) -> ParticleState:
        seen = state.frame.seen
        explained = seen.log_marginal(model.mean(x), model.variance)
        return state._replace(
            x=seen.basis.inverse(x),
            explained=explained.reshape_as(state.explained),
            scale=seen.log_scale(model.variance),
        )

    def _info(
        self,
        state: ParticleState,
        denoised: Tensor,
        size: Tensor | None = None,
        resampled: Tensor | None = None,
    ) -> Info:
        log_weights = self.crowd.gather(state.log_weights)
        if size is None or resampled is None:  # a corrector leaves the weights alone
            size = effective_size(log_weights)
            resampled = torch.zeros_like(size, dtype=torch.bool)
        ancestors = self.crowd.gather(state.ancestors)
        population = PopulationInfo(
            log_weights.exp(), state.log_evidence, size, resampled, ancestors
        )
        return Info(denoised, solver_error=state.frame.seen.error, population=population)


def _ahead(bridge: Bridge, model: Model) -> tuple[Tensor, Tensor]:
    """Mean and variances of x0 seen through the model, by a walker that is still at x."""
    return model.mean(bridge.mean), model.slope**2 * bridge.variance + model.variance


def _propose(bridge: Bridge, model: Model, seen: Modes, streams: Streams) -> Tensor:
    """``x' ~ bridge(x') l(x')``: first x0 given y, then x' given x0."""
    mean, variance = _ahead(bridge, model)
    white, fresh = (streams.normal(seen.shape, like=mean) for _ in range(2))
    x0 = seen.draw(mean, variance, white, streams.normal(seen.noise_shape, like=mean))
    return _behind(bridge, model, x0) + _left(bridge, model) * fresh


def _behind(bridge: Bridge, model: Model, x0: Tensor) -> Tensor:
    """``E[x' | x0]``."""
    mean, variance = _ahead(bridge, model)
    return bridge.mean + _ratio(bridge.variance * model.slope, variance) * (x0 - mean)


def _left(bridge: Bridge, model: Model) -> Tensor:
    """Standard deviations of x' given x0."""
    _, variance = _ahead(bridge, model)
    return _ratio(bridge.variance * model.variance, variance).sqrt()


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """``a / b``, 0 where both vanish: along directions that the prior does not know."""
    return torch.where(b > 0, a / b.clamp(min=torch.finfo(b.dtype).tiny), torch.zeros_like(b))


def _places(m: Tensor, moments: Moments) -> Tensor:
    """Where each walker stands along the prior's widest direction, ``(walkers,)``."""
    widest = int(moments.variance.expand(m.shape[1:]).flatten().argmax())
    return m.flatten(1)[:, widest]


def _parents(log_weights: Tensor, resampled: Tensor, place: Tensor, uniform: Tensor) -> Tensor:
    """Indices ``(populations, walkers)``: whose place each walker takes.

    Systematic, along the prior's widest direction: neighbours stand for each other, so that the
    shares of separate modes scatter less (Gerber, Chopin and Whiteley 2019).
    """
    own = torch.arange(log_weights.shape[1], device=place.device).expand(log_weights.shape)
    order = place.argsort(dim=1, stable=True)
    chosen = systematic(log_weights.exp().gather(1, order), uniform)
    return torch.where(resampled[:, None], order.gather(1, chosen), own)


def _covariances(prior: Prior, sigma: float) -> tuple[Covariance, Covariance]:
    return prior.moments()[1], prior.denoising_error(sigma)
