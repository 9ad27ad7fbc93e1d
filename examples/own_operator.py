"""A user's own instrument in ten lines: derivatives of an image, and its posterior samples.

python examples/own_operator.py
"""

import argparse

import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.slices import CTSlices


class Gradient(ops.LinearOperator):
    """Differential phase contrast: the instrument sees horizontal differences only."""

    def __init__(self, size: int, noise: ops.NoiseModel):
        super().__init__(domain_shape=(1, size, size), range_shape=(1, size, size), noise=noise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.roll(1, dims=-1)


def main(steps: int = 50, num_samples: int = 8, picture: str | None = "own_operator.png") -> float:
    """Solve, draw, and return the PSNR of the posterior mean in dB."""
    truth = CTSlices(64).images([HELD_OUT_SEED + 1])[0]
    operator = Gradient(64, ops.GaussianNoise(0.03))
    y = operator.measure(truth, seed=0)
    posterior = ti.solve(
        y, operator, ti.load_prior("phantom-64"), num_samples=num_samples, steps=steps
    )
    if picture:
        posterior.plot(picture, truth=truth)
    return float(-10 * (posterior.mean - truth).square().mean().log10())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--samples", type=int, default=8)
    options = parser.parse_args()
    print(f"PSNR of the posterior mean: {main(options.steps, options.samples):.1f} dB")
