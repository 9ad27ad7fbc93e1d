"""The one step of Park et al. 2024, table 1: drift along the score, then noise.

x' = x + tau * (D(x, sigma) - x) / sigma^2 + sqrt(2 tau T) n
"""

import math

from torch import Tensor


def template_step(
    x: Tensor, denoised: Tensor, noise: Tensor, sigma: float, tau: float, temperature: float
) -> Tensor:
    """One unconditional step.

    Args:
        x, denoised, noise: ``(walkers, *shape)``: state, ``D(x, sigma)``, standard normal.
        sigma: noise level of x, in data units.
        tau: step size, in squared data units.
        temperature: T; 1 is Langevin at a fixed level, 0 a deterministic flow.
    """
    return x + tau * (denoised - x) / sigma**2 + math.sqrt(2 * tau * temperature) * noise
