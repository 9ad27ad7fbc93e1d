"""Training in phase space: ``E || epsilon_theta(psi x0 + L epsilon, t) - epsilon ||^2``.

Pandey and Mandt 2023, equation 10, with t uniform and both halves of the noise as the target.
Hybrid score matching ("hsm") gives x0 and marginalizes the momentum of time 0, plain denoising
score matching ("dsm") draws that momentum and gives it; the noise is whitened by the covariance
that belongs to each.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..guidance import given
from ..priors.networks import UNet
from ..priors.phase_space import PhaseSpaceNetwork
from ..processes import LinearProcess, act, psld, vp

if TYPE_CHECKING:
    from .trainer import TrainingConfig

PROCESSES = ("cld", "psld", "vp")
OBJECTIVES = ("dsm", "hsm")
# Trained times go down to this; walks end at the second.
TIME_TRAINED, TIME_MIN = 1e-5, 1e-3


def process_of(config: "TrainingConfig") -> LinearProcess:
    """The forward process that the settings name; one of time-independent beta but for VP."""
    if config.process not in PROCESSES:
        raise ValueError(
            f"train(process={config.process!r}): choose one of {', '.join(PROCESSES)}, or leave it "
            "out for a network of one noise level"
        )
    if config.process == "vp":
        return vp()
    gamma = config.gamma if config.process == "psld" else 0.0
    return psld(gamma, config.nu or None)


def build_phase_prior(
    config: "TrainingConfig", shape: tuple[int, ...], classes: int
) -> PhaseSpaceNetwork:
    """A fresh network for all phases, of images of `shape`."""
    if config.start:
        raise ValueError(
            f"train(start={config.start!r}): training in phase space starts afresh; leave start= "
            "or process= out"
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
    process = process_of(config)
    with torch.random.fork_rng(devices=[]):  # initial weights, without touching the global state
        torch.manual_seed(config.seed)
        channels = process.phases * shape[0]
        network = UNet(
            channels, config.widths, config.blocks, classes=classes, attention=config.attention
        )
    return PhaseSpaceNetwork(
        network,
        process,
        shape=shape,
        offset=config.offset,
        scale=config.scale,
        time_min=TIME_MIN,
        objective=config.objective,
    )


def phase_loss(
    prior: PhaseSpaceNetwork, clean: Tensor, labels: Tensor | None, generator: torch.Generator
) -> Tensor:
    """The mean squared error of the predicted noise, a scalar.

    Args:
        prior: the network being trained.
        clean: ``(batch, *shape)`` in data units.
        labels: classes ``(batch,)`` of a conditional network.
    """
    process, count = prior.process, len(clean)
    # One time in each of `count` equal intervals: less spread between batches than free draws.
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    t = TIME_TRAINED + (1 - TIME_TRAINED) * places.double()
    state = torch.zeros(count, process.phases, *clean.shape[1:], device=clean.device)
    state[:, 0] = (clean - prior.offset) / prior.scale
    noise = torch.randn(state.shape, generator=generator).to(clean)
    if prior.objective == "dsm":
        momentum = torch.randn(state.shape, generator=generator).to(clean)
        state = state + act(process.initial.sqrt(), momentum)
    seen = prior.observation(t)
    matrix = process.matrix(process.rate.total(t))
    z = act(matrix, state) + act(seen.factor, noise)
    asked = prior if labels is None else given(prior, labels)
    return (asked.predicted(z, t, seen) - noise).square().mean()
