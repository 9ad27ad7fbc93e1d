"""The 25-component mixture of Cardoso et al. 2024 (MCG-diff): problems with exact posteriors.

Means (8 i, 8 j), i and j from -2 to 2, repeated d / 2 times, unit covariance; weights ``randn^2``.
A is a random matrix whose singular values are uniform in [0, 1]; the noise std is uniform between
0 and the largest of them.  The weights, which the authors draw without a seed, have the seed d.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops


@dataclass(frozen=True)
class MixtureProblem:
    """One measurement of a mixture sample, in float64."""

    prior: ti.priors.GaussianMixture
    operator: ops.MatrixOperator
    std: float
    truth: Tensor
    y: Tensor

    @property
    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """Posterior log-weights ``(25,)`` normalized, means ``(25, d)``, covariance ``(d, d)``."""
        return self._given[0] - torch.logsumexp(self._given[0], 0), *self._given[1:]

    @property
    def log_evidence(self) -> float:
        """``log p(y)``."""
        return float(torch.logsumexp(self._given[0], 0))

    @property
    def _given(self) -> tuple[Tensor, Tensor, Tensor]:
        matrix, means = self.operator.matrix, self.prior.means
        variance = self.prior.std**2
        unit = torch.eye(len(matrix), dtype=torch.float64)
        system = variance * matrix @ matrix.mT + self.std**2 * unit
        gain = variance * torch.linalg.solve(system, matrix).mT
        expected = means @ matrix.mT
        law = torch.distributions.MultivariateNormal(expected, system)
        covariance = variance * (torch.eye(matrix.shape[1]).double() - gain @ matrix)
        posterior_means = means + (self.y - expected) @ gain.mT
        return self.prior.log_weights + law.log_prob(self.y), posterior_means, covariance

    def exact(self, count: int, *, seed: int) -> Tensor:
        """Posterior samples ``(count, d)``."""
        log_weights, means, covariance = self.components
        random = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(log_weights.exp(), count, replacement=True, generator=random)
        white = torch.randn(count, means.shape[1], generator=random, dtype=torch.float64)
        return means[chosen] + white @ torch.linalg.cholesky(covariance).mT


def mixture_prior(dimensions: int) -> ti.priors.GaussianMixture:
    """The prior in so many dimensions, an even number."""
    if dimensions % 2:
        raise ValueError(f"mixture_prior({dimensions}): needs an even number of dimensions")
    random = torch.Generator().manual_seed(dimensions)
    grid = torch.arange(-2.0, 3.0, dtype=torch.float64) * 8
    means = torch.cartesian_prod(grid, grid).repeat(1, dimensions // 2)
    weights = torch.randn(25, generator=random, dtype=torch.float64).square()
    return ti.priors.GaussianMixture(means, weights / weights.sum(), 1.0)


def mixture_problem(
    prior: ti.priors.GaussianMixture, measurements: int, seed: int
) -> MixtureProblem:
    """Problem number `seed` with so many measurements."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    left, _, right = torch.linalg.svd(draw(measurements, *prior.shape), full_matrices=False)
    values = torch.rand(measurements, generator=random, dtype=torch.float64)
    values = values.sort(descending=True).values
    std = float(torch.rand(1, generator=random, dtype=torch.float64) * values.max())
    matrix = left @ values.diag() @ right
    chosen = torch.multinomial(prior.log_weights.exp(), 1, generator=random)
    truth = prior.means[int(chosen)] + draw(*prior.shape)
    y = matrix @ truth + std * draw(measurements)
    operator = ops.MatrixOperator(matrix, noise=ops.GaussianNoise(std))
    return MixtureProblem(prior, operator, std, truth, y)
