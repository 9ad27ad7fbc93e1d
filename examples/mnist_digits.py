"""Digits of MNIST from a published diffusion network, its range found by measuring.

    python examples/mnist_digits.py FOLDER --picture mnist.png

FOLDER holds `sdaloglu-mnist-ddpm.safetensors`, a DDPM of a few lines with its noise schedule, and
`mnist-test-1000.npz`, test digits that it has not seen.  The network is written here, as anybody
must who finds weights without a package; the rest is what `NetworkPrior` is told.
"""

import argparse
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import tweedie_inverse as ti
from tweedie_inverse import operators as ops

NOISE = 0.1


class Scores(NamedTuple):
    """Of one instrument, over all digits.

    Attributes:
        psnr: of the posterior mean, in decibels.
        crps: continuous ranked probability score of a pixel, in grey values of 0 to 1.
        coverage: share of pixels inside their 90 % interval, of all, and of those of the digit:
            the black ones round it say little.
        chi_square: of the residuals; 1 where the samples fit the measurement.
    """

    psnr: float
    crps: float
    coverage: tuple[float, float]
    chi_square: float


class Result(NamedTuple):
    """What was measured.

    Attributes:
        report: of the check of the network as it was published.
        scores: by the largest sigma of the walk, and the instrument.
    """

    report: ti.PriorReport
    scores: dict[tuple[float, str], Scores]


class TimedCNN(nn.Module):
    """Four convolutions of 7 x 7; an embedding of the time is added to the first one's channels."""

    frequencies: Tensor

    def __init__(self, side: int = 28):
        super().__init__()
        widths = (1, 16, 32, 32, 16)
        self.register_buffer("frequencies", torch.zeros(16))
        self.time_embed = nn.Sequential(
            nn.Linear(32, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(),
            nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 16),
        )  # fmt: skip
        self.blocks = nn.ModuleList()
        for given, made in pairwise(widths):
            block = nn.Module()
            block.net = nn.Sequential(
                nn.Conv2d(given, made, 7, padding=3), nn.LayerNorm((made, side, side)), nn.GELU()
            )
            self.blocks.append(block)
        self.blocks.append(nn.Conv2d(16, 1, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        phase = time[:, None] * self.frequencies
        told = self.time_embed(torch.cat([phase.sin(), phase.cos() - 1], dim=1))
        first, *middle, last = self.blocks
        h = first.net(x) + told[:, :, None, None]
        for block in middle:
            h = block.net(h)
        return last(h)


def load(folder: str | Path) -> ti.priors.NetworkPrior:
    """The published network as a prior of digits ``(1, 28, 28)`` in [0, 1], its range uncut."""
    weights = load_file(Path(folder) / "sdaloglu-mnist-ddpm.safetensors")
    with torch.random.fork_rng(devices=[]):  # layers draw weights before they get their own
        network = TimedCNN()
    network.load_state_dict(
        {name.removeprefix("gt."): value for name, value in weights.items() if "gt." in name}
    )
    # `alpha_t` is the product of all alphas up to t = 0 ... 1000; at t = 0 there is no noise yet.
    product = weights["alpha_t"].double()[1:]
    return ti.priors.NetworkPrior(
        network.eval().requires_grad_(False),
        "epsilon",
        shape=(1, 28, 28),
        timesteps=((1 - product) / product).sqrt(),
        label_scale=1 / 1000,  # it is told t / 1000,
        label_offset=1 / 1000,  # and the first level is that of t = 1
        offset=0.5,  # digits minus a half
        name="mnist-ddpm",
    )


def digits(folder: str | Path) -> Tensor:
    """Test digits ``(1000, 1, 28, 28)`` in [0, 1]."""
    archive = np.load(Path(folder) / "mnist-test-1000.npz")
    images = next(a for a in (archive[name] for name in archive.files) if a.ndim == 3)
    return torch.from_numpy(images)[:, None].float() / 255


def instruments() -> dict[str, ops.LinearOperator]:
    shape, noise = (1, 28, 28), ops.GaussianNoise(NOISE)
    return {
        "60 % missing": ops.Mask(ops.random_mask(shape, 0.4, seed=1), noise=noise),
        "blur of 1.5 pixels": ops.Blur(ops.gaussian_kernel(1.5), shape, noise=noise),
    }


def main(
    folder: str | Path,
    count: int = 8,
    num_samples: int = 16,
    steps: int = 60,
    measured: int = 100,
    compare: bool = True,
    picture: str | None = None,
) -> Result:
    """Measure where the network is right, then solve with all of its range and with that part.

    Args:
        folder: of the published weights and test digits.
        count: digits to reconstruct.
        num_samples, steps: of each posterior.
        measured: other digits, on which the network is checked.
        compare: solve with the whole range as well.
        picture: a file for the first digits, as they were reconstructed from the usable range.
    """
    images, whole = digits(folder), load(folder)
    report = ti.check_prior(whole, images[-measured:])
    scores, shown = {}, {}
    truth = images[:count]
    for prior in (*([whole] if compare else []), report.mended_prior()):
        for name, operator in instruments().items():
            y = operator.measure(truth, seed=0)
            posterior = ti.solve(y, operator, prior, num_samples=num_samples, steps=steps, seed=0)
            scores[prior.sigma_max, name] = Scores(
                psnr=float(-10 * (posterior.mean - truth).square().mean().log10()),
                crps=float(ti.calibration.crps(posterior, truth).mean()),
                coverage=covered(posterior, truth),
                chi_square=float(posterior.diagnostics.residual_chi_square.mean()),
            )
            shown[name] = (y, posterior)
    if picture:
        draw(picture, truth, shown)
    return Result(report, scores)


def covered(posterior: ti.Posterior, truth: Tensor) -> tuple[float, float]:
    """Share of pixels inside their 90 % interval: of all, and of those that are not black."""
    lower, upper = posterior.interval(0.9)
    inside = ((truth >= lower) & (truth <= upper)).float()
    return float(inside.mean()), float(inside[truth > 0].mean())


def draw(path: str, truth: Tensor, shown: dict[str, tuple[Tensor, ti.Posterior]]) -> None:
    """Truth, then for each instrument: measurement, two samples, mean, standard deviation."""
    from matplotlib.figure import Figure

    columns: list[tuple[str, Tensor, float]] = [("digit", truth, 1.0)]
    for name, (y, posterior) in shown.items():
        columns += [
            (name, y.reshape(truth.shape), 1.0),
            ("sample", posterior.samples[:, 0], 1.0),
            ("another", posterior.samples[:, 1], 1.0),
            ("mean", posterior.mean, 1.0),
            ("std, 0 to 0.3", posterior.std, 0.3),
        ]
    rows = min(4, len(truth))
    figure = Figure(figsize=(len(columns), rows + 0.2), layout="constrained")
    for row, axes in enumerate(figure.subplots(rows, len(columns), squeeze=False)):
        for axis, (title, values, largest) in zip(axes, columns, strict=True):
            axis.imshow(values[row, 0].numpy(), cmap="gray", vmin=0, vmax=largest)
            axis.set_axis_off()
            if row == 0:
                axis.set_title(title, fontsize=6)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--picture", default="mnist_digits.png")
    options = parser.parse_args()
    result = main(
        options.folder,
        options.count,
        options.samples,
        options.steps,
        picture=options.picture,
    )
    print(result.report)
    for (largest, name), scores in result.scores.items():
        print(
            f"up to {largest:.3g}, {name}: PSNR {scores.psnr:.1f} dB, CRPS {scores.crps:.4f}, "
            f"coverage {scores.coverage[0]:.2f}, of the digit {scores.coverage[1]:.2f}, "
            f"chi-square {scores.chi_square:.2f}"
        )
