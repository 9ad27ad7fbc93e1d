"""Multi-coil MRI of a whole brain, 4-fold undersampled in two directions, from a prior of images.

    pip install tweedie-inverse nilearn
    python examples/brain_volume.py --resolution 4                  some minutes on a CPU
    python examples/brain_volume.py --resolution 1 --device cuda    189 x 233 x 197 voxels

The volume is the T1 template that comes with nilearn, or one of yours (``--template t1.nii.gz``);
four coils and a phase that varies in all three directions are simulated, so that the truth is
known.  The phase goes into the sensitivities: ``s_c exp(i phase) m`` is a scan of the nearly real
image m with the coils ``s_c exp(i phase)``, and this product is what the middle of k-space shows.
So the prior need not know of a phase, which may vary from slice to slice.
"""

import argparse
import math
import time
import warnings
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import tweedie_inverse as ti
from tweedie_inverse import operators as ops

COILS, ACCELERATION = 4, 4.0
MIDDLE = 24  # samples along each axis of k-space that are taken without gaps
NOISE = 0.02  # of a sample of k-space
ALIKE = 4.0  # millimetres over which slices stay alike
IMAGINARY = 0.03  # what the estimated phase leaves beside m
LEAST, MULTIPLE = 64, 16  # sides of the field of view, for the network


class Result(NamedTuple):
    """PSNR of magnitudes in dB, and of what nothing but the data say; coverage; costs."""

    shape: tuple[int, ...]  # of the field of view
    zero_filled: float
    mean: float
    covered: float  # by 90 % intervals, in the brain
    chi_square: float
    verdict: str
    evaluations: float  # of the network, for a slice of a sample
    seconds: float
    peak_memory: int  # bytes, on an accelerator
    picture: Path


def brain(resolution: int, path: str | None = None) -> Tensor:
    """The template in [0, 1], ``(depth, height, width)``, in a field of view for the network.

    Args:
        resolution: side of a voxel in mm, of nilearn's template.
        path: a volume to take instead, in any format that `ti.io.read` reads.

    Raises:
        ImportError: nilearn is not installed, and no path is given.
        ValueError: the file holds no volume.
    """
    if path is not None:
        values = ti.io.read(path).values.float()
        if values.ndim != 3 or not float(values.max()) > 0:
            raise ValueError(
                f"--template {path}: needs a volume (depth, height, width) of positive values, got "
                f"shape {tuple(values.shape)}, at most {float(values.max()):g}"
            )
    else:
        try:
            from nilearn.datasets import load_mni152_template
        except ImportError as error:
            message = "brain_volume: needs nilearn (pip install nilearn), or --template FILE"
            raise ImportError(message) from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = load_mni152_template(resolution=resolution).get_fdata()
        values = torch.from_numpy(array).float().permute(2, 1, 0)  # nibabel's are (x, y, z)
    _, height, width = values.shape
    down, across = (max(LEAST, math.ceil(n / MULTIPLE) * MULTIPLE) - n for n in (height, width))
    padding = (across // 2, across - across // 2, down // 2, down - down // 2)
    return (F.pad(values, padding) / values.max()).clamp(0, 1)


def simulated(anatomy: Tensor) -> tuple[Tensor, Tensor]:
    """The complex volume ``(depth, height, width)``, and sensitivities ``(coils, ...)``."""
    axes = [torch.linspace(-1, 1, n, device=anatomy.device) for n in anatomy.shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    phase = 0.8 + 0.9 * y - 0.7 * x**2 + 0.4 * y * x + 1.5 * z + 0.6 * z * y
    coils = torch.empty(COILS, *anatomy.shape, dtype=torch.complex64, device=anatomy.device)
    for number in range(COILS):
        turn = 2 * math.pi * number / COILS
        up, right = math.sin(turn), math.cos(turn)
        height = 0.5 * (-1) ** number  # two coils above, two below the middle
        distance = (y - 1.2 * up) ** 2 + (x - 1.2 * right) ** 2 + (z - height) ** 2
        coils[number] = torch.polar(torch.exp(-distance / 2), y * right - x * up + 0.5 * z + turn)
    coils /= coils.abs().square().sum(0).sqrt()
    return torch.polar(anatomy, phase), coils


def sampled(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Which samples of k-space are taken: all along the depth, few and random across it.

    They get scarcer away from the origin, and the middle has no gaps.
    """
    rows, columns = (torch.arange(n) - n // 2 for n in shape[1:])
    far = ((2 * rows / shape[1]).square()[:, None] + (2 * columns / shape[2]).square()).sqrt()
    middle = (rows.abs() <= MIDDLE // 2)[:, None] & (columns.abs() <= MIDDLE // 2)
    # With the weights w, so many are drawn without replacement by the largest log(u) / w
    # (Efraimidis and Spirakis 2006).
    weight = 1 / (1 + (far / 0.4).square())
    key = torch.rand(far.shape, generator=torch.Generator().manual_seed(seed)).log() / weight
    key[middle] = 1.0
    taken = torch.zeros(far.numel(), dtype=torch.bool)
    taken[key.flatten().argsort(descending=True)[: round(far.numel() / ACCELERATION)]] = True
    return taken.reshape(far.shape).expand(shape).clone()


def turned_coils(y: Tensor) -> Tensor:
    """``s_c exp(i phase)``, from the middle of k-space ``(2, coils, depth, height, width)``.

    What a window leaves of each coil's image, over the root of their sum of squares (McKenzie et
    al. 2002): the magnitude of the image falls out, and its phase stays.
    """
    kspace, shape = torch.complex(y[0], y[1]), y.shape[2:]
    for axis, n in enumerate(shape):
        place = (torch.arange(n, device=y.device) - n // 2) / (MIDDLE / 2)
        window = torch.cos(place.clamp(-1, 1) * math.pi / 2)
        kspace = kspace * window.reshape(-1, *[1] * (len(shape) - 1 - axis))
    one_coil = ops.FourierSampling(torch.ones(shape))
    low = [one_coil.adjoint(torch.stack([one.real, one.imag])[None])[0] for one in kspace]
    images = torch.stack([torch.complex(*one.unbind(0)) for one in low])
    return images / images.abs().square().sum(0).sqrt().clamp(min=1e-12)


def main(
    folder: str = ".",
    steps: int = 30,
    num_samples: int = 4,
    *,
    resolution: int = 1,
    template: str | None = None,
    device: str = "cpu",
    alike: float = ALIKE,
) -> Result:
    """Simulate, estimate, solve, and write a picture into `folder`.

    Args:
        steps: network evaluations for each slice of a sample.
        resolution: from slice to slice, in mm; of nilearn's template, where none is given.
        alike: millimetres over which slices stay alike.
    """
    image, true_coils = simulated(brain(resolution, template).to(device))
    mask = sampled(tuple(image.shape))
    noise = ops.GaussianNoise(NOISE)
    y = ops.FourierSampling(mask, coils=true_coils, noise=noise).measure(image, seed=0)

    # From here on only y, the mask and the noise level are known.
    coils = turned_coils(y)
    scan = ops.FourierSampling(mask, coils=coils, noise=noise)
    network = ti.load_prior("texture-64", device=device)
    of_a_slice = ti.priors.Complex(
        network.for_shape((1, *image.shape[1:])), phase=0.0, imaginary=IMAGINARY
    )
    prior = ti.priors.Slices(of_a_slice, depth=len(image), correlation=alike / resolution)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ti.PosteriorWarning)  # the verdict is shown below
        posterior = ti.solve(y, scan, prior, num_samples=num_samples, steps=steps, seed=0)
    seconds = time.perf_counter() - start

    truth, mean = image.abs(), magnitude(posterior.mean)
    lower, upper = posterior.interval(0.9, of=magnitude)
    covered = (lower <= truth) & (truth <= upper)
    zero_filled = magnitude(scan.adjoint(y[None])[0])
    samples = magnitude(posterior.samples)
    Path(folder).mkdir(parents=True, exist_ok=True)
    picture = Path(folder) / "example_brain_volume.png"
    draw(truth, zero_filled, samples, mean, picture)
    return Result(
        tuple(image.shape),
        psnr(zero_filled, truth),
        psnr(mean, truth),
        float(covered[truth > 0.2].float().mean()),
        float(posterior.diagnostics.residual_chi_square.mean()),
        posterior.diagnostics.verdict,
        float(posterior.stats.denoiser_calls),
        seconds,
        posterior.stats.peak_memory,
        picture,
    )


def magnitude(x: Tensor) -> Tensor:
    """Of volumes ``(..., 2, depth, height, width)``."""
    return ti.as_complex(x, axis=-4).abs()


def psnr(image: Tensor, truth: Tensor) -> float:
    """In dB; 0 dB is an error of 1."""
    return float(-10 * (image - truth).square().mean().log10())


def draw(truth: Tensor, zero_filled: Tensor, samples: Tensor, mean: Tensor, path: Path) -> None:
    """Magnitudes in three planes through the middle: axial, coronal, sagittal."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    columns = [
        ("truth", truth, "gray", 1.0),
        ("without a prior", zero_filled, "gray", 1.0),
        ("a sample", samples[0], "gray", 1.0),
        ("posterior mean", mean, "gray", 1.0),
        ("standard deviation", samples.std(0), "magma", 0.15),
        ("error of the mean", (mean - truth).abs(), "magma", 0.15),
    ]
    depth, height, width = truth.shape
    figure = Figure(figsize=(13, 2 * (height + 2 * depth) / height + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(columns), height_ratios=(height, depth, depth))
    for column, (title, volume, colours, high) in enumerate(columns):
        planes = (volume[depth // 2], volume[:, height // 2], volume[:, :, width // 2])
        for axis, plane in zip(axes[:, column], planes, strict=True):
            # The axes of the file point towards right, anterior and superior: up is up.
            shown = axis.imshow(plane.cpu().flip(0).numpy(), cmap=colours, vmin=0, vmax=high)
            axis.set_axis_off()
        axes[0, column].set_title(title, fontsize=10)
    bar = figure.colorbar(shown, ax=axes, location="right", shrink=0.5, pad=0.01)
    bar.set_label("of the last two columns", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    # With the colours of both scales and no others it has a third of the bytes.
    scales = [colormaps[name].resampled(128)(range(128), bytes=True) for name in ("gray", "magma")]
    written, few = BytesIO(), Image.new("P", (1, 1))
    few.putpalette(b"".join(scale[:, :3].tobytes() for scale in scales))
    figure.savefig(written, dpi=75)
    drawn = Image.open(written).convert("RGB")
    drawn.quantize(palette=few, dither=Image.Dither.NONE).save(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default=".")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=1, help="mm from slice to slice")
    parser.add_argument("--template", help="a volume of your own: .nii.gz, .npy, .npz, ...")
    parser.add_argument("--alike", type=float, default=ALIKE, help="mm over which slices are alike")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    result = main(
        options.folder,
        options.steps,
        options.samples,
        resolution=options.resolution,
        template=options.template,
        device=options.device,
        alike=options.alike,
    )
    print(f"field of view:           {' x '.join(map(str, result.shape))}")
    print(f"without a prior:         {result.zero_filled:.2f} dB")
    print(f"posterior mean:          {result.mean:.2f} dB")
    print(f"in the 90 % interval:    {result.covered:.1%} of the brain")
    print(f"chi-square:              {result.chi_square:.3f}")
    print(f"cost:                    {result.evaluations:.0f} evaluations, {result.seconds:.1f} s")
    print(f"peak memory:             {result.peak_memory / 2**30:.2f} GiB of the accelerator")
    print(f"verdict: {result.verdict}\nwritten: {result.picture}")
