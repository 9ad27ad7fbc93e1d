"""The recipe's known instances, with closed forms: VP, CLD and PSLD.

Two phases, position x and momentum m with mass M (Pandey and Mandt 2023, equations 6 and 7):

    D = diag(Gamma, M nu) / 2,    Q = [[0, -1], [1, 0]] / 2,    S = diag(1, M)
    dx = beta/2 (m / M - Gamma x) dt + sqrt(Gamma beta) dw
    dm = beta/2 (-x - nu m) dt + sqrt(M nu beta) dw

Critically Langevin diffusion (Dockhorn et al. 2022) is Gamma = 0.  Its own letters, with a bar,
are ``nu_bar = M nu`` and ``beta_bar = beta / 2``.
"""

import math
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import number, positive
from tweedie_inverse.phase_space.processes.recipe import Growth, LinearProcess, Rate

# Variance of the momentum at t = 0 over its variance at the end (the paper's gamma).
_MOMENTUM_SHARE = 0.04


def vp(rate: Rate | None = None) -> LinearProcess:
    """The variance-preserving process of one phase, ``dx = -beta/2 x dt + sqrt(beta) dw``.

    Its usual rate, and the default, rises from 0.1 to 20 (Song et al. 2021).
    """
    half = torch.full((1, 1), 0.5, dtype=torch.float64)
    return LinearProcess(
        diffusion=half,
        rotation=torch.zeros_like(half),
        stationary=2 * half,
        rate=Rate(0.1, 20.0) if rate is None else rate,
        growth=lambda b: torch.expm1(-b / 2)[..., None, None],
        name="vp",
    )


def cld(nu: float = 4.0, *, mass: float | None = None, rate: Rate | None = None) -> LinearProcess:
    """Critically damped Langevin diffusion: noise enters through the momentum only."""
    return psld(0.0, nu, mass=mass, rate=rate)


def psld(
    gamma: float = 0.01,
    nu: float | None = None,
    *,
    mass: float | None = None,
    momentum_share: float = _MOMENTUM_SHARE,
    rate: Rate | None = None,
) -> LinearProcess:
    """Phase-space Langevin diffusion, which adds noise to position and momentum.

    Args:
        gamma: Gamma >= 0, noise of the position.
        nu: noise of the momentum, >= 0; default ``4 + gamma``, the paper's.
        mass: M; default the critical damping ``4 / (Gamma - nu)^2``, the paper's only setting.
            Smaller oscillates, larger creeps.
        momentum_share: variance of the momentum at t = 0 in units of M (the paper's gamma, 0.04).
        rate: default 8, constant.

    Raises:
        ValueError: Gamma = nu and no mass: critical damping would need an infinite one; no noise
            at all; a negative number.
    """
    gamma = number("psld", "gamma", gamma, low=0, need="a number >= 0")
    nu = 4.0 + gamma if nu is None else number("psld", "nu", nu, low=0, need="a number >= 0")
    if gamma == nu == 0:
        raise ValueError("psld(gamma=0, nu=0): there is no noise at all; make one positive")
    if mass is None and gamma == nu:
        raise ValueError(
            f"psld(gamma={gamma}, nu={nu}): critical damping, mass = 4 / (gamma - nu)^2, has no "
            "finite mass for gamma = nu. Give mass=, or let them differ (the paper takes nu = 4 + "
            "gamma)"
        )
    mass = 4 / (gamma - nu) ** 2 if mass is None else positive("psld", "mass", mass)
    momentum_share = number("psld", "momentum_share", momentum_share, low=0, need="a share >= 0")
    skew = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    return LinearProcess(
        diffusion=_diagonal(gamma, mass * nu) / 2,
        rotation=skew / 2,
        stationary=_diagonal(1.0, mass),
        rate=Rate() if rate is None else rate,
        start=_diagonal(0.0, momentum_share * mass),
        growth=_growth(gamma, nu, 1 / mass),
        name="cld" if gamma == 0 else "psld",
    )


def settings_of(process: LinearProcess) -> dict[str, Any]:
    """What `from_settings` makes the process from; plain numbers, for a file.

    Raises:
        ValueError: the process is none of `vp`, `cld` and `psld`.
    """
    rate = [process.rate.first, process.rate.last]
    if process.name == "vp":
        return {"name": "vp", "rate": rate}
    if process.name not in ("cld", "psld"):
        raise ValueError(
            f"settings_of: only VP, CLD and PSLD processes can be stored, got {process.name!r}"
        )
    mass = float(process.stationary[1, 1])
    return {
        "name": process.name,
        "gamma": 2 * float(process.diffusion[0, 0]),
        "nu": 2 * float(process.diffusion[1, 1]) / mass,
        "mass": mass,
        "momentum_share": float(process.initial[1, 1]) / mass,
        "rate": rate,
    }


def from_settings(settings: dict[str, Any]) -> LinearProcess:
    """The process that `settings_of` described."""
    rate = Rate(*settings["rate"])
    if settings["name"] == "vp":
        return vp(rate)
    return psld(
        settings["gamma"],
        settings["nu"],
        mass=settings["mass"],
        momentum_share=settings["momentum_share"],
        rate=rate,
    )


def _growth(gamma: float, nu: float, inverse_mass: float) -> Growth:
    """``expm(F b) - 1 = expm1(-(Gamma + nu) b / 4) c + (c - 1) + e^(...) s N``.

    N is the traceless part of F, ``N^2 = d``; c and s are ``cosh(r b)`` and ``sinh(r b) / r`` with
    ``r^2 = d > 0``, their circular counterparts for d < 0, and 1 and b at critical damping.
    """
    decay = -(gamma + nu) / 4
    traceless = torch.tensor(
        [[(nu - gamma) / 4, inverse_mass / 2], [-1 / 2, (gamma - nu) / 4]], dtype=torch.float64
    )
    square = (gamma - nu) ** 2 / 16 - inverse_mass / 4
    if abs(square) < 1e-14 * inverse_mass:  # critical, but for the rounding of the mass
        square = 0.0
    root = math.sqrt(abs(square))
    eye = torch.eye(2, dtype=torch.float64)

    def growth(b: Tensor) -> Tensor:
        if square > 0:
            above, s = 2 * torch.sinh(root * b / 2) ** 2, torch.sinh(root * b) / root
        elif square < 0:
            above, s = -2 * torch.sin(root * b / 2) ** 2, torch.sin(root * b) / root
        else:
            above, s = torch.zeros_like(b), b
        shrink = torch.expm1(decay * b)
        even = shrink * (1 + above) + above
        odd = (1 + shrink) * s
        return even[..., None, None] * eye + odd[..., None, None] * traceless

    return growth


def _diagonal(first: float, second: float) -> Tensor:
    return torch.tensor([first, second], dtype=torch.float64).diag()
