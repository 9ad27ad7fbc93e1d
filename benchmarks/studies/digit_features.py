"""How good samples of digits are, in a feature space that needs no download.

The features are the last layer of a small classifier, trained on clean training digits from a fixed
seed: 32 numbers that say what a digit is, so that wrong strokes count and noise of one grey value
does not.  (Random convolutions see little but brightness and texture, which sliced Wasserstein in
pixels already measures.)  The same network is the judge of a class.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tweedie_inverse.datasets.digits import Digits
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.evaluation.calibration import sliced_wasserstein

_FEATURES = 32
_NEIGHBOURS = 3


class _Network(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        widths = (1, 16, 32, 64)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.narrow = nn.Linear(64 * (size // 8) ** 2, _FEATURES)
        self.last = nn.Linear(_FEATURES, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = 2 * x - 1
        for layer in self.layers:
            h = F.silu(layer(h))
        return F.silu(self.narrow(h.flatten(1)))


class Quality(NamedTuple):
    """How samples compare with held-out digits.

    Attributes:
        frechet: distance of Gaussians fitted to the features, over the variance of those of
            held-out digits; lower is better.
        sliced: sliced Wasserstein distance of the pixels, lower is better.
        precision: share of samples among held-out digits (Kynkaanniemi et al. 2019, k = 3).
        recall: share of held-out digits among samples.
    """

    frechet: float
    sliced: float
    precision: float
    recall: float


class Judge:
    """Classes and features of digits of one size."""

    def __init__(self, size: int, *, steps: int = 600, count: int = 1000):
        data = Digits(size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = _Network(size)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=2e-3)
        for step in range(steps):
            seeds = range(step * 64, (step + 1) * 64)
            logits = self.network.last(self.network(data.images(seeds)))
            loss = F.cross_entropy(logits, data.labels(seeds))
            optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.network.requires_grad_(False)
        seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + count)
        self.images, self.labels = data.images(seeds), data.labels(seeds)
        self.features = self.network(self.images).double()
        self.own = self.accuracy(self.images, self.labels)

    def classes(self, images: Tensor) -> Tensor:
        return self.network.last(self.network(images.float())).argmax(1)

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of `images` put into the class that `labels` says."""
        return float((self.classes(images) == labels).double().mean())

    def quality(self, images: Tensor) -> Quality:
        found = self.network(images.float().clamp(-1, 2)).double()
        return Quality(
            frechet(found, self.features),
            sliced_wasserstein(images, self.images),
            within(found, self.features),
            within(self.features, found),
        )


def frechet(x: Tensor, y: Tensor) -> float:
    """``(|m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^1/2)) / tr C_y`` of features ``(count, n)``."""
    first, second = torch.cov(x.mT), torch.cov(y.mT)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.mT
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    shift = (x.mean(0) - y.mean(0)).square().sum()
    distance = shift + first.trace() + second.trace() - 2 * cross
    return float(distance / second.trace())


def within(x: Tensor, y: Tensor) -> float:
    """Share of x inside a ball about some y that reaches to that y's third neighbour."""
    reach = torch.cdist(y, y).kthvalue(_NEIGHBOURS + 1, dim=1).values
    return float((torch.cdist(x, y) <= reach).any(1).double().mean())
