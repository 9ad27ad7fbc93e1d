"""Which noise levels of its range a network can be used at, measured rather than believed.

Two answers are always at hand: the noisy image itself, with squared error sigma^2, and a linear
denoiser, which at large sigma is the images' mean.  A network that does worse than the first at
little noise, or than the second at much, is of no use there: published networks often are, because
their loss hardly sees such levels.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from tweedie_inverse.evaluation.prior_check.errors import LevelErrors, measure, within
from tweedie_inverse.evaluation.prior_check.findings import Finding, exceeds_zero
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import Prior

# Squared error over that of the answer at hand: what is clearly more than this is not of use, and
# what is clearly more than that is lost, so that the check fails.  A range is only suggested from
# levels that seem to be no worse than the third.
_USABLE, _LOST, _SUGGESTED = 1.1, 2.0, 1.2
# Levels are a factor of 2 apart, or more where the range is wide.
_STEP, _MOST = 2.0, 8
_IMAGES, _PIXELS = 16, 4096  # whichever are more images
# A denoiser whose answers differ by less than this share of what it removes is blind to sigma.
_BLIND = 1e-3
_ONE_LEVEL = ". It answers the same whatever sigma it is given: a denoiser for one noise level"


class UsableRange(NamedTuple):
    """The finding, and the levels from `low` to `high` at which the prior is of use.

    Attributes:
        errors: measured outside the levels that were given, in increasing order.
        is_blind: whether it answers the same whatever sigma it is given; looked at only where a
            part of the range is lost.
    """

    finding: Finding
    low: float
    high: float
    errors: tuple[LevelErrors, ...]
    is_blind: bool = False

    @property
    def exists(self) -> bool:
        """Whether there is such a range: the network may then be wrapped right."""
        return self.low < self.high


def usable_range(
    prior: Prior, images: Tensor, core: Sequence[LevelErrors], spread: float, seed: int
) -> UsableRange:
    """Measure the prior at both ends of its range, and at levels between them and the `core`.

    Args:
        images: ``(count, *shape)``; the first 16 of them are used, more if they are small.
        core: errors at the levels around the images' own spread.
        spread: standard deviation of the images' values.  A network that is wrapped right is of use
            up to there, unless its own range ends below, or it is made for one level.

    Cost: at most 16 network evaluations for each of the images used, and two more.
    """
    first, last = core[0].sigma, core[-1].sigma
    few = images[: max(_IMAGES, _PIXELS // images[0].numel())]
    below = within(prior, _between(prior.sigma_min, first)[:-1])
    above = within(prior, _between(last, prior.sigma_max)[1:])
    outside = measure(prior, few, [*below, *above], seed, use="range") if below or above else []
    # (errors, those of the answer at hand), by sigma
    rows = [(e, e.noisy) for e in outside[: len(below)]]
    rows += [(e, e.linear) for e in core]
    rows += [(e, e.linear) for e in outside[len(below) :]]
    ratios = [_ratio(error, at_hand) for error, at_hand in rows]
    clearly = [exceeds_zero(error.denoised - _USABLE * at_hand) for error, at_hand in rows]
    lost = [exceeds_zero(error.denoised - _LOST * at_hand) for error, at_hand in rows]
    run = _longest(
        [not bad and ratio <= _SUGGESTED for bad, ratio in zip(clearly, ratios, strict=True)]
    )
    sigmas = [error.sigma for error, _ in rows]
    if not any(clearly):
        text = f"sigma {sigmas[0]:.3g} to {sigmas[-1]:.3g}, the whole range, is of use"
        return UsableRange(Finding("range", True, text), sigmas[0], sigmas[-1], tuple(outside))
    is_blind = any(lost) and _is_blind(prior, few)
    text = _worst(sigmas, ratios, clearly)
    remark = _ONE_LEVEL if is_blind else ""
    if run is None or not (is_blind or sigmas[run[1]] >= min(spread, sigmas[-1])):
        finding = Finding("range", False, f"{text}; no range is of use{remark}")
        return UsableRange(finding, math.nan, math.nan, tuple(outside), is_blind)
    low, high = sigmas[run[0]], sigmas[run[1]]
    cure = ", ".join(
        f"{name}={level:.3g}"
        for name, level, end in (
            ("sigma_min", low, sigmas[0]),
            ("sigma_max", high, sigmas[-1]),
        )
        if level != end
    )
    text = f"of use from sigma {low:.3g} to {high:.3g}: {text}; prior.limited({cure}){remark}"
    finding = Finding("range", not any(lost), text)
    return UsableRange(finding, low, high, tuple(outside), is_blind)


def _between(low: float, high: float) -> list[float]:
    """Levels from `low` to `high`, both included, at equal ratios."""
    if high <= low:
        return [low]
    steps = min(_MOST, math.ceil(math.log(high / low) / math.log(_STEP)))
    return [low * (high / low) ** (i / steps) for i in range(steps)] + [high]


def _ratio(error: LevelErrors, at_hand: Tensor) -> float:
    ratio = float(error.denoised.mean() / at_hand.mean())
    return ratio if math.isfinite(ratio) else math.inf


def _longest(good: Sequence[bool]) -> tuple[int, int] | None:
    """First and last place of the longest run of two or more true entries."""
    best, start = None, None
    for place, value in enumerate([*good, False]):
        if value and start is None:
            start = place
        if not value and start is not None:
            if place - 1 > start and (best is None or place - 1 - start > best[1] - best[0]):
                best = (start, place - 1)
            start = None
    return best


def _worst(sigmas: Sequence[float], ratios: Sequence[float], clearly: Sequence[bool]) -> str:
    ratio, sigma = max(
        (ratio, sigma) for ratio, sigma, bad in zip(ratios, sigmas, clearly, strict=True) if bad
    )
    return (
        f"at {sigma:.3g} its squared error is {ratio:.3g} times that of the noisy image or of a "
        "linear denoiser"
    )


def _is_blind(prior: Prior, images: Tensor) -> bool:
    """Whether the denoiser answers the same at both ends of its range."""
    sigma = (prior.sigma_min * prior.sigma_max) ** 0.5
    noise = prior.coloured(normal(("blind",), images[:2].shape).to(images))
    noisy = images[:2] + sigma * noise
    low, high = (prior.denoise(noisy, s) for s in (prior.sigma_min, prior.sigma_max))
    return float((low - high).norm()) <= _BLIND * float((low - noisy).norm())
