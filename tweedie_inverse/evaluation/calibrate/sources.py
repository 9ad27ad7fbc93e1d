"""Where truths come from: exact draws of the prior, its own sampler, or images of the user."""

from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import generator
from tweedie_inverse.priors.analytic import Gaussian, GaussianMixture
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.sampling.sampling import sample

# Evaluations for a truth that the network's own sampler draws.
TRUTH_STEPS = 100


class Source(NamedTuple):
    """Truths by number.

    Attributes:
        prior: whose draws they are.
        images: ``(count, *shape)`` of the user instead; None for draws.
    """

    prior: Prior
    images: Tensor | None

    @property
    def is_exact(self) -> bool:
        """Whether the truths have the law that the solver's prior is meant to be."""
        return self.images is None and isinstance(self.prior, Gaussian | GaussianMixture)

    @property
    def evaluations(self) -> int:
        """Network evaluations for a truth."""
        return 0 if self.images is not None or self.is_exact else TRUTH_STEPS

    @property
    def words(self) -> str:
        """Where they come from, and what the test therefore judges."""
        if self.images is not None:
            return (
                "images given by the user: the test judges prior and walk together, and a prior "
                "that does not fit the images fails it, too"
            )
        if self.is_exact:
            return "exact draws of the prior"
        return (
            f"drawn by the network's own sampler (ddim, {TRUTH_STEPS} evaluations), which is "
            "itself approximate: where it and the walk differ, the test cannot say which is wrong, "
            "and it says nothing of whether the prior fits your images"
        )

    def draw(self, numbers: list[int], seed: int) -> Tensor:
        """The truths of these numbers, ``(len(numbers), *shape)``; each depends on its own only."""
        if self.images is not None:
            return self.images[numbers]
        seeds = [seed_of("calibrate truth", seed, number) for number in numbers]
        prior = self.prior
        if isinstance(prior, Gaussian | GaussianMixture):
            return torch.cat([prior.draw(1, seed=one) for one in seeds])
        return torch.cat([sample(prior, 1, steps=TRUTH_STEPS, seed=one) for one in seeds])


def seed_of(use: str, seed: int, number: int) -> int:
    """A seed of its own for one use at one truth."""
    return int(generator((use, seed, number)).integers(2**62))
