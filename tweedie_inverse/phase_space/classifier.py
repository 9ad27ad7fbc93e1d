"""A small classifier of noised states, for classifier guidance in phase space.

Cross-entropy over states of the forward process at uniform times (Pandey and Mandt 2023, section
4.3): it sees position and momentum, and the forward time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tweedie_inverse.datasets.digits import Digits
from tweedie_inverse.phase_space.processes import LinearProcess, act
from tweedie_inverse.phase_space.training import TIME_TRAINED
from tweedie_inverse.training.classifier import ClassifierNetwork, fit


@dataclass(frozen=True, eq=False)
class PhaseClassifierNetwork:
    """Logits of states in network units, as `phase_space.ClassifierGuided` asks for them.

    Attributes:
        network: sees the phases as channels, and ``log(sigma) / 4`` of the effective noise level.
        process: the forward process.
    """

    network: nn.Module
    process: LinearProcess

    def __call__(self, z: Tensor, t: Tensor) -> Tensor:
        """``(batch, classes)`` for ``z (batch, phases, *shape)`` and ``t (batch,)``."""
        weight = next(self.network.parameters())
        label = self.process.given_image(t).sigma.log() / 4
        return self.network(z.to(weight).flatten(1, 2), label.to(weight)).to(z)


def train_phase_classifier(
    data: Digits,
    process: LinearProcess,
    *,
    steps: int = 2000,
    batch: int = 64,
    rate: float = 2e-3,
    width: int = 32,
    offset: float = 0.5,
    scale: float = 0.5,
    seed: int = 0,
) -> PhaseClassifierNetwork:
    """Train on noised states of the labelled images of `data`; minutes on a CPU.

    Args:
        offset, scale: of the prior that it is to guide.
    """
    with torch.random.fork_rng(devices=[]):  # initial weights, without touching the global state
        torch.manual_seed(seed)
        network = ClassifierNetwork(process.phases * data.shape[0], data.classes, width)
    classifier = PhaseClassifierNetwork(network, process)

    def loss_of(seeds: range, generator: torch.Generator) -> Tensor:
        places = torch.rand(batch, generator=generator, dtype=torch.float64)
        t = TIME_TRAINED + (1 - TIME_TRAINED) * places
        seen = process.given_image(t)
        clean = ((data.images(seeds) - offset) / scale)[:, None]
        noise = torch.randn(batch, process.phases, *data.shape, generator=generator)
        z = act(seen.direction[..., None], clean) + act(seen.factor, noise)
        return F.cross_entropy(classifier(z, t), data.labels(seeds))

    fit(network, loss_of, steps=steps, batch=batch, rate=rate, seed=seed)
    return classifier
