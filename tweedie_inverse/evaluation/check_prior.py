"""A self-test of a wrapped network: does it denoise as it should, and if not, what is mixed up?

The denoiser with the smallest squared error is the posterior mean, so every mistake in scaling,
units or parameterization shows as an error that is larger than it need be.  The check measures the
error over noise levels, holds it against a linear denoiser, and tries the usual mistakes: if
undoing one of them makes the error clearly smaller, that mistake was made.

The images are a sample, so every verdict is a one-sided t-test over them: a right prior fails by
chance once in hundreds of calls, and few images show large errors only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.arrays import advice_on_shape, real_tensor, refuse_type
from tweedie_inverse.evaluation.wrapping_mistakes import Suspect, find_mistakes
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Cosines
from tweedie_inverse.priors import Gaussian, GaussianMixture, Prior
from tweedie_inverse.priors.contract import hold_contracts
from tweedie_inverse.sampling.sampling import sample
from tweedie_inverse.walks.base import WalkDivergedError

# Noise levels in units of the images' standard deviation, where priors differ from each other.
_LEVELS = (0.1, 0.25, 0.5, 1.0, 2.0)
# For the mistakes; parameterizations differ most at large sigma.
_TRIED = (0.25, 0.5, 1.0, 4.0)
_IMAGES_TRIED, _PIXELS_TRIED = 4, 4096  # whichever are more images
_TOLERANCE = 1.05  # on squared errors
_OFFSET = 0.05  # tolerated, in units of the images' standard deviation
_BINS = 16
# One-sided probability of a failure by chance, in each of a few dozen tests.
_BY_CHANCE = 1e-4
_TOGETHER = 16  # images that are denoised together

_BLIND = (
    "the images are the prior's own samples: a factor in sigma or a wrong range that makes it a "
    "consistent prior for other images cannot be seen, nor can mistakes be told apart; pass images="
)


class CheckedLevel(NamedTuple):
    """One noise level; errors are mean squares in squared data units, the offset in data units.

    Attributes:
        sigma: the noise level.
        noisy: what the error is without a denoiser, ``sigma^2``.
        denoised, linear: of the prior and of a linear denoiser.
        offset: mean of the prior's error.
    """

    sigma: float
    noisy: float
    denoised: float
    linear: float
    offset: float


class Finding(NamedTuple):
    """One check by its name, whether it passed, and what was seen."""

    name: str
    passed: bool
    text: str


@dataclass(frozen=True)
class PriorReport:
    """What `check_prior` found; print it.

    Attributes:
        findings: the checks, one after the other.
        suspects: mistakes that would explain what was seen, likeliest first.
        levels: the measured errors.
        blind: what could not be seen.
    """

    findings: tuple[Finding, ...]
    suspects: tuple[Suspect, ...]
    levels: tuple[CheckedLevel, ...]
    blind: tuple[str, ...]
    spread: float

    @property
    def passed(self) -> bool:
        """Every check passed and nothing is suspected."""
        return not self.suspects and all(finding.passed for finding in self.findings)

    def __str__(self) -> str:
        lines = ["prior check: " + ("passed" if self.passed else "FAILED")]
        lines += [f"  {'ok  ' if f.passed else 'FAIL'} {f.name}: {f.text}" for f in self.findings]
        lines += [
            f"  suspect: {mistake} (undoing it divides the squared error by {improvement:.2g})"
            for mistake, improvement in self.suspects
        ]
        lines += [
            f"  {'sigma':>9} {'noisy':>8} {'denoised':>9} {'linear':>8}  dB, full scale = 4 std"
        ]
        for level in self.levels:
            errors = (level.noisy, level.denoised, level.linear)
            noisy, denoised, linear = (self._decibel(error) for error in errors)
            lines.append(f"  {level.sigma:9.4g} {noisy:8.2f} {denoised:9.2f} {linear:8.2f}")
        return "\n".join([*lines, *(f"  not seen: {text}" for text in self.blind)])

    def _decibel(self, error: float) -> float:
        ratio = torch.tensor(16 * self.spread**2 / max(error, 1e-30))
        return float(10 * ratio.log10())


@torch.no_grad()
def check_prior(prior: Prior, images: Any = None, *, seed: int = 0) -> PriorReport:
    """Test a prior on images it should know, and name the likely mistake.

    Args:
        images: ``(count, *shape)``, in data units, eight or more, a tensor or an array; default
            samples of the prior itself, which show less (`PriorReport.blind`).

    A network that breaks its contract (`boundary.contracts`) fails that check, and gets no other.

    Raises:
        ValueError: images of another shape, or fewer than two.

    Cost: three network evaluations, five an image, and some 60 for each of the first four (of more,
    if they are small); without images another 25 for each of 16.
    """
    blind: tuple[str, ...] = ()
    if not isinstance(prior, Prior):
        raise TypeError(f"check_prior: needs a prior, got {type(prior).__name__}")
    try:
        hold_contracts(prior, torch.zeros((), device=prior.device))
    except (ValueError, TypeError) as error:
        return PriorReport((Finding("contract", False, str(error)),), (), (), (), 1.0)
    seed, are_own = checked_seed("check_prior", "seed", seed), images is None
    if images is None:
        images, blind = _own_samples(prior, seed), (_BLIND,)
    images = real_tensor("check_prior", "images", images, finite=not are_own)
    if tuple(images.shape[1:]) != tuple(prior.shape) or len(images) < 2:
        raise ValueError(
            f"check_prior(images=): needs two or more images, shape (count, {prior.shape}), got "
            f"{tuple(images.shape)}{advice_on_shape(images.shape, prior.shape)}"
        )
    refuse_type("check_prior(images=)", images)
    if not bool(images.isfinite().all()):
        text = (
            "samples of the prior are not finite; the wrapping is wrong, pass images= to learn how"
        )
        return PriorReport((Finding("finite", False, text),), (), (), blind, 1.0)
    spread = float((images - images.mean()).square().mean().sqrt())
    errors = _measure(prior, images, _within(prior, [ratio * spread for ratio in _LEVELS]), seed)
    findings = (
        _finite(errors),
        _falling_psnr(errors),
        _better_than_linear(errors),
        _no_offset(errors, spread),
    )
    tried = _within(prior, [ratio * spread for ratio in _TRIED])
    few = max(_IMAGES_TRIED, _PIXELS_TRIED // images[0].numel())
    suspects = () if blind else find_mistakes(prior, images[:few], tried, seed)
    return PriorReport(findings, suspects, tuple(e.averages for e in errors), blind, spread)


class _Errors(NamedTuple):
    """What was seen at one noise level, an entry for each image, ``(count,)``, float64.

    Attributes:
        sigma: the noise level.
        noisy, denoised, linear: mean squared errors of the noisy image, the prior and a linear
            denoiser.
        offset: mean error of the prior.
    """

    sigma: float
    noisy: Tensor
    denoised: Tensor
    linear: Tensor
    offset: Tensor

    @property
    def averages(self) -> CheckedLevel:
        averages = (float(e.mean()) for e in (self.denoised, self.linear, self.offset))
        return CheckedLevel(self.sigma, self.sigma**2, *averages)


def _measure(prior: Prior, images: Tensor, sigmas: list[float], seed: int) -> list[_Errors]:
    """Errors at each noise level, on the same images with fresh noise."""
    linear, errors = _linear(images), []
    for index, sigma in enumerate(sigmas):
        noisy = images + sigma * normal(("check prior", seed, index), images.shape).to(images)
        denoised = torch.cat([prior.denoise(part, sigma) for part in noisy.split(_TOGETHER)])
        images_at = (noisy, denoised, linear(noisy, sigma))
        squares = [(x - images).double().square().flatten(1).mean(1) for x in images_at]
        offset = (denoised - images).double().flatten(1).mean(1)
        errors.append(_Errors(sigma, squares[0], squares[1], squares[2], offset))
    return errors


def _exceeds_zero(numbers: Tensor) -> bool:
    """Whether ``(count,)`` numbers, one an image, have a positive mean, and not by chance.

    A one-sided t-test; numbers that are not finite count as positive.
    """
    from scipy.stats import t

    count = len(numbers)
    limit = float(t.ppf(1 - _BY_CHANCE, count - 1)) * float(numbers.std()) / count**0.5
    return not float(numbers.mean()) <= limit


def _finite(errors: Sequence[_Errors]) -> Finding:
    finite = all(bool(level.denoised.isfinite().all()) for level in errors)
    return Finding("finite", finite, "all outputs are finite" if finite else "NaN or infinity")


def _falling_psnr(errors: Sequence[_Errors]) -> Finding:
    """The error grows with sigma, and stays below the noise."""
    falls = [
        _exceeds_zero(before.denoised / _TOLERANCE - after.denoised)
        for before, after in pairwise(errors)
    ]
    above = [_exceeds_zero(level.denoised - _TOLERANCE * level.noisy) for level in errors]
    if any(falls) or any(above):
        text = "the error does not grow with sigma from zero, or exceeds the noise"
        return Finding("PSNR falls with sigma", False, text)
    text = "more noise, larger error, and always less than the noise"
    return Finding("PSNR falls with sigma", True, text)


def _better_than_linear(errors: Sequence[_Errors]) -> Finding:
    """The error is at most that of the images' own Wiener filter."""
    worse = [e.sigma for e in errors if _exceeds_zero(e.denoised - _TOLERANCE * e.linear)]
    text = f"worse at sigma {_listed(worse)}" if worse else "at every level"
    return Finding("better than a linear denoiser", not worse, text)


def _no_offset(errors: Sequence[_Errors], spread: float) -> Finding:
    """The error is zero on average."""
    off = [
        level.sigma
        for level in errors
        if any(_exceeds_zero(sign * level.offset - _OFFSET * spread) for sign in (1, -1))
    ]
    largest = max(abs(float(level.offset.mean())) for level in errors)
    text = f"mean error at most {largest / spread:.1%} of the images' std"
    if off:
        text = f"mean error {largest:.2g} at sigma {_listed(off)}"
    return Finding("no offset", not off, text)


def _listed(sigmas: list[float]) -> str:
    return ", ".join(f"{sigma:.3g}" for sigma in sigmas)


def _linear(images: Tensor) -> Callable[[Tensor, float], Tensor]:
    """The Wiener filter of the images' power spectrum, averaged over directions."""
    if images.ndim != 4:
        mean, variance = images.mean(0), images.var(0).mean()
        return lambda x, sigma: mean + variance / (variance + sigma**2) * (x - mean)
    height, width = images.shape[-2:]
    mean = images.mean(dim=(0, 2, 3), keepdim=True)
    basis = Cosines(None)
    power = basis.transform((images - mean).double()).square().mean(dim=(0, 1)).flatten()
    rows, columns = (
        torch.arange(size, dtype=torch.float64, device=images.device) / size
        for size in (height, width)
    )
    radius = (rows[:, None] ** 2 + columns**2).sqrt()
    bins = (radius / radius.max() * (_BINS - 1)).ceil().long().flatten()
    count = power.new_zeros(_BINS).index_add_(0, bins, torch.ones_like(power))
    total = power.new_zeros(_BINS).index_add_(0, bins, power)
    spectrum = (total / count.clamp(min=1))[bins].reshape(height, width)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        shrink = (spectrum / (spectrum + sigma**2)).to(x)
        return mean + basis.inverse(shrink * basis.transform(x - mean))

    return denoise


def _own_samples(prior: Prior, seed: int) -> Tensor:
    if isinstance(prior, Gaussian | GaussianMixture):
        return prior.draw(64, seed=seed)
    try:
        return sample(prior, 16, steps=25, seed=seed)
    except WalkDivergedError:
        return torch.full((16, *prior.shape), torch.nan)


def _within(prior: Prior, sigmas: list[float]) -> list[float]:
    """Levels inside the trained range, each once."""
    inside = [min(max(sigma, prior.sigma_min), prior.sigma_max) for sigma in sigmas]
    return sorted(set(inside))
