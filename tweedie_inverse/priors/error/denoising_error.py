"""The denoising error ``V_sigma = Cov(x0 - D(x0 + sigma n, sigma))``, measured as a spectrum.

The decoupled walk models ``p(x0 | x_sigma)`` by ``N(D, V_sigma)``.  For images V is close to
diagonal in a 2-D cosine basis (cosines rather than Fourier: images are not periodic) once the
channels are decorrelated by a fixed orthogonal mixing.  `measure` measures it.  Volumes have 3-D
cosines.  A vector is n channels of one place: its mixing are the principal axes of the data.

This V is an average over places.  Around one denoised image the walk draws from a covariance that
is larger where the image has edges (`local_error`); around a vector or a volume it is the average.

The error of the best denoiser is uncorrelated with its input.  That of a network is not quite:
small networks lose the mean brightness and keep some noise.  So the same measurement also fits, for
every frequency, the gain g for which ``D + g (x - D)`` has the smallest error.  The prior applies
this correction, and V is the covariance of the error that remains.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.boundary.arguments import instance
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.residence import derived, resident_table
from tweedie_inverse.numerics.spectral import Basis, Chained, Channels, Cosines, Fourier, Pixels
from tweedie_inverse.numerics.timesteps import sigma_to_timestep
from tweedie_inverse.priors.error.local_error import LocalError, contrast_of

Transform = Literal["cosine", "fourier"]
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class DenoisingError:
    """Measured spectra, interpolated in log sigma; axes are the frequencies of `transform`.

    Attributes:
        sigmas: ``(levels,)``, increasing, in data units.
        variance: ``(levels, channels, height, width)``, of the corrected denoiser's error, in
            squared data units; ``(levels, n)`` for vectors, and for any other shape
            ``(levels, *shape)``.
        gain: like `variance`, without unit; 0 leaves the denoiser as it is, 1 returns its input.
        local: tables of how the error differs from place to place, for images only.
        mixing: ``(channels, channels)`` orthogonal, rows are the decorrelated channels; ``(1, 1)``
            where they are not mixed.
        transform: ``"cosine"``, or ``"fourier"`` in the layout of ``torch.fft.fft2``; vectors have
            neither.
    """

    sigmas: Tensor
    variance: Tensor
    gain: Tensor
    local: LocalError
    mixing: Tensor
    transform: Transform = "cosine"

    def at(
        self, sigma: float, shape: tuple[int, ...], *, device: torch.device = _CPU
    ) -> Covariance:
        """The covariance at `sigma` for images of `shape` ``(channels, height, width)``.

        Below the measured range the variance is scaled like sigma^2, above it stays constant.
        Images and volumes of other sizes read the spectrum at the same spatial frequency.

        Args:
            device: where the variances are wanted, and where the tables then stay.

        Raises:
            ValueError: `shape` has other channels or another number of axes than what was measured.
        """
        channels, *size = self.variance.shape[1:]
        if len(shape) != 1 + len(size) or shape[0] != channels:
            raise ValueError(
                f"DenoisingError.at(shape={tuple(shape)}): it was measured for shape "
                f"{(channels, *size)}; measure it for this shape (measure_denoising_error)"
            )
        logs = derived(self.variance, _log_of_double)
        log_variance = self._between(logs, torch.tensor([sigma]), device)
        log_variance = self._resample(log_variance, tuple(shape[1:]))[0] + 2 * self._below(sigma)
        return Covariance(self.basis, log_variance.exp())

    def around(self, denoised: Tensor, sigma: float) -> Covariance:
        """The covariance around each of the denoised images ``(batch, *shape)``.

        It has the average's spectrum, times a size that differs from place to place.  The variance
        at a place is at most sigma^2, the value that ignores the prior.  Vectors and volumes have
        no tables by place, and the average around each of them.
        """
        average = self.at(sigma, tuple(denoised.shape[1:]), device=denoised.device)
        if denoised.ndim != 4:
            return average
        (level,), (fraction,) = self._place(torch.tensor([sigma]))
        contrast = contrast_of(denoised)
        log_variance = torch.lerp(
            self.local.log_variance(int(level), contrast),
            self.local.log_variance(int(level) + 1, contrast),
            float(fraction),
        )
        mean = average.variance.mean()
        most = (torch.full_like(mean, sigma**2) / mean).to(log_variance)
        return replace(average, scale=log_variance.exp().clamp(max=most).sqrt())

    def correct(self, x: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
        """``D + g (x - D)`` for images ``(batch, *shape)`` at noise levels ``(batch,)``.

        One level ``(1,)`` is that of all images.  Levels on the CPU cost an accelerator no wait.
        """
        if bool((sigma == sigma[0]).all()):
            sigma = sigma[:1]
        gain = self._between(derived(self.gain, Tensor.double), sigma, x.device)
        gain = self._resample(gain, tuple(x.shape[2:]))
        change = gain.to(x) * self.basis.transform(x - denoised)
        return denoised + self.basis.inverse(change)

    @cached_property
    def basis(self) -> Basis:
        """Frequencies of the decorrelated channels."""
        return basis_of(self.transform, self.mixing, self.variance.ndim - 2)

    def _resample(self, spectrum: Tensor, size: tuple[int, ...]) -> Tensor:
        if tuple(spectrum.shape[2:]) == size:
            return spectrum
        if len(size) not in (2, 3):
            raise ValueError(
                f"this denoising error was measured for size {tuple(spectrum.shape[2:])}; only "
                f"images and volumes are read at other sizes, here {size}"
            )
        return _RESAMPLE[self.transform](spectrum, size)

    def _between(self, table: Tensor, sigma: Tensor, device: torch.device) -> Tensor:
        """Rows of `table` ``(levels, ...)`` at noise levels ``(count,)``, clamped to the range.

        They are on `device`, where that has float64.
        """
        left, fraction = self._place(sigma)
        weights = (len(left), *[1] * (table.ndim - 1))
        table = resident_table(table, device)
        if len(left) == 1:
            low = int(left)
            weight = table.new_full(weights, float(fraction))
            return torch.lerp(table[low : low + 1], table[low + 1 : low + 2], weight)
        left, weight = left.to(table.device), fraction.to(table.device).reshape(weights)
        return torch.lerp(table[left], table[left + 1], weight)

    def _place(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Index of the level below each of ``(count,)``, and how far the next one is reached."""
        position = sigma_to_timestep(sigma.cpu().double(), self.sigmas.double())
        left = position.floor().long().clamp(max=len(self.sigmas) - 2)
        return left, position - left

    def _below(self, sigma: float) -> float:
        """``log(sigma / first level)`` below the range, 0 in it."""
        return min(0.0, math.log(sigma / float(self.sigmas[0])))


def _log_of_double(variance: Tensor) -> Tensor:
    return variance.double().log()


def basis_of(transform: Transform, mixing: Tensor, axes: int = 2) -> Basis:
    """The basis of a transform of so many axes after a `mixing` ``(channels, channels)``."""
    grey = mixing.shape[0] == 1
    if axes == 0:
        return Pixels() if grey else Channels(mixing)
    if transform == "cosine":
        return Cosines(None if grey else mixing, axes)
    return Fourier(axes) if grey else Chained(Channels(mixing), Fourier(axes))


def resample_cosines(spectrum: Tensor, size: tuple[int, ...]) -> Tensor:
    """Cosine spectra ``(count, channels, h, w)`` read at the frequencies of another image size.

    Volumes have a depth before the height.
    """
    if tuple(spectrum.shape[2:]) == tuple(size):
        return spectrum
    # Frequency k of n pixels is k / (2 n) cycles a pixel; _read wants it in [-1, 1].
    places = [
        2 * (torch.arange(n, dtype=torch.float64, device=spectrum.device) * m / n) / max(m - 1, 1)
        - 1
        for n, m in zip(size, spectrum.shape[2:], strict=True)
    ]
    return _read(spectrum, places)


def resample_fourier(spectrum: Tensor, size: tuple[int, ...]) -> Tensor:
    """The same for spectra in the layout of ``torch.fft.fft2``."""
    if tuple(spectrum.shape[2:]) == tuple(size):
        return spectrum
    shifted = torch.fft.fftshift(spectrum, dim=tuple(range(2, spectrum.ndim)))
    shifted = F.pad(shifted, (0, 1) * len(size), mode="circular")
    # Entry j of m pixels is frequency (j - m // 2) / m, of j = 0 to m.
    places = [
        2 * (torch.fft.fftfreq(n, dtype=torch.float64, device=spectrum.device) * m + m // 2) / m - 1
        for n, m in zip(size, spectrum.shape[2:], strict=True)
    ]
    return _read(shifted, places)


def _read(spectrum: Tensor, places: list[Tensor]) -> Tensor:
    """Values of ``(count, channels, *size)`` at places from -1, the first, to 1, the last."""
    grid = torch.stack(torch.meshgrid(*places, indexing="ij")[::-1], dim=-1)
    grid = grid.expand(len(spectrum), *grid.shape)
    return F.grid_sample(spectrum, grid, align_corners=True, padding_mode="border")


_RESAMPLE = {"cosine": resample_cosines, "fourier": resample_fourier}


def error_or_none(caller: str, error: DenoisingError | None) -> DenoisingError | None:
    """A measured denoising error, or none; a `TypeError` for anything else."""
    if error is None:
        return None
    need = "what ti.measure_denoising_error(prior, images) returns, or None"
    return instance(caller, "error", error, DenoisingError, need=need)
