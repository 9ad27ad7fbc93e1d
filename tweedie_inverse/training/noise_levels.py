"""The sigma column of the training template: distributions of noise levels, as data.

Park et al. 2024, table 1 (v1); Karras et al. 2022 for the log-normal.  All in network units.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class NoiseLevels(Protocol):
    """Draws noise levels ``(count,)`` with a given generator."""

    def sample(self, count: int, generator: torch.Generator) -> Tensor: ...


@dataclass(frozen=True)
class LogNormal:
    """``log sigma ~ N(mean, std^2)``, clamped to [sigma_min, sigma_max]."""

    mean: float = -1.2
    std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        log_sigma = self.mean + self.std * torch.randn(count, generator=generator)
        return log_sigma.exp().clamp(self.sigma_min, self.sigma_max)


@dataclass(frozen=True)
class LogUniform:
    """``log sigma`` uniform: NCSN and VE-SDE as they were actually trained."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        u = torch.rand(count, generator=generator)
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** u


@dataclass(frozen=True)
class Uniform:
    """``sigma ~ U(sigma_min, sigma_max)``: the NCSN and VE-SDE row as printed."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        u = torch.rand(count, generator=generator)
        return self.sigma_min + (self.sigma_max - self.sigma_min) * u


@dataclass(frozen=True)
class VarianceExploded:
    """DDPM: ``sqrt((1 - abar_t) / abar_t)`` with t uniform over the steps of a linear schedule."""

    steps: int = 1000
    beta_min: float = 1e-4
    beta_max: float = 0.02

    def table(self) -> Tensor:
        """All noise levels, ``(steps,)``, increasing."""
        beta = torch.linspace(self.beta_min, self.beta_max, self.steps, dtype=torch.float64)
        log_abar = torch.log1p(-beta).cumsum(0)
        return torch.expm1(-log_abar).sqrt()

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(self.steps, (count,), generator=generator)
        return self.table()[index].float()


NOISE_LEVELS: dict[str, NoiseLevels] = {
    "log-normal": LogNormal(),
    "log-normal-wide": LogNormal(-1.2, 1.6),
    "log-uniform": LogUniform(),
    "uniform": Uniform(),
    "ddpm": VarianceExploded(),
}


def quantiles(levels: NoiseLevels, at: tuple[float, ...], seed: int = 0) -> list[float]:
    """Quantiles of a distribution of noise levels, by sampling; for cards and messages."""
    draws = levels.sample(100_000, torch.Generator().manual_seed(seed)).double()
    return [math.exp(q) for q in draws.log().quantile(torch.tensor(at).double()).tolist()]
