"""Measuring a denoising error on images that the denoiser was not trained on.

At every noise level the images are noised and denoised, and three things are measured:

1. the gain g of every frequency that makes ``D + g (x - D)`` the best linear correction of D;
2. the spectrum of the error that the corrected denoiser still makes;
3. how this error differs from place to place (`local_error`).

A full spectrum has a variance for every frequency and needs hundreds of images.  Spectra of fewer
numbers need fewer images: a separable one is the product of a row and a column spectrum, a radial
one depends on the length of the frequency alone.  The third measurement also takes few numbers, and
every pixel of every image contributes to it.

Volumes are measured in the same way, without the third step.  Vectors have no frequencies but
principal axes, those of the data.  Variances along axes that the same vectors gave would be too
large along the largest and too small along the smallest: each vector is measured along the axes of
the others (cross-validated eigenvalues; Bartz 2016).
"""

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import choice, count, flag
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.arrays import advice_on_shape, real_tensor, refuse_type
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Basis
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.contract import hold_contracts
from tweedie_inverse.priors.error.credible import doubts_about_levels
from tweedie_inverse.priors.error.denoising_error import DenoisingError, Transform, basis_of
from tweedie_inverse.priors.error.forms import FORMS, Form, over_rings, rings_of
from tweedie_inverse.priors.error.local_error import LocalError, row_of

_TINY = 1e-20
# Vectors are measured along the axes of the others, in so many parts.
_PARTS = 5
# Vectors of more numbers, whose axes would take matrices of this size squared, keep their own.
_LARGEST_MIXING = 1024


@dataclass(frozen=True)
class Settings:
    """How an error is measured: arguments of `measure_denoising_error`, checked by `of`.

    Attributes:
        caller: the function that the user called, for messages.
    """

    caller: str
    sigmas: Tensor
    transform: Transform
    form: Form
    batch_size: int
    seed: int
    progress: bool

    @classmethod
    def of(
        cls,
        caller: str,
        sigmas: Tensor,
        transform: Transform,
        form: Form,
        batch_size: int,
        seed: int,
        progress: bool,
    ) -> "Settings":
        """Raises `TypeError` or `ValueError` for anything wrong, in the name of the caller."""
        choice(caller, "form", form, tuple(FORMS))
        choice(caller, "transform", transform, ("cosine", "fourier"))
        batch_size = count(caller, "batch_size", batch_size)
        seed, progress = checked_seed(caller, "seed", seed), flag(caller, "progress", progress)
        return cls(caller, sigmas, transform, form, batch_size, seed, progress)


def noise_levels(caller: str, prior: Prior, sigmas: Tensor | None, levels: int) -> Tensor:
    """The levels given, or `levels` of them over the prior's range, even in log sigma.

    Raises:
        TypeError, ValueError: no prior, or no such levels.
    """
    if not isinstance(prior, Prior):
        raise TypeError(
            f"{caller}: needs a prior, got {type(prior).__name__}; wrap a network in "
            "ti.priors.NetworkPrior"
        )
    levels = count(caller, "levels", levels, least=2)
    if sigmas is None:
        ends = math.log10(prior.sigma_min), math.log10(prior.sigma_max)
        return torch.logspace(*ends, levels, dtype=torch.float64)
    sigmas = real_tensor(caller, "sigmas", sigmas)
    rising = sigmas.ndim == 1 and len(sigmas) > 1 and bool((sigmas.diff() > 0).all())
    if not rising or sigmas[0] <= 0:
        raise ValueError(
            f"{caller}(sigmas=): needs two or more positive noise levels in increasing order, got "
            f"{sigmas.tolist()}"
        )
    return sigmas


def measure_denoising_error(
    prior: Prior,
    images: Tensor,
    *,
    sigmas: Tensor | None = None,
    levels: int = 24,
    transform: Transform = "cosine",
    form: Form = "full",
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> DenoisingError:
    """Measure the error of a denoiser on images it was not trained on.

    Args:
        prior: any prior, on images ``(channels, height, width)``, volumes ``(channels, depth,
            height, width)`` or vectors ``(n,)``; a correction that it may already apply is left
            out.
        images: ``(count, *shape)``, in data units; a hundred or more for a full spectrum or for
            vectors, ten or more for a radial one.
        sigmas: increasing noise levels; default `levels` of them, even in log sigma, over the
            prior's range.
        transform: ``"cosine"``, or ``"fourier"`` for images that are periodic; of no consequence
            for vectors.
        form: ``"full"``, ``"separable"`` or ``"radial"``; vectors have a variance for each
            principal axis (up to 1024 numbers, for each number beyond), whatever the form.
        progress: show a progress bar.

    The error differs from place to place for images only: vectors and volumes have the average
    everywhere.

    Warns (`RuntimeWarning`) where the denoiser is of no use: where its error is larger than the
    images differ, or, at little noise, than the noise.

    Raises:
        TypeError, ValueError: wrong arguments, before any evaluation; a denoiser that answers NaN.

    Cost: one network evaluation an image and level.
    """
    caller = "measure_denoising_error"
    sigmas = noise_levels(caller, prior, sigmas, levels)
    settings = Settings.of(caller, sigmas, transform, form, batch_size, seed, progress)
    images = real_tensor(caller, "images", images)
    refuse_type(f"{caller}(images=)", images)
    if images.shape[1:] != torch.Size(prior.shape) or images.numel() == 0:
        raise ValueError(
            f"{caller}: needs images of shape (count, {', '.join(map(str, prior.shape))}), got "
            f"{tuple(images.shape)}{advice_on_shape(images.shape, prior.shape)}"
        )
    hold_contracts(prior, images)
    found = measured(prior, images, settings)
    if found.doubts:
        warnings.warn(f"{caller}: {'; '.join(found.doubts)}", RuntimeWarning, stacklevel=2)
    return found.error


class Measured(NamedTuple):
    """A denoising error, and why it may be worthless."""

    error: DenoisingError
    doubts: list[str]


@torch.no_grad()
def measured(prior: Prior, images: Tensor, settings: Settings) -> Measured:
    """The error of the bare denoiser on images ``(count, *shape)``.

    Raises:
        ValueError: the denoiser answers NaN or infinity.
    """
    from tqdm import tqdm

    caller, sigmas = settings.caller, settings.sigmas
    mixing = _decorrelate_channels(images)
    basis = _basis_for(images, mixing, settings.transform)
    frequencies = _Frequencies(basis, settings.transform, settings.form)
    bare = prior.uncorrected()
    rows = []
    shown = tqdm(sigmas.tolist(), desc="denoising error", disable=not settings.progress)
    for index, sigma in enumerate(shown):
        white = normal(("denoising error", settings.seed, index), images.shape).to(images)
        noisy = images + sigma * prior.coloured(white)
        parts = noisy.split(settings.batch_size)
        denoised = torch.cat([bare.denoise(part, sigma) for part in parts])
        if not bool(denoised.isfinite().all()):
            raise ValueError(
                f"{caller}: {prior!r} answers NaN or infinity at sigma {sigma:.3g}, so that its "
                "error cannot be measured there. ti.check_prior(prior) looks for the cause; if "
                "other noise levels are sound, set prior.sigma_min and prior.sigma_max to theirs"
            )
        rows.append(_measured(images, noisy, denoised, frequencies))
    tables = _Row(*(torch.stack(column).cpu() for column in zip(*rows, strict=True)))
    local = LocalError(tables.contrast, tables.local_variance)
    error = DenoisingError(sigmas, tables.variance, tables.gain, local, mixing, settings.transform)
    remaining = tables.variance.flatten(1).mean(1)
    return Measured(error, doubts_about_levels(sigmas, tables.bare, remaining, images))


class _Row(NamedTuple):
    """One noise level's row of each table of a `DenoisingError` and of its `LocalError`."""

    variance: Tensor  # (*shape)
    gain: Tensor  # like variance
    contrast: Tensor  # (bins,)
    local_variance: Tensor  # (bins,)
    bare: Tensor  # (), mean square of the error before the correction


@dataclass(frozen=True)
class _Frequencies:
    """The coefficients in which errors are measured, and how their averages are pooled."""

    basis: Basis
    transform: Transform
    form: Form

    def gain(self, error: Tensor, removed: Tensor) -> Tensor:
        """The least-squares factor from `removed` to `error`, for each frequency.

        It is pooled over frequencies of one length where the form is radial.

        Args:
            error, removed: coefficients ``(count, *shape)`` of ``x0 - D(x)`` and ``x - D(x)``.
        """
        rings = self._rings(error)
        pool = (lambda m: over_rings(m, rings)) if self.form == "radial" else (lambda m: m)
        power = pool(removed.square().mean(0)).clamp(min=_TINY)
        return pool((error * removed).mean(0)) / power

    def variance(self, error: Tensor) -> Tensor:
        """Variances of coefficients ``(count, *shape)``, in the chosen form."""
        return FORMS[self.form](error.square().mean(0), self._rings(error)).clamp(min=_TINY)

    def _rings(self, coefficients: Tensor) -> Tensor:
        return rings_of(self.transform, coefficients.shape[2:]).to(coefficients.device)


def _measured(images: Tensor, noisy: Tensor, denoised: Tensor, frequencies: _Frequencies) -> _Row:
    """What clean, noisy and denoised images ``(count, *shape)`` of one noise level show."""
    basis = frequencies.basis
    error = basis.transform((images - denoised).double())
    removed = basis.transform((noisy - denoised).double())
    gain = frequencies.gain(error, removed)
    remaining = basis.inverse(error - gain * removed)  # of the corrected denoiser, in pixels

    coefficients = basis.transform(remaining)
    variance = frequencies.variance(coefficients)
    white = basis.inverse(coefficients / variance.sqrt())
    contrast, local_variance = row_of(images - remaining, remaining, white)
    return _Row(variance, gain, contrast, local_variance, error.square().mean())


def _decorrelate_channels(images: Tensor) -> Tensor:
    """Eigenvectors (as rows) of the channel covariance, after removing each image's mean.

    Vectors ``(count, n)`` are centred together; beyond some n they stay as they are.
    """
    if images.ndim == 2:
        if images.shape[1] > _LARGEST_MIXING:
            return torch.ones(1, 1, dtype=torch.float64)
        centred = images.double() - images.double().mean(0)
        covariance = centred.mT @ centred
    else:
        places = tuple(range(2, images.ndim))
        centred = images.double() - images.double().mean(dim=places, keepdim=True)
        centred = centred.reshape(*images.shape[:2], -1, images.shape[-1])
        covariance = torch.einsum("bchw,bdhw->cd", centred, centred)
    _, vectors = torch.linalg.eigh(covariance)
    return vectors.mT.flip(0).contiguous().cpu()


@dataclass(frozen=True, eq=False)
class _Parted(Basis):
    """A basis of its own for each part of a batch."""

    bases: list[Basis]

    def transform(self, x: Tensor) -> Tensor:
        parts = zip(self.bases, x.tensor_split(len(self.bases)), strict=True)
        return torch.cat([basis.transform(part) for basis, part in parts])

    def inverse(self, coefficients: Tensor) -> Tensor:
        parts = zip(self.bases, coefficients.tensor_split(len(self.bases)), strict=True)
        return torch.cat([basis.inverse(part) for basis, part in parts])


def _basis_for(images: Tensor, mixing: Tensor, transform: Transform) -> Basis:
    """Where errors are measured: that of `mixing`; for vectors, of the axes of the other parts."""
    own, parts = basis_of(transform, mixing, images.ndim - 2), min(_PARTS, len(images))
    if images.ndim > 2 or len(mixing) == 1 or parts < 2:
        return own
    pieces = images.tensor_split(parts)
    others = [torch.cat(pieces[:k] + pieces[k + 1 :]) for k in range(parts)]
    return _Parted([basis_of(transform, _decorrelate_channels(part), 0) for part in others])
