"""Cone-beam CT of a drawn body from few views: one solve for the whole volume.

    pip install "tweedie-inverse[ct]"
    python examples/cone_beam.py     some seconds on a GPU; on a CPU --depth 4 --views 10 --steps 8

Rays are diffct's, whose back projection is the exact transpose.  Slices of the body share a prior
of slices and are correlated across the depth (`ti.priors.Slices`), while every ray crosses many of
them, so that no slice could be solved by itself.
"""

import argparse
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.datasets.slices import CTSlices
from tweedie_inverse.datasets.volumes import CTVolumes

NOISE = 1.0  # of a line integral, whose largest are near half the width of the image
SPACING = 5.0  # from slice to slice, in millimetres
LENGTH = 40.0  # over which slices are alike, in millimetres


class Result(NamedTuple):
    """PSNR in dB of FDK and of the posterior mean, coverage of 90 % intervals, what was said."""

    fdk: float
    mean: float
    covered: float
    verdict: str
    evaluations: float
    seconds: float
    picture: Path


def scanner(size: int, depth: int, views: int):
    """The projector and its trajectory: source at 2 and detector at 3 widths of the image."""
    import diffct

    path = diffct.circular_trajectory_3d(views, sid=2.0 * size, sdd=3.0 * size, device="cpu")
    tall = SPACING / CTSlices(size).pixel_size
    columns, rows = (round(1.6 * each) for each in (size, depth * tall))
    projector = diffct.Projector(
        path,
        (depth, size, size),
        (columns, rows),
        detector_spacing=1.5,
        voxel_spacing=(tall, 1.0, 1.0),
    )
    return projector, path


def fdk(projector, path, y: Tensor, views: int) -> Tensor:
    """Filtered back projection for cone beams, by diffct: the usual answer."""
    import diffct

    angles = 2 * torch.pi * torch.arange(views) / views
    return diffct.fdk(
        y,
        path,
        projector.volume_shape,
        angles.to(y.device),
        detector_spacing=projector.detector_spacing,
        voxel_spacing=projector.voxel_spacing,
        window="hann",
    ).clamp(0, 1)


def main(
    folder: str = ".",
    size: int = 64,
    depth: int = 32,
    views: int = 24,
    steps: int = 30,
    num_samples: int = 4,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> Result:
    """Scan, solve, and write a picture into `folder`.

    Args:
        size, depth: of the volume, in voxels.
        steps: network evaluations a sample and slice.
    """
    truth = CTVolumes(size, depth, SPACING).volumes([1])[0].to(device)
    projector, path = scanner(size, depth, views)
    scan = ops.from_diffct(projector, noise=ops.GaussianNoise(NOISE))
    y = scan.measure(truth, seed=0)

    slices = ti.load_prior("phantom-64").to(device)
    prior = ti.priors.Slices(
        slices.for_shape((1, size, size)), depth=depth, correlation=LENGTH / SPACING
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ti.PosteriorWarning)  # the verdict is shown below
        posterior = ti.solve(y, scan, prior, num_samples=num_samples, steps=steps, seed=0)

    lower, upper = posterior.interval(0.9)
    usual = fdk(projector, path, y[0], views)[None]
    Path(folder).mkdir(parents=True, exist_ok=True)
    picture = Path(folder) / "example_cone_beam.png"
    draw(truth, usual, posterior, picture)
    return Result(
        psnr(usual, truth),
        psnr(posterior.mean, truth),
        float(((lower <= truth) & (truth <= upper)).float().mean()),
        posterior.diagnostics.verdict,
        posterior.stats.denoiser_calls,
        posterior.stats.seconds,
        picture,
    )


def psnr(image: Tensor, truth: Tensor) -> float:
    """In dB; 0 dB is an error of 1."""
    return float(-10 * (image - truth).square().mean().log10())


def draw(truth: Tensor, usual: Tensor, posterior: ti.Posterior, path: Path) -> None:
    """The middle slice above, the middle from the front below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [
        ("truth", truth, "gray", (0, 1)),
        ("FDK", usual, "gray", (0, 1)),
        ("a sample", posterior.samples[0], "gray", (0, 1)),
        ("posterior mean", posterior.mean, "gray", (0, 1)),
        ("standard deviation", posterior.std, "magma", (0, 0.1)),
        ("error of the mean", (posterior.mean - truth).abs(), "magma", (0, 0.1)),
    ]
    depth, height, width = truth.shape[1:]
    tall = depth * SPACING / CTSlices(width).pixel_size
    figure = Figure(figsize=(13, 2.3 * (1 + tall / height) + 0.3))
    FigureCanvasAgg(figure)
    rows = figure.subplots(2, len(panels), height_ratios=(height, tall))
    for axes, (title, volume, colours, (low, high)) in zip(rows.T, panels, strict=True):
        views = volume[0, depth // 2], volume[0, :, height // 2]
        sizes = (width, height), (width, tall)
        for axis, image, (right, top) in zip(axes, views, sizes, strict=True):
            axis.imshow(image.cpu(), cmap=colours, vmin=low, vmax=high, extent=(0, right, top, 0))
            axis.set_axis_off()
        axes[0].set_title(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default=".")
    for name, usual_number in (("size", 64), ("depth", 32), ("views", 24), ("steps", 30)):
        parser.add_argument(f"--{name}", type=int, default=usual_number)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    result = main(
        options.folder,
        options.size,
        options.depth,
        options.views,
        options.steps,
        options.samples,
        options.device,
    )
    print(f"FDK:                     {result.fdk:.1f} dB")
    print(f"posterior mean:          {result.mean:.1f} dB")
    print(f"in the 90 % interval:    {result.covered:.0%} of the voxels")
    print(
        f"evaluations of a slice:  {result.evaluations:.0f} a sample, {result.seconds:.0f} s in all"
    )
    print(f"verdict: {result.verdict}\nwritten: {result.picture}")
