"""What the networks of Song et al. 2021 are told and return: the VE, VP and sub-VP processes.

VE: the network sees x on [0, 1], centred inside, is told sigma, and returns the score times sigma;
trained at discrete noise levels it is told their number, the largest being 0.
VP: it sees ``x / sqrt(1 + sigma^2)`` on [-1, 1], is told 999 t, or the number of a noise level, and
returns the noise.  sub-VP: the same of ``alpha x``, where the noise has the standard deviation
``1 - alpha^2`` instead of ``sqrt(1 - alpha^2)``.
"""

import math

import torch
from torch import Tensor, nn

from tweedie_inverse.numerics.timesteps import vp_linear_table
from tweedie_inverse.priors.formats.base import Target, timestep_prior
from tweedie_inverse.priors.network import NetworkPrior

# The VP process of Song et al. 2021: beta from 0.1 to 20, started at t = 0.001.
_BETA = (0.1, 20.0)
_FIRST_TIME = 1e-3
_STEPS = 1000


class VESigma(nn.Module):
    """``score = output / sigma``, of images on [0, 1] that the network sees on [-1, 1]."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.network(2 * x - 1, sigma) / sigma.reshape(-1, 1, 1, 1)


class VENumber(nn.Module):
    """The noise, of images on [0, 1], from a VE network that counts its levels from the largest."""

    def __init__(self, network: nn.Module, levels: int):
        super().__init__()
        self.network, self.levels = network, levels

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        return -self.network(2 * x - 1, self.levels - 1 - index)


class VPTime(nn.Module):
    """Tells a VP network ``(steps - 1) t`` where the prior tells sigma."""

    def __init__(self, network: nn.Module, beta: tuple[float, float] = _BETA, steps: int = _STEPS):
        super().__init__()
        self.network, self.beta, self.steps = network, beta, steps

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.network(x, (self.steps - 1) * time_of(torch.log1p(sigma**2), self.beta))


class SubVPTime(nn.Module):
    """Gives a sub-VP network ``alpha x`` and ``999 t`` where the prior gives x and sigma.

    With ``B = -2 log alpha``, sigma is ``(1 - alpha^2) / alpha = 2 sinh(B / 2)``.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        half = torch.asinh(sigma / 2)
        state = x * torch.exp(-half).reshape(-1, *[1] * (x.ndim - 1)).to(x)
        return self.network(state, (_STEPS - 1) * time_of(2 * half, _BETA))


def time_of(total: Tensor, beta: tuple[float, float]) -> Tensor:
    """t with ``beta_0 t + (beta_1 - beta_0) t^2 / 2 = total``."""
    low, slope = beta[0], beta[1] - beta[0]
    return 2 * total / (low + (low**2 + 2 * slope * total).sqrt())  # no cancellation at small t


def total_of(t: float, beta: tuple[float, float]) -> float:
    """Integral of beta from 0 to t."""
    return beta[0] * t + (beta[1] - beta[0]) * t**2 / 2


def ve_prior(
    network: nn.Module,
    shape: tuple[int, ...],
    levels: Tensor,
    target: Target,
    name: str = "score-sde",
    *,
    discrete: bool = False,
) -> NetworkPrior:
    """A network in the VE convention of score_sde, without its division by sigma.

    Of `levels` ``(count,)``, increasing, on [0, 1], the ends matter; a discrete network is told the
    number of one of them, and between them a fraction.
    """
    offset, scale = target.units((0.0, 1.0))
    return NetworkPrior(
        VENumber(network, len(levels)) if discrete else VESigma(network),
        "epsilon" if discrete else "score",
        coordinates="ve",
        shape=shape,
        timesteps=levels if discrete else None,
        offset=offset,
        scale=scale,
        sigma_min=float(levels[0]) * scale,
        sigma_max=float(levels[-1]) * scale,
        centre=offset + 0.5 * scale,
        name=name,
    )


def vp_prior(
    network: nn.Module,
    shape: tuple[int, ...],
    target: Target,
    name: str = "score-sde",
    *,
    discrete: bool = False,
) -> NetworkPrior:
    """A network in the VP convention of score_sde; discrete ones are those of DDPM."""
    if discrete:
        return timestep_prior(network, "epsilon", shape, vp_linear_table(), target, name)
    offset, scale = target.units((-1.0, 1.0))
    low, high = (math.sqrt(math.expm1(total_of(t, _BETA))) for t in (_FIRST_TIME, 1.0))
    return NetworkPrior(
        VPTime(network),
        "epsilon",
        shape=shape,
        offset=offset,
        scale=scale,
        sigma_min=low * scale,
        sigma_max=high * scale,
        name=name,
    )


def subvp_prior(
    network: nn.Module, shape: tuple[int, ...], target: Target, name: str = "score-sde"
) -> NetworkPrior:
    """A network in the sub-VP convention of score_sde; the first sigma is that of VP."""
    offset, scale = target.units((-1.0, 1.0))
    return NetworkPrior(
        SubVPTime(network),
        "epsilon",
        coordinates="ve",
        shape=shape,
        offset=offset,
        scale=scale,
        sigma_min=math.sqrt(math.expm1(total_of(_FIRST_TIME, _BETA))) * scale,
        sigma_max=2 * math.sinh(total_of(1.0, _BETA) / 2) * scale,
        name=name,
    )
