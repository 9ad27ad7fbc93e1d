"""Timesteps of discretely trained networks, as noise levels: sigma for t, and t for sigma.

Such a network knows a *table* of training levels ``sqrt((1 - abar_t) / abar_t)``, with ``abar_t``
the product of ``1 - beta`` up to t, and is given the number t of a level.  Between the entries t is
continuous: `sigma_to_timestep` and `timestep_to_sigma` interpolate linearly in log sigma and are
inverse to each other.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, number


def levels_of_betas(betas: Tensor) -> Tensor:
    """Noise levels ``(timesteps,)`` of betas ``(timesteps,)``, float64; infinite past a beta of 1.

    ``sqrt((1 - abar) / abar)`` without the cancellation of ``1 - abar`` at small t.
    """
    return torch.expm1(-torch.log1p(-betas.double()).cumsum(0)).sqrt()


def vp_linear_table(
    beta_min: float = 1e-4, beta_max: float = 0.02, timesteps: int = 1000
) -> Tensor:
    """Noise levels ``(timesteps,)`` of linear betas, increasing (Ho et al. 2020)."""
    beta_min, beta_max, timesteps = _checked("vp_linear_table", beta_min, beta_max, timesteps)
    return levels_of_betas(torch.linspace(beta_min, beta_max, timesteps, dtype=torch.float64))


def scaled_linear_table(
    beta_min: float = 0.00085, beta_max: float = 0.012, timesteps: int = 1000
) -> Tensor:
    """Noise levels ``(timesteps,)`` of betas whose root is linear (Rombach et al. 2022)."""
    beta_min, beta_max, timesteps = _checked("scaled_linear_table", beta_min, beta_max, timesteps)
    root = torch.linspace(beta_min**0.5, beta_max**0.5, timesteps, dtype=torch.float64)
    return levels_of_betas(root**2)


def cosine_table(
    timesteps: int = 1000, *, beta_max: float = 0.999, offset: float = 0.008
) -> Tensor:
    """Noise levels ``(timesteps,)`` of ``abar = cos^2((t + offset) / (1 + offset) * pi / 2)``."""
    _, beta_max, timesteps = _checked("cosine_table", 1.0, beta_max, timesteps)
    offset = number("cosine_table", "offset", offset, low=0)
    t = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    abar = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return levels_of_betas((1 - abar[1:] / abar[:-1]).clamp(max=beta_max))


def _checked(
    caller: str, beta_min: float, beta_max: float, timesteps: int
) -> tuple[float, float, int]:
    need = "a beta in (0, 1]"
    low, high = (
        number(caller, name, value, above=0, high=1, need=need)
        for name, value in (("beta_min", beta_min), ("beta_max", beta_max))
    )
    return low, high, count(caller, "timesteps", timesteps)


TABLES: dict[str, Callable[[], Tensor]] = {
    "cosine": cosine_table,
    "scaled-linear": scaled_linear_table,
    "vp-linear": vp_linear_table,
}


def sigma_to_timestep(sigma: Tensor, table: Tensor) -> Tensor:
    """Fractional index into the increasing noise levels `table` ``(timesteps,)``.

    Linear in log sigma between the entries; outside the table clamped to its ends.
    """
    if not (isinstance(table, Tensor) and isinstance(sigma, Tensor)):
        raise TypeError("sigma_to_timestep: needs tensors of noise levels, sigma and table")
    logs, log_sigma = table.log(), sigma.log()
    right = torch.searchsorted(logs, log_sigma).clamp(1, len(table) - 1)
    left = logs[right - 1]
    fraction = (log_sigma - left) / (logs[right] - left)
    return right - 1 + fraction.clamp(0, 1)


def timestep_to_sigma(timestep: Tensor, table: Tensor) -> Tensor:
    """Inverse of `sigma_to_timestep`; outside ``[0, timesteps - 1]`` clamped to the ends."""
    if not (isinstance(table, Tensor) and isinstance(timestep, Tensor)):
        raise TypeError("timestep_to_sigma: needs tensors, timestep and table")
    timestep = timestep.clamp(0, len(table) - 1)
    left = timestep.floor().long().clamp(max=len(table) - 2)
    logs = table.log()
    return torch.lerp(logs[left], logs[left + 1], timestep - left).exp()
