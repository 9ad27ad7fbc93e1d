"""Training in phase space: ``E || epsilon_theta(psi x0 + L epsilon, t) - epsilon ||^2``.

Pandey and Mandt 2023, equation 10, with t uniform and both halves of the noise as the target.
Hybrid score matching ("hsm") gives x0 and marginalizes the momentum of time 0, plain denoising
score matching ("dsm") draws that momentum and gives it; the noise is whitened by the covariance
that belongs to each.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.phase_space.native import save_phase_prior
from tweedie_inverse.phase_space.prior import PhaseSpaceNetwork
from tweedie_inverse.phase_space.processes import LinearProcess, act, psld, vp
from tweedie_inverse.priors.guidance import given
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.fresh import fresh_unet
from tweedie_inverse.training.tasks import Sections, Task, reduced_precision

PROCESS_NAMES = ("cld", "psld", "vp")
OBJECTIVES = ("dsm", "hsm")
# Trained times go down to the first; walks end at the second.
TIME_TRAINED, TIME_MIN = 1e-5, 1e-3
# Largest noise level of posterior walks, in network units: x0 = x - sigma epsilon amplifies the
# error of the predicted noise.
SIGMA_MAX = 20.0


def process_of(config: TrainingConfig) -> LinearProcess:
    """The forward process that the settings name; beta is constant except for VP."""
    if config.process == "vp":
        return vp()
    gamma = config.gamma if config.process == "psld" else 0.0
    return psld(gamma, config.nu or None)


class PhaseSpaceTask(Task):
    """A noise prediction for all phases, of images of `shape`."""

    def __init__(self, config: TrainingConfig, shape: tuple[int, ...], classes: int):
        if config.start:
            raise ValueError(
                f"train(start={config.start!r}): training in phase space starts afresh; leave "
                "start= or process= out"
            )
        if config.noise_levels == "learned":
            raise ValueError(
                "train(noise_levels='learned'): a process brings its own noise levels; leave "
                "noise_levels= or process= out"
            )
        if config.objective not in OBJECTIVES:
            raise ValueError(
                f"train(objective={config.objective!r}): choose one of {', '.join(OBJECTIVES)}"
            )
        self._config, process = config, process_of(config)
        self.noise_shape = (process.phases, *shape)
        self.prior = PhaseSpaceNetwork(
            fresh_unet(config, process.phases * shape[0], classes),
            process,
            shape=shape,
            offset=config.offset,
            scale=config.scale,
            time_min=TIME_MIN,
            objective=config.objective,
        )

    def start_from(self, name_or_path: str) -> None:
        raise AssertionError("refused when the task was built")

    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        return even_times(count, generator)

    def backward(
        self,
        clean: Tensor,
        noise: Tensor,
        levels: Tensor,
        labels: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        with reduced_precision(self._config, clean):
            loss = phase_loss(self.prior, clean, noise, levels, labels, generator)
        self.scaler.scale(loss).backward()
        return loss.detach()

    def finish(self, any_size: bool) -> None:
        prior = self.prior
        prior.sigma_max = min(prior.sigma_max, SIGMA_MAX * self._config.scale)
        prior.consistent = True  # x0 stays as it is, and samplers with few steps need it

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        save_phase_prior(path, self.prior, settings)

    def sections(self) -> Sections:
        prior, process = self.prior, self.prior.process
        matrices = "\n".join(
            f"| {letter} | {matrix.tolist()} |"
            for letter, matrix in (
                ("D", process.diffusion),
                ("Q", process.rotation),
                ("S", process.stationary),
                ("covariance at t = 0 given the image", process.initial),
            )
        )
        return Sections(
            introduction=f"A phase-space prior of {prior.shape} images in [0, 1]: a prediction of "
            "the noise of position and\nmomentum.",
            noise_levels=f"""## Process

`{process.name}` with beta from {process.rate.first} to {process.rate.last}; per pixel, in network
units `(x - {prior.offset}) / {prior.scale}`:

| matrix | value |
|---|---|
{matrices}

The part of the predicted noise that the state determines is replaced by what it is
(`consistent`).

## Noise levels

Trained for times from {TIME_TRAINED} to 1; samplers end at {prior.time_min}.  Posterior walks use
effective levels from {prior.sigma_min:.4f} to {prior.sigma_max:.1f} in data units.""",
            loss="mean squared error of the predicted noise",
        )


def even_times(count: int, generator: torch.Generator) -> Tensor:
    """One time in each of `count` equal intervals: batches differ less than with free draws."""
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return TIME_TRAINED + (1 - TIME_TRAINED) * places.double()


def phase_loss(
    prior: PhaseSpaceNetwork,
    clean: Tensor,
    noise: Tensor,
    times: Tensor,
    labels: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    """The mean squared error of the predicted noise, a scalar.

    Args:
        prior: the network being trained.
        clean: ``(batch, *shape)`` in data units.
        noise: standard normal, ``(batch, phases, *shape)``.
        times: ``(batch,)``.
        labels: classes ``(batch,)`` of a conditional network.
        generator: of the momentum at time 0, which "dsm" draws.
    """
    process = prior.process
    state = torch.zeros_like(noise)
    state[:, 0] = (clean - prior.offset) / prior.scale
    if prior.objective == "dsm":
        momentum = torch.randn(state.shape, generator=generator).to(clean)
        state = state + act(process.initial.sqrt(), momentum)
    seen = prior.observation(times)
    matrix = process.matrix(process.rate.total(times))
    z = act(matrix, state) + act(seen.factor, noise)
    conditioned = prior if labels is None else given(prior, labels)
    return (conditioned.predicted(z, times, seen) - noise).square().mean()
