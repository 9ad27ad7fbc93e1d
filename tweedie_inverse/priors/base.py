"""What a prior is: a denoiser in data units, with the size of its own error."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.priors.tweedie import score_from_denoised


def sigma_column(x: Tensor, sigma: float | Tensor) -> Tensor:
    """``sigma`` (scalar or ``(batch,)``) as ``(batch, 1, ..., 1)`` in the dtype and device of x."""
    column = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    if column.ndim > 1 or (column.ndim == 1 and column.shape[0] not in (1, x.shape[0])):
        raise ValueError(
            f"denoise(x, sigma): sigma must be a scalar or one value an image, shape "
            f"({x.shape[0]},); got shape {tuple(column.shape)}"
        )
    return column.expand(x.shape[0]).reshape(-1, *[1] * (x.ndim - 1))


class Prior(ABC):
    """A denoiser ``D(x, sigma) = E[x0 | x0 + sigma n = x]`` in data units.

    Attributes:
        shape: of one image.
        sigma_min, sigma_max: range of noise levels it answers for, in data units.
        centre: mean of the data, roughly, a number or ``(*shape)``: walks start there, plus noise.
        any_sigma: whether levels outside that range are answered as well as those inside: exact
            priors, whose range is only where a walk may sensibly begin and end.
        error_is_exact: whether `conditional_covariance` is that of ``p(x0 | x_sigma)`` itself,
            which is then a Gaussian.
        unit: how much images differ, roughly, in data units; noise well above it hides them.
        value_range: ends of the range in which its images lie, in data units; None where it is not
            known.
        units: what one data unit is, for colour bars, such as ``"HU"``; empty where not known.
        suits_populations: whether evaluations are cheap enough for a population of walkers, and
            the prior is not so simple that independent walkers are exact anyway; with few
            dimensions, ``method="auto"`` then chooses the particle walk.
    """

    shape: tuple[int, ...]
    sigma_min: float
    sigma_max: float
    centre: Tensor | float = 0.0
    any_sigma: bool = False
    error_is_exact: bool = False
    unit: float = 1.0
    value_range: tuple[float, float] | None = None
    units: str = ""
    suits_populations: bool = False

    @abstractmethod
    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """``E[x0 | x0 + sigma n = x]``.

        Args:
            x: ``(batch, *shape)``, noisy images in data units.
            sigma: scalar or ``(batch,)``, noise standard deviation in data units.
        """

    def denoise_drawing(
        self, x: Tensor, sigma: float | Tensor, noise: Callable[[tuple[int, ...]], Tensor]
    ) -> Tensor:
        """`denoise`, for a walk with random numbers to give; few priors take any.

        ``noise(shape)`` draws ``(batch, *shape)`` standard normal numbers.
        """
        return self.denoise(x, sigma)

    @abstractmethod
    def denoising_error(self, sigma: float) -> Covariance:
        """Covariance of ``x0 - D(x0 + sigma n, sigma)``, averaged over the prior."""

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Gradient of ``log p_sigma(x)`` by Tweedie's formula, ``(D(x, sigma) - x) / sigma^2``."""
        return score_from_denoised(x, self.denoise(x, sigma), sigma_column(x, sigma))

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        """The Gaussian model of ``p(x0 | x_sigma)`` that the decoupled walk draws from.

        By default the denoising error; a prior whose error differs from place to place may answer
        with a covariance for each of the images ``denoised = D(x, sigma)``, ``(batch, *shape)``.
        """
        return self.denoising_error(sigma)

    def moments(self) -> tuple[Tensor, Covariance]:
        """Mean ``(*shape)`` and covariance of the images.

        By default the centre, and what the denoising error at sigma_max says: V is ``P sigma^2 (P
        + sigma^2)^-1`` there, and solved for P.
        """
        square = self.sigma_max**2
        # A denoiser that removes nothing at all would know nothing of the prior.
        largest = 1 - 1e-3
        covariance = self.denoising_error(self.sigma_max).map(
            lambda v: v / (1 - (v / square).clamp(max=largest))
        )
        return torch.as_tensor(self.centre).expand(self.shape), covariance

    def uncorrected(self) -> "Prior":
        """This prior without any measured correction of its denoiser."""
        return self

    @property
    def device(self) -> torch.device:
        """The device of the prior's weights or tensors, where it computes.

        By default the CPU; a prior that holds tensors says where they are.
        """
        return torch.device("cpu")

    @property
    def error_is_measured(self) -> bool:
        """Whether `denoising_error` is exact or measured, and not a guess."""
        return True

    def for_shape(self, shape: tuple[int, ...]) -> "Prior":
        """This prior for images of `shape`; a `ValueError` where it has no such form."""
        if tuple(shape) != tuple(self.shape):
            raise ValueError(
                f"{type(self).__name__} is a prior for images of shape {tuple(self.shape)}, but "
                f"images of shape {tuple(shape)} are asked for. Use an operator whose "
                f"domain_shape is {tuple(self.shape)}, or another prior (ti.list_priors())."
            )
        return self
