"""The sigma column of the training template: distributions of noise levels, as data.

Park et al. 2024, table 1 (v1); Karras et al. 2022 for the log-normal.  All in network units.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tweedie_inverse.numerics.timesteps import TABLES


class NoiseLevels(Protocol):
    """Draws noise levels ``(count,)``, float32 and inside a range, with a given generator."""

    @property
    def sigma_min(self) -> float: ...

    @property
    def sigma_max(self) -> float: ...

    def sample(self, count: int, generator: torch.Generator) -> Tensor: ...


@dataclass(frozen=True)
class LogNormal:
    """``log sigma ~ N(mean, std^2)``, clamped to [sigma_min, sigma_max].

    With mean 0 also the logit-normal time of flow matching: ``log sigma = logit t``.
    """

    mean: float = -1.2
    std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        log_sigma = self.mean + self.std * torch.randn(count, generator=generator)
        return log_sigma.exp().clamp(self.sigma_min, self.sigma_max)


@dataclass(frozen=True)
class LogUniform:
    """``log sigma`` uniform: the VE-SDE as it was actually trained."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        u = torch.rand(count, generator=generator)
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** u


@dataclass(frozen=True)
class Geometric:
    """Each of `levels` even in log sigma equally likely: NCSN as it was actually trained."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    levels: int = 232

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(self.levels, (count,), generator=generator)
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** (index / (self.levels - 1))


@dataclass(frozen=True)
class Uniform:
    """``sigma ~ U(sigma_min, sigma_max)``: the NCSN and VE-SDE row as printed."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        u = torch.rand(count, generator=generator)
        return self.sigma_min + (self.sigma_max - self.sigma_min) * u


@dataclass(frozen=True)
class StraightPath:
    """``sigma = t / (1 - t)`` with t uniform: flow matching, where ``x_t = (1 - t) x0 + t n``.

    t is kept `margin` away from 0 and 1.
    """

    margin: float = 0.005

    @property
    def sigma_min(self) -> float:
        return self.margin / (1 - self.margin)

    @property
    def sigma_max(self) -> float:
        return (1 - self.margin) / self.margin

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        t = self.margin + (1 - 2 * self.margin) * torch.rand(count, generator=generator)
        return t / (1 - t)


@dataclass(frozen=True)
class Timesteps:
    """``sqrt((1 - abar_t) / abar_t)`` with t uniform over the steps of a table by name: DDPM."""

    name: str = "vp-linear"

    def table(self) -> Tensor:
        """All noise levels, ``(timesteps,)``, increasing, float64."""
        return TABLES[self.name]()

    @property
    def sigma_min(self) -> float:
        return float(self.table()[0])

    @property
    def sigma_max(self) -> float:
        return float(self.table()[-1])

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        table = self.table()
        return table[torch.randint(len(table), (count,), generator=generator)].float()


NOISE_LEVELS: dict[str, NoiseLevels] = {
    "cosine": Timesteps("cosine"),
    "ddpm": Timesteps("vp-linear"),
    "geometric": Geometric(),
    "log-normal": LogNormal(),
    "log-normal-wide": LogNormal(-1.2, 1.6),
    # For images beyond 64x64: the more pixels show an object, the more noise hides it
    # (Hoogeboom et al. 2023), so where it lies is decided at larger noise levels.
    "log-normal-wider": LogNormal(-0.5, 1.9),
    "log-uniform": LogUniform(),
    "logit-normal": LogNormal(0.0, 1.0),
    "scaled-linear": Timesteps("scaled-linear"),
    "straight-path": StraightPath(),
    "uniform": Uniform(),
}


def quantiles(levels: NoiseLevels, at: tuple[float, ...], seed: int = 0) -> list[float]:
    """Quantiles of a distribution of noise levels, by sampling; for cards and messages."""
    draws = levels.sample(100_000, torch.Generator().manual_seed(seed)).double()
    return [math.exp(q) for q in draws.log().quantile(torch.tensor(at).double()).tolist()]
