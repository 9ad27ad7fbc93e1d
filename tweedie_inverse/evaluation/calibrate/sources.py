"""Where truths come from: exact draws of the prior, its own sampler, or images of the user."""

from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import generator
from tweedie_inverse.numerics.residence import resident_on
from tweedie_inverse.operators import NoiseModel, Operator
from tweedie_inverse.priors.analytic import Gaussian, GaussianMixture
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.sampling.sampling import sample


class Source(NamedTuple):
    """Truths by number.

    Attributes:
        prior: whose draws they are.
        images: ``(count, *shape)`` of the user instead; None for draws.
        use: names the random numbers of the draws.
        steps: evaluations for a truth that the network's own sampler draws.
    """

    prior: Prior
    images: Tensor | None
    use: str
    steps: int

    @property
    def is_exact(self) -> bool:
        """Whether the truths have the law that the solver's prior is meant to be."""
        return self.images is None and self.has_exact_prior

    @property
    def has_exact_prior(self) -> bool:
        """Whether the prior is written down, so that it costs no network evaluation."""
        return isinstance(self.prior, Gaussian | GaussianMixture)

    @property
    def evaluations(self) -> int:
        """Network evaluations for a truth."""
        return 0 if self.images is not None or self.is_exact else self.steps

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
            f"drawn by the network's own sampler (ddim, {self.steps} evaluations), which is "
            "itself approximate: where it and the walk differ, the test cannot say which is wrong, "
            "and it says nothing of whether the prior fits your images"
        )

    def draw(self, numbers: list[int], seed: int) -> Tensor:
        """The truths of these numbers, ``(len(numbers), *shape)``; each depends on its own only."""
        if self.images is not None:
            return self.images[numbers]
        seeds = [seed_of(self.use, seed, number) for number in numbers]
        prior = self.prior
        if isinstance(prior, Gaussian | GaussianMixture):
            return torch.cat([prior.draw(1, seed=one) for one in seeds])
        return torch.cat([sample(prior, 1, steps=self.steps, seed=one) for one in seeds])


def seed_of(use: str, seed: int, number: int) -> int:
    """A seed of its own for one use at one truth."""
    return int(generator((use, seed, number)).integers(2**62))


def measured(operator: Operator, noise: NoiseModel, x: Tensor, seed: int) -> Tensor:
    """The measurement of an image ``(*shape)``, with another noise than the operator may have."""
    y = noise.sample(operator.forward(x[None]), seed=seed)[0]
    seen = operator.observed
    return y if seen is None else torch.where(resident_on(seen, y.device), y, torch.zeros_like(y))
