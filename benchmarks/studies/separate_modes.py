"""Three well separated Gaussians in ten dimensions: which walk finds the right share of each.

    python -m tweedie_inverse.benchmarks.studies.separate_modes
    python -m tweedie_inverse.benchmarks.studies.separate_modes --problems 20 --samples 2000

Means -5, 0 and 5 in every coordinate, a random covariance each, 8 of 10 coordinates observed with
noise 5.  Nothing is measured of the prior: its denoiser is exact, and no walk has a table.  Behind
+-: standard errors over the problems; all walks see the same problems.  Problems from 1000 on were
used for choices.
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
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.base import sigma_column

MEANS, SIZE, OBSERVED, NOISE = (-5.0, 0.0, 5.0), 10, 8, 5.0
WALKS: dict[str, tuple[ti.walks.Walk, int]] = {
    "decoupled, 200": (ti.walks.Decoupled(), 200),
    "langevin, 1000": (ti.walks.Langevin(), 1000),
    "particle, 50": (ti.walks.Particle(), 50),
    "particle, 200": (ti.walks.Particle(), 200),
    "particle, Wiener path, 200": (ti.walks.Particle(path="wiener", correctors=1), 200),
}


class Modes(ti.priors.Prior):
    """An equal mixture of ``N(mean_k, covariance_k)``: an exact denoiser without a table.

    Args:
        means: ``(components, n)``.
        covariances: ``(components, n, n)``, positive definite.
    """

    any_sigma = True
    error_is_measured = False

    def __init__(self, means: Tensor, covariances: Tensor):
        self.means, self.covariances = means, covariances
        self.values, self.vectors = torch.linalg.eigh(covariances)
        self.shape, self.centre = (means.shape[1],), means.mean(0)
        spread = float((means - self.centre).square().sum(1).max().sqrt())
        self.unit = spread / math.sqrt(means.shape[1])
        self.sigma_min, self.sigma_max = 1e-2 * float(self.values.min()), 10 * spread

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level = sigma_column(x, sigma)[:, None].double()  # (batch, 1, 1)
        offset = torch.einsum("knm,bkn->bkm", self.vectors, x.double()[:, None] - self.means)
        total = self.values + level**2
        logs = -0.5 * (offset.square() / total + total.log()).sum(-1)
        each = self.means + torch.einsum("knm,bkm->bkn", self.vectors, self.values / total * offset)
        return (torch.softmax(logs, 1)[..., None] * each).sum(1).to(x)

    def denoising_error(self, sigma: float) -> Covariance:
        raise AssertionError("nothing is measured")


@dataclass(frozen=True)
class Problem:
    """One measurement, in float64."""

    prior: Modes
    operator: ops.MatrixOperator
    y: Tensor

    def exact(self, count: int, seed: int) -> Tensor:
        """Samples of the posterior, ``(count, 10)``."""
        shares, means, covariances = self._posterior()
        random = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(shares, count, replacement=True, generator=random)
        white = torch.randn(count, SIZE, generator=random, dtype=torch.float64)
        factors = torch.linalg.cholesky(covariances)[chosen]
        return means[chosen] + torch.einsum("bnm,bm->bn", factors, white)

    @property
    def shares(self) -> Tensor:
        """Exact probability of every mode, ``(3,)``."""
        return self._posterior()[0]

    def _posterior(self) -> tuple[Tensor, Tensor, Tensor]:
        matrix, prior = self.operator.matrix, self.prior
        covered = matrix @ prior.covariances @ matrix.mT
        system = covered + NOISE**2 * torch.eye(len(matrix), dtype=torch.float64)
        rest = self.y - prior.means @ matrix.mT
        logs = torch.distributions.MultivariateNormal(torch.zeros_like(rest), system).log_prob(rest)
        gain = prior.covariances @ matrix.mT @ torch.linalg.inv(system)
        means = prior.means + torch.einsum("knm,km->kn", gain, rest)
        covariances = prior.covariances - gain @ matrix @ prior.covariances
        return torch.softmax(logs, 0), means, (covariances + covariances.mT) / 2


def problem(seed: int) -> Problem:
    """Problem number `seed`."""
    random = torch.Generator().manual_seed(seed)
    covariances = []
    for scale in (0.5, 1.0, 1.5):
        vectors, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=random).double())
        values = 0.3 + 2 * scale * torch.rand(SIZE, generator=random).double()
        covariances.append(vectors @ values.diag() @ vectors.mT)
    means = torch.tensor(MEANS, dtype=torch.float64)[:, None].expand(-1, SIZE).contiguous()
    prior = Modes(means, torch.stack(covariances))
    mode = seed % len(MEANS)
    white = normal(("separate modes", seed), (SIZE,))
    truth = means[mode] + torch.linalg.cholesky(covariances[mode]) @ white
    observed = torch.eye(SIZE, dtype=torch.float64)[:OBSERVED]
    operator = ops.MatrixOperator(observed, noise=ops.GaussianNoise(NOISE))
    return Problem(prior, operator, operator.measure(truth[None], seed=seed)[0])


def shares_of(samples: Tensor) -> Tensor:
    """Share of the samples ``(count, 10)`` that is nearest to each mode, ``(3,)``."""
    distance = (samples.mean(1)[:, None] - torch.tensor(MEANS, dtype=samples.dtype)).abs()
    return torch.bincount(distance.argmin(1), minlength=len(MEANS)) / len(samples)


def rows(problems: int, first: int, samples: int) -> Iterator[str]:
    """Lines of the table."""
    yield "| walk, evaluations | sliced W1 | largest error of a mode's share | evaluations made |"
    yield "|---|---|---|---|"
    several = [problem(seed) for seed in range(first, first + problems)]
    exact = [one.exact(samples, seed=1) for one in several]
    again = [one.exact(samples, seed=2) for one in several]
    floor = [(*_score(*three), 0.0) for three in zip(several, again, exact, strict=True)]
    yield _row("two exact sets", floor)
    for name, (walk, steps) in WALKS.items():
        scores = []
        for seed, (one, truth) in enumerate(zip(several, exact, strict=True)):
            found = ti.solve(
                one.y,
                one.operator,
                one.prior,
                method=walk,
                steps=steps,
                num_samples=samples,
                seed=seed,
            )
            score = _score(one, found.samples, truth)
            scores.append((*score, found.stats.denoiser_calls))
        yield _row(name, scores)


def _score(one: Problem, drawn: Tensor, exact: Tensor) -> tuple[float, float]:
    """Distance from exact samples, and the largest error of a mode's share."""
    error = float((shares_of(drawn) - one.shares).abs().max())
    return ti.calibration.sliced_wasserstein(drawn, exact), error


def _row(name: str, scores: list[tuple[float, float, float]]) -> str:
    values = torch.tensor(scores, dtype=torch.float64)
    mean, error = values.mean(0).tolist(), (values.std(0) / len(values) ** 0.5).tolist()
    return (
        f"| {name} | {mean[0]:.3f} +- {error[0]:.3f} | {mean[1]:.3f} +- {error[1]:.3f} "
        f"| {mean[2]:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first problem")
    parser.add_argument("--samples", type=int, default=1000)
    options = parser.parse_args()
    for line in rows(options.problems, options.first, options.samples):
        print(line, flush=True)


if __name__ == "__main__":
    main()
