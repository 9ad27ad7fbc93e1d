"""Mixtures whose modes overlap: the walks' CRPS against that of the exact posterior.

    python -m tweedie_inverse.benchmarks.studies.overlapping_modes

The prior is a `GaussianMixture` whose error nobody has measured ("network"), or as it is
("measured"); half as many random measurements as numbers, noise 0.5.  The ratio of 1 is what exact
posterior samples have; behind +-: standard errors over the truths.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.priors.wrapped import WrappedPrior

NOISE = 0.5
# Shape of an image, components, and how far apart two of their means are, in deviations of a
# component: up to about 4 they overlap, at 7 they are apart.
CASES = (
    ((2,), 3, 2.0),
    ((2,), 3, 4.0),
    ((10,), 3, 2.0),
    ((10,), 5, 4.0),
    ((1, 8, 8), 4, 4.0),
    ((10,), 5, 7.0),
)
WALKS: dict[str, tuple[ti.walks.Walk, bool, int]] = {
    "decoupled, network, 50": (ti.walks.Decoupled(), False, 50),
    "decoupled, network, 200": (ti.walks.Decoupled(), False, 200),
    "decoupled, measured, 50": (ti.walks.Decoupled(), True, 50),
    "particle, network, 50": (ti.walks.Particle(), False, 50),
}


class Unmeasured(WrappedPrior):
    """The denoiser of another prior, whose error nobody has measured."""

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self.prior.denoise(x, sigma)

    def denoising_error(self, sigma: float) -> Covariance:
        raise AssertionError("nothing is measured")

    @property
    def error_is_measured(self) -> bool:
        return False


@dataclass(frozen=True)
class Problem:
    """Truths of a mixture and their measurements, in float64."""

    prior: ti.priors.GaussianMixture
    matrix: Tensor
    truths: Tensor
    y: Tensor

    @property
    def operator(self) -> ops.LinearOperator:
        return ops.LinearOperator.from_function(
            lambda x: x.flatten(1) @ self.matrix.mT.to(x),
            self.prior.shape,
            noise=ops.GaussianNoise(NOISE),
        )

    def exact(self, index: int, count: int) -> Tensor:
        """Posterior samples of one truth, ``(count, *shape)``."""
        means, variance, matrix = self.prior.means.flatten(1), self.prior.std**2, self.matrix
        units = torch.eye(len(matrix), dtype=torch.float64)
        system = variance * matrix @ matrix.mT + NOISE**2 * units
        gain = variance * matrix.mT @ torch.linalg.inv(system)
        rest = self.y[index] - means @ matrix.mT
        law = torch.distributions.MultivariateNormal(torch.zeros(len(matrix)).double(), system)
        shares = torch.softmax(self.prior.log_weights + law.log_prob(rest), 0)
        random = torch.Generator().manual_seed(index)
        chosen = torch.multinomial(shares, count, replacement=True, generator=random)
        left = variance * (torch.eye(means.shape[1]).double() - gain @ matrix)
        white = torch.randn(count, means.shape[1], generator=random, dtype=torch.float64)
        centre = means[chosen] + rest[chosen] @ gain.mT
        flat = centre + white @ torch.linalg.cholesky((left + left.mT) / 2).mT
        return flat.reshape(count, *self.prior.shape)


def problem(
    shape: tuple[int, ...], components: int, distance: float, truths: int, seed: int = 0
) -> Problem:
    """Means are random, two of them `distance` apart on average."""
    random = torch.Generator().manual_seed(seed)
    means = torch.randn(components, *shape, generator=random, dtype=torch.float64)
    if len(shape) == 3:
        means = torch.nn.functional.avg_pool2d(means, 3, 1, 1)
    means *= distance / torch.pdist(means.flatten(1)).mean()
    weights = 0.2 + torch.rand(components, generator=random).double()
    prior = ti.priors.GaussianMixture(means, weights, 1.0)
    size = math.prod(shape)
    matrix = torch.randn(max(1, size // 2), size, generator=random).double() / size**0.5
    clean = prior.draw(truths, seed=seed + 5)
    noise = torch.randn(truths, len(matrix), generator=random).double()
    return Problem(prior, matrix, clean, clean.flatten(1) @ matrix.mT + NOISE * noise)


def ratio(one: Problem, walk: ti.walks.Walk, measured: bool, steps: int) -> tuple[float, float]:
    """CRPS over that of exact samples, and its standard error."""
    count = 100
    prior = one.prior if measured else Unmeasured(one.prior)
    found = ti.solve(
        one.y, one.operator, prior, method=walk, steps=steps, num_samples=count, seed=2
    )
    exact = torch.stack([one.exact(index, count) for index in range(len(one.truths))])
    ours, theirs = _crps(found.samples, one.truths), _crps(exact, one.truths)
    value = float(ours.mean() / theirs.mean())
    error = (ours - value * theirs).std() / len(ours) ** 0.5 / theirs.mean()
    return value, float(error)


def _crps(samples: Tensor, truths: Tensor) -> Tensor:
    """``(truths,)`` for samples ``(truths, count, *shape)``."""
    count = samples.shape[1]
    far = (samples - truths[:, None]).abs().flatten(2).mean(2).mean(1)
    rank = 2 * torch.arange(count, dtype=samples.dtype) - count + 1
    ordered = samples.flatten(2).sort(dim=1).values
    return far - (rank[:, None] * ordered).sum(1).mean(1) / (count * (count - 1))


def rows(truths: int) -> Iterator[str]:
    """Lines of the table."""
    yield f"| shape, components, distance | {' | '.join(WALKS)} |"
    yield "|---" * (len(WALKS) + 1) + "|"
    for case in CASES:
        shape, components, distance = case
        one = problem(shape, components, distance, truths)
        found = (ratio(one, *way) for way in WALKS.values())
        cells = " | ".join(f"{value:.3f} +- {error:.3f}" for value, error in found)
        yield f"| {', '.join(map(str, case))} | {cells} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--truths", type=int, default=60)
    for line in rows(parser.parse_args().truths):
        print(line, flush=True)


if __name__ == "__main__":
    main()
