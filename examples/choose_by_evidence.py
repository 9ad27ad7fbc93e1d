"""Which instrument took this picture: blur width and noise level, chosen by the evidence p(y).

    python examples/choose_by_evidence.py

A digit was blurred and made noisy, and nobody wrote down by how much.  For each guess the particle
walk estimates log p(y) while it samples; the guess that makes the data most probable wins.  A fit
to the data alone could not choose: less noise and more blur always leave room for a closer fit.
"""

import argparse
from typing import NamedTuple

import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops

WIDTHS, NOISES = (0.5, 0.8, 1.2), (0.05, 0.1, 0.2)
TRUE_WIDTH, TRUE_NOISE = 0.8, 0.1


class Choice(NamedTuple):
    """The guess of highest evidence, and log p(y) of all of them, ``(widths, noises)``."""

    width: float
    noise: float
    log_evidence: torch.Tensor


def digits(count: int) -> torch.Tensor:
    """Scikit-learn's handwritten digits ``(count, 1, 8, 8)`` in [0, 1]."""
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().images[:count, None] / 16.0)


def main(walkers: int = 500, steps: int = 30, count: int = 300) -> Choice:
    """Compare all guesses on one picture, drawn from the prior itself.

    Args:
        walkers: of each population.
        steps: evaluations of the denoiser a walker.
        count: digits in the prior.
    """
    images = digits(count + 1)
    prior = ti.priors.Empirical(images[:-1], std=0.15)
    truth = prior.draw(1, seed=3)[0]
    y = _instrument(TRUE_WIDTH, TRUE_NOISE).measure(truth, seed=0)
    found = torch.tensor(
        [
            [
                float(
                    ti.solve(
                        y,
                        _instrument(width, noise),
                        prior,
                        method="particle",
                        num_samples=walkers,
                        steps=steps,
                    ).log_evidence
                )
                for noise in NOISES
            ]
            for width in WIDTHS
        ]
    )
    row, column = divmod(int(found.argmax()), len(NOISES))
    return Choice(WIDTHS[row], NOISES[column], found)


def _instrument(width: float, noise: float) -> ops.Blur:
    return ops.Blur(_kernel(width), (1, 8, 8), noise=ops.GaussianNoise(noise))


def _kernel(width: float) -> torch.Tensor:
    """A Gaussian of 7 x 7 pixels, sum 1."""
    row = torch.exp(-0.5 * (torch.arange(-3.0, 4.0, dtype=torch.float64) / width) ** 2)
    return torch.outer(row, row) / row.sum() ** 2


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--walkers", type=int, default=500)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    choice = main(options.walkers, options.steps)
    print("log p(y) in nats:")
    print("             " + "".join(f"noise {noise:<7g}" for noise in NOISES))
    for width, row in zip(WIDTHS, choice.log_evidence.tolist(), strict=True):
        print(f"width {width:<6g} " + "".join(f"{value:<13.2f}" for value in row))
    print(f"true: width {TRUE_WIDTH}, noise {TRUE_NOISE}")
    print(f"chosen: width {choice.width}, noise {choice.noise}")
