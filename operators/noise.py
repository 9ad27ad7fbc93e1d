"""Noise models: how a measurement scatters around the noise-free one."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .random import normal


class NoiseModel(ABC):
    """The law of ``y`` given ``Ax``."""

    @abstractmethod
    def sample(self, ax: Tensor, *, seed: int = 0) -> Tensor:
        """Noisy measurements ``(batch, *range_shape)``; one random stream an entry of the batch."""

    @abstractmethod
    def log_prob(self, y: Tensor, ax: Tensor) -> Tensor:
        """``log p(y | Ax)``, ``(batch,)``, normalized."""

    @abstractmethod
    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        """Gradient of `log_prob` with respect to `ax`, same shape."""


class GaussianNoise(NoiseModel):
    """``y ~ N(Ax, std^2)``, independent entries.

    Args:
        std: positive, in units of y; a number, or a tensor that broadcasts to `range_shape`.

    Raises:
        ValueError: a negative, zero or non-finite std.
    """

    def __init__(self, std: float | Tensor):
        self.std = torch.as_tensor(std, dtype=torch.float64)
        if not bool((self.std.isfinite() & (self.std > 0)).all()):
            raise ValueError(
                f"GaussianNoise(std={std}): needs a positive, finite standard deviation in units "
                "of y; for nearly noise-free data use a small one, such as 1e-3 of the data range"
            )

    def __repr__(self) -> str:
        if self.std.ndim == 0:
            return f"GaussianNoise({float(self.std):g})"
        return f"GaussianNoise({tuple(self.std.shape)} values)"

    def sample(self, ax: Tensor, *, seed: int = 0) -> Tensor:
        noise = torch.stack([normal((seed, i), ax.shape[1:]) for i in range(ax.shape[0])])
        return ax + self.std.to(ax) * noise.to(ax)

    def log_prob(self, y: Tensor, ax: Tensor) -> Tensor:
        law = torch.distributions.Normal(ax, self.std.to(ax), validate_args=False)
        return law.log_prob(y).flatten(1).sum(1)

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        return (y - ax) / self.std.to(ax) ** 2
