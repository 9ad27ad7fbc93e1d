"""Multi-coil MRI of a brain, 4-fold undersampled: coil maps and phase from the data themselves.

    pip install "tweedie-inverse[mri]" nilearn
    python examples/brain_mri.py

The slice is of the T1 template that comes with nilearn; four coils and the phase are simulated, so
that the truth is known.  Sensitivities are estimated by ESPIRiT, and the phase from the middle of
k-space; the prior of magnitudes has seen grey textures and photographs, and no brain.
"""

import argparse
import math
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.datasets.slices import CTSlices

SIZE = (96, 112)  # of the slice, 2 mm a pixel
COILS, MIDDLE, CALIBRATION = 4, 0.15, 16
NOISE = 0.02  # of a sample of k-space, whose root mean square is near 0.4


class Result(NamedTuple):
    """PSNR of magnitudes in dB, and of what nothing but the data say; coverage; what was said."""

    zero_filled: float
    mean: float
    covered: float
    phase_error: float  # root mean square in the brain, radians
    verdict: str
    picture: Path


def brain() -> Tensor:
    """A slice of the template in [0, 1], ``(height, width)``; a drawn head without nilearn."""
    try:
        from nilearn.datasets import load_mni152_template
    except ImportError:
        drawn = CTSlices(96).images([7])[0, 0]
        return F.pad(drawn, (8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = torch.from_numpy(load_mni152_template(resolution=2).get_fdata()).float()
    middle = values[:, :, values.shape[2] // 2]
    down, across = (wanted - got for wanted, got in zip(SIZE, middle.shape, strict=True))
    middle = F.pad(middle, (across // 2, across - across // 2, down // 2, down - down // 2))
    return (middle / middle.max()).clamp(0, 1)


def simulated(magnitude: Tensor) -> tuple[Tensor, Tensor]:
    """The complex image ``(height, width)``, and sensitivities ``(coils, height, width)``."""
    rows, columns = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in magnitude.shape)
    rows = rows[:, None]
    phase = 0.8 + 0.9 * rows - 0.7 * columns**2 + 0.4 * rows * columns
    turn = (2 * math.pi / COILS * torch.arange(COILS, dtype=torch.float64))[:, None, None]
    distance = (rows - 1.2 * turn.sin()) ** 2 + (columns - 1.2 * turn.cos()) ** 2
    coils = torch.polar(torch.exp(-distance / 2), rows * turn.cos() - columns * turn.sin() + turn)
    return torch.polar(magnitude.double(), phase), coils / coils.abs().square().sum(0).sqrt()


def main(folder: str = ".", steps: int = 30, num_samples: int = 16) -> Result:
    """Simulate, estimate, solve, and write a picture into `folder`.

    Args:
        steps: network evaluations a sample.
    """
    image, true_coils = simulated(brain())
    mask = ops.cartesian_mask(tuple(image.shape), 4, centre=MIDDLE)
    noise = ops.GaussianNoise(NOISE)
    y = ops.FourierSampling(mask, coils=true_coils, noise=noise).measure(image, seed=0).float()

    # From here on only y, the mask and the noise level are known.
    coils = ops.estimate_coil_maps(y, calibration=CALIBRATION)
    scan = ops.FourierSampling(mask, coils=coils, noise=noise)
    prior = ti.load_prior("texture-64").for_shape((1, *image.shape))
    phase = ops.estimate_phase(y, scan, width=3.0)
    prior = ti.priors.Complex(prior, phase=phase, imaginary=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ti.PosteriorWarning)  # the verdict is shown below
        posterior = ti.solve(y, scan, prior, num_samples=num_samples, steps=steps, seed=0)

    # ESPIRiT's maps are relative to the first coil, and so is the phase of what is found.
    relative = (coils.conj() * true_coils).sum(0)
    truth = (image * relative).to(torch.complex64)
    samples = ti.as_complex(posterior.samples)
    lower, upper = (samples.abs().quantile(q, dim=0) for q in (0.05, 0.95))
    covered = (lower <= truth.abs()) & (truth.abs() <= upper)
    inside = truth.abs() > 0.2
    mean = ti.as_complex(posterior.mean)
    turned = (mean * truth.conj()).angle()[inside]
    Path(folder).mkdir(parents=True, exist_ok=True)
    picture = Path(folder) / "example_brain_mri.png"
    adjoint = ti.as_complex(scan.adjoint(y[None])[0])
    draw(truth, adjoint, samples, covered, picture)
    return Result(
        psnr(adjoint.abs(), truth.abs()),
        psnr(mean.abs(), truth.abs()),
        float(covered[inside].float().mean()),
        float(turned.square().mean().sqrt()),
        posterior.diagnostics.verdict,
        picture,
    )


def psnr(image: Tensor, truth: Tensor) -> float:
    """In dB; 0 dB is an error of 1."""
    return float(-10 * (image - truth).square().mean().log10())


def draw(truth: Tensor, zero_filled: Tensor, samples: Tensor, covered: Tensor, path: Path) -> None:
    """Magnitudes above, phases and spread below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mean = samples.mean(0)
    seen = truth.abs() > 0.1  # a phase of nothing is nothing
    panels = [
        ("truth", truth.abs(), "gray", (0, 1)),
        ("without a prior", zero_filled.abs(), "gray", (0, 1)),
        ("a sample", samples[0].abs(), "gray", (0, 1)),
        ("posterior mean", mean.abs(), "gray", (0, 1)),
        ("phase of the truth", truth.angle().where(seen, torch.nan), "twilight", (-3.14, 3.14)),
        ("phase of the mean", mean.angle().where(seen, torch.nan), "twilight", (-3.14, 3.14)),
        ("standard deviation", samples.abs().std(0), "magma", (0, 0.1)),
        ("error of the mean", (mean.abs() - truth.abs()).abs(), "magma", (0, 0.1)),
    ]
    figure = Figure(figsize=(11.5, 5.4))
    FigureCanvasAgg(figure)
    for axis, panel in zip(figure.subplots(2, 4).flatten(), panels, strict=True):
        title, values, colours, (low, high) = panel
        shown = axis.imshow(values.mT.flip(0), cmap=colours, vmin=low, vmax=high)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
        figure.colorbar(shown, ax=axis, fraction=0.046, pad=0.02).ax.tick_params(labelsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default=".")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--samples", type=int, default=16)
    options = parser.parse_args()
    result = main(options.folder, options.steps, options.samples)
    print(f"without a prior:         {result.zero_filled:.1f} dB")
    print(f"posterior mean:          {result.mean:.1f} dB")
    print(f"in the 90 % interval:    {result.covered:.0%} of the brain")
    print(f"error of the phase:      {result.phase_error:.3f} radians")
    print(f"verdict: {result.verdict}\nwritten: {result.picture}")
