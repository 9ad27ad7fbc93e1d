"""The random numbers of an image, from its seed, and the seeds that are never trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor

HELD_OUT_SEED = 1_000_000_000


def uniform(generators: Sequence[torch.Generator], *shape: int) -> Tensor:
    return torch.stack([torch.rand(shape, generator=g) for g in generators])


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]
