"""A small classifier of noisy images, for classifier guidance.

Cross-entropy over all noise levels of a distribution (Dhariwal and Nichol 2021, section 4.1), in
the same template as the denoisers: images by seed, noise levels as data.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tweedie_inverse.datasets.digits import Digits
from tweedie_inverse.priors.unet import Chain, NoiseEmbedding, ResidualBlock
from tweedie_inverse.training.noise_levels import NOISE_LEVELS


class ClassifierNetwork(nn.Module):
    """``forward(x, label) -> (batch, classes)`` logits; residual blocks, mean pool, linear."""

    def __init__(self, channels: int, classes: int, width: int = 32, features: int = 64):
        super().__init__()
        self.embedding = NoiseEmbedding(features)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.fine = Chain([ResidualBlock(width, width, features)])
        self.shrink = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.coarse = Chain([ResidualBlock(2 * width, 2 * width, features)])
        self.last = nn.Linear(2 * width * 16, classes)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        embedding = self.embedding(label)
        h = self.fine(self.first(x), embedding)
        h = F.silu(self.coarse(self.shrink(h), embedding))
        return self.last(F.adaptive_avg_pool2d(h, 4).flatten(1))


@dataclass(frozen=True, eq=False)
class NoisyClassifier:
    """Logits of images in data units, as `guidance.ClassifierGuided` asks for them.

    Attributes:
        network: sees ``(x - offset) / scale`` at unit variance, and ``log(sigma) / 4``.
        offset, scale, sigma_data: as of `NetworkPrior`.
    """

    network: nn.Module
    offset: float = 0.5
    scale: float = 0.5
    sigma_data: float = 0.5

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """``(batch, classes)`` for ``x (batch, *shape)`` and ``sigma (batch,)``, in data units."""
        weight = next(self.network.parameters())
        level = sigma.to(weight) / self.scale
        state = (x.to(weight) - self.offset) / self.scale
        column = level.reshape(-1, *[1] * (x.ndim - 1))
        unit = state / (column**2 + self.sigma_data**2).sqrt()
        return self.network(unit, level.log() / 4).to(x)


def train_classifier(
    data: Digits,
    *,
    steps: int = 2000,
    batch: int = 64,
    rate: float = 2e-3,
    noise_levels: str = "log-normal-wide",
    width: int = 32,
    seed: int = 0,
) -> NoisyClassifier:
    """Train on the labelled images of `data`; some minutes on a CPU at the default settings."""
    with torch.random.fork_rng(devices=[]):  # initial weights, without touching the global state
        torch.manual_seed(seed)
        network = ClassifierNetwork(data.shape[0], data.classes, width)
    classifier, levels = NoisyClassifier(network), NOISE_LEVELS[noise_levels]

    def loss_of(seeds: range, generator: torch.Generator) -> Tensor:
        clean, sigma = data.images(seeds), levels.sample(batch, generator) * classifier.scale
        noisy = clean + sigma.reshape(-1, 1, 1, 1) * torch.randn(clean.shape, generator=generator)
        return F.cross_entropy(classifier(noisy, sigma), data.labels(seeds))

    fit(network, loss_of, steps=steps, batch=batch, rate=rate, seed=seed)
    return classifier


def fit(
    network: nn.Module,
    loss_of: Callable[[range, torch.Generator], Tensor],
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
) -> None:
    """Train `network` by ``loss_of(seeds of the images, generator of the noise)``, then freeze it.

    Adam with a linear decay of the rate; every batch is fixed by its step number.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for step in range(steps):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        loss = loss_of(range(step * batch, (step + 1) * batch), generator)
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    network.eval().requires_grad_(False)
