"""The particle walk: a weighted population that converges to the posterior itself.

Walkers move through ``pi_k(x) ~ p_sigma_k(x) l_k(x)``; ``l_k`` is a path (`paths`) that ends in the
exact likelihood ``p(y | x)``.  A step denoises and weighs, resamples the populations whose
weights have degenerated, and moves on:

    m  = D(x, sigma)
    w *= integral(bridge * l_{k+1}) / l_k(x)          how well the walker explains y, knowing m
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
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, instance, positive, share
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.resampling import effective_size, normalize, systematic_along
from tweedie_inverse.numerics.schedules import karras
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior, refuse_correlated
from tweedie_inverse.walks.base import Info, Level, Plan, PopulationInfo, Walk, check_levels
from tweedie_inverse.walks.bridge import Bridge, Joint
from tweedie_inverse.walks.communicator import Communicator, SingleProcess
from tweedie_inverse.walks.frame import Frame, Likelihood, basis_of, frame_of
from tweedie_inverse.walks.paths import PATHS, Path, Wiener
from tweedie_inverse.walks.population import ParticleState, Selection, arrived, places, propose
from tweedie_inverse.walks.shared_covariance import (
    SHARED_COVARIANCES,
    SharedCovariance,
    Walkers,
)

# Relative rounding error of an effective size.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Particle(Walk[ParticleState]):
    """Settings of the walk.

    Cost: one network evaluation for each step and each corrector; with the error from the network,
    half as many again and two for the start, within the same budget.

    Attributes:
        path: ``"tweedie"``, ``"wiener"`` or ``"flat"``.
        correctors: Langevin steps at each level but the first; they share the budget of
            evaluations.  For the Tweedie path, whose l is no Gaussian function of x, they are
            weighted steps that renew noise instead.
        corrector_time: t of a corrector.
        threshold: resample where the effective size falls below this share of the walkers.
        rho: exponent of the Karras schedule.
        error: where V comes from.  ``"network"`` reads it from the network, averaged over the
            population; ``"measured"`` is the prior's denoising error, exact or measured; ``"auto"``
            is "measured" where the prior has one, else "network".
        sigma_max: None is `reach` times the largest standard deviation of the prior in any
            direction; the start is exact in mean and covariance, so that a few times suffice.
            Where that deviation is not known before the walk, it is the end of the prior's range.
        sigma_min: the last level before 0; None takes that of the prior.
        communicator: ``ti.walks.ProcessGroup()`` where every population is spread over a process
            group.
    """

    path: str = "tweedie"
    correctors: int = 0
    corrector_time: float = 0.5
    threshold: float = 0.5
    rho: float = 3.0
    reach: float = 3.0
    error: str = "auto"
    sigma_max: float | None = None
    sigma_min: float | None = None
    communicator: Communicator = SingleProcess()  # noqa: RUF009  (it is frozen)

    name = "particle"
    default_steps = 100
    is_population = True

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or self.path not in PATHS:
            raise ValueError(f"Particle(path={self.path!r}): choose one of {sorted(PATHS)}")
        instance("Particle", "communicator", self.communicator, Communicator, need="a Communicator")
        count("Particle", "correctors", self.correctors, least=0)
        need = "a number between 0 (never resample) and 1 (wherever weights differ)"
        share("Particle", "threshold", self.threshold, need=need)
        for name in ("corrector_time", "rho", "reach"):
            positive("Particle", name, getattr(self, name))
        check_levels("Particle", self.sigma_min, self.sigma_max, None)
        if self.error not in ("auto", *SHARED_COVARIANCES):
            names = ", ".join(repr(name) for name in ("auto", *SHARED_COVARIANCES))
            raise ValueError(f"Particle(error={self.error!r}): choose one of {names}")

    def plan(self, problem: Problem, prior: Prior, steps: int) -> Plan:
        """As many steps as the budget allows, for the error that "auto" stands for."""
        source = self._source(prior)
        fitting = (n for n in range(steps, 0, -1) if source.evaluations(n) <= steps)
        levels = next(fitting, 0)
        if levels == 0:
            raise ValueError(
                f"Particle: {steps} evaluation{'s' * (steps > 1)} a sample leave no room to read "
                f"the denoising error of {prior!r} from the network. Take {source.evaluations(1)} "
                "steps or more, or measure it (ti.measure_denoising_error)"
            )
        walk = replace(self, error=source.name)
        return Plan(walk, self.sigmas(prior, levels), source.describe(levels))

    @property
    def one_population(self) -> bool:
        return self.error == "network"

    def sigmas(self, prior: Prior, steps: int) -> Tensor:
        if self.sigma_max is not None:
            high = self.sigma_max
        elif self._source(prior).name == "measured":
            high = self.reach * math.sqrt(float(prior.moments()[1].variance.max()))
        else:
            high = prior.sigma_max
        if not prior.any_sigma:
            high = min(high, prior.sigma_max)
        low = min(prior.sigma_min if self.sigma_min is None else self.sigma_min, high)
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
        refuse_correlated(prior, "Particle")
        if self.communicator.size > 1 and prior.ranks.size > 1:
            raise ValueError(
                f"Particle(communicator=): walkers and evaluations of {prior!r} cannot both be "
                "spread over the processes; leave out communicator=, or prior.over_ranks()"
            )
        if self.error == "measured" and not prior.error_is_measured:
            raise ValueError(
                f"Particle(error='measured'): the denoising error of {prior!r} is not measured. "
                "Use ti.measure_denoising_error, or error='auto', which reads it from the network"
            )
        if self._source(prior).name == "measured":
            error = prior.denoising_error(prior.sigma_max)
            basis_of(problem, prior, prior.moments()[1], error)

    def start(
        self, problem: Problem, prior: Prior, sigma: float, streams: Streams
    ) -> ParticleState:
        frame = self._frame(problem, prior, sigma, len(streams))
        moments = frame.moments
        # A walker that comes from infinitely far away knows no more than the prior's moments.
        m = moments.mean.expand(len(streams), *moments.mean.shape[1:])
        bridge = Bridge.around(m, moments.variance, sigma)
        # No denoiser has spoken yet, so that the Tweedie path too begins with the moments alone.
        path = Wiener() if self._path.remembers else self._path
        joint = Joint(bridge, path.model(bridge, sigma, moments))
        expected = frame.likelihood(joint.clean_mean, joint.clean_variance)

        size = len(streams) // problem.populations
        everyone = torch.arange(self.communicator.size * size, device=m.device)
        shape = (problem.populations, size)
        relative = expected.relative.reshape(shape)
        state = ParticleState(
            x=bridge.x,
            log_weights=torch.full_like(relative, -math.log(len(everyone))),
            log_likelihood=relative,
            log_scale=expected.scale,
            log_evidence=relative[:, 0] + expected.scale,
            ancestors=self.communicator.here(everyone.repeat(problem.populations, 1)),
            frame=frame,
            top=sigma,
            solver_error=expected.error,
        )
        return propose(state, joint, streams)

    def step(
        self,
        state: ParticleState,
        level: Level,
        problem: Problem,
        prior: Prior,
        streams: Streams,
    ) -> tuple[ParticleState, Info]:
        denoised, frame = prior.denoise(state.x, level.sigma), state.frame
        basis = frame.basis
        x, m = basis.transform(state.x), basis.transform(denoised)
        walkers = Walkers(state.x, denoised, level, basis, prior, streams, self.communicator)
        error, known = self._source(prior).variance(walkers, state.known)
        state = state._replace(known=known)
        if level.sigma == level.sigma_next and not self._path.remembers:
            here = Bridge(x, m, error, keep=1.0, spread=0.0)
            state = self._corrected(state, here, level.sigma, streams)
            return state, self._info(state, denoised)

        bridge = self._bridge(x, m, error, level)
        joint = Joint(bridge, self._path.model(bridge, level.sigma_next, frame.moments))
        expected = frame.likelihood(joint.clean_mean, joint.clean_variance)
        chosen = self._select(state, bridge, expected, streams)
        if chosen.bridge is not bridge:  # some populations were resampled
            model = self._path.model(chosen.bridge, level.sigma_next, frame.moments)
            joint = Joint(chosen.bridge, model)
        state = propose(chosen.state, joint, streams)
        return state, self._info(state, denoised, chosen)

    def portable(self, state: ParticleState) -> tuple:
        # The frame belongs to problem and prior, and is made anew.
        return state._replace(frame=None)  # type: ignore[arg-type]

    def restored(
        self, kept: ParticleState, problem: Problem, prior: Prior, walkers: int
    ) -> ParticleState:
        return kept._replace(frame=self._frame(problem, prior, kept.top, walkers))

    def _frame(self, problem: Problem, prior: Prior, sigma: float, walkers: int) -> Frame:
        """The frame of a walk that begins at level `sigma`."""
        source = self._source(prior)
        found = source.moments(prior, problem.y, walkers * self.communicator.size)
        return frame_of(problem, prior, found, source.basis(prior, sigma))

    def _source(self, prior: Prior) -> SharedCovariance:
        if self.error == "auto":
            return SHARED_COVARIANCES["measured" if prior.error_is_measured else "network"]
        return SHARED_COVARIANCES[self.error]

    @property
    def _path(self) -> Path:
        return PATHS[self.path]

    def _bridge(self, x: Tensor, m: Tensor, error: Tensor, level: Level) -> Bridge:
        """The reverse of the noising process; at a fixed level, a partial renewal of the noise."""
        keep = (level.sigma_next / level.sigma) ** 2
        if level.sigma == level.sigma_next:
            keep = math.exp(-self.corrector_time)
        spread = math.sqrt(max(0.0, level.sigma_next**2 - (keep * level.sigma) ** 2))
        return Bridge(x, m, error, keep, spread)

    def _select(
        self, state: ParticleState, bridge: Bridge, expected: Likelihood, streams: Streams
    ) -> Selection:
        """Weigh by `expected`, and resample the populations whose weights have degenerated."""
        communicator, moments = self.communicator, state.frame.moments
        gain = expected.relative.reshape_as(state.log_weights) - state.log_likelihood
        log_weights, log_mean = normalize(communicator.gather(state.log_weights + gain))
        size = effective_size(log_weights)
        # Equal weights are no reason, whichever way their sum is rounded.
        resampled = size < self.threshold * log_weights.shape[1] * (1 - _ROUNDING)
        # The number of a population is that of its first walker.
        numbers = streams.normal((), like=state.x).to(log_weights).reshape_as(gain)
        ancestors = state.ancestors
        if bool(resampled.any()):
            place = places(bridge.denoised, moments).reshape_as(gain)
            uniform = torch.special.ndtr(communicator.gather(numbers)[:, 0])
            # Neighbours along the prior's widest direction stand for each other, so that the
            # shares of separate modes scatter less.
            parents = systematic_along(communicator.gather(place), log_weights.exp(), uniform)
            own = torch.arange(parents.shape[1], device=parents.device).expand_as(parents)
            parents = torch.where(resampled[:, None], parents, own)
            bridge = replace(
                bridge,
                x=communicator.fetch(bridge.x, parents),
                denoised=communicator.fetch(bridge.denoised, parents),
            )
            ancestors = communicator.here(communicator.gather(ancestors).gather(1, parents))
        even = torch.full_like(log_weights, -math.log(log_weights.shape[1]))
        state = state._replace(
            log_weights=communicator.here(torch.where(resampled[:, None], even, log_weights)),
            log_evidence=state.log_evidence + log_mean + (expected.scale - state.log_scale),
            ancestors=ancestors,
            solver_error=max(state.solver_error, expected.error),
        )
        return Selection(state, bridge, size, resampled)

    def _corrected(
        self, state: ParticleState, here: Bridge, sigma: float, streams: Streams
    ) -> ParticleState:
        """A Langevin step at a fixed level, invariant where the prior is Gaussian."""
        frame = state.frame
        model = self._path.model(here, sigma, frame.moments)
        x0 = here.denoised + here.error.sqrt() * streams.normal(here.x.shape[1:], like=here.x)
        joint = Joint(Bridge.around(x0, torch.zeros_like(here.error), sigma), model)
        white, fresh = (streams.normal(x0.shape[1:], like=x0) for _ in range(2))
        clean = frame.draw_clean(joint, white, streams)
        covariance = frame.covariance(joint.clean_variance)
        clean_mean = frame.measurement.posterior_mean(joint.clean_mean, covariance)
        draw = joint.mean_given_clean(clean.value) + joint.deviation_given_clean * fresh
        centre = joint.mean_given_clean(clean_mean.value)
        stay = math.exp(-self.corrector_time)
        x = centre + stay * (here.x - centre) + math.sqrt(1 - stay**2) * (draw - centre)
        return arrived(state, x, model, max(clean.error, clean_mean.error))

    def _info(
        self, state: ParticleState, denoised: Tensor, chosen: Selection | None = None
    ) -> Info:
        log_weights = self.communicator.gather(state.log_weights)
        if chosen is None:  # a corrector leaves the weights alone
            size = effective_size(log_weights)
            resampled = torch.zeros_like(size, dtype=torch.bool)
        else:
            size, resampled = chosen.effective_size, chosen.resampled
        population = PopulationInfo(
            weights=log_weights.exp(),
            log_evidence=state.log_evidence,
            effective_size=size,
            resampled=resampled,
            ancestors=self.communicator.gather(state.ancestors),
        )
        return Info(denoised, solver_error=state.solver_error, population=population)
