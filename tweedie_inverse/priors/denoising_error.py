"""The denoising error ``V_sigma = Cov(x0 - D(x0 + sigma n, sigma))``, measured as a spectrum.

The decoupled walk models ``p(x0 | x_sigma)`` by ``N(D, V_sigma)``.  For images V is close to
diagonal in a 2-D cosine basis (cosines rather than Fourier: images are not periodic) once the
channels are decorrelated by a fixed orthogonal mixing.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from operators.random import normal

from ..covariance import Cosines, Covariance

if TYPE_CHECKING:
    from .base import Prior


@dataclass(frozen=True)
class DenoisingError:
    """A measured spectrum, interpolated in log sigma and log variance.

    Attributes:
        sigmas: ``(levels,)``, increasing, in data units.
        variance: ``(levels, channels, height, width)``, in squared data units; axes of the
            spectrum are cosine frequencies.
        mixing: ``(channels, channels)`` orthogonal, rows are the decorrelated channels.
    """

    sigmas: Tensor
    variance: Tensor
    mixing: Tensor

    def at(self, sigma: float, shape: tuple[int, ...]) -> Covariance:
        """The covariance at `sigma` for images of `shape` ``(channels, height, width)``.

        Below the measured range the variance is scaled like sigma^2, above it stays constant.
        Other image sizes read the spectrum at the same spatial frequency.
        """
        logs = self.sigmas.double().log()
        position = math.log(sigma)
        right = int(torch.searchsorted(logs, position).clamp(1, len(logs) - 1))
        fraction = (position - logs[right - 1]) / (logs[right] - logs[right - 1])
        log_variance = torch.lerp(
            self.variance[right - 1].double().log(),
            self.variance[right].double().log(),
            fraction.clamp(0, 1),
        )
        log_variance = log_variance + 2 * min(0.0, position - float(logs[0]))
        return Covariance(self.basis, resample_spectrum(log_variance, shape[-2:]).exp())

    @cached_property
    def basis(self) -> Cosines:
        """Cosines of the decorrelated channels."""
        return Cosines(None if self.mixing.shape[0] == 1 else self.mixing)


def resample_spectrum(log_variance: Tensor, size: tuple[int, ...]) -> Tensor:
    """A cosine log-spectrum ``(channels, h, w)`` read at the frequencies of another image size."""
    height, width = log_variance.shape[-2:]
    if (height, width) == tuple(size):
        return log_variance
    # Frequency k of n pixels is k / (2 n) cycles a pixel; grid_sample wants it in [-1, 1].
    rows = torch.arange(size[0], dtype=torch.float64) * height / size[0]
    columns = torch.arange(size[1], dtype=torch.float64) * width / size[1]
    grid = torch.stack(
        torch.broadcast_tensors(
            2 * columns[None, :] / (width - 1) - 1, 2 * rows[:, None] / (height - 1) - 1
        ),
        dim=-1,
    )
    return F.grid_sample(log_variance[None], grid[None], align_corners=True, padding_mode="border")[
        0
    ]


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
    """Measure ``Cov(x0 - D(x0 + sigma n, sigma))`` on images the prior was not trained on.

    Args:
        prior: any prior on images ``(channels, height, width)``.
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
    basis = Cosines(mixing)
    spectra = []
    for index, sigma in enumerate(sigmas.tolist()):
        noise = normal((seed, index), images.shape).to(images)
        total = torch.zeros(images.shape[1:], dtype=torch.float64)
        for clean, n in zip(images.split(batch_size), noise.split(batch_size), strict=True):
            error = clean - prior.denoise(clean + sigma * n, sigma)
            total += basis.transform(error.double()).square().sum(0).cpu()
        spectra.append((total / len(images)).clamp(min=1e-20))
    return DenoisingError(sigmas, torch.stack(spectra), mixing)


def _decorrelate_channels(images: Tensor) -> Tensor:
    """Eigenvectors (as rows) of the channel covariance, after removing each image's mean."""
    centred = images.double() - images.double().mean(dim=(-2, -1), keepdim=True)
    covariance = torch.einsum("bchw,bdhw->cd", centred, centred)
    _, vectors = torch.linalg.eigh(covariance)
    return vectors.mT.flip(0).contiguous().cpu()
