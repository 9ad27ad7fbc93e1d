"""Measuring a denoising error on images: which transform, and how much is averaged.

A full spectrum has a variance for every frequency and needs hundreds of images.  Fewer numbers need
fewer images: a separable one is a product of a row and a column spectrum, a radial one depends on
the length of the frequency alone (isotropic, for whoever speaks of images, not of pixels).  How the
error differs from place to place takes few numbers too, and every pixel of every image tells.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Basis
from tweedie_inverse.priors.error.denoising_error import DenoisingError, Transform, basis_of
from tweedie_inverse.priors.error.local_error import LocalError, by_contrast, contrast_of

if TYPE_CHECKING:
    from tweedie_inverse.priors.base import Prior

Form = Literal["full", "separable", "radial"]
_TINY = 1e-20


@torch.no_grad()
def measure_denoising_error(
    prior: "Prior",
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
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(prior.shape):
        raise ValueError(
            f"measure_denoising_error: needs images of shape (count, {prior.shape}), got "
            f"{tuple(images.shape)}"
        )
    if form not in _FORMS or transform not in ("cosine", "fourier"):
        raise ValueError(
            f"measure_denoising_error(transform={transform!r}, form={form!r}): transforms are "
            "'cosine' and 'fourier', forms 'full', 'separable' and 'radial'"
        )
    if sigmas is None:
        sigmas = torch.logspace(
            math.log10(prior.sigma_min), math.log10(prior.sigma_max), levels, dtype=torch.float64
        )
    mixing = _decorrelate_channels(images)
    basis, bare = basis_of(transform, mixing), prior.uncorrected()
    measured, local = [], []

    for index, sigma in enumerate(sigmas.tolist()):
        noise = normal(("denoising error", seed, index), images.shape).to(images)
        noisy = images + sigma * noise
        denoised = torch.cat([bare.denoise(part, sigma) for part in noisy.split(batch_size)])
        gain, error = _correction(images, noisy, denoised, basis, transform, form)
        variance = _spectrum(basis.transform(error), transform, form)
        white = basis.inverse(basis.transform(error) / variance.sqrt())
        measured.append((variance, gain))
        local.append(by_contrast(contrast_of(images - error), error, white))
    variance, gain = (torch.stack(part).cpu() for part in zip(*measured, strict=True))
    places = LocalError(*(torch.stack(part).cpu() for part in zip(*local, strict=True)))
    return DenoisingError(sigmas, variance, gain, places, mixing, transform)


def _correction(
    images: Tensor, noisy: Tensor, denoised: Tensor, basis: Basis, transform: Transform, form: Form
) -> tuple[Tensor, Tensor]:
    """The gain, and the error of the corrected denoiser, like `images`."""
    error = basis.transform((images - denoised).double())
    removed = basis.transform((noisy - denoised).double())
    # Least squares of the error on what was removed, one coefficient a frequency or ring of them.
    rings = _rings(transform, error.shape[-2:]).to(error.device)
    pool = (lambda m: _over_rings(m, rings)) if form == "radial" else (lambda m: m)
    power = pool(removed.square().mean(0)).clamp(min=_TINY)
    gain = pool((error * removed).mean(0)) / power
    return gain, basis.inverse(error - gain * removed)


def _spectrum(error: Tensor, transform: Transform, form: Form) -> Tensor:
    """Variances of coefficients ``(count, channels, height, width)``."""
    rings = _rings(transform, error.shape[-2:]).to(error.device)
    return _FORMS[form](error.square().mean(0), rings).clamp(min=_TINY)


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
