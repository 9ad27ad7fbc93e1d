"""Why samples do not fit their measurement: likely causes in order, by tests that cost little.

No network is evaluated.  What the walk itself reports comes first.  Then the order is that in which
users go wrong: the value range, the noise level, the operator, the prior's range of noise levels,
the number of steps; a cause that a test points at goes before those that no test speaks for.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.numerics.krylov import conjugate_gradient
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.operators import (
    GaussianNoise,
    LinearOperator,
    NoiseModel,
    Operator,
    estimate_noise,
)
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.solving.blocks import of_samples
from tweedie_inverse.solving.diagnostics import Diagnostics, number

# y is out of the prior's reach if it is this many times as large as what images of it give.
_FAR = 3.0
# Entries this many standard deviations, and this share of the range, beyond what any image gives;
# and how many of them matter.
_BEYOND, _BEYOND_RANGE, _SOME = 5.0, 0.2, 0.02
# Correlation of neighbouring residuals below which they look like white noise.
_WHITE = 0.15
# An estimate of the noise level is trusted within this factor.
_AGREES = 1.3
# Misfits up to this many times the range may be those of a walk that is short.
_NEAR, _SHORT = 3.0, 50
_PROBES, _ITERATIONS = 4, 100


class Case(NamedTuple):
    """One measurement that its samples do not fit."""

    y: Tensor  # (1, *range_shape)
    samples: Tensor  # (count, *domain_shape)
    operator: Operator
    noise: NoiseModel
    prior: Prior
    top: float  # the noise level at which the walk began
    steps: int
    diagnostics: Diagnostics  # of this measurement alone


class _Cause(NamedTuple):
    text: str
    found: bool  # whether a test points at it


class _Range(NamedTuple):
    """The values of the prior's images, in data units."""

    low: float
    high: float
    is_known: bool


@torch.no_grad()
def likely_causes(case: Case) -> tuple[str, ...]:
    """Questions to the user, the likeliest first."""
    values = _values_of(case.prior)
    chi_square = float(case.diagnostics.chi_square)
    assert case.diagnostics.expected is not None
    too_low = chi_square < float(case.diagnostics.expected[0])
    far = not too_low and _out_of_reach(case, values)
    level = math.sqrt(chi_square)
    if too_low:
        return (*case.diagnostics.troubles, "is the noise level right? It looks too large")
    residual = _residual(case)
    white = _is_white(residual)
    impossible = _least_chi_square(case) > float(case.diagnostics.expected[1])
    left = not far and case.diagnostics.leaves_range
    squares = sum(
        float((part - _centre(case)).square().mean()) * len(part)
        for part in of_samples(case.samples)
    )
    spread = math.sqrt(squares / len(case.samples))
    causes = [
        _Cause(_value_range(values), far),
        _Cause(
            f"is the noise level right? One {number(level)} times as large would fit",
            not far and white and not left and not _estimate_agrees(case),
        ),
        _Cause(
            "is the operator the one that measured y?"
            + " No image at all fits it" * (impossible and not far),
            not far and impossible and not white,
        ),
        _Cause(
            f"does the prior's network know noise from {case.prior.sigma_min:.3g} to "
            f"{case.prior.sigma_max:.3g}? ti.check_prior(prior, images) measures it",
            left or (not far and spread > case.top),
        ),
    ]
    near = chi_square < _NEAR * float(case.diagnostics.expected[1])
    others = [
        _Cause(
            "are your images like those of the prior? ti.check_fit(y, operator, prior) tests it",
            False,
        )
    ]
    if case.operator.range_is_complex and not case.operator.domain_is_complex:
        phase = "has the image a phase? The operator takes it as real; see docs/complex-images.md"
        others.insert(0, _Cause(phase, not far and impossible and not white))
    if case.steps < _SHORT:
        others.append(
            _Cause(
                f"is a walk of {case.steps} steps long enough? More of them fit closer",
                near and not any(cause.found for cause in causes),
            )
        )
    ranked = sorted([*causes, *others], key=lambda cause: not cause.found)
    return (*case.diagnostics.troubles, *(cause.text for cause in ranked))


def _value_range(values: _Range) -> str:
    ends = f"[{values.low:.3g}, {values.high:.3g}]"
    if values.is_known:
        return f"is y in the prior's value range {ends}?"
    return f"is y in the units of the prior, whose images lie in {ends}, roughly?"


def _values_of(prior: Prior) -> _Range:
    """The known range, or a guess that is rather too wide."""
    if prior.value_range is not None:
        return _Range(*prior.value_range, True)
    if prior.error_is_measured:
        mean, covariance = prior.moments()
        reach = 4 * float(covariance.variance.mean()) ** 0.5
        return _Range(float(mean.min()) - reach, float(mean.max()) + reach, False)
    centre = torch.as_tensor(prior.centre)
    return _Range(float(centre.min()) - prior.unit, float(centre.max()) + prior.unit, False)


def _out_of_reach(case: Case, values: _Range) -> bool:
    """Whether y is larger than, or beyond, what images of these values give.

    Judged by the two constant images and a few of random black and white pixels.  Where the latter
    stay between the former, A has no negative weights and every entry has bounds.
    """
    shape = (_PROBES, *case.operator.domain_shape)
    random = (normal(("causes",), shape) > 0).to(case.y)
    ends = torch.stack([torch.zeros_like(random[0]), torch.ones_like(random[0])])
    images = values.low + (values.high - values.low) * torch.cat([ends, random])
    ax = case.operator.forward(images)
    if not bool(ax.isfinite().all()):
        return False
    std = case.noise.variance(ax).sqrt().expand_as(ax).amax(0)
    root_mean_squares = (ax.square() + std.square()).flatten(1).mean(1).sqrt()
    if float(case.y.square().mean().sqrt()) > _FAR * float(root_mean_squares.max()):
        return True
    low, high = ax[:2].amin(0), ax[:2].amax(0)
    slack = 1e-3 * (high - low).max()
    bounded = bool(((ax >= low - slack) & (ax <= high + slack)).all())
    if not (values.is_known and bounded):
        return False
    seen = _observed(case)
    # The noise may be larger than it is said to be, which is another cause.
    allowed = _BEYOND * std + _BEYOND_RANGE * (high - low).max()
    beyond = (case.y[0] < low - allowed) | (case.y[0] > high + allowed)
    return float(beyond[seen].float().mean()) > _SOME


def _observed(case: Case) -> Tensor:
    shape, seen = case.operator.range_shape, case.operator.observed
    seen = torch.ones(shape, dtype=torch.bool) if seen is None else seen
    return seen.to(case.y.device).expand(shape)


def _residual(case: Case) -> Tensor:
    """Standardized residual averaged over the samples, ``range_shape``; 0 where unobserved."""
    total = torch.zeros_like(case.y[0])
    for part in of_samples(case.samples, case.y):
        total += case.noise.standardize(case.y, case.operator.forward(part)).sum(0)
    return (total / len(case.samples) * _observed(case)).cpu().double()


def _is_white(residual: Tensor) -> bool:
    """Whether neighbours along the last two axes are uncorrelated."""
    total = float(residual.square().sum())
    for axis in range(max(0, residual.ndim - 2), residual.ndim):
        size = residual.shape[axis]
        if size < 4:
            continue
        pairs = residual.narrow(axis, 1, size - 1) * residual.narrow(axis, 0, size - 1)
        seen = residual != 0
        both = (seen.narrow(axis, 1, size - 1) & seen.narrow(axis, 0, size - 1)).sum()
        correlation = float(pairs.sum() / both.clamp(min=1)) / (total / max(1, int(seen.sum())))
        if abs(correlation) > _WHITE + 3 / max(1, int(both)) ** 0.5:
            return False
    return True


def _least_chi_square(case: Case) -> float:
    """The smallest that any image reaches, the prior aside; 0 where it is not known cheaply."""
    if not (isinstance(case.operator, LinearOperator) and isinstance(case.noise, GaussianNoise)):
        return 0.0
    operator, noise, seen = case.operator, case.noise, _observed(case)
    whitened = noise.whiten(case.y)

    def transposed(z: Tensor) -> Tensor:
        return operator.adjoint(noise.whiten_transposed(z))

    rhs = transposed(whitened)
    resolution = torch.finfo(rhs.dtype).eps ** 0.5
    image = conjugate_gradient(
        lambda x: transposed(noise.whiten(operator.forward(x))),
        rhs,
        tolerance=resolution * rhs.square().mean(),
        max_iterations=_ITERATIONS,
    ).solution
    left = noise.whiten(case.y - operator.forward(image))
    return float((left.square()[0] * seen).sum() / seen.sum())


def _estimate_agrees(case: Case) -> bool:
    """Whether y itself suggests the noise level that was given."""
    if not (isinstance(case.noise, GaussianNoise) and case.noise.is_white):
        return False
    try:
        ratio = estimate_noise(case.y) / float(case.noise.std)
    except ValueError:
        return False
    return 1 / _AGREES < ratio < _AGREES


def _centre(case: Case) -> Tensor:
    return torch.as_tensor(case.prior.centre).to(case.samples)
