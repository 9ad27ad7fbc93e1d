"""Nonlinear instruments and counting noise with the shipped phantom prior: what a walk costs.

    python -m tweedie_inverse.benchmarks.studies.nonlinear
    python -m tweedie_inverse.benchmarks.studies.nonlinear --leapfrogs 8
        longer Hamiltonian moves

All problems see the same held-out phantom; operator calls are those of one sample.
"""

import argparse
from collections.abc import Iterator
from functools import partial

import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.demo import score
from tweedie_inverse.app.endings import endings
from tweedie_inverse.app.example import phantom
from tweedie_inverse.evaluation.metrics import psnr

SHAPE = (1, 64, 64)
HEAD = (
    "| problem | PSNR mean / worst / best sample | chi-square | 90 % coverage | CRPS "
    "| operator calls | accepted | seconds |\n|---|---|---|---|---|---|---|---|"
)


def problems() -> dict[str, ops.Operator]:
    """The instruments, with their noise."""
    blur = ops.Blur(ops.gaussian_kernel(1.5), SHAPE)
    scan = ops.Tomography(SHAPE, angles=30, pixel_size=0.05)
    gaussian = ops.GaussianNoise(0.05)
    codes = ops.random_codes(2, SHAPE[1:])
    return {
        "CT, 200 photons a ray": ops.Transmission(scan, 200.0, noise=ops.PoissonNoise()),
        "blur, 20 photons at white": ops.compose(blur, noise=ops.PoissonNoise(0.05)),
        "blur, then 2 bits": ops.compose(
            blur, noise=ops.DigitizedNoise(0.05, step=0.25, low=0.0, high=1.0)
        ),
        "blur, clipped at half": ops.compose(
            ops.Clipping(SHAPE, high=0.4), blur, noise=ops.GaussianNoise(0.03)
        ),
        "coded diffraction, 2 codes": ops.PhaseRetrieval(
            SHAPE, oversampling=1, codes=codes, noise=gaussian
        ),
        "Fourier magnitude, 2x oversampled": ops.PhaseRetrieval(SHAPE, noise=gaussian),
    }


def _note_acceptance(found: list[float], step: ti.Step) -> None:
    assert step.info.acceptance is not None  # every problem here has inner moves
    found.append(float(step.info.acceptance.mean()))


def table(num_samples: int, steps: int, moves: int, leapfrogs: int, seed: int) -> Iterator[str]:
    """One row for each problem."""
    truth, prior = phantom(), ti.load_prior("phantom-64")
    walk = ti.walks.Decoupled(moves=moves, leapfrogs=leapfrogs)
    yield HEAD
    for name, operator in problems().items():
        accepted: list[float] = []
        posterior = ti.solve(
            operator.measure(truth, seed=seed),
            operator,
            prior,
            method=walk,
            num_samples=num_samples,
            steps=steps,
            seed=seed,
            callback=partial(_note_acceptance, accepted),
        )
        row = score(name, posterior, truth)
        single = psnr(posterior.samples, truth)
        low, high = float(single.min()), float(single.max())
        yield (
            f"| {name} | {row.psnr_mean:.2f} / {low:.2f} / {high:.2f} "
            f"| {row.chi_square:.3f} | {row.coverage:.3f} | {row.crps:.4f} "
            f"| {posterior.stats.operator_calls:.0f} | {sum(accepted) / len(accepted):.2f} "
            f"| {row.seconds:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--moves", type=int, default=ti.walks.Decoupled.moves)
    parser.add_argument("--leapfrogs", type=int, default=ti.walks.Decoupled.leapfrogs)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for line in table(
        options.samples, options.steps, options.moves, options.leapfrogs, options.seed
    ):
        print(line, flush=True)


if __name__ == "__main__":
    with torch.no_grad(), endings():
        main()
