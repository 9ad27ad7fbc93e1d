"""The denoising error that all walkers of a population share: from a table, or from the network.

A particle step needs variances in one basis, the same for all walkers.  Read from the network they
are averages over the population: for white z and ``Cov(x0 | x_sigma) = sigma^2 J`` (see
`priors.error.from_network`) the variance of coefficient k is ``sigma^2 E[(B z)_k (B J z)_k]``.
What is read may be wrong: the weights put it right, and the walk stays exact in the limit of many
walkers.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.numerics.covariance import Covariance, along, isotropic
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Basis, Dense
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.error.from_network import carried_share, probe
from tweedie_inverse.priors.error.layout import Layout, layout_for
from tweedie_inverse.walks.base import Level
from tweedie_inverse.walks.communicator import Communicator

# Levels from one probe of every walker to the next.
_EVERY = 2
# Evaluations a sample that the moments may take, and how many images they are taken from.
_MOMENTS, _MOMENT_IMAGES = 2, 32
# Vectors of up to this many numbers have their whole Jacobian read once, at the start.
_FEW_NUMBERS = 64
# Shares of sigma^2 that a variance may have; for the exact denoiser they lie between 0 and 1.  Far
# above the data's spread they are small.
_LEAST, _MOST = 1e-12, 1 - 1e-6


class Shares(NamedTuple):
    """Variances over sigma^2 at level `sigma`, like the coefficients of one image."""

    sigma: float
    values: Tensor


class Walkers(NamedTuple):
    """One population, where it stands."""

    x: Tensor  # (walkers, *shape)
    denoised: Tensor
    level: Level
    basis: Basis  # in which the variances are asked for
    prior: Prior
    streams: Streams
    communicator: Communicator


class SharedCovariance(ABC):
    """A rule for V; subclasses are frozen dataclasses."""

    name: ClassVar[str]

    def describe(self, levels: int) -> str:
        """What a user should know, in a few words; empty if nothing."""
        return ""

    @abstractmethod
    def evaluations(self, levels: int) -> int:
        """Network evaluations a sample for so many steps."""

    @abstractmethod
    def moments(self, prior: Prior, like: Tensor, walkers: int) -> tuple[Tensor, Covariance]:
        """Mean ``(*shape)`` and covariance of the images, the same in every process."""

    @abstractmethod
    def basis(self, prior: Prior, sigma: float) -> Covariance | None:
        """A covariance whose basis is wanted too, beside that of the moments."""

    @abstractmethod
    def variance(self, here: Walkers, known: Shares | None) -> tuple[Tensor, Shares | None]:
        """Variances, like the coefficients of one image, and what is known now."""


@dataclass(frozen=True)
class FromTable(SharedCovariance):
    """The prior's denoising error, exact or measured.  Cost: none."""

    name = "measured"

    def evaluations(self, levels: int) -> int:
        return levels

    def moments(self, prior: Prior, like: Tensor, walkers: int) -> tuple[Tensor, Covariance]:
        return prior.moments()

    def basis(self, prior: Prior, sigma: float) -> Covariance | None:
        return prior.denoising_error(sigma)

    def variance(self, here: Walkers, known: Shares | None) -> tuple[Tensor, Shares | None]:
        error = here.prior.denoising_error(here.level.sigma)
        return along(error, here.basis, here.prior.shape).to(here.x), None


@dataclass(frozen=True)
class FromNetwork(SharedCovariance):
    """``sigma^2 J``, averaged over the population.

    Cost: one evaluation a sample at every second step, and up to two for the moments.
    """

    name = "network"

    def describe(self, levels: int) -> str:
        return (
            "the denoising error is not measured but read from the network "
            f"({levels} steps, {self.evaluations(levels) - levels} evaluations a sample for it)"
        )

    def evaluations(self, levels: int) -> int:
        return levels + -(-levels // _EVERY) + _MOMENTS

    def moments(self, prior: Prior, like: Tensor, walkers: int) -> tuple[Tensor, Covariance]:
        """From D and its Jacobian around the centre, at sigma_max: ``J = P (P + sigma^2)^-1``."""
        layout, sigma = layout_for(tuple(prior.shape), basis=prior.probe_basis), prior.sigma_max
        size = math.prod(prior.shape)
        centre = torch.as_tensor(prior.centre).to(like).expand(1, *prior.shape)
        mean = prior.denoise(centre, sigma)
        if not layout.is_of_images and size <= min(_FEW_NUMBERS, _MOMENTS * walkers - 1):
            units = torch.eye(size, dtype=like.dtype, device=like.device)
            columns = probe(prior.denoise, centre, mean, sigma, units.reshape(size, *prior.shape))
            jacobian = columns.flatten(1).double()
            values, vectors = torch.linalg.eigh((jacobian + jacobian.mT) / 2)
            return mean[0], Covariance(Dense(vectors, prior.shape), _prior_variance(values, sigma))
        count = max(1, min(_MOMENT_IMAGES, _MOMENTS * walkers - 1))
        # The same numbers for every walk and process: they are no part of a sample.
        white = normal(("moments",), (count, *prior.shape)).to(like)
        response = probe(prior.denoise, centre, mean, sigma, white)
        share = _average(white, response, layout.basis, layout, lambda sums: sums)
        variance = _prior_variance(share.double(), sigma)
        if layout.is_of_images:
            return mean[0], Covariance(layout.basis, variance)
        return mean[0], isotropic(float(variance.mean()))

    def basis(self, prior: Prior, sigma: float) -> Covariance | None:
        return None

    def variance(self, here: Walkers, known: Shares | None) -> tuple[Tensor, Shares | None]:
        sigma, prior = here.level.sigma, here.prior
        if known is None or here.level.index % _EVERY == 0:
            white = here.streams.normal(prior.shape, like=here.x)
            response = probe(prior.denoise, here.x, here.denoised, sigma, white)
            sound = response.flatten(1).isfinite().all(1)
            response = response.where(sound.reshape(-1, *[1] * (response.ndim - 1)), 0.0)
            layout = layout_for(tuple(prior.shape), basis=prior.probe_basis)
            share = _average(
                white, response, here.basis, layout, lambda sums: _over(sums, here.communicator)
            )
            known = Shares(sigma, share)
        share = carried_share(known.values, known.sigma, sigma)
        return sigma**2 * share, Shares(sigma, share)


SHARED_COVARIANCES: dict[str, SharedCovariance] = {
    source.name: source for source in (FromTable(), FromNetwork())
}


def _average(
    white: Tensor,
    response: Tensor,
    basis: Basis,
    layout: Layout,
    everyone: Callable[[Tensor], Tensor],
) -> Tensor:
    """Shares like the coefficients of one image, from the probes of all walkers.

    They are drawn to their common mean by as much as the scatter of ``J z`` about ``v z`` makes
    them uncertain; where J is diagonal there is none.
    """
    z, jz = basis.transform(white), basis.transform(response)
    parts = torch.ones_like(z), z * z, z * jz, jz * jz
    count, power, product, squares = everyone(torch.stack([part.sum(0) for part in parts]))
    if layout.is_of_images and basis == layout.basis:
        count, power, product, squares = (
            layout.spread(layout.over_bins(part[None]))[0]
            for part in (count, power, product, squares)
        )
    share, mean = product / power, product.sum() / power.sum()
    scatter = (squares - product.square() / power).clamp(min=0) / (count - 1).clamp(min=1)
    uncertainty, deviation = scatter / power, share - mean
    signal = (deviation.square() - uncertainty).mean().clamp(min=0)
    kept = signal / (signal + uncertainty).clamp(min=torch.finfo(signal.dtype).tiny)
    # A single probe shows no scatter.
    kept = torch.where(count > 1, kept, torch.zeros_like(kept))
    return (mean + kept * deviation).clamp(_LEAST, _MOST)


def _over(sums: Tensor, communicator: Communicator) -> Tensor:
    """Added up over the processes."""
    return communicator.gather(sums[None, None]).sum((0, 1))


def _prior_variance(share: Tensor, sigma: float) -> Tensor:
    """P of ``share = P / (P + sigma^2)``."""
    # A denoiser that removes nothing at all would know nothing of the prior.
    share = share.clamp(_LEAST, 1 - 1e-3)
    return sigma**2 * share / (1 - share)
