"""Phase-space priors: a noise prediction for position and momentum, as a prior like any other.

The network predicts the whitened noise ``epsilon = L^-1 (z - psi x0)`` of all phases z (Pandey and
Mandt 2023, equation 10).  What the samplers of `phase_space` and the walks of this package need
follows from it:

    score     s(z, t) = -L^-T epsilon
    image     x0 = x - sigma u . epsilon,    x = sigma u . (L^-1 z)      (`processes.observation`)

x is an ordinary noisy image of level sigma and the rest of z is auxiliary noise, independent of x
and of x0.  So `denoise(x, sigma)`, what every other prior answers, builds ``z = psi x + L P w``
with auxiliary noise w and asks for x0.  For one phase (VP) there is no w, and nothing but
coordinates differs from `NetworkPrior`.
"""

import copy
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from tweedie_inverse.boundary.arguments import choice, flag, instance, number, positive, sizes
from tweedie_inverse.boundary.contracts import Contract, checked_result
from tweedie_inverse.numerics.covariance import Covariance, isotropic
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.phase_space.processes import LinearProcess, Observation, act
from tweedie_inverse.phase_space.processes.checks import float64
from tweedie_inverse.priors.base import Prior, sigma_column
from tweedie_inverse.priors.error.denoising_error import DenoisingError, error_or_none
from tweedie_inverse.priors.modules import device_of, refuse_training

_PROCESS = "a process such as ti.phase_space.processes.psld()"

Label = Literal["log-sigma", "time"]
Objective = Literal["hsm", "dsm"]


class PhaseSpacePrior(Prior):
    """A prior of images that comes with momentum; z is ``(batch, phases, *shape)``.

    Attributes:
        process: the forward process, in network units.
        offset, scale: data units are ``offset + scale * network units``; the momentum has no
            others.
        time_min, time_max: trained range of times.
    """

    process: LinearProcess
    offset: float = 0.0
    scale: float = 1.0
    time_min: float
    time_max: float = 1.0

    @abstractmethod
    def epsilon(self, z: Tensor, t: float | Tensor) -> Tensor:
        """Expected whitened noise of all phases, like `z`; t a scalar or ``(batch,)``."""

    def phase_score(self, z: Tensor, t: float | Tensor) -> Tensor:
        """Gradient of ``log p_t(z)``, like `z`."""
        whiten = self.process.given_image(t).whiten
        return -act(whiten.mT, self.epsilon(z, t))

    def denoise_phases(self, z: Tensor, t: float | Tensor) -> Tensor:
        """``E[x0 | z]`` in network units, ``(batch, *shape)``."""
        seen = self.process.given_image(t)
        return image_of(seen, z, self.epsilon(z, t))

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """As `Prior.denoise`, with one fixed pattern of auxiliary noise for every image."""
        pattern = normal(("auxiliary noise",), (self.process.phases - 1, *self.shape)).to(x)
        return self._denoise(x, sigma, pattern.expand(len(x), *pattern.shape))

    def denoise_drawing(
        self, x: Tensor, sigma: float | Tensor, noise: Callable[[tuple[int, ...]], Tensor]
    ) -> Tensor:
        if self.process.phases == 1:
            return self.denoise(x, sigma)
        return self._denoise(x, sigma, noise((self.process.phases - 1, *self.shape)))

    def _denoise(self, x: Tensor, sigma: float | Tensor, rest: Tensor) -> Tensor:
        on_cpu = torch.empty(len(x), dtype=torch.float64)  # not every device has float64
        level = sigma_column(on_cpu, float64(sigma)) / self.scale
        same = bool((level == level[0]).all()) if len(level) else True
        t = self.process.time_of(level[0] if same else level)
        seen = self.process.given_image(t)
        state = (x - self.offset) / self.scale
        z = act(seen.direction[..., None], state[:, None])
        z = z + act(seen.factor @ seen.rest, rest)
        return self.offset + self.scale * self.denoise_phases(z, t).to(x)

    def noise_level(self, t: float) -> float:
        """Effective noise level at time t, in data units."""
        return self.scale * float(self.process.given_image(t).sigma)


def image_of(seen: Observation, z: Tensor, epsilon: Tensor) -> Tensor:
    """``sigma u . (L^-1 z - epsilon)``, the image behind the phases ``(batch, k, *shape)``."""
    row = (seen.sigma[..., None] * seen.unit)[..., None, :]
    return act(row, act(seen.whiten, z) - epsilon)[:, 0]


class ExactPhaseSpace(PhaseSpacePrior):
    """Any denoiser seen through a phase-space process; with an exact one its score is exact.

    The whitened noise of the optimal score is ``L^-1 (z - psi D(x, sigma))``: Gaussian and mixture
    priors then have closed-form scores in phase space.

    Args:
        prior: a denoiser in data units.
        process: the forward process.
        offset, scale: network units, as of `PhaseSpacePrior`.
        time_min: shortest time that walks may go to.
    """

    def __init__(
        self,
        prior: Prior,
        process: LinearProcess,
        *,
        offset: float = 0.0,
        scale: float = 1.0,
        time_min: float = 1e-5,
    ):
        me = "ExactPhaseSpace"
        self.prior = instance(me, "prior", prior, Prior, need="a prior in data units")
        self.process = instance(me, "process", process, LinearProcess, need=_PROCESS)
        self.offset, self.scale = number(me, "offset", offset), positive(me, "scale", scale)
        self.time_min = time_min = positive(me, "time_min", time_min)
        self.shape, self.centre = tuple(prior.shape), prior.centre
        self.sigma_min = max(
            self.noise_level(time_min), 0.0 if prior.any_sigma else prior.sigma_min
        )
        high = math.inf if prior.any_sigma else prior.sigma_max
        self.sigma_max = min(self.noise_level(self.time_max), high)

    def contracts(self, x: Tensor, sigma: float) -> list[tuple[object, Contract]]:
        return self.prior.contracts(x, sigma)

    def epsilon(self, z: Tensor, t: float | Tensor) -> Tensor:
        seen = self.process.given_image(t)
        x = image_of(seen, z, torch.zeros_like(z))
        sigma = seen.sigma.to(z) * self.scale
        denoised = self.prior.denoise(self.offset + self.scale * x, sigma)
        x0 = (denoised - self.offset) / self.scale
        return act(seen.whiten, z - act(seen.direction[..., None], x0[:, None]))

    @property
    def device(self) -> torch.device:
        return self.prior.device

    def denoising_error(self, sigma: float) -> Covariance:
        return self.prior.denoising_error(sigma)

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        return self.prior.conditional_covariance(sigma, denoised)

    def moments(self) -> tuple[Tensor, Covariance]:
        return self.prior.moments()

    def uncorrected(self) -> "ExactPhaseSpace":
        bare = copy.copy(self)
        bare.prior = self.prior.uncorrected()
        return bare

    @property
    def error_is_measured(self) -> bool:
        return self.prior.error_is_measured


class PhaseSpaceNetwork(PhaseSpacePrior):
    """A network that predicts the whitened noise of all phases, or of the last one alone.

    Args:
        module: called as ``module(input, label)``; input ``(batch, k channels, height, width)``,
            the phases one after the other; returns the noise of all phases in that order, or of
            the last phase alone (published nets of Gamma = 0).
        process: the forward process it was trained on.
        shape: of an image, ``(channels, height, width)``.
        label: the network's noise label, ``"time"``: t itself, as published, or ``"log-sigma"``:
            ``log(sigma) / 4`` of the effective noise level.
        objective: ``"hsm"``: its noise is whitened by the covariance given x0; ``"dsm"``: by that
            given x0 and the momentum at time 0.
        offset, scale: the network works on ``(x - offset) / scale``.
        time_min: smallest trained time.
        sigma_max: largest level for walks, in data units; default that of time 1.
        centre: mean pixel of the data; default `offset`.
        consistent: replace the noise's known part, ``P^T epsilon = P^T L^-1 z``, by what it is; off
            leaves it as the network says.  The image x0 does not depend on it.
        error: measured denoising error, as of `NetworkPrior`.
        name: for messages and cards.
    """

    def __init__(
        self,
        module: nn.Module,
        process: LinearProcess,
        *,
        shape: tuple[int, ...],
        label: Label = "log-sigma",
        objective: Objective = "hsm",
        offset: float = 0.0,
        scale: float = 1.0,
        time_min: float = 1e-3,
        sigma_max: float | None = None,
        centre: float | None = None,
        consistent: bool = False,
        error: DenoisingError | None = None,
        name: str = "phase-space network",
    ):
        me = "PhaseSpaceNetwork"
        self.module = instance(me, "module", module, nn.Module, need="a torch.nn.Module")
        self.process = instance(me, "process", process, LinearProcess, need=_PROCESS)
        self.shape = sizes(me, "shape", shape)
        choice(me, "label", label, ("log-sigma", "time"))
        choice(me, "objective", objective, ("hsm", "dsm"))
        self.label, self.objective = label, objective
        self.offset, self.scale = number(me, "offset", offset), positive(me, "scale", scale)
        self.time_min = time_min = positive(me, "time_min", time_min)
        self.consistent, self.name = flag(me, "consistent", consistent), name
        self.error = error_or_none(me, error)
        self.centre = self.offset if centre is None else number(me, "centre", centre)
        if sigma_max is not None:
            sigma_max = positive(me, "sigma_max", sigma_max)
        highest = self.noise_level(self.time_max)
        self.sigma_min = self.noise_level(time_min)
        self.sigma_max = highest if sigma_max is None else min(sigma_max, highest)

    def __repr__(self) -> str:
        return f"PhaseSpaceNetwork({self.name!r}, shape={self.shape}, {self.process.name})"

    def contracts(self, x: Tensor, sigma: float) -> list[tuple[object, Contract]]:
        refuse_training(f"the network of {self!r}", self.module)
        return super().contracts(x, sigma)

    def epsilon(self, z: Tensor, t: float | Tensor) -> Tensor:
        seen, own = self.process.given_image(t), self.observation(t)
        predicted = self.predicted(z, t, own)
        if predicted.shape[1] != z.shape[1]:
            return _completed(seen, z, predicted[:, -1:])
        if self.objective == "dsm":  # the score is one, the noise depends on what whitens it
            predicted = act(seen.factor.mT @ own.whiten.mT, predicted)
        if not self.consistent or z.shape[1] == 1:
            return predicted
        known = seen.rest @ seen.rest.mT
        return predicted + act(known, act(seen.whiten, z) - predicted)

    def observation(self, t: float | Tensor) -> Observation:
        """What whitens the noise that the network was trained on."""
        if self.objective == "dsm":
            return self.process.given_state(t)
        return self.process.given_image(t)

    def predicted(self, z: Tensor, t: float | Tensor, seen: Observation) -> Tensor:
        """The network's own answer, ``(batch, phases predicted, *shape)``; the one cast."""
        weight = next(self.module.parameters(), z)
        time = torch.as_tensor(t, dtype=torch.float64)
        label = seen.sigma.log() / 4 if self.label == "log-sigma" else time
        channels = z.to(weight).flatten(1, 2)
        # Labels keep float32 round a network in half precision, as those of `NetworkPrior`.
        label = label.to(weight.device, torch.promote_types(weight.dtype, torch.float32))
        output = self.module(channels, label.expand(len(z)))
        wanted = (len(z), channels.shape[1], *z.shape[3:])
        if isinstance(output, Tensor) and output.shape[1:2] == z.shape[2:3]:
            wanted = (len(z), *z.shape[2:])  # the last phase alone
        output = checked_result(f"the network of {self!r}", output, wanted, weight)
        return output.unflatten(1, (-1, z.shape[2])).to(z)

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self._corrected(x, super().denoise(x, sigma), sigma)

    def denoise_drawing(
        self, x: Tensor, sigma: float | Tensor, noise: Callable[[tuple[int, ...]], Tensor]
    ) -> Tensor:
        if self.process.phases == 1:
            return self.denoise(x, sigma)
        return self._corrected(x, super().denoise_drawing(x, sigma, noise), sigma)

    @property
    def device(self) -> torch.device:
        return device_of(self.module)

    def denoising_error(self, sigma: float) -> Covariance:
        if self.error is None:
            return isotropic(sigma**2)
        return self.error.at(sigma, self.shape, device=self.device)

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        if self.error is None:
            return isotropic(sigma**2)
        return self.error.around(denoised, sigma)

    def with_error(self, error: DenoisingError | None) -> "PhaseSpaceNetwork":
        """The same network with another measured denoising error, or none."""
        other = copy.copy(self)
        other.error = error_or_none("with_error", error)
        return other

    def uncorrected(self) -> "PhaseSpaceNetwork":
        return self.with_error(None)

    @property
    def error_is_measured(self) -> bool:
        return self.error is not None

    def _corrected(self, x: Tensor, denoised: Tensor, sigma: float | Tensor) -> Tensor:
        if self.error is None:
            return denoised
        if isinstance(sigma, float | int):  # on the CPU, where looking at it costs no wait
            return self.error.correct(x, denoised, torch.tensor([sigma], dtype=x.dtype))
        return self.error.correct(x, denoised, sigma_column(x, sigma).flatten())


def _completed(seen: Observation, z: Tensor, last: Tensor) -> Tensor:
    """The noise of two phases from that of the last: ``P^T epsilon`` is known from z.

    ``epsilon = u a + P c`` with ``c = P^T L^-1 z``; its last entry gives a.
    """
    if z.shape[1] != 2:
        raise ValueError(
            f"PhaseSpaceNetwork: a network that predicts the last of {z.shape[1]} phases alone "
            "leaves the others unknown; only of two phases does it tell both"
        )
    known = act(seen.rest @ seen.rest.mT, act(seen.whiten, z))
    along = (last - known[:, 1:]) / act(seen.unit[..., 1:, None], torch.ones_like(last))
    return known + act(seen.unit[..., None], along)
