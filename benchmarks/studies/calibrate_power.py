"""How often `calibrate` raises a false alarm, and how often it sees a planted fault.

    python -m tweedie_inverse.benchmarks.studies.calibrate_power
    python -m tweedie_inverse.benchmarks.studies.calibrate_power --repeats 10 --problems field

Exact priors and exact posterior samplers, written down in closed form: with the right sampler every
alarm is false.  Each fault is in the sampler, not in the test.  A repeat has truths, measurements
and samples of its own.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.studies.recipes import field
from tweedie_inverse.evaluation.calibrate.plan import COUNT, SAMPLES
from tweedie_inverse.evaluation.calibrate.quantities import moved
from tweedie_inverse.numerics.random import generator, normal

LEVEL = 0.05


@dataclass(frozen=True)
class Posterior:
    """Exact posteriors of mixtures of Gaussians with one covariance, as a solver is told of them.

    Attributes:
        means, weights: ``(components, n)`` and ``(components,)`` of the prior.
        covariance: ``(n, n)`` of every component.
        matrix: ``(m, n)``; std: of the noise.
        missing: components that no sample is drawn of.
        shrink, bias: samples are drawn to the mean by the one, and moved by the other times std.
    """

    means: Tensor
    weights: Tensor
    covariance: Tensor
    matrix: Tensor
    std: float
    missing: tuple[int, ...] = ()
    shrink: float = 1.0
    bias: float = 0.0

    def sampler(self, shape: Sequence[int]) -> Callable[[Tensor, int, int], Tensor]:
        """What `calibrate` takes: all that does not depend on y is worked out once."""
        eye = torch.eye(len(self.matrix), dtype=torch.float64)
        system = self.matrix @ self.covariance @ self.matrix.mT + self.std**2 * eye
        gain = torch.linalg.solve(system, self.matrix @ self.covariance).mT
        covariance = self.covariance - gain @ self.matrix @ self.covariance
        values, axes = torch.linalg.eigh((covariance + covariance.mT) / 2)
        root = axes * values.clamp(min=0).sqrt()
        law = torch.distributions.MultivariateNormal(self.means @ self.matrix.mT, system)

        def exact(y: Tensor, count: int, seed: int) -> Tensor:
            y = y.double().flatten()
            means = self.means + (y - self.means @ self.matrix.mT) @ gain.mT
            share = torch.softmax(self.weights.log() + law.log_prob(y), 0)
            mean = share @ means
            between = (share[:, None] * (means - mean).square()).sum(0)
            std = (covariance.diagonal() + between).sqrt()
            share[list(self.missing)] = 0
            uniform = torch.from_numpy(generator(("exact mode", seed)).random(count))
            edges = (share / share.sum()).cumsum(0)
            chosen = torch.searchsorted(edges, uniform).clamp(max=len(edges) - 1)
            x = means[chosen] + normal(("exact draw", seed), (count, len(mean))) @ root.mT
            x = mean + self.shrink * (x - mean) + self.bias * std
            return x.reshape(count, *shape)

        return exact


@dataclass(frozen=True)
class Problem:
    """A prior and an instrument with their exact posterior."""

    prior: ti.priors.Gaussian | ti.priors.GaussianMixture
    operator: ops.MatrixOperator | ops.Blur
    right: Posterior

    @property
    def faults(self) -> dict[str, Posterior]:
        """The samplers that should be found out."""
        right, shape = self.right, self.prior.shape
        columns = right.matrix.reshape(-1, *shape)
        shifted = moved(columns, columns.ndim - 1, -0.5)
        if len(shape) > 1:
            shifted = moved(shifted, columns.ndim - 2, -0.5)
        found = {
            "intervals 10 % too narrow": replace(right, shrink=0.9),
            "bias of 0.1 standard deviations": replace(right, bias=0.1),
            "noise told 20 % too low": replace(right, std=right.std / 1.2),
            "noise told 20 % too high": replace(right, std=right.std * 1.2),
            "operator off by half a pixel": replace(right, matrix=shifted.flatten(1)),
            "noise told twice as large": replace(right, std=right.std * 2),
        }
        if len(right.means) == 1:
            # D(x, 2 sigma) of N(0, C) is the denoiser of N(0, C / 4).
            quarter = replace(right, covariance=right.covariance / 4)
            found["network called at twice sigma"] = quarter
        else:
            found["one of two modes missing, 20 % of the mass"] = replace(right, missing=(1,))
        return found


def blurred_field() -> Problem:
    """The 8x8 field of the other studies, blurred over 3x3 pixels, noise a fifth of the std."""
    prior = field()
    kernel = torch.ones(3, 3, dtype=torch.float64) / 9
    operator = ops.Blur(kernel, (1, 8, 8), noise=ops.GaussianNoise(0.1))
    units = torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)
    covariance = prior.covariance.apply(units).reshape(64, 64)
    matrix = ops.dense_matrix(operator)
    one = torch.ones(1, dtype=torch.float64)
    right = Posterior(torch.zeros(1, 64).double(), one, covariance, matrix, 0.1)
    return Problem(prior, operator, right)


def two_modes() -> Problem:
    """Signals of 16 numbers in two modes, 80 % and 20 %, that 8 measurements do not tell apart."""
    size, rows = 16, 8
    apart = normal(("study apart",), (size,))
    apart = 4 * apart / apart.norm()
    matrix = normal(("study matrix",), (rows, size)) / size**0.5
    matrix = matrix - (matrix @ apart)[:, None] * apart / apart.square().sum()
    means = torch.stack([-apart / 2, apart / 2])
    weights = torch.tensor([0.8, 0.2], dtype=torch.float64)
    prior = ti.priors.GaussianMixture(means, weights, 0.5)
    operator = ops.MatrixOperator(matrix, noise=ops.GaussianNoise(0.2))
    covariance = 0.25 * torch.eye(size, dtype=torch.float64)
    return Problem(prior, operator, Posterior(means, weights, covariance, matrix, 0.2))


PROBLEMS = {"field": blurred_field, "two modes": two_modes}


class Alarms(NamedTuple):
    """In how many repeats the certificate failed, its kernel Stein test was heard, and failed."""

    certificate: int
    heard: int
    stein: int


def alarms(problem: Problem, told: Posterior, repeats: int, count: int, samples: int) -> Alarms:
    """Calibrations of one sampler."""
    sampler = told.sampler(problem.prior.shape)
    found = []
    for repeat in range(repeats):
        result = ti.calibrate(
            problem.operator,
            problem.prior,
            count=count,
            num_samples=samples,
            sampler=sampler,
            seed=repeat,
            level=LEVEL,
            power=False,
        )
        p = result.stein.p_value
        found.append((not result.passed, p is not None, p is not None and p <= LEVEL))
    return Alarms(*(sum(each) for each in zip(*found, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--false-alarms", type=int, default=200, help="repeats without a fault")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    options = parser.parse_args()
    print(f"{options.count} truths, {options.samples} samples, level {LEVEL}", flush=True)
    print(
        "| problem | sampler | repeats | alarms | Stein test heard | its alarms |\n"
        "|---|---|---|---|---|---|",
        flush=True,
    )
    for name in options.problems:
        problem = PROBLEMS[name]()
        cases = [("exact", problem.right, options.false_alarms)] if options.false_alarms else []
        cases += [(fault, told, options.repeats) for fault, told in problem.faults.items()]
        for title, told, repeats in cases:
            seen = alarms(problem, told, repeats, options.count, options.samples)
            print(
                f"| {name} | {title} | {repeats} | {seen.certificate / repeats:.3f} "
                f"| {seen.heard / repeats:.2f} | {seen.stein} of {seen.heard} |",
                flush=True,
            )


if __name__ == "__main__":
    with endings():
        main()
