"""deepinv's methods on the same operator object, prior and measurement as ours.

Every sample is what deepinv itself gives for that sample's seed and a batch of one.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from tweedie_inverse.benchmarks.methods.base import Method, Seeds
from tweedie_inverse.benchmarks.methods.denoiser import Converted, convert
from tweedie_inverse.benchmarks.methods.per_sample_rng import PerSampleNoise
from tweedie_inverse.benchmarks.problems.task import Task
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.runtime.memory import in_parts


class Baseline(Method):
    """A sampler of deepinv, which a subclass calls in `sample`."""

    needs: ClassVar[tuple[str, ...]] = ("linear", "gaussian")
    packages: ClassVar[tuple[str, ...]] = ("deepinv",)

    def draw(self, y: Tensor, task: Task, prior: Prior, seeds: Seeds, together: int) -> Tensor:
        rows, each = [seed for mine in seeds for seed in mine], len(seeds[0])

        def part(first: int, last: int) -> Tensor:
            measured = y[[row // each for row in range(first, last)]]
            given = convert(measured, task, prior)
            with PerSampleNoise(rows[first:last]):
                return self.sample(given).detach().to(y)

        samples = torch.cat(list(in_parts(len(rows), together, part)))
        return samples.reshape(len(y), each, *samples.shape[1:])

    @abstractmethod
    def sample(self, given: Converted) -> Tensor:
        """Call deepinv without a seed; `PerSampleNoise` answers its random draws."""


@dataclass(frozen=True)
class DPS(Baseline):
    """Chung et al. 2023, in deepinv's annealed form."""

    evaluations: int = 1000
    weight: float = 1.0
    guidance: str = "annealed"
    source: ClassVar[str] = (
        "deepinv 0.5 with the guidance that fixes the weight to 1 (its default form needs a weight "
        "found for each problem); 1000 steps in the paper"
    )
    needs: ClassVar[tuple[str, ...]] = ("gaussian",)

    def sample(self, given: Converted) -> Tensor:
        from deepinv.sampling import DPS

        sampler = DPS(
            given.denoiser,
            num_steps=self.evaluations + 1,
            weight=self.weight,
            guidance=self.guidance,
            device=given.y.device,
        )
        return sampler(given.y, given.physics, x_init=tuple(given.start.shape))


def _guided(given: Converted, fidelity: Any, steps: int) -> Tensor:
    """The reverse variance-preserving diffusion, DDPM steps, as deepinv's DPS has them."""
    from deepinv.sampling import DDPMSolver, PosteriorDiffusion, VariancePreservingDiffusion

    device = given.y.device
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64, device=device)
    sampler = PosteriorDiffusion(
        data_fidelity=fidelity,
        denoiser=given.denoiser,
        sde=VariancePreservingDiffusion(alpha=1.0, device=device),
        solver=DDPMSolver(timesteps=times),
        device=device,
    )
    return sampler(given.y, given.physics, x_init=tuple(given.start.shape))


@dataclass(frozen=True)
class PiGDM(Baseline):
    """Song et al. 2023.

    It models x0 given x_sigma by ``N(D, r_t^2 I)``, ``r_t^2 = sigma^2 / (1 + sigma^2)``, at most 1;
    the mean grey value of 64x64 photographs has a variance of about 190.  Along such directions
    one of 100 steps overshoots by many times the error, and the walk diverges unless the denoised
    image is clipped: with an exact Gaussian prior of that variance just as with a network, and with
    400 steps no more.  (The paper multiplies the gradient by r_t^2 and leaves out the factor of
    the reverse diffusion, which is larger there; deepinv puts it into the reverse diffusion.)
    """

    evaluations: int = 100
    conjugate_gradients: int = 20
    weight: float = 1.0
    clip: tuple[float, float] | None = (-1.0, 1.0)
    source: ClassVar[str] = (
        "paper: 100 steps; deepinv 0.5, with 20 conjugate gradients for its 3, and the clip of its "
        "DPS: without one, 100 steps diverge where low frequencies have much variance"
    )

    def sample(self, given: Converted) -> Tensor:
        from deepinv.sampling import PiGDMDataFidelity

        fidelity = PiGDMDataFidelity(
            weight=self.weight, clip=self.clip, cg_max_iter=self.conjugate_gradients
        )
        return _guided(given, fidelity, self.evaluations)


@dataclass(frozen=True)
class MomentMatching(Baseline):
    """Rozet et al. 2024."""

    evaluations: int = 100
    conjugate_gradients: int = 3
    weight: float = 1.0
    source: ClassVar[str] = "deepinv 0.5 defaults; the paper has 1 to 5 conjugate gradients"

    def sample(self, given: Converted) -> Tensor:
        from deepinv.sampling import MomentMatchingDataFidelity

        fidelity = MomentMatchingDataFidelity(
            weight=self.weight, cg_max_iter=self.conjugate_gradients
        )
        return _guided(given, fidelity, self.evaluations)


@dataclass(frozen=True)
class DiffPIR(Baseline):
    """Zhu et al. 2023; started from the pseudo-inverse."""

    evaluations: int = 100
    zeta: float = 0.3
    lambda_: float = 7.0
    source: ClassVar[str] = "paper: 100 steps, zeta 0.3, lambda 7 (recommended range 3 to 25)"

    def sample(self, given: Converted) -> Tensor:
        from deepinv.optim import L2
        from deepinv.sampling import DiffPIR

        sampler = DiffPIR(
            given.denoiser,
            L2(),
            sigma=given.std,
            max_iter=self.evaluations,
            zeta=self.zeta,
            lambda_=self.lambda_,
            device=given.y.device,
        )
        return sampler(given.y, given.physics, x_init=given.start)


@dataclass(frozen=True)
class DDRM(Baseline):
    """Kawar et al. 2022."""

    evaluations: int = 100
    eta: float = 0.85
    etab: float = 1.0
    source: ClassVar[str] = "paper: eta 0.85, eta_b 1; deepinv 0.5's 100 levels"
    needs: ClassVar[tuple[str, ...]] = ("linear", "gaussian", "spectrum")

    def sample(self, given: Converted) -> Tensor:
        import numpy as np
        from deepinv.sampling import DDRM

        levels = np.linspace(1, 0, self.evaluations)
        sampler = DDRM(given.denoiser, sigmas=levels, eta=self.eta, etab=self.etab)
        return sampler(given.y, given.physics)


@dataclass(frozen=True)
class ULA(Baseline):
    """Laumont et al. 2022: as many chains as samples, the last state of each."""

    evaluations: int = 1000
    sigma: float = 0.02
    step: float = 0.5
    source: ClassVar[str] = (
        "step as a share of 1 / (||A||^2 / std^2 + 1 / sigma^2), the paper's bound; far too few "
        "steps here for a chain to forget its start"
    )

    def sample(self, given: Converted) -> Tensor:
        from deepinv.optim import L2, ScorePrior
        from deepinv.sampling import BaseSampling, ULAIterator

        step = self.step / (1 / given.std**2 + 1 / self.sigma**2)
        iterator = ULAIterator(
            {"step_size": step, "alpha": 1.0, "sigma": self.sigma}, clip=(-1.0, 2.0)
        )
        chain = BaseSampling(
            iterator,
            L2(sigma=given.std),
            ScorePrior(given.denoiser),
            max_iter=self.evaluations,
            burnin_ratio=0.0,
            thinning=1,
            history_size=1,
        )
        chain.sample(given.y, given.physics, x_init=given.start)
        return chain.get_chain()[-1]["x"]


@dataclass(frozen=True)
class PnP(Baseline):
    """Half-quadratic splitting, DPIR (Zhang et al. 2021)."""

    evaluations: int = 8
    noise_factor: float = 1.0
    source: ClassVar[str] = (
        "deepinv 0.5's DPIR: 8 steps from sigma 49/255 down to the noise, times the factor"
    )
    samples_posterior: ClassVar[bool] = False

    def within(self, cap: int) -> "PnP":
        return self  # deepinv fixes the number of steps

    def sample(self, given: Converted) -> Tensor:
        from deepinv.optim import DPIR

        std = self.noise_factor * given.std
        model = DPIR(sigma=std, denoiser=given.denoiser, device=given.y.device)
        with torch.no_grad():
            return model(given.y, given.physics, init=given.start)


@dataclass(frozen=True)
class PnPADMM(Baseline):
    """The alternating direction method of multipliers (Venkatakrishnan et al. 2013)."""

    evaluations: int = 24
    first_sigma: float = 49 / 255
    noise_factor: float = 1.0
    source: ClassVar[str] = (
        "deepinv 0.5's ADMM; sigma falls geometrically (continuation, Chan, Wang and Elgendy 2017) "
        "between the ends that DPIR has, step (sigma / noise)^2"
    )
    samples_posterior: ClassVar[bool] = False

    def sample(self, given: Converted) -> Tensor:
        from deepinv.optim import ADMM, L2, PnP

        std = self.noise_factor * given.std
        sigmas = torch.logspace(
            math.log10(max(self.first_sigma, std)), math.log10(std), self.evaluations
        ).to(given.y.device)
        model = ADMM(
            data_fidelity=L2(),
            prior=PnP(denoiser=given.denoiser),
            params_algo={
                "stepsize": (sigmas / given.std).square(),
                "g_param": sigmas,
                "lambda": 1.0,
                "beta": 1.0,
            },
            max_iter=self.evaluations,
        )
        with torch.no_grad():
            return model(given.y, given.physics, init=(given.start, torch.zeros_like(given.start)))


@dataclass(frozen=True)
class TotalVariation(Baseline):
    """``|y - A x|^2 / (2 std^2) + weight TV(x)``, by FISTA."""

    weight: float = 10.0
    iterations: int = 200
    source: ClassVar[str] = "weight 10 throughout, not tuned; deepinv 0.5's FISTA and TVPrior"
    samples_posterior: ClassVar[bool] = False

    def within(self, cap: int) -> "TotalVariation":
        return replace(self, iterations=min(self.iterations, 2 * cap))

    def sample(self, given: Converted) -> Tensor:
        from deepinv.optim import FISTA, L2, TVPrior

        model = FISTA(
            data_fidelity=L2(),
            prior=TVPrior(n_it_max=20),
            stepsize=0.95,
            lambda_reg=self.weight * given.std**2,
            max_iter=self.iterations,
        )
        with torch.no_grad():
            return model(given.y, given.physics, init=(given.start, given.start))
