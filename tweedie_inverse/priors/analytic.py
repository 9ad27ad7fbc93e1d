"""Priors with an exact denoiser: Gaussian, Gaussian mixture, finite data set.

They decide whether a sampler is right: their posteriors are known in closed form.
"""

import math
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count as whole_number
from tweedie_inverse.boundary.arguments import number
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.arrays import batch_of, real_tensor, refuse_type
from tweedie_inverse.boundary.contracts import Contract
from tweedie_inverse.numerics.covariance import Covariance, isotropic
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.residence import resident, resident_table
from tweedie_inverse.numerics.spectral import Completed, Dense, Fourier
from tweedie_inverse.priors.base import Prior, refuse_level, sigma_column

# A start at this many standard deviations of the data is pure noise for every practical purpose.
_SIGMA_MAX = 50.0
_SIGMA_MIN = 1e-3
# Mixtures whose means differ in more directions describe covariances by an average variance.
_LARGEST_DENSE = 1024


class Gaussian(Prior):
    """``x0 ~ N(mean, covariance)``; the denoiser and its error are exact.

    Args:
        mean: ``(*shape)``.
        covariance: ``(n, n)`` of the flattened image.
        power_spectrum: instead, ``(height, width)`` or ``(channels, height, width)``: eigenvalues
            of the covariance of a periodic field in the layout of ``torch.fft.fft2``, even in
            frequency; their mean is the pixel variance.  Volumes have a depth before the height.
    """

    any_sigma = True

    def __init__(
        self,
        mean: Tensor,
        covariance: Tensor | None = None,
        *,
        power_spectrum: Tensor | None = None,
    ):
        self.mean = self.centre = _floating("Gaussian", "mean", mean)
        self.shape = tuple(self.mean.shape)
        if covariance is not None and power_spectrum is None:
            covariance = real_tensor("Gaussian", "covariance", covariance)
            self.covariance = _dense(covariance, self.shape)
        elif power_spectrum is not None and covariance is None:
            power_spectrum = real_tensor("Gaussian", "power_spectrum", power_spectrum)
            self.covariance = _periodic(power_spectrum, self.shape)
        else:
            raise ValueError("Gaussian: give either covariance= or power_spectrum=")
        scale = math.sqrt(float(self.covariance.variance.max()))
        self.sigma_max, self.sigma_min = _SIGMA_MAX * scale, _SIGMA_MIN * scale

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def error_is_exact(self) -> bool:
        return True

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        refuse_type(f"{type(self).__name__}.denoise", x)
        mean = resident(self.mean, x)
        coefficients = self.covariance.basis.transform(x - mean)
        level, variance = sigma_column(coefficients, sigma), resident(self.covariance.variance, x)
        return mean + self.covariance.basis.inverse(variance / (variance + level**2) * coefficients)

    def contracts(self, x: Tensor, sigma: float) -> list[tuple[object, Contract]]:
        own = type(self).denoise is not Gaussian.denoise
        return super().contracts(x, sigma) if own else []

    def denoising_error(self, sigma: float) -> Covariance:
        refuse_level("denoising_error", sigma)
        return self._error(self.covariance.variance, sigma)

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        if type(self).denoising_error is not Gaussian.denoising_error:
            return self.denoising_error(sigma)
        # Worked out where the images are: a result of the CPU would have to be sent at every level.
        return self._error(resident_table(self.covariance.variance, denoised.device), sigma)

    def _error(self, variance: Tensor, sigma: float) -> Covariance:
        return replace(self.covariance, variance=variance * sigma**2 / (variance + sigma**2))

    def log_prob(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        """``log p_sigma(x)`` of images ``(batch, *shape)``, ``(batch,)`` in nats."""
        x = _images_of(self, x, sigma)
        coefficients = self.covariance.basis.transform(x - resident(self.mean, x))
        level = sigma_column(coefficients, sigma)
        total = resident(self.covariance.variance, x) + level**2
        _refuse_no_density(total)
        terms = coefficients**2 / total + (2 * math.pi * total).log()
        return -terms.flatten(1).sum(1) / 2

    def moments(self) -> tuple[Tensor, Covariance]:
        return self.mean, self.covariance

    def draw(self, count: int, *, seed: int = 0) -> Tensor:
        """Exact samples of the prior, ``(count, *shape)``."""
        count, seed = whole_number("draw", "count", count), checked_seed("draw", "seed", seed)
        noise = normal(("gaussian", seed), (count, *self.shape)).to(self.mean)
        return self.mean + self.covariance.colour(noise)


class GaussianMixture(Prior):
    """Mixture of ``N(mean_k, std^2 I)`` with given weights; the denoiser is exact.

    Args:
        means: ``(components, *shape)``.
        weights: ``(components,)``, positive; normalized here.
        std: standard deviation of every component, a number >= 0.
    """

    any_sigma = True
    suits_populations = True

    def __init__(self, means: Tensor, weights: Tensor, std: float):
        means = _floating("GaussianMixture", "means", means)
        weights = real_tensor("GaussianMixture", "weights", weights).to(means.device)
        std = number("GaussianMixture", "std", std)
        if means.ndim < 2 or len(means) == 0 or weights.shape != means.shape[:1]:
            raise ValueError(
                "GaussianMixture: needs means (components, *shape), one or more, and weights "
                "(components,), got "
                f"{tuple(means.shape)} and {tuple(weights.shape)}"
            )
        if not bool((weights > 0).all()) or std < 0:
            raise ValueError("GaussianMixture: needs positive weights and std >= 0")
        self.means, self.std, self.shape = means, std, tuple(means.shape[1:])
        self.log_weights = (weights / weights.sum()).log()
        self.centre = torch.einsum("k,k...->...", self.log_weights.exp().to(means), means)
        spread = (means - self.centre).flatten(1).square().sum(1)
        # No direction has more variance than all together; a bound is all that is needed.
        scale = math.sqrt(float(spread.mean()) + self.std**2)
        self.sigma_max, self.sigma_min = _SIGMA_MAX * scale, _SIGMA_MIN * scale
        self._errors: dict[float, Covariance] = {}

    @property
    def device(self) -> torch.device:
        return self.means.device

    def _shares(self, x: Tensor, level: Tensor | float) -> Tensor:
        """Probability of every component behind x, ``(batch, components)``."""
        means = resident(self.means, x).flatten(1)
        # Differences, not the expanded square: at small sigma the expansion loses every digit.
        distance = torch.cdist(x.flatten(1), means, compute_mode="donot_use_mm_for_euclid_dist")
        total = level**2 + self.std**2
        return torch.softmax(resident(self.log_weights, x) - distance**2 / (2 * total), dim=1)

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level = sigma_column(x, sigma).reshape(-1, 1)
        centre = self._shares(x, level) @ resident(self.means, x).flatten(1)
        shrink = self.std**2 / (level**2 + self.std**2)
        return (centre + shrink * (x.flatten(1) - centre)).reshape(x.shape)

    def contracts(self, x: Tensor, sigma: float) -> list[tuple[object, Contract]]:
        own = type(self).denoise is not GaussianMixture.denoise
        return super().contracts(x, sigma) if own else []

    def denoising_error(self, sigma: float) -> Covariance:
        """Average posterior covariance by Monte Carlo over the prior, from a fixed seed.

        A single Gaussian: for a multimodal posterior it is an approximation.
        """
        if sigma not in self._errors:
            clean = self.draw(2048, seed=0).double()
            noise = normal(("denoising error",), clean.shape).to(clean)
            share = self._shares(clean + sigma * noise, sigma)
            offsets = self._span[1]
            expected = share @ offsets
            between = (share.mean(0)[:, None] * offsets).mT @ offsets
            between -= expected.mT @ expected / len(expected)
            total = sigma**2 + self.std**2
            within = sigma**2 * self.std**2 / total
            self._errors[sigma] = self._spread(between * (sigma**2 / total) ** 2, within)
        return self._errors[sigma]

    def log_prob(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        """``log p_sigma(x)`` of images ``(batch, *shape)``, ``(batch,)`` in nats."""
        x = _images_of(self, x, sigma)
        total = sigma_column(x, sigma).reshape(-1, 1) ** 2 + self.std**2
        _refuse_no_density(total)
        means = resident(self.means, x).flatten(1)
        distance = torch.cdist(x.flatten(1), means, compute_mode="donot_use_mm_for_euclid_dist")
        each = resident(self.log_weights, x) - distance**2 / (2 * total)
        volume = means.shape[1] / 2 * (2 * math.pi * total[:, 0]).log()
        return torch.logsumexp(each, dim=1) - volume

    def moments(self) -> tuple[Tensor, Covariance]:
        return torch.as_tensor(self.centre), self._covariance

    @cached_property
    def _covariance(self) -> Covariance:
        offsets = self._span[1]
        between = (self.log_weights.double().exp()[:, None] * offsets).mT @ offsets
        return self._spread(between, self.std**2)

    @cached_property
    def _span(self) -> tuple[Tensor, Tensor]:
        """Orthonormal ``(n, rank)`` of the differences between means, and their coordinates."""
        offsets = (self.means - self.centre).flatten(1).double()
        _, values, vectors = torch.linalg.svd(offsets, full_matrices=False)
        axes = vectors[values > 1e-12 * values.max().clamp(min=1e-300)].mT
        return axes, offsets @ axes

    def _spread(self, between: Tensor, within: float) -> Covariance:
        """`between` ``(rank, rank)`` in the span of the means, and `within` in all directions."""
        size, rank = math.prod(self.shape), len(between)
        if rank > _LARGEST_DENSE:
            return isotropic(float(between.trace()) / size + within)
        if rank == 0:
            return isotropic(within)
        values, vectors = torch.linalg.eigh(between)
        variance = torch.full((size,), within, dtype=torch.float64, device=values.device)
        variance[:rank] += values.clamp(min=0)
        return Covariance(Completed.of(self._span[0] @ vectors, self.shape), variance)

    def draw(self, count: int, *, seed: int = 0) -> Tensor:
        """Exact samples of the prior, ``(count, *shape)``."""
        count = whole_number("draw", "count", count)
        uniform = torch.special.ndtr(normal(("component", seed), (count,)))
        edges = self.log_weights.double().exp().cumsum(0)
        index = torch.searchsorted(edges, uniform.to(edges)).clamp(max=len(edges) - 1)
        noise = normal(("mixture", seed), (count, *self.shape)).to(self.means)
        return self.means[index] + self.std * noise


class Empirical(GaussianMixture):
    """A finite data set, each image equally likely and blurred by `std`; the denoiser is exact.

    Args:
        data: ``(count, *shape)``.
        std: standard deviation of the smoothing kernel, 0 for the bare points.
    """

    def __init__(self, data: Tensor, std: float = 0.0):
        data = _floating("Empirical", "data", data)
        super().__init__(data, data.new_ones(len(data) if data.ndim else 0), std)


def _floating(caller: str, name: str, value: Tensor) -> Tensor:
    """Images of the data as a tensor; whole numbers are refused, because samples are none."""
    found = real_tensor(caller, name, value)
    refuse_type(f"{caller}({name}=)", found)
    return found


def _images_of(prior: Prior, x: Any, sigma: float | Tensor) -> Tensor:
    """The images of a `log_prob`: others would broadcast to the prior's shape."""
    caller = f"{type(prior).__name__}.log_prob"
    refuse_level(caller, sigma)
    return batch_of(caller, "x", x, prior.shape)


def _refuse_no_density(variance: Tensor) -> None:
    if not bool((variance > 0).all()):
        raise ValueError(
            "log_prob(x, sigma=0): this prior has no density, its variance is 0 in some direction. "
            "Give it a positive std, or ask at a positive sigma"
        )


def _dense(covariance: Tensor, shape: tuple[int, ...]) -> Covariance:
    size = math.prod(shape)
    if tuple(covariance.shape) != (size, size):
        raise ValueError(
            f"Gaussian(covariance=): needs shape ({size}, {size}) for this mean, got "
            f"{tuple(covariance.shape)}"
        )
    asymmetry = float((covariance - covariance.mT).abs().max())
    values, vectors = torch.linalg.eigh(covariance.double())
    largest = float(values.max())
    if asymmetry > 1e-6 * largest or float(values.min()) < -1e-6 * largest:
        raise ValueError(
            "Gaussian(covariance=): must be symmetric and positive semidefinite; asymmetry "
            f"{asymmetry:.1e}, smallest eigenvalue {float(values.min()):.1e}"
        )
    return Covariance(Dense(vectors, shape), values.clamp(min=0))


def _periodic(spectrum: Tensor, shape: tuple[int, ...]) -> Covariance:
    spectrum = spectrum.double()
    if len(shape) not in (3, 4) or tuple(spectrum.shape) not in (shape, shape[1:]):
        raise ValueError(
            "Gaussian(power_spectrum=): needs a mean (channels, height, width) and a spectrum of "
            "that shape or (height, width), or both with a depth before the height; got "
            f"{shape} and {tuple(spectrum.shape)}"
        )
    axes = tuple(range(1 - len(shape), 0))
    mirrored = spectrum.flip(axes).roll([1] * len(axes), axes)
    if float(spectrum.min()) < 0 or not torch.allclose(spectrum, mirrored, rtol=1e-6):
        raise ValueError(
            "Gaussian(power_spectrum=): must be non-negative and even, S(f) = S(-f), in the layout "
            "of torch.fft.fft2"
        )
    return Covariance(Fourier(len(axes)), spectrum)
