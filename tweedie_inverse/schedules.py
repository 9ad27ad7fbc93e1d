"""Noise-level grids: functions that return ``(steps + 1,)`` float64, decreasing, the last one 0.

``sigmas[k]`` is the level of the k-th network evaluation and ``sigmas[k + 1]`` the one walked to.
"""

import math

import torch
from torch import Tensor


def _grid(levels: Tensor) -> Tensor:
    return torch.cat([levels, levels.new_zeros(1)])


def _unit(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    if steps < 1 or not 0 < sigma_min <= sigma_max:
        raise ValueError(
            "a schedule needs steps >= 1 and 0 < sigma_min <= sigma_max, got "
            f"steps={steps}, sigma_min={sigma_min}, sigma_max={sigma_max}"
        )
    return torch.linspace(0, 1, steps, dtype=torch.float64)


def geometric(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Even in log sigma (Song and Ermon 2019)."""
    u = _unit(steps, sigma_min, sigma_max)
    return _grid(sigma_max * (sigma_min / sigma_max) ** u)


def karras(steps: int, sigma_min: float, sigma_max: float, *, rho: float = 7.0) -> Tensor:
    """Even in ``sigma^(1 / rho)`` (Karras et al. 2022, equation 5)."""
    u = _unit(steps, sigma_min, sigma_max)
    ends = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return _grid((ends[0] + u * (ends[1] - ends[0])) ** rho)


def linear(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Even in sigma."""
    u = _unit(steps, sigma_min, sigma_max)
    return _grid(sigma_max + u * (sigma_min - sigma_max))


def sigmoid(steps: int, sigma_min: float, sigma_max: float, *, temperature: float = 0.3) -> Tensor:
    """The seed paper's sigmoid over [0, 3]; `temperature` 0.5 in its first version, 0.3 later."""
    u = _unit(steps, sigma_min, sigma_max)
    bend = torch.sigmoid(3 * u / temperature)
    low, high = 0.5, 1 / (1 + math.exp(-3 / temperature))
    share = ((high - bend) / (high - low)).clamp(1e-9, 1)
    return _grid(share * (sigma_max - sigma_min) + sigma_min)


def vp_linear(steps: int, *, beta_min: float = 1e-4, beta_max: float = 0.02) -> Tensor:
    """The training levels of DDPM, ``sqrt((1 - abar) / abar)``: linear betas, interpolated in t.

    1000 steps give 157.4 down to 0.0100005.
    """
    beta = torch.linspace(beta_min, beta_max, 1000, dtype=torch.float64)
    table = torch.expm1(-torch.log1p(-beta).cumsum(0)).sqrt().flip(0)
    position = _unit(steps, 1.0, 1.0) * 999
    left = position.floor().long().clamp(max=998)
    return _grid(torch.lerp(table[left], table[left + 1], position - left))
