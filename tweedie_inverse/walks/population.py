"""The walkers of all populations of a particle walk, and how they are moved."""

from typing import NamedTuple

from torch import Tensor

from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.walks.bridge import Bridge, Joint, Model
from tweedie_inverse.walks.frame import Frame
from tweedie_inverse.walks.paths import Moments
from tweedie_inverse.walks.shared_covariance import Shares


class ParticleState(NamedTuple):
    """Walkers of all populations, one population after the other."""

    x: Tensor  # (walkers, *shape)
    log_weights: Tensor  # (populations, walkers of one), float64; weights sum to 1
    log_likelihood: Tensor  # like log_weights: log l_k(x) less log_scale, part of the weights
    log_scale: Tensor  # the part of log l_k(x) that is the same for all walkers
    log_evidence: Tensor  # (populations,), float64
    ancestors: Tensor  # like log_weights: the walker of the start that each one descends from
    frame: Frame
    top: float  # the level where the walk began
    solver_error: float  # of the worst linear solve so far, in posterior standard deviations
    known: Shares | None = None  # of the denoising error, where it is read from the network


class Selection(NamedTuple):
    """The walkers that go on, and what was decided about their populations."""

    state: ParticleState
    bridge: Bridge
    effective_size: Tensor  # (populations,), before resampling
    resampled: Tensor  # (populations,), boolean


def propose(state: ParticleState, joint: Joint, streams: Streams) -> ParticleState:
    """``x' ~ bridge(x') l(x')``: first x0 given y, then x' given x0."""
    mean = joint.clean_mean
    white, fresh = (streams.normal(mean.shape[1:], like=mean) for _ in range(2))
    clean = state.frame.draw_clean(joint, white, streams)
    x = joint.mean_given_clean(clean.value) + joint.deviation_given_clean * fresh
    return arrived(state, x, joint.model, clean.error)


def arrived(state: ParticleState, x: Tensor, model: Model, error: float) -> ParticleState:
    """The state with walkers at x, coefficients, where `model` holds."""
    likelihood = state.frame.likelihood(model.mean(x), model.variance)
    return state._replace(
        x=state.frame.basis.inverse(x),
        log_likelihood=likelihood.relative.reshape_as(state.log_weights),
        log_scale=likelihood.scale,
        solver_error=max(state.solver_error, error, likelihood.error),
    )


def places(m: Tensor, moments: Moments) -> Tensor:
    """Where each walker stands along the prior's widest direction, ``(walkers,)``."""
    widest = moments.variance.expand(m.shape[1:]).flatten().argmax()
    return m.flatten(1).index_select(1, widest.to(m.device).reshape(1))[:, 0]
