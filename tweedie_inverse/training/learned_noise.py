"""A noise schedule that is learned together with the network (Kingma et al. 2021; Luo 2022).

``SNR(t) = exp(-gamma(t))`` with a monotone network gamma, so ``sigma(t) = exp(gamma(t) / 2)`` in
network units.  The continuous-time bound

    || x0 - D(x_low) ||^2 / (2 sigma_low^2) + n log sigma_low                reconstruction
    + || x0 ||^2 / (2 sigma_high^2)                                          prior matching
    + E_t gamma'(t) / 2 || x0 - D(x_t, sigma_t) ||^2 / sigma_t^2             denoising matching

depends on the ends of gamma, and on nothing between them.  So the ends descend on the bound, and
the rest on the square of the one-time estimate: its mean is fixed, so that is its variance.
"""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tweedie_inverse.priors.guidance import given
from tweedie_inverse.priors.network import NetworkPrior

# The reconstruction asks for one more evaluation, of this share of a batch.
_RECONSTRUCTED = 4


class Curve(NamedTuple):
    """``gamma = 2 log sigma`` at some times, and its slope, ``(batch,)`` each."""

    gamma: Tensor
    slope: Tensor


class NoiseCurve(Protocol):
    """A schedule as a differentiable function of time, 0 to 1, in network units."""

    def at(self, t: Tensor) -> Curve: ...


class LearnedLevels(nn.Module):
    """``gamma(t)``, increasing: a line and `width` sigmoids with positive weights.

    Starts log-linear.  Differs from Kingma et al.: 32 sigmoids instead of 1024, weights positive
    by softplus instead of by absolute value, slope in closed form.
    """

    centres: Tensor

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0, width: int = 32):
        super().__init__()
        ends = torch.tensor([2 * math.log(sigma_min), 2 * math.log(sigma_max)])
        self.ends = nn.Parameter(ends)
        self.line = nn.Parameter(torch.zeros(()))
        self.heights = nn.Parameter(torch.full((width,), -4.0))
        self.steepness = nn.Parameter(torch.full((width,), 5.0))
        self.register_buffer("centres", torch.linspace(0, 1, width))

    def at(self, t: Tensor) -> Curve:
        value, slope = self._monotone(t)
        first, last = self._monotone(t.new_tensor([0.0, 1.0]))[0]
        low, high = self.ends
        rise = (high - low) / (last - first)
        return Curve(low + rise * (value - first), rise * slope)

    def _monotone(self, t: Tensor) -> tuple[Tensor, Tensor]:
        line, heights = F.softplus(self.line), F.softplus(self.heights)
        steepness = F.softplus(self.steepness)
        bend = torch.sigmoid(steepness * (t[:, None] - self.centres))  # (times, width)
        value = line * t + (heights * bend).sum(1)
        return value, line + (heights * steepness * bend * (1 - bend)).sum(1)

    @property
    def sigma_min(self) -> float:
        return math.exp(float(self.ends[0].detach()) / 2)

    @property
    def sigma_max(self) -> float:
        return math.exp(float(self.ends[1].detach()) / 2)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """``sigma(t)`` at uniform times, ``(count,)`` on the CPU, as `NoiseLevels` asks."""
        times = torch.rand(count, generator=generator).to(self.ends.device)
        with torch.no_grad():
            gamma = self.at(times).gamma.cpu()
        return (gamma / 2).exp().clamp(self.sigma_min, self.sigma_max)

    def table(self, count: int = 1000) -> Tensor:
        """Levels ``(count,)`` at even times, increasing, float64, for `schedules.from_table`."""
        with torch.no_grad():
            times = torch.linspace(0, 1, count, device=self.ends.device)
            return (self.at(times).gamma.cpu().double() / 2).exp()


class BoundLoss(NamedTuple):
    """The bound's terms in nats per dimension, without the constant; each one estimate an image."""

    reconstruction: Tensor
    prior_matching: Tensor
    matching: Tensor

    @property
    def total(self) -> Tensor:
        """A scalar, to be made small."""
        return self.reconstruction.mean() + self.prior_matching.mean() + self.matching.mean()


def even_times(count: int, generator: torch.Generator) -> Tensor:
    """``(count,)`` in [0, 1), one shift for all (Kingma et al. 2021, appendix I.1)."""
    return (torch.arange(count) + torch.rand((), generator=generator)) / count


def bound_loss(
    prior: NetworkPrior,
    curve: NoiseCurve,
    clean: Tensor,
    noise: Tensor,
    t: Tensor,
    labels: Tensor | None = None,
) -> BoundLoss:
    """Terms of the bound in network units.

    Args:
        clean, noise: ``(batch, *shape)``, clean in data units.
        t: ``(batch,)``, times.
        labels: ``(batch,)``, classes for a conditional network.
    """
    point, ends = curve.at(t), curve.at(t.new_tensor([0.0, 1.0])).gamma
    asked = prior if labels is None else given(prior, labels)
    matching = point.slope / 2 * _error(asked, clean, noise, point.gamma)
    few = -(-len(clean) // _RECONSTRUCTED)
    low = ends[:1].expand(few)
    asked = prior if labels is None else given(prior, labels[-few:])
    reconstruction = (_error(asked, clean[-few:], noise[-few:], low) + low) / 2
    size = ((clean - torch.as_tensor(prior.centre).to(clean)) / prior.scale).square()
    return BoundLoss(reconstruction, size.flatten(1).mean(1) * (-ends[1]).exp() / 2, matching)


def _error(prior: NetworkPrior, clean: Tensor, noise: Tensor, gamma: Tensor) -> Tensor:
    """``|| x0 - D ||^2 / sigma^2`` a dimension, ``(batch,)``."""
    sigma = prior.scale * (gamma / 2).exp()
    noisy = clean + sigma.reshape(-1, *[1] * (clean.ndim - 1)) * noise
    return (prior.denoise(noisy, sigma) - clean).square().flatten(1).mean(1) / sigma**2


def descend(
    prior: NetworkPrior,
    levels: LearnedLevels,
    clean: Tensor,
    noise: Tensor,
    t: Tensor,
    labels: Tensor | None = None,
) -> Tensor:
    """The loss, detached; its gradients are left in the network and in `levels`."""
    loss = bound_loss(prior, levels, clean, noise, t, labels)
    outer = [*prior.module.parameters(), levels.ends]
    inner = [levels.line, levels.heights, levels.steepness]
    gradients = torch.autograd.grad(loss.total, outer, retain_graph=True)
    square = torch.autograd.grad(loss.matching.square().mean(), inner)
    for parameter, gradient in zip(outer + inner, gradients + square, strict=True):
        parameter.grad = gradient
    nn.utils.clip_grad_norm_(inner, 1.0)
    nn.utils.clip_grad_norm_([levels.ends], 1.0)
    return loss.total.detach()
