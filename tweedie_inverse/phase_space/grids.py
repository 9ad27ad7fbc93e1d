"""Grids of times for samplers in phase space: from 1 down to the smallest time."""

from collections.abc import Callable

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, number
from tweedie_inverse.boundary.arrays import real_tensor

# (steps, smallest time) -> (steps + 1,), float64, falling from 1.
Grid = Callable[[int, float], Tensor]


def uniform(steps: int, time_min: float) -> Tensor:
    """Steps of one length."""
    steps, time_min = _checked("uniform", steps, time_min)
    return 1 - (1 - time_min) * torch.linspace(0, 1, steps + 1, dtype=torch.float64)


def quadratic(steps: int, time_min: float) -> Tensor:
    """Shorter and shorter steps, ``t = 1 - (1 - t_min) (1 - (1 - i / n)^2)``."""
    steps, time_min = _checked("quadratic", steps, time_min)
    left = 1 - torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return 1 - (1 - time_min) * (1 - left**2)


GRIDS: dict[str, Grid] = {"quadratic": quadratic, "uniform": uniform}


def _checked(name: str, steps: int, time_min: float) -> tuple[int, float]:
    caller = f"grids.{name}"
    need = "a time above 0 and below 1"
    time_min = number(caller, "time_min", time_min, above=0, high=1, need=need)
    return count(caller, "steps", steps), time_min


def check_grid(times: Tensor) -> Tensor:
    """`times` in float64 on the CPU.

    Raises:
        ValueError: not falling, or outside (0, 1].
    """
    times = real_tensor("phase_space.sample", "grid", times, dtype=torch.float64).cpu()
    falling = times.ndim == 1 and len(times) >= 2 and bool((times.diff() < 0).all())
    if not falling or not 0 < float(times[-1]) < float(times[0]) <= 1:
        raise ValueError(
            "phase_space: a grid is (steps + 1,) times that fall and stay in (0, 1], such as "
            f"grids.quadratic(49, 1e-3); got {times.tolist() if times.ndim else float(times)}"
        )
    return times
