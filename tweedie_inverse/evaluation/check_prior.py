"""A self-test of a wrapped network: does it denoise as it should, and if not, what is mixed up?

The denoiser with the smallest squared error is the posterior mean, so every mistake in scaling,
units or parameterization shows as an error that is larger than it need be.  The check measures the
error over noise levels, holds it against a linear denoiser, and tries the usual mistakes: if
undoing one of them makes the error clearly smaller, that mistake was made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.evaluation.wrapping_mistakes import Suspect, find_mistakes
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Cosines
from tweedie_inverse.priors import Gaussian, GaussianMixture, Prior
from tweedie_inverse.sampling.sampling import sample
from tweedie_inverse.walks.base import WalkDivergedError

# Noise levels in units of the images' standard deviation: where a prior has something to say.
_LEVELS = (0.1, 0.25, 0.5, 1.0, 2.0)
# For the mistakes; parameterizations differ most at large sigma.
_TRIED = (0.25, 0.5, 1.0, 4.0)
_IMAGES_TRIED, _PIXELS_TRIED = 4, 4096  # whichever are more images
_TOLERANCE = 1.05  # on the squared error, against the linear denoiser
_BINS = 16

_BLIND = (
    "the images are the prior's own samples: a factor in sigma or a wrong range that makes it a "
    "consistent prior for other images cannot be seen, nor can mistakes be told apart; pass images="
)


class CheckedLevel(NamedTuple):
    """One noise level; errors are mean squares in squared data units, offset in data units."""

    sigma: float
    noisy: float
    denoised: float
    linear: float
    offset: float


class Finding(NamedTuple):
    """One check, whether it passed, and what was seen."""

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
def check_prior(prior: Prior, images: Tensor | None = None, *, seed: int = 0) -> PriorReport:
    """Test a prior on images it should know, and name the likely mistake.

    Args:
        images: ``(count, *shape)``, in data units, eight or more; default samples of the prior
            itself, which show less (`PriorReport.blind`).

    Raises:
        ValueError: images of another shape, or fewer than two.

    Cost: five network evaluations an image, and some 60 for each of the first four (of more, if
    they are small); without images another 25 for each of 16.
    """
    blind: tuple[str, ...] = ()
    if images is None:
        images, blind = _own_samples(prior, seed), (_BLIND,)
    if tuple(images.shape[1:]) != tuple(prior.shape) or len(images) < 2:
        raise ValueError(
            f"check_prior(images=): needs two or more images, shape (count, {prior.shape}), got "
            f"{tuple(images.shape)}"
        )
    if not bool(images.isfinite().all()):
        text = (
            "samples of the prior are not finite; the wrapping is wrong, pass images= to learn how"
        )
        return PriorReport((Finding("finite", False, text),), (), (), blind, 1.0)
    spread = float((images - images.mean()).square().mean().sqrt())
    sigmas = _within(prior, [ratio * spread for ratio in _LEVELS])
    levels, findings = _measure(prior, images, sigmas, spread, seed)
    tried = _within(prior, [ratio * spread for ratio in _TRIED])
    few = max(_IMAGES_TRIED, _PIXELS_TRIED // images[0].numel())
    suspects = () if blind else find_mistakes(prior, images[:few], tried, seed)
    return PriorReport(findings, suspects, levels, blind, spread)


def _measure(
    prior: Prior, images: Tensor, sigmas: list[float], spread: float, seed: int
) -> tuple[tuple[CheckedLevel, ...], tuple[Finding, ...]]:
    linear_denoiser = _linear(images)
    levels, worse, offsets, finite = [], [], [], True
    for index, sigma in enumerate(sigmas):
        noisy = images + sigma * normal(("check prior", seed, index), images.shape).to(images)
        denoised = torch.cat([prior.denoise(part, sigma) for part in noisy.split(16)])
        finite = finite and bool(denoised.isfinite().all())
        error = (denoised - images).double().flatten(1)
        own = error.square().mean(1)
        linear = (linear_denoiser(noisy, sigma) - images).double().flatten(1).square().mean(1)
        excess = own - _TOLERANCE * linear
        if not float(excess.mean()) <= 2 * float(excess.std()) / len(images) ** 0.5:
            worse.append(sigma)
        offset, scatter = float(error.mean()), float(error.mean(1).std()) / len(images) ** 0.5
        if not abs(offset) <= 0.05 * spread + 3 * scatter:
            offsets.append(sigma)
        levels.append(
            CheckedLevel(sigma, sigma**2, float(own.mean()), float(linear.mean()), offset)
        )
    errors = [level.denoised for level in levels]
    rising = all(after > 0.95 * before for before, after in pairwise(errors)) and all(
        error < _TOLERANCE * sigma**2 for error, sigma in zip(errors, sigmas, strict=True)
    )
    largest = max(abs(level.offset) for level in levels)
    named = [f"{sigma:.3g}" for sigma in worse], [f"{sigma:.3g}" for sigma in offsets]
    return tuple(levels), (
        Finding("finite", finite, "all outputs are finite" if finite else "NaN or infinity"),
        Finding(
            "PSNR falls with sigma",
            rising,
            "more noise, larger error, and always less than the noise"
            if rising
            else "the error does not grow with sigma from zero, or exceeds the noise",
        ),
        Finding(
            "better than a linear denoiser",
            not worse,
            f"worse at sigma {', '.join(named[0])}" if worse else "at every level",
        ),
        Finding(
            "no offset",
            not offsets,
            f"mean error {largest:.2g} at sigma {', '.join(named[1])}"
            if offsets
            else f"mean error at most {largest / spread:.1%} of the images' std",
        ),
    )


def _linear(images: Tensor) -> Callable[[Tensor, float], Tensor]:
    """The Wiener filter of the images' power spectrum, averaged over directions."""
    if images.ndim != 4:
        mean, variance = images.mean(0), images.var(0).mean()
        return lambda x, sigma: mean + variance / (variance + sigma**2) * (x - mean)
    height, width = images.shape[-2:]
    mean = images.mean(dim=(0, 2, 3), keepdim=True)
    basis = Cosines(None)
    rows = torch.arange(height, dtype=torch.float64)[:, None] / height
    radius = (rows**2 + (torch.arange(width, dtype=torch.float64) / width) ** 2).sqrt()
    bins = (radius / radius.max() * (_BINS - 1)).ceil().long().flatten()
    power = basis.transform((images - mean).double()).square().mean(dim=(0, 1)).flatten()
    count = torch.zeros(_BINS, dtype=torch.float64).index_add_(0, bins, torch.ones_like(power))
    total = torch.zeros(_BINS, dtype=torch.float64).index_add_(0, bins, power)
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
