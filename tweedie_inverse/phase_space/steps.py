"""One step of the reverse process from time t to an earlier one, as pure functions of the state.

With b the integral of beta over the step, F, D, Q, S of the process and the score s, the reverse
process and its probability flow are, per unit of b and running back in time (Pandey and Mandt
2023, equation 11),

    dz = (-F z + 2 D s) db + sqrt(2 D) dw,          dz = (-F z + D s) db.

Every step works for every process: beta enters through b alone, and a VP process is one phase.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import choice, number, positive
from tweedie_inverse.density.probability_flow import SOLVERS
from tweedie_inverse.phase_space.prior import PhaseSpacePrior
from tweedie_inverse.phase_space.processes import LinearProcess, act
from tweedie_inverse.phase_space.processes.observation import cholesky

Noise = Callable[[], Tensor]  # fresh standard normal numbers like z

# Steps of the noise transport, a unit of log t.
_MAGNUS_STEPS = 64
# Nodes of the Gauss-Legendre rule for a step's integrals.
_NODES = 16


class Sampler(ABC):
    """A rule for one step; subclasses are frozen dataclasses of their settings.

    Cost: one network evaluation a step, unless said otherwise.

    Attributes:
        name: for messages.
        stochastic: whether it draws noise.
        adaptive: whether it chooses steps of its own inside those it is given.
    """

    name: str
    stochastic: bool = True
    adaptive: bool = False

    @abstractmethod
    def step(
        self, z: Tensor, t: float, earlier: float, prior: PhaseSpacePrior, noise: Noise
    ) -> Tensor:
        """The state ``(batch, phases, *shape)`` at time `earlier` from that at t."""


@dataclass(frozen=True)
class EulerMaruyama(Sampler):
    """``z' = z + b (-F z + 2 D s) + sqrt(2 D b) n``."""

    name = "em"

    def step(
        self, z: Tensor, t: float, earlier: float, prior: PhaseSpacePrior, noise: Noise
    ) -> Tensor:
        process = prior.process
        b = float(process.rate.between(earlier, t))
        drift = act(2 * process.diffusion, prior.phase_score(z, t)) - act(process.drift, z)
        return z + b * drift + act(b**0.5 * process.noise, noise())


@dataclass(frozen=True)
class SymmetricSplitting(Sampler):
    """SSCS: half a step of the linear part, a step of the score part, half a step (equation 12).

    The linear part is the kernel of the process with Q negated, exact; the score part is ``z' = z
    + 2 b D (s + S^-1 z)``, with the score at the time where the step begins.

    Differs from the paper: each half takes its own half of b, which matters where beta is not
    constant; nothing is added to the variances.
    """

    name = "sscs"

    def step(
        self, z: Tensor, t: float, earlier: float, prior: PhaseSpacePrior, noise: Noise
    ) -> Tensor:
        process = prior.process
        b = float(process.rate.between(earlier, t))
        half = _half(process, b)
        z = act(half.matrix, z) + act(half.factor, noise())
        inverse = torch.linalg.inv(process.stationary)
        z = z + act(2 * b * process.diffusion, prior.phase_score(z, t) + act(inverse, z))
        return act(half.matrix, z) + act(half.factor, noise())


@dataclass(frozen=True)
class _Half:
    matrix: Tensor
    factor: Tensor


@lru_cache(maxsize=4096)
def _half(process: LinearProcess, b: float) -> _Half:
    """The linear part over half a step."""
    matrix, covariance = process.opposed().transition(b / 2)
    return _Half(matrix, cholesky(covariance, torch.tensor(b / 2)))


@dataclass(frozen=True)
class AdaptiveFlow(Sampler):
    """The probability flow by an adaptive solver of SciPy, all samples as one system.

    Cost: as many evaluations as the tolerance asks for; the samples of a batch share them, so that
    a sample depends on its batch within the tolerance.

    Attributes:
        tolerance: relative and absolute.
        solver: of ``scipy.integrate.solve_ivp``.
    """

    tolerance: float = 1e-4
    solver: str = "RK45"

    name = "ode"
    stochastic = False
    adaptive = True

    def __post_init__(self) -> None:
        positive("AdaptiveFlow", "tolerance", self.tolerance)
        choice("AdaptiveFlow", "solver", self.solver, SOLVERS)

    def step(
        self, z: Tensor, t: float, earlier: float, prior: PhaseSpacePrior, noise: Noise
    ) -> Tensor:
        from scipy.integrate import solve_ivp

        process = prior.process

        def slope(time: float, flat: np.ndarray) -> np.ndarray:
            state = torch.from_numpy(flat.copy()).to(z).reshape(z.shape)
            flow = act(process.drift, state) - act(
                process.diffusion, prior.phase_score(state, time)
            )
            return float(process.rate.at(time)) * flow.cpu().double().numpy().ravel()

        start = z.cpu().double().numpy().ravel()
        found = solve_ivp(
            slope, (t, earlier), start, self.solver, rtol=self.tolerance, atol=self.tolerance
        )
        if not found.success:
            raise ArithmeticError(
                f"phase_space: the probability flow did not arrive at t = {earlier:.3g} "
                f"({found.message}); the prior returned NaN, or tolerance={self.tolerance:g} is "
                "too small for its number type"
            )
        return torch.from_numpy(found.y[:, -1]).to(z).reshape(z.shape)


@dataclass(frozen=True)
class GDDIM(Sampler):
    """One exact step of the probability flow of a point mass (gDDIM, Zhang et al. 2023).

    With ``R R^T = C`` and ``dR/db = (F + D C^-1) R``, the noise ``R^-1 (z - psi x0)`` stays what it
    is along the flow of one image: the mean part moves with the process, the noise with R,

        z' = expm(-F b) (z - L epsilon) + R' R^-1 L epsilon.

    Noise drawn again with the Cholesky factor instead of R would leave the flow.
    """

    name = "gddim"
    stochastic = False

    def step(
        self, z: Tensor, t: float, earlier: float, prior: PhaseSpacePrior, noise: Noise
    ) -> Tensor:
        process = prior.process
        spread = act(process.given_image(t).factor, prior.epsilon(z, t))
        back = process.matrix(process.rate.between(t, earlier))
        return act(back, z - spread) + act(_noise_transport(process, t, earlier), spread)


@lru_cache(maxsize=4096)
def _noise_transport(process: LinearProcess, t: float, earlier: float) -> Tensor:
    """``R(earlier) R(t)^-1`` ``(k, k)``: products of fourth-order Magnus steps, even in log t."""
    low, high = math.log(earlier), math.log(t)
    count = max(4, math.ceil(_MAGNUS_STEPS * (high - low)))
    h = (low - high) / count
    middle = high + h * (torch.arange(count, dtype=torch.float64) + 0.5)
    offset = h * math.sqrt(3) / 6
    first, second = (_noise_slope(process, middle + d) for d in (-offset, offset))
    swirl = second @ first - first @ second
    steps = torch.linalg.matrix_exp(h / 2 * (first + second) + math.sqrt(3) / 12 * h**2 * swirl)
    product = torch.eye(process.phases, dtype=torch.float64)
    for step in steps:
        product = step @ product
    return product


def _noise_slope(process: LinearProcess, log_time: Tensor) -> Tensor:
    """``F + D C^-1`` per unit of log t, ``(count, k, k)``."""
    times = log_time.exp()
    inverse = torch.cholesky_inverse(process.given_image(times).factor)
    scale = process.rate.at(times) * times
    return scale[:, None, None] * (process.drift + process.diffusion @ inverse)


@dataclass(frozen=True)
class Conjugate(Sampler):
    """A conjugate integrator (Pandey, Rudolph and Mandt 2024): Euler in coordinates ``A z``.

    With ``dA/db = (shift - F) A`` the probability flow becomes ``d(A z)/db = shift A z + A D
    L^-T epsilon``.  An Euler step of length b in these coordinates is, with the integral exact,

        z' = (1 - shift b) e^(shift b) expm(-F b) z - integral of A'^-1 A D L^-T db epsilon.

    ``shift = 0`` is the exponential integrator of the Cholesky noise; for one phase it is DDIM.
    """

    shift: float = 0.0

    name = "conjugate"
    stochastic = False

    def __post_init__(self) -> None:
        number("Conjugate", "shift", self.shift)

    def step(
        self, z: Tensor, t: float, earlier: float, prior: PhaseSpacePrior, noise: Noise
    ) -> Tensor:
        keep, weight = _conjugate(prior.process, t, earlier, self.shift)
        return act(keep, z) + act(weight, prior.epsilon(z, t))


@lru_cache(maxsize=4096)
def _conjugate(
    process: LinearProcess, t: float, earlier: float, shift: float
) -> tuple[Tensor, Tensor]:
    """What a step does to z and to epsilon, both ``(k, k)``."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    # In log t: L^-T grows like a power of 1 / t towards the data.
    low, high = float(np.log(earlier)), float(np.log(t))
    times = torch.from_numpy((low + high) / 2 + (high - low) / 2 * nodes).exp()
    measure = torch.from_numpy(weights) * (high - low) / 2 * times * process.rate.at(times)
    back = process.rate.between(times, earlier)  # negative
    carried = process.matrix(back) * (-shift * back).exp()[:, None, None]
    pull = carried @ process.diffusion @ process.given_image(times).whiten.mT
    b = process.rate.between(earlier, t)
    keep = process.matrix(-b) * (1 - shift * b) * (shift * b).exp()
    return keep, -(measure[:, None, None] * pull).sum(0)


SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (Conjugate(), EulerMaruyama(), GDDIM(), AdaptiveFlow(), SymmetricSplitting())
}
