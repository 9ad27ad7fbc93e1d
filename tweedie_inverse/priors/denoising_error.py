"""The denoising error ``V_sigma = Cov(x0 - D(x0 + sigma n, sigma))``, measured as a spectrum.

The decoupled walk models ``p(x0 | x_sigma)`` by ``N(D, V_sigma)``.  For images V is close to
diagonal in a 2-D cosine basis (cosines rather than Fourier: images are not periodic) once the
channels are decorrelated by a fixed orthogonal mixing.

The error of the best denoiser is orthogonal to its input.  That of a network is not quite: small
networks lose the mean brightness and keep some noise.  So the same measurement also fits, for
every frequency, the gain g that makes ``D + g (x - D)`` best; the prior applies it, and V is what
then remains.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from operators.random import normal
from operators.spectral import Cosines

from ..covariance import Covariance
from ..schedules import sigma_to_timestep

if TYPE_CHECKING:
    from .base import Prior


_TINY = 1e-20


@dataclass(frozen=True)
class DenoisingError:
    """Measured spectra, interpolated in log sigma; axes are cosine frequencies.

    Attributes:
        sigmas: ``(levels,)``, increasing, in data units.
        variance: ``(levels, channels, height, width)``, of the corrected denoiser's error, in
            squared data units.
        gain: like `variance`, without unit; 0 leaves the denoiser as it is, 1 returns its input.
        kurtosis: ``(levels,)``, ``E e^4 / 3 (E e^2)^2`` of the error's pixels; 1 for Gaussian
            images, more where the errors sit in few places.
        mixing: ``(channels, channels)`` orthogonal, rows are the decorrelated channels.
    """

    sigmas: Tensor
    variance: Tensor
    gain: Tensor
    kurtosis: Tensor
    mixing: Tensor

    def at(self, sigma: float, shape: tuple[int, ...]) -> Covariance:
        """The covariance at `sigma` for images of `shape` ``(channels, height, width)``.

        Below the measured range the variance is scaled like sigma^2, above it stays constant.
        Other image sizes read the spectrum at the same spatial frequency.
        """
        log_variance = self._between(self.variance.double().log(), torch.tensor([sigma]))
        below = min(0.0, math.log(sigma / float(self.sigmas[0])))
        variance = (resample_spectrum(log_variance, shape[-2:])[0] + 2 * below).exp()
        return Covariance(self.basis, variance)

    def where_errors_are(self, sigma: float, shape: tuple[int, ...]) -> Covariance:
        """The covariance weighted by the error itself: that of the places where errors sit.

        If the error is locally Gaussian with a variance v that differs from place to place, its
        average is E v, and the average over the error's energy ``E v^2 / E v = kurtosis * E v``.
        At most sigma^2, the value that ignores the prior, unless the average itself is above.
        """
        factor = self._between(self.kurtosis.double(), torch.tensor([sigma]))[0].clamp(min=1)
        return self.at(sigma, shape).map(
            lambda v: torch.maximum(v, (factor * v).clamp(max=sigma**2))
        )

    def correct(self, x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
        """``D + g (x - D)`` for images ``(batch, *shape)`` at noise levels ``(batch,)``."""
        if bool((sigma == sigma[0]).all()):
            sigma = sigma[:1]
        gain = resample_spectrum(self._between(self.gain.double(), sigma), tuple(x.shape[-2:]))
        change = gain.to(x) * self.basis.transform(x - denoised)
        return denoised + self.basis.inverse(change)

    @cached_property
    def basis(self) -> Cosines:
        """Cosines of the decorrelated channels."""
        return Cosines(None if self.mixing.shape[0] == 1 else self.mixing)

    def _between(self, table: Tensor, sigma: Tensor) -> Tensor:
        """Rows of `table` ``(levels, ...)`` at noise levels ``(count,)``, clamped to the range."""
        position = sigma_to_timestep(sigma.double().cpu(), self.sigmas.double())
        left = position.floor().long().clamp(max=len(self.sigmas) - 2)
        fraction = (position - left).reshape(-1, *[1] * (table.ndim - 1))
        return torch.lerp(table[left], table[left + 1], fraction)


def resample_spectrum(spectrum: Tensor, size: tuple[int, ...]) -> Tensor:
    """Cosine spectra ``(count, channels, h, w)`` read at the frequencies of another image size."""
    height, width = spectrum.shape[-2:]
    if (height, width) == tuple(size):
        return spectrum
    # Frequency k of n pixels is k / (2 n) cycles a pixel; grid_sample wants it in [-1, 1].
    rows = torch.arange(size[0], dtype=torch.float64) * height / size[0]
    columns = torch.arange(size[1], dtype=torch.float64) * width / size[1]
    grid = torch.stack(
        torch.broadcast_tensors(
            2 * columns[None, :] / (width - 1) - 1, 2 * rows[:, None] / (height - 1) - 1
        ),
        dim=-1,
    ).expand(len(spectrum), -1, -1, -1)
    return F.grid_sample(spectrum, grid, align_corners=True, padding_mode="border")


@torch.no_grad()
def measure_denoising_error(
    prior: "Prior",
    images: Tensor,
    *,
    sigmas: Tensor | None = None,
    levels: int = 24,
    batch_size: int = 64,
    seed: int = 0,
) -> DenoisingError:
    """Measure the error of a denoiser on images it was not trained on.

    Args:
        prior: any prior on images ``(channels, height, width)``; a correction that it may already
            apply is left out.
        images: ``(count, channels, height, width)``, in data units; a hundred or more.
        sigmas: increasing noise levels; default `levels` of them, even in log sigma, over the
            prior's range.

    Cost: one network evaluation an image and level.
    """
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(prior.shape):
        raise ValueError(
            f"measure_denoising_error: needs images of shape (count, {prior.shape}), got "
            f"{tuple(images.shape)}"
        )
    if sigmas is None:
        sigmas = torch.logspace(
            math.log10(prior.sigma_min), math.log10(prior.sigma_max), levels, dtype=torch.float64
        )
    mixing = _decorrelate_channels(images)
    basis, bare = Cosines(mixing), prior.uncorrected()
    variances, gains, kurtoses = [], [], []
    for index, sigma in enumerate(sigmas.tolist()):
        noise = normal(("denoising error", seed, index), images.shape).to(images)
        noisy = images + sigma * noise
        denoised = torch.cat([bare.denoise(part, sigma) for part in noisy.split(batch_size)])
        error = basis.transform((images - denoised).double())
        removed = basis.transform((noisy - denoised).double())
        # Least squares of the error on what was removed, one coefficient a frequency.
        gain = (error * removed).sum(0) / removed.square().sum(0).clamp(min=_TINY)
        remaining = error - gain * removed
        pixels = basis.inverse(remaining)
        kurtoses.append(pixels.pow(4).mean() / (3 * pixels.square().mean() ** 2).clamp(min=_TINY))
        variances.append(remaining.square().mean(0).clamp(min=_TINY))
        gains.append(gain)
    variance, gain, kurtosis = (torch.stack(p).cpu() for p in (variances, gains, kurtoses))
    return DenoisingError(sigmas, variance, gain, kurtosis, mixing)


def _decorrelate_channels(images: Tensor) -> Tensor:
    """Eigenvectors (as rows) of the channel covariance, after removing each image's mean."""
    centred = images.double() - images.double().mean(dim=(-2, -1), keepdim=True)
    covariance = torch.einsum("bchw,bdhw->cd", centred, centred)
    _, vectors = torch.linalg.eigh(covariance)
    return vectors.mT.flip(0).contiguous().cpu()
