"""What must hold of the errors of every sound denoiser, each as a one-sided t-test over the images.

The images are a sample, so a right prior fails by chance once in hundreds of calls, and few images
show large errors only.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from tweedie_inverse.evaluation.prior_check.errors import LevelErrors

TOLERANCE = 1.05  # on squared errors
_OFFSET = 0.05  # tolerated, in units of the images' standard deviation
# One-sided probability of a failure by chance, in each of a few dozen tests.
_BY_CHANCE = 1e-4


class Finding(NamedTuple):
    """One check by its name, whether it passed, and what was seen."""

    name: str
    passed: bool
    text: str


def findings_of(errors: Sequence[LevelErrors], spread: float) -> tuple[Finding, ...]:
    """The checks at the levels where priors differ from each other.

    Args:
        spread: standard deviation of the images' values.
    """
    return (
        _finite(errors),
        _falling_psnr(errors),
        _better_than_linear(errors),
        _no_offset(errors, spread),
    )


def exceeds_zero(numbers: Tensor) -> bool:
    """Whether ``(count,)`` numbers, one an image, have a positive mean, and not by chance.

    A one-sided t-test; numbers that are not finite count as positive.
    """
    from scipy.stats import t

    count = len(numbers)
    limit = float(t.ppf(1 - _BY_CHANCE, count - 1)) * float(numbers.std()) / count**0.5
    return not float(numbers.mean()) <= limit


def _finite(errors: Sequence[LevelErrors]) -> Finding:
    finite = all(bool(level.denoised.isfinite().all()) for level in errors)
    return Finding("finite", finite, "all outputs are finite" if finite else "NaN or infinity")


def _falling_psnr(errors: Sequence[LevelErrors]) -> Finding:
    """The error grows with sigma, and stays below the noise."""
    falls = [
        exceeds_zero(before.denoised / TOLERANCE - after.denoised)
        for before, after in pairwise(errors)
    ]
    above = [exceeds_zero(level.denoised - TOLERANCE * level.noisy) for level in errors]
    if any(falls) or any(above):
        text = "the error does not grow with sigma from zero, or exceeds the noise"
        return Finding("PSNR falls with sigma", False, text)
    text = "more noise, larger error, and always less than the noise"
    return Finding("PSNR falls with sigma", True, text)


def _better_than_linear(errors: Sequence[LevelErrors]) -> Finding:
    """The error is at most that of a Wiener filter made of other images."""
    worse = [e.sigma for e in errors if exceeds_zero(e.denoised - TOLERANCE * e.linear)]
    text = f"worse at sigma {listed(worse)}" if worse else "at every level"
    return Finding("better than a linear denoiser", not worse, text)


def _no_offset(errors: Sequence[LevelErrors], spread: float) -> Finding:
    """The error is zero on average."""
    off = [
        level.sigma
        for level in errors
        if any(exceeds_zero(sign * level.offset - _OFFSET * spread) for sign in (1, -1))
    ]
    largest = max(abs(float(level.offset.mean())) for level in errors)
    text = f"mean error at most {largest / spread:.1%} of the images' std"
    if off:
        text = f"mean error {largest:.2g} at sigma {listed(off)}"
    return Finding("no offset", not off, text)


def listed(sigmas: Sequence[float]) -> str:
    return ", ".join(f"{sigma:.3g}" for sigma in sigmas)
