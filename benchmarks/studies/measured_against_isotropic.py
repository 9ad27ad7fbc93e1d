"""Does the measured denoising error pay: against the isotropic walk, on the demo's problems.

    python -m tweedie_inverse.benchmarks.studies.measured_against_isotropic
        all walks at 20 and 200 evaluations
    python -m tweedie_inverse.benchmarks.studies.measured_against_isotropic --own
        coverage on the priors' own samples

All walks see the same measurements and seeds, in one run; lower CRPS is better, coverage of the
90 % interval should be 0.9.
"""

import argparse
import math
from collections.abc import Iterator

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.demo import TABLE_HEAD, problems, score, table_row
from tweedie_inverse.app.endings import endings
from tweedie_inverse.numerics.random import normal

WALKS = {
    "measured": ti.walks.Decoupled(),
    "renewed": ti.walks.Decoupled(memory=math.inf),
    "average": ti.walks.Decoupled(error="average"),
    "isotropic": ti.walks.Decoupled(error="isotropic"),
}
NOISE = ops.GaussianNoise


def compare(
    names: list[str], walks: list[str], num_samples: int, budgets: list[int], seed: int
) -> Iterator[str]:
    """One table for each problem: walks and numbers of evaluations are rows."""
    for problem in (problem for problem in problems() if problem.name in names):
        y = problem.operator.measure(problem.truth, seed=seed)
        prior = ti.load_prior(problem.prior)
        yield f"\n{problem.title}\n\n{TABLE_HEAD}"
        for steps in budgets:
            for name in walks:
                posterior = ti.solve(
                    y,
                    problem.operator,
                    prior,
                    method=WALKS[name],
                    num_samples=num_samples,
                    steps=steps,
                    seed=seed,
                    progress=True,
                )
                yield table_row(score(f"{name}, {steps}", posterior, problem.truth))


def own_samples(
    names: list[str], count: int, num_samples: int, steps: int, seed: int, *, denoised: bool
) -> Iterator[str]:
    """Mean coverage and chi-square on truths drawn from the prior itself, 64x64."""
    yield f"{count} truths each, {num_samples} samples, {steps} evaluations\n"
    yield "| problem | 90 % coverage | standard error | chi-square | CRPS |\n|---|---|---|---|---|"
    for name, channels in (("phantom-64", 1), ("photo-64", 3)):
        prior, shape = ti.load_prior(name), (channels, 64, 64)
        operators = {k: o for k, o in _operators(shape).items() if k in names}
        if not operators:
            continue
        truth = _truths(prior, count, seed, denoised)
        for label, operator in operators.items():
            y = operator.measure(truth, seed=seed)
            posterior = ti.solve(
                y, operator, prior, num_samples=num_samples, steps=steps, seed=seed, progress=True
            )
            covered = ti.calibration.coverage(posterior, truth)
            error = float(covered.std()) / count**0.5
            chi_square = float(posterior.diagnostics.residual_chi_square.mean())
            crps = float(ti.calibration.crps(posterior, truth).mean())
            yield (
                f"| {name}: {label} | {float(covered.mean()):.3f} | {error:.3f} "
                f"| {chi_square:.3f} | {crps:.4f} |"
            )


def _truths(prior: ti.priors.Prior, count: int, seed: int, denoised: bool) -> Tensor:
    """Samples of the prior; DDPM ends with the mean given the last noisy image.

    A sample of the prior is a draw there, of covariance V: a deviation of 0.001 in the air of a
    slice, where little else varies.
    """
    # Seed 10,000: truths must not share their streams with the walks.
    mean = ti.sample(prior, count, recipe="ddpm", steps=200, seed=10_000 + seed)
    if denoised:
        return mean
    noise = normal(("own samples", seed), mean.shape).to(mean)
    return mean + prior.conditional_covariance(prior.sigma_min, mean).colour(noise)


def _operators(shape: tuple[int, int, int]) -> dict[str, ops.LinearOperator]:
    """The demo's instruments on images of `shape`; CT for grey images, the rest for colour."""
    if shape[0] == 1:
        return {"ct": ops.Tomography(shape, angles=20, noise=NOISE(0.5))}
    return {
        "inpainting": ops.Mask(ops.random_mask(shape, 0.2, seed=1), noise=NOISE(0.05)),
        "deblurring": ops.Blur(ops.gaussian_kernel(2.0), shape, noise=NOISE(0.02)),
        "super-resolution": ops.Downsampling(shape, 4, noise=NOISE(0.02)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--own", action="store_true", help="truths from the priors themselves")
    names = [problem.name for problem in problems()]
    parser.add_argument(
        "--denoised",
        action="store_true",
        help="with --own, leave the truths at the mean that the sampler ends with",
    )
    parser.add_argument("--problems", nargs="+", choices=names, default=names)
    parser.add_argument("--walks", nargs="+", choices=list(WALKS), default=list(WALKS))
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--count", type=int, default=12, help="truths, with --own")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lines = (
        own_samples(
            options.problems,
            options.count,
            options.samples,
            options.steps[0],
            options.seed,
            denoised=options.denoised,
        )
        if options.own
        else compare(options.problems, options.walks, options.samples, options.steps, options.seed)
    )
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    with torch.no_grad(), endings():
        main()
