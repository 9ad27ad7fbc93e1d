"""Sparse-view CT of a real head with a prior of CT-like drawings: what it finds, and what it says.

    pip install "tweedie-inverse[io]"
    python examples/head_ct.py

The slice comes with pydicom, as one of its own test files.  Its views are simulated, so that the
truth is known; the prior has seen drawings of chests, abdomens and heads, and no anatomy.  Mean and
standard deviation are written as DICOM files, in HU and with the right spacing.
"""

import argparse
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import tweedie_inverse as ti
from tweedie_inverse import operators as ops

FILE = "J2K_pixelrep_mismatch.dcm"
SIZE = 128  # of the prior's images
NOISE = 0.3  # of a line integral, whose largest is 66, in units of a pixel filled with white
INSIDE = -900.0  # HU: everything else is air, which is easy


class Result(NamedTuple):
    """PSNR in dB over 2000 HU, the share of pixels in 90 % intervals, what was said and written."""

    backprojection: float
    mean: float
    covered: float
    covered_inside: float
    verdict: str
    check: str
    files: tuple[Path, Path, Path]


def head() -> tuple[ti.io.Data, Tensor, tuple[float, float]]:
    """The slice as its file has it; in the prior's units and pixels; and their spacing in mm.

    The prior's images are ``(HU + 1000) / 2000``: air is 0, water 0.5.  Outside the scanner's
    circle the file has -2000 HU, which no matter has: it becomes air.
    """
    from pydicom.data import get_testdata_file

    scan = ti.io.read(get_testdata_file(FILE, download=False))
    wider = scan.shape[-1] // SIZE
    hounsfield = F.avg_pool2d(scan.values.clamp(min=-1000.0)[None], wider)[0]
    rows, columns = scan.spacing
    return scan, (hounsfield + 1000) / 2000, (wider * rows, wider * columns)


def to_hounsfield(image: Tensor) -> Tensor:
    return 2000 * image - 1000


def main(
    folder: str = ".",
    angles: int = 20,
    steps: int = 30,
    num_samples: int = 16,
    check: bool = True,
) -> Result:
    """Solve, compare with the truth, and write two DICOM files and a picture into `folder`.

    Args:
        angles: views over the half turn.
        steps: network evaluations a sample.
        check: ask `check_prior` about the head, too, which takes a minute.
    """
    scan, truth, spacing = head()
    prior = ti.load_prior("phantom-128")
    scanner = ops.Tomography((1, SIZE, SIZE), angles=angles, noise=ops.GaussianNoise(NOISE))
    y = scanner.measure(truth, seed=0)
    fbp = scanner.pseudo_inverse(y[None])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ti.PosteriorWarning)  # the verdict is shown below
        posterior = ti.solve(y, scanner, prior, num_samples=num_samples, steps=steps, seed=0)
    lower, upper = posterior.interval(0.9)
    covered = (lower <= truth) & (truth <= upper)
    Path(folder).mkdir(parents=True, exist_ok=True)
    files = tuple(
        Path(folder) / name for name in ("head_mean.dcm", "head_std.dcm", "example_head_ct.png")
    )
    ti.io.write(files[0], to_hounsfield(posterior.mean), like=scan, units="HU", spacing=spacing)
    ti.io.write(files[1], 2000 * posterior.std, like=scan, units="HU", spacing=spacing)
    draw(truth, fbp, posterior, covered, files[2])
    return Result(
        psnr(fbp, truth),
        psnr(posterior.mean, truth),
        float(covered.float().mean()),
        float(covered[to_hounsfield(truth) > INSIDE].float().mean()),
        posterior.diagnostics.verdict,
        str(ti.check_prior(prior, turned(truth))) if check else "",
        files,
    )


def turned(image: Tensor) -> Tensor:
    """The image in its eight orientations, because `check_prior` needs several."""
    mirrored = (image, image.flip(-1))
    return torch.stack([torch.rot90(one, k, (-2, -1)) for one in mirrored for k in range(4)])


def psnr(image: Tensor, truth: Tensor) -> float:
    """In dB; 0 dB is an error of 2000 HU."""
    return float(-10 * (image - truth).square().mean().log10())


def draw(truth: Tensor, fbp: Tensor, posterior: ti.Posterior, covered: Tensor, path: Path) -> None:
    """Six panels: what is true, what was found, how sure it is, and where it is wrong."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    error = 2000 * (posterior.mean - truth).abs()
    outside = torch.where(covered, torch.nan, 1.0)
    panels = [
        ("scan, 128 x 128", to_hounsfield(truth), (-1000, 1000)),
        ("filtered backprojection", to_hounsfield(fbp), (-1000, 1000)),
        ("posterior mean", to_hounsfield(posterior.mean), (-1000, 1000)),
        ("posterior standard deviation", 2000 * posterior.std, (0, 150)),
        ("error of the mean", error, (0, 150)),
        ("outside the 90 % interval (red)", to_hounsfield(truth), (-1000, 1000)),
    ]
    figure = Figure(figsize=(9.3, 5.7))
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).flatten()
    for axis, (title, image, (low, high)) in zip(axes, panels, strict=True):
        shown = axis.imshow(image[0].cpu(), cmap="gray", vmin=low, vmax=high)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
        bar = figure.colorbar(shown, ax=axis, fraction=0.046, pad=0.02)
        bar.ax.tick_params(labelsize=7)
        bar.set_label("HU", fontsize=7)
    axes[-1].imshow(outside[0].cpu(), cmap="autumn", vmin=1, vmax=2, alpha=0.9)
    figure.tight_layout()
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default=".")
    parser.add_argument("--angles", type=int, default=20)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--samples", type=int, default=16)
    options = parser.parse_args()
    result = main(options.folder, options.angles, options.steps, options.samples)
    print(f"filtered backprojection: {result.backprojection:.1f} dB")
    print(f"posterior mean:          {result.mean:.1f} dB")
    print(f"in the 90 % interval:    {result.covered:.0%}, in the head {result.covered_inside:.0%}")
    print(f"verdict: {result.verdict}\n\n{result.check}\n")
    print("\n".join(f"written: {path}" for path in result.files))
