"""A colour photograph through FFDNet, a published denoiser: missing pixels, and a blur.

    python examples/photograph_with_ffdnet.py FOLDER --picture ffdnet.png

FOLDER holds `ffdnet-color.safetensors`, KAIR's weights.  FFDNet was made to remove noise of up to
75/255 from photographs; nothing is trained or measured here, and what the samples are worth is
counted against the photograph, which is of 128 x 128 pixels.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import tweedie_inverse as ti
from tweedie_inverse import operators as ops

NOISE = 0.03


class Scores(NamedTuple):
    """Of one instrument.

    Attributes:
        psnr: of the posterior mean, in decibels; `sample_psnr`: of a single sample.
        crps: continuous ranked probability score of a pixel, in values of 0 to 1.
        coverage: share of pixels inside their 90 % interval.
        chi_square: of the residuals; 1 where the samples fit the measurement.
        verdict: what the posterior says of itself.
    """

    psnr: float
    sample_psnr: float
    crps: float
    coverage: float
    chi_square: float
    verdict: str


def photograph(size: int = 128) -> Tensor:
    """The middle of a photograph of scikit-image, halved: ``(3, size, size)`` in [0, 1]."""
    from skimage.data import chelsea

    photo = torch.from_numpy(chelsea()).permute(2, 0, 1)[None].float() / 255
    half = F.interpolate(photo, scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1)[0]
    top, left = (half.shape[1] - size) // 2, (half.shape[2] - size) // 2
    return half[:, top : top + size, left : left + size]


def instruments(shape: tuple[int, int, int]) -> dict[str, ops.LinearOperator]:
    noise = ops.GaussianNoise(NOISE)
    return {
        "60 % missing": ops.Mask(ops.random_mask(shape, 0.4, seed=1), noise=noise),
        "blur of 1.5 pixels": ops.Blur(ops.gaussian_kernel(1.5), shape, noise=noise),
    }


def main(
    folder: str | Path,
    size: int = 128,
    num_samples: int = 8,
    steps: int = 50,
    picture: str | None = None,
) -> dict[str, Scores]:
    """Solve, score, draw.

    Args:
        folder: of the published weights.
        size: side of the photograph.
        num_samples, steps: of each posterior.
        picture: a file for what was reconstructed.
    """
    prior = ti.load_prior(Path(folder) / "ffdnet-color.safetensors")
    truth = photograph(size)
    scores, shown = {}, {}
    for name, operator in instruments((3, size, size)).items():
        y = operator.measure(truth, seed=0)
        posterior = ti.solve(y, operator, prior, num_samples=num_samples, steps=steps, seed=0)
        scores[name] = Scores(
            psnr=psnr(posterior.mean, truth),
            sample_psnr=psnr(posterior.samples[0], truth),
            crps=float(ti.calibration.crps(posterior, truth).mean()),
            coverage=float(ti.calibration.coverage(posterior, truth, level=0.9).mean()),
            chi_square=float(posterior.diagnostics.residual_chi_square.mean()),
            verdict=posterior.diagnostics.verdict,
        )
        shown[name] = (y.reshape(truth.shape), posterior)
    if picture:
        draw(picture, truth, shown)
    return scores


def psnr(image: Tensor, truth: Tensor) -> float:
    return float(-10 * (image - truth).square().mean().log10())


def draw(path: str, truth: Tensor, shown: dict[str, tuple[Tensor, ti.Posterior]]) -> None:
    """A row an instrument: photograph, measurement, sample, mean, standard deviation, error."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.6 * len(shown)), layout="constrained")
    rows = figure.subplots(len(shown), 6, squeeze=False)
    for axes, (name, (y, posterior)) in zip(rows, shown.items(), strict=True):
        pictures = [
            ("photograph", truth),
            (name, y),
            ("a sample", posterior.samples[0]),
            ("mean of the samples", posterior.mean),
            ("std, 0 to 0.1", posterior.std.mean(0, keepdim=True) / 0.1),
            ("error, 0 to 0.1", (posterior.mean - truth).abs().mean(0, keepdim=True) / 0.1),
        ]
        for axis, (title, values) in zip(axes, pictures, strict=True):
            axis.imshow(values.clamp(0, 1).permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1)
            axis.set_title(title, fontsize=7)
            axis.set_axis_off()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--picture", default="photograph_with_ffdnet.png")
    options = parser.parse_args()
    found = main(options.folder, options.size, options.samples, options.steps, options.picture)
    for name, scores in found.items():
        print(
            f"{name}: PSNR of the mean {scores.psnr:.1f} dB, of a sample {scores.sample_psnr:.1f}, "
            f"CRPS {scores.crps:.4f}, coverage {scores.coverage:.2f}, chi-square "
            f"{scores.chi_square:.2f}; verdict: {scores.verdict}"
        )
