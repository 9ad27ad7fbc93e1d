"""Measuring a denoising error on images that the denoiser was not trained on.

At every noise level the images are noised and denoised, and three things are measured:

1. the gain g of every frequency that makes ``D + g (x - D)`` the best linear correction of D;
2. the spectrum of the error that the corrected denoiser still makes;
3. how this error differs from place to place (`local_error`).

A full spectrum has a variance for every frequency and needs hundreds of images.  Spectra of fewer
numbers need fewer images: a separable one is the product of a row and a column spectrum, a radial
one depends on the length of the frequency alone.  The third measurement also takes few numbers, and
every pixel of every image contributes to it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count
from tweedie_inverse.boundary.arrays import real_tensor, refuse_type
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Basis
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.contract import hold_contracts
from tweedie_inverse.priors.error.denoising_error import DenoisingError, Transform, basis_of
from tweedie_inverse.priors.error.local_error import LocalError, by_contrast, contrast_of

Form = Literal["full", "separable", "radial"]
_TINY = 1e-20


@torch.no_grad()
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
) -> DenoisingError:
    """Measure the error of a denoiser on images it was not trained on.

    Args:
        prior: any prior on images ``(channels, height, width)``; a correction that it may already
            apply is left out.
        images: ``(count, channels, height, width)``, in data units; a hundred or more for a full
            spectrum, ten or more for a radial one.
        sigmas: increasing noise levels; default `levels` of them, even in log sigma, over the
            prior's range.
        transform: ``"cosine"``, or ``"fourier"`` for images that are periodic.
        form: ``"full"``, ``"separable"`` or ``"radial"``.

    Cost: one network evaluation an image and level.
    """
    if not isinstance(prior, Prior):
        raise TypeError(f"measure_denoising_error: needs a prior, got {type(prior).__name__}")
    images = real_tensor("measure_denoising_error", "images", images)
    refuse_type("measure_denoising_error(images=)", images)
    levels = count("measure_denoising_error", "levels", levels, least=2)
    batch_size = count("measure_denoising_error", "batch_size", batch_size)
    if images.ndim != 4 or not len(images) or tuple(images.shape[1:]) != tuple(prior.shape):
        raise ValueError(
            f"measure_denoising_error: needs images of shape (count, {prior.shape}), got "
            f"{tuple(images.shape)}"
        )
    if form not in list(_FORMS) or transform not in ("cosine", "fourier"):
        raise ValueError(
            f"measure_denoising_error(transform={transform!r}, form={form!r}): transforms are "
            "'cosine' and 'fourier', forms 'full', 'separable' and 'radial'"
        )
    if sigmas is None:
        sigmas = torch.logspace(
            math.log10(prior.sigma_min), math.log10(prior.sigma_max), levels, dtype=torch.float64
        )
    sigmas = real_tensor("measure_denoising_error", "sigmas", sigmas)
    if sigmas.ndim != 1 or not bool((sigmas.diff() > 0).all()) or not bool((sigmas > 0).all()):
        raise ValueError(
            "measure_denoising_error(sigmas=): needs positive noise levels (levels,), increasing, "
            f"got shape {tuple(sigmas.shape)}"
        )
    hold_contracts(prior, images)
    mixing = _decorrelate_channels(images)
    frequencies = _Frequencies(basis_of(transform, mixing), transform, form)
    bare = prior.uncorrected()
    rows = []
    for index, sigma in enumerate(sigmas.tolist()):
        noise = normal(("denoising error", seed, index), images.shape).to(images)
        noisy = images + sigma * noise
        denoised = torch.cat([bare.denoise(part, sigma) for part in noisy.split(batch_size)])
        rows.append(_measured(images, noisy, denoised, frequencies))
    tables = _Row(*(torch.stack(column).cpu() for column in zip(*rows, strict=True)))
    local = LocalError(tables.contrast, tables.local_variance)
    return DenoisingError(sigmas, tables.variance, tables.gain, local, mixing, transform)


class _Row(NamedTuple):
    """One noise level's row of each table of a `DenoisingError` and of its `LocalError`."""

    variance: Tensor  # (channels, height, width)
    gain: Tensor  # like variance
    contrast: Tensor  # (bins,)
    local_variance: Tensor  # (bins,)


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
            error, removed: coefficients ``(count, channels, height, width)`` of ``x0 - D(x)`` and
                ``x - D(x)``.
        """
        rings = self._rings(error)
        pool = (lambda m: _over_rings(m, rings)) if self.form == "radial" else (lambda m: m)
        power = pool(removed.square().mean(0)).clamp(min=_TINY)
        return pool((error * removed).mean(0)) / power

    def variance(self, error: Tensor) -> Tensor:
        """Variances of coefficients ``(count, channels, height, width)``, in the chosen form."""
        return _FORMS[self.form](error.square().mean(0), self._rings(error)).clamp(min=_TINY)

    def _rings(self, coefficients: Tensor) -> Tensor:
        return _rings(self.transform, coefficients.shape[-2:]).to(coefficients.device)


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
    corrected = images - remaining
    contrast, local_variance = by_contrast(contrast_of(corrected), remaining, white)
    return _Row(variance, gain, contrast, local_variance)


def _rings(transform: Transform, size: tuple[int, ...]) -> Tensor:
    """The frequency's length in steps of half a period an image, rounded, ``(height, width)``."""
    rows, columns = (
        torch.arange(n) / (2 * n) if transform == "cosine" else torch.fft.fftfreq(n) for n in size
    )
    return (2 * max(size) * (rows[:, None] ** 2 + columns**2).sqrt()).round().long()


def _over_rings(spectrum: Tensor, rings: Tensor) -> Tensor:
    """Averages over frequencies of one length, ``(channels, height, width)``."""
    flat, index = spectrum.flatten(1), rings.flatten()
    counts = torch.bincount(index)
    sums = flat.new_zeros(len(flat), len(counts)).index_add_(1, index, flat)
    return (sums / counts)[:, index].reshape(spectrum.shape)


def _product(spectrum: Tensor, rings: Tensor) -> Tensor:
    """The product of the row and the column spectrum that keeps both."""
    rows, columns = spectrum.mean(-1, keepdim=True), spectrum.mean(-2, keepdim=True)
    return rows * columns / spectrum.mean(dim=(-2, -1), keepdim=True).clamp(min=_TINY)


_FORMS: dict[Form, Callable[[Tensor, Tensor], Tensor]] = {
    "full": lambda spectrum, rings: spectrum,
    "separable": _product,
    "radial": _over_rings,
}


def _decorrelate_channels(images: Tensor) -> Tensor:
    """Eigenvectors (as rows) of the channel covariance, after removing each image's mean."""
    centred = images.double() - images.double().mean(dim=(-2, -1), keepdim=True)
    covariance = torch.einsum("bchw,bdhw->cd", centred, centred)
    _, vectors = torch.linalg.eigh(covariance)
    return vectors.mT.flip(0).contiguous().cpu()
