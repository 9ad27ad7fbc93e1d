"""Noise-level grids: functions that return ``(steps + 1,)`` float64, falling, the last one 0.

Step k walks from the level ``sigmas[k]`` to ``sigmas[k + 1]``.  All grids take ``(steps, sigma_min,
sigma_max)`` in the unit of the prior that they are used with; `SCHEDULES` has them by name.

The schedules of discretely trained networks are even in the timestep of a table of training levels;
`timesteps` has the tables, and their names are repeated here.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, number, positive
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.numerics.timesteps import (
    TABLES,
    cosine_table,
    scaled_linear_table,
    sigma_to_timestep,
    timestep_to_sigma,
    vp_linear_table,
)

__all__ = [
    "SCHEDULES",
    "TABLES",
    "Schedule",
    "check_schedule",
    "cosine",
    "cosine_table",
    "even_in_timestep",
    "from_table",
    "geometric",
    "karras",
    "linear",
    "log_snr",
    "scaled_linear",
    "scaled_linear_table",
    "sigma_to_timestep",
    "sigmoid",
    "sigmoid_v1",
    "timestep_to_sigma",
    "vp_linear",
    "vp_linear_table",
]

Schedule = Callable[[int, float, float], Tensor]


def check_schedule(sigmas: Tensor, *, repeats: bool = False) -> Tensor:
    """`sigmas` as float64, if it is a schedule ``(steps + 1,)``.

    Args:
        repeats: allow a level to be held for several steps.

    Raises:
        ValueError: not one-dimensional, not finite, not positive, not falling, or not ending in 0.
    """
    sigmas = real_tensor("schedule", "sigmas", sigmas, finite=False, dtype=torch.float64)
    if sigmas.ndim != 1 or len(sigmas) < 2:
        raise ValueError(
            f"a schedule needs shape (steps + 1,) with steps >= 1, got {tuple(sigmas.shape)}"
        )
    if not bool(sigmas.isfinite().all()):
        raise ValueError("a schedule needs finite noise levels, got NaN or infinity")
    if float(sigmas[-1]) != 0:
        raise ValueError(
            f"a schedule needs a last level of 0, the clean image; got {float(sigmas[-1]):.4g}. "
            "Append a 0"
        )
    steps = sigmas.diff()
    wrong = steps > 0 if repeats else steps >= 0
    if bool(wrong.any()):
        k = int(wrong.nonzero()[0])
        need = "must not rise" if repeats else "must fall at every step"
        raise ValueError(
            f"a schedule {need}: level {k} is {float(sigmas[k]):.4g} and level {k + 1} is "
            f"{float(sigmas[k + 1]):.4g}. Sort it, noisiest first"
        )
    if float(sigmas[-2]) <= 0:
        raise ValueError("a schedule needs positive noise levels before the last 0")
    return sigmas


def geometric(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Even in log sigma (Song and Ermon 2019)."""
    u = _unit(steps, sigma_min, sigma_max)
    return _grid(sigma_max * (sigma_min / sigma_max) ** u)


def log_snr(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Even in the logarithm of the signal-to-noise ratio (DPM-Solver, Lu et al. 2022).

    ``SNR = 1 / sigma^2`` in every coordinate system, so this is `geometric` under the name that
    papers in variance-preserving coordinates use.
    """
    u = _unit(steps, sigma_min, sigma_max)
    ends = -2 * math.log(sigma_max), -2 * math.log(sigma_min)
    return _grid(torch.exp(-(ends[0] + u * (ends[1] - ends[0])) / 2))


def karras(steps: int, sigma_min: float, sigma_max: float, *, rho: float = 7.0) -> Tensor:
    """Even in ``sigma^(1 / rho)`` (Karras et al. 2022, equation 5)."""
    u, rho = _unit(steps, sigma_min, sigma_max), positive("karras", "rho", rho)
    ends = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return _grid((ends[0] + u * (ends[1] - ends[0])) ** rho)


def linear(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Even in sigma."""
    u = _unit(steps, sigma_min, sigma_max)
    return _grid(sigma_max + u * (sigma_min - sigma_max))


def sigmoid(steps: int, sigma_min: float, sigma_max: float, *, temperature: float = 0.3) -> Tensor:
    """The seed paper's sigmoid over [0, 3]; `temperature` 0.5 in its first version, 0.3 later."""
    u = _unit(steps, sigma_min, sigma_max)
    temperature = positive("sigmoid", "temperature", temperature)
    bend = torch.sigmoid(3 * u / temperature)
    low, high = 0.5, 1 / (1 + math.exp(-3 / temperature))
    share = ((high - bend) / (high - low)).clamp(1e-9, 1)
    return _grid(share * (sigma_max - sigma_min) + sigma_min)


def sigmoid_v1(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """`sigmoid` with the bend of the seed paper's first version."""
    return sigmoid(steps, sigma_min, sigma_max, temperature=0.5)


def even_in_timestep(
    steps: int, table: Tensor, sigma_min: float = 0.0, sigma_max: float = math.inf
) -> Tensor:
    """Even in the fractional timestep of `table`: a network's own training levels.

    Args:
        table: ``(timesteps,)``, increasing.
        sigma_min, sigma_max: ends of the grid; where the table ends earlier, the grid ends there.
    """
    table = _checked_table("even_in_timestep", table)
    need = "steps >= 1 and 0 < sigma_min <= sigma_max"
    sigma_min = number("schedule", "sigma_min", sigma_min, low=0, need=need)
    sigma_max = number("schedule", "sigma_max", sigma_max, above=0, finite=False, need=need)
    low, high = max(sigma_min, float(table[0])), min(sigma_max, float(table[-1]))
    u = _unit(steps, low, high)
    ends = sigma_to_timestep(torch.tensor([high, low], dtype=torch.float64), table)
    return _grid(timestep_to_sigma(ends[0] + u * (ends[1] - ends[0]), table))


def vp_linear(
    steps: int,
    sigma_min: float = 0.0,
    sigma_max: float = math.inf,
    *,
    beta_min: float = 1e-4,
    beta_max: float = 0.02,
) -> Tensor:
    """The training levels of DDPM: linear betas.  1000 steps give 157.4 down to 0.0100005.

    Differs from the seed paper's code between the entries of the table: that interpolates sigma,
    this log sigma.
    """
    return even_in_timestep(steps, vp_linear_table(beta_min, beta_max), sigma_min, sigma_max)


def scaled_linear(steps: int, sigma_min: float = 0.0, sigma_max: float = math.inf) -> Tensor:
    """The training levels of latent diffusion: ``sqrt(beta)`` linear, 14.6 down to 0.0292."""
    return even_in_timestep(steps, scaled_linear_table(), sigma_min, sigma_max)


def cosine(steps: int, sigma_min: float = 0.0, sigma_max: float = math.inf) -> Tensor:
    """The training levels of improved DDPM (Nichol and Dhariwal 2021), 2.0e4 down to 0.0064."""
    return even_in_timestep(steps, cosine_table(), sigma_min, sigma_max)


def from_table(table: Tensor) -> Schedule:
    """The schedule of any table of levels ``(timesteps,)``, increasing, such as a learned one."""
    table = _checked_table("from_table", table)

    def schedule(steps: int, sigma_min: float = 0.0, sigma_max: float = math.inf) -> Tensor:
        return even_in_timestep(steps, table, sigma_min, sigma_max)

    return schedule


def _checked_table(caller: str, table: Tensor) -> Tensor:
    table = real_tensor(caller, "table", table, finite=False, dtype=torch.float64)
    if table.ndim != 1 or len(table) < 2 or not bool((table.diff() > 0).all()) or table[0] <= 0:
        raise ValueError(
            f"{caller}(table): needs positive noise levels (timesteps,), increasing, in data "
            f"units; got shape {tuple(table.shape)}"
        )
    return table


SCHEDULES: dict[str, Schedule] = {
    "cosine": cosine,
    "geometric": geometric,
    "karras": karras,
    "linear": linear,
    "log-snr": log_snr,
    "scaled-linear": scaled_linear,
    "sigmoid": sigmoid,
    "sigmoid-v1": sigmoid_v1,
    "vp-linear": vp_linear,
}


def _grid(levels: Tensor) -> Tensor:
    return torch.cat([levels, levels.new_zeros(1)])


def _unit(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    need = "steps >= 1 and 0 < sigma_min <= sigma_max"
    steps = count("schedule", "steps", steps, need=need)
    for name, level in (("sigma_min", sigma_min), ("sigma_max", sigma_max)):
        number("schedule", name, level, low=-math.inf, finite=False)
    if not 0 < sigma_min <= sigma_max < math.inf:
        raise ValueError(
            "a schedule needs steps >= 1 and 0 < sigma_min <= sigma_max, got "
            f"steps={steps}, sigma_min={sigma_min}, sigma_max={sigma_max}"
        )
    return torch.linspace(0, 1, steps, dtype=torch.float64)
