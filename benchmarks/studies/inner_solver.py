"""Iterations of the linear solves of the decoupled walk, and its time beside its network's.

    python -m tweedie_inverse.benchmarks.studies.inner_solver               the demo's problems
    python -m tweedie_inverse.benchmarks.studies.inner_solver --task ct --evaluations 20

Photographs of 128x128 in colour and phantoms of 64x64, on one thread.  The walk and its network
take turns in one process, so that a busy machine slows both, and the fastest turns count.
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from tweedie_inverse import operators as ops
from tweedie_inverse.app.demo import DemoProblem, problems
from tweedie_inverse.app.example import PHOTO_SHAPE
from tweedie_inverse.priors.counting import CountedPrior
from tweedie_inverse.priors.zoo import load_prior
from tweedie_inverse.solving.solver import iterate

TURNS = 2


class Row(NamedTuple):
    """One problem; iterations are those of the draws."""

    name: str
    mean: float
    most: int
    error: float  # the largest, as the solver counts it
    walk: float  # seconds
    network: float  # seconds of as many evaluations

    def line(self) -> str:
        """A line of the table."""
        return (
            f"| {self.name} | {self.mean:.1f} | {self.most} | {self.error:.1e} | {self.walk:.2f} "
            f"| {self.network:.2f} | {self.walk / self.network:.2f} |"
        )


HEAD = "| problem | iterations a level | most | error | walk, s | network, s | ratio |"


def tasks() -> dict[str, DemoProblem]:
    """The demo's problems, other borders of the blur, and scans with little noise."""
    found = {problem.name: problem for problem in problems()}
    blur, scan = found["deblurring"], found["ct"]
    kernel, noise = ops.gaussian_kernel(2.0), blur.operator.noise
    others: dict[str, tuple[DemoProblem, ops.LinearOperator]] = {}
    for padding in ("zero", "reflect", "replicate", "valid"):
        operator = ops.Blur(kernel, PHOTO_SHAPE, padding=padding, noise=noise)
        others[f"deblurring, {padding}"] = blur, operator
    for std in (0.05, 0.01):
        quiet = ops.Tomography((1, 64, 64), 20, noise=ops.GaussianNoise(std))
        others[f"ct, noise {std}"] = scan, quiet
    for name, (like, instrument) in others.items():
        found[name] = DemoProblem(name, like.title, like.prior, instrument, like.truth)
    return found


def measured(problem: DemoProblem, samples: int, evaluations: int, turns: int = TURNS) -> Row:
    """The row of a problem, after a first walk that loads what is loaded once."""
    prior = CountedPrior(load_prior(problem.prior).for_shape(tuple(problem.truth.shape)))
    y = problem.operator.measure(problem.truth[None], seed=0)
    x = y.new_zeros((samples, *problem.truth.shape))

    def walk() -> list:
        steps = iterate(y, problem.operator, prior, num_samples=samples, steps=evaluations)
        return [step.info for step in steps]

    infos = walk()
    before = prior.calls
    walk()
    calls = (prior.calls - before) // samples

    @torch.no_grad()
    def network() -> None:
        for _ in range(calls):
            prior.denoise(x, prior.sigma_min)

    pairs = [(_seconds(walk), _seconds(network)) for _ in range(turns)]
    walks, networks = zip(*pairs, strict=True)
    counts = [info.iterations for info in infos]
    return Row(
        problem.name,
        sum(counts) / len(counts),
        max(counts),
        max(info.solver_error for info in infos),
        min(walks),
        min(networks),
    )


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    names = list(tasks())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=names, default=names[:4])
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--evaluations", type=int, default=50)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(f"{HEAD}\n|---|---|---|---|---|---|---|")
    for name in arguments.task:
        print(measured(tasks()[name], arguments.samples, arguments.evaluations).line(), flush=True)


if __name__ == "__main__":
    main()
