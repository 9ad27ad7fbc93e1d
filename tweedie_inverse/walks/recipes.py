"""Samplers as numbers: each recipe turns a noise-level grid into ``(tau_k, T_k)``.

With ``r = sigma_{k+1} / sigma_k`` and ``delta = sigma_k^2 - sigma_{k+1}^2``; Park et al. 2024,
table 1, and the rows derived in the same coordinates.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Recipe(NamedTuple):
    """``sigmas (steps + 1,)``, ``taus (steps,)``, ``temperatures (steps,)``, all float64."""

    sigmas: Tensor
    taus: Tensor
    temperatures: Tensor


def ddim(sigmas: Tensor, *, eta: float = 0.0) -> Recipe:
    """Song et al. 2021; eta 0 is also EDM's Euler step, eta 1 DDPM with small variance."""
    now, after = sigmas[:-1], sigmas[1:]
    fresh = eta**2 * after**2 * (now**2 - after**2) / now**2
    taus = now * (now - (after**2 - fresh).sqrt())
    return Recipe(sigmas, taus, fresh / (2 * taus))


def ddpm(sigmas: Tensor) -> Recipe:
    """Ho et al. 2020 with the smaller variance: ``tau = delta``, ``T = r^2 / 2``."""
    now, after = sigmas[:-1], sigmas[1:]
    return Recipe(sigmas, now**2 - after**2, (after / now) ** 2 / 2)


def ve_sde(sigmas: Tensor) -> Recipe:
    """Reverse diffusion of the VE-SDE (Song et al. 2021): ``tau = delta``, ``T = 1/2``.

    The last step, to sigma 0, adds no noise.
    """
    now, after = sigmas[:-1], sigmas[1:]
    temperatures = torch.where(after > 0, 0.5, 0.0).to(now)
    return Recipe(sigmas, now**2 - after**2, temperatures)


RECIPES: dict[str, Callable[[Tensor], Recipe]] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "ve-sde": ve_sde,
}
