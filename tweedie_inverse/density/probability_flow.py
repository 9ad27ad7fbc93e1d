"""The exact likelihood, by the probability-flow ODE and the change of variables.

Song et al. 2021, equation 39, in variance-exploding coordinates with ``l = log sigma``:

    dx/dl = x - D(x, sigma)
    log p(x at sigma_min) = log N(x at sigma_max; centre, sigma_max^2 I)
                            + integral (n - trace of dD/dx) dl
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import choice, count, positive
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.priors.base import Prior, refuse_correlated

# Those of ``scipy.integrate.solve_ivp``.
SOLVERS = ("RK45", "RK23", "DOP853", "Radau", "BDF", "LSODA")


@dataclass(frozen=True)
class ProbabilityFlow:
    """Settings of the exact likelihood.

    It is the likelihood at the noise level `sigma_min`, of the flow that starts at `centre` with
    `sigma_max`; the Gaussian start stands for the noised data.

    Cost: some 50 to 300 evaluations and vector-Jacobian products of the denoiser for a repeat, as
    many as the tolerance asks for; the exact trace makes one product for every dimension.

    Attributes:
        trace: `"exact"`, or `"hutchinson"`: ``e^T dD/dx e`` with random signs e, unbiased.
        tolerance: relative and absolute, of the adaptive solver.
        repeats: random vectors, for the standard error; the exact trace has none, and needs 1.
        solver: of ``scipy.integrate.solve_ivp``.
        sigma_min, sigma_max: ends in data units; None is the prior's own.
    """

    trace: Literal["exact", "hutchinson"] = "hutchinson"
    tolerance: float = 1e-5
    repeats: int = 4
    solver: str = "RK45"
    sigma_min: float | None = None
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        me = "ProbabilityFlow"
        count(me, "repeats", self.repeats)
        positive(me, "tolerance", self.tolerance)
        choice(me, "solver", self.solver, SOLVERS)
        for name in ("sigma_min", "sigma_max"):
            if getattr(self, name) is not None:
                positive(me, name, getattr(self, name))
        if self.trace not in ("exact", "hutchinson"):
            raise ValueError(
                f"ProbabilityFlow(trace={self.trace!r}): choose 'exact' or 'hutchinson'"
            )

    def terms(self, prior: Prior, images: Tensor, streams: Streams) -> dict[str, Tensor]:
        """``(batch,)`` in nats each: density where the flow ends, and the change of volume."""
        from scipy.integrate import solve_ivp

        refuse_correlated(prior, "ProbabilityFlow")
        low, high = self.sigma_min or prior.sigma_min, self.sigma_max or prior.sigma_max
        count, dimensions = len(images), images[0].numel()
        signs = torch.sign(streams.normal(prior.shape, images))
        slope = self._slope(prior, images, signs)
        start = np.concatenate([images.cpu().double().numpy().ravel(), np.zeros(count)])
        ends = (math.log(low), math.log(high))
        solution = solve_ivp(
            slope, ends, start, self.solver, rtol=self.tolerance, atol=self.tolerance
        )
        if not solution.success or not np.isfinite(solution.y[:, -1]).all():
            raise ArithmeticError(
                f"likelihood: the probability flow did not arrive at sigma {high:.4g} "
                f"({solution.message}); the prior returned NaN, or tolerance="
                f"{self.tolerance:g} is too small for its number type"
            )
        end = torch.from_numpy(solution.y[:, -1]).to(images.device)
        x, change = end[:-count].reshape(count, dimensions), end[-count:]
        centre = torch.as_tensor(prior.centre).to(x).expand(images[0].shape).flatten()
        square = (x - centre).square().sum(1) / high**2
        base = -square / 2 - dimensions / 2 * math.log(2 * math.pi * high**2)
        return {"start of the flow": base.to(images), "change of volume": change.to(images)}

    def _slope(
        self, prior: Prior, images: Tensor, signs: Tensor
    ) -> Callable[[float, np.ndarray], np.ndarray]:
        """The ODE of images and their log-volumes, flattened together for scipy."""
        count, dimensions = len(images), images[0].numel()
        divergence = _exact_trace if self.trace == "exact" else _hutchinson

        def slope(log_sigma: float, state: np.ndarray) -> np.ndarray:
            flat = torch.from_numpy(state[:-count].copy()).to(images.device)
            x, sigma = flat.reshape(images.shape), math.exp(log_sigma)
            denoised, trace = divergence(prior, x, sigma, signs.to(x))
            moved = (x - denoised).flatten().cpu().numpy()
            return np.concatenate([moved, (dimensions - trace).cpu().numpy()])

        return slope


def _hutchinson(prior: Prior, x: Tensor, sigma: float, signs: Tensor) -> tuple[Tensor, Tensor]:
    """D, and ``e^T dD/dx e`` for each image."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        denoised = prior.denoise(x, sigma)
        (product,) = torch.autograd.grad(denoised, x, signs)
    return denoised.detach(), (product * signs).flatten(1).sum(1)


def _exact_trace(prior: Prior, x: Tensor, sigma: float, signs: Tensor) -> tuple[Tensor, Tensor]:
    """D, and the trace of dD/dx for each image, one product a dimension."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        denoised = prior.denoise(x, sigma)
        trace = x.new_zeros(len(x))
        for index in range(x[0].numel()):
            total = denoised.flatten(1)[:, index].sum()
            (row,) = torch.autograd.grad(total, x, retain_graph=True)
            trace = trace + row.flatten(1)[:, index]
    return denoised.detach(), trace
