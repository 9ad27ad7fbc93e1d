"""A galaxy of the HSC survey without the blur of telescope and air, with the interval of its flux.

    python examples/galaxy.py hsc_cosmos.npz --picture galaxy.png

The field of galaxies is the example of scarlet (github.com/pmelchior/scarlet, MIT): five bands,
their point spread functions, and a catalogue of what was detected.  The network is `HSC_ScoreNet64`
of galaxygrad 0.2.1, fetched from the package index on the first run; its licence is not stated, so
that nothing of it is kept in this repository.
"""

import argparse
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import tweedie_inverse as ti
from tweedie_inverse import operators as ops

WHEEL = "galaxygrad-0.2.1-py3-none-any.whl"
WEIGHTS = "galaxygrad/eqx_hsc_ScoreNet64.eqx"
CHECKSUM = "4758114b1b77e4640ca7b834a976202aeb126fd7332ec07842af46d72c6b2e01"
SIZE = 64
BANDS = "grizy"
# Detected objects are masked with a margin of so many pixels; sky and noise are measured where no
# object is within twice as many.
MARGIN = 2


class Mixer(nn.Module):
    """A block that mixes places, then channels, of ``(batch, channels, places)``."""

    def __init__(self, places: int, channels: int, width: int):
        super().__init__()
        # In the order of the fields of the file.
        self.over_places = nn.Sequential(
            nn.Linear(places, width), nn.ReLU(), nn.Linear(width, places)
        )
        self.over_channels = nn.Sequential(
            nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, channels)
        )
        self.norm_places = nn.LayerNorm((channels, places))
        self.norm_channels = nn.LayerNorm((places, channels))

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.over_places(self.norm_places(h))
        turned = h.transpose(1, 2)
        return (turned + self.over_channels(self.norm_channels(turned))).transpose(1, 2)


class ScoreNet(nn.Module):
    """Patches of 4x4 pixels and the time, through four mixer blocks, to the score."""

    def __init__(self, size: int = SIZE, patch: int = 4, channels: int = 64, width: int = 512):
        super().__init__()
        places = (size // patch) ** 2
        self.first = nn.Conv2d(2, channels, patch, stride=patch)
        self.last = nn.ConvTranspose2d(channels, 1, patch, stride=patch)
        self.blocks = nn.Sequential(*(Mixer(places, channels, width) for _ in range(4)))
        self.norm = nn.LayerNorm((channels, places))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        told = (time / 10).reshape(-1, 1, 1, 1).expand_as(x)  # its largest time is 10
        h = self.first(torch.cat([x, told], dim=1))
        rows, columns = h.shape[-2:]
        mixed = self.norm(self.blocks(h.flatten(2)))
        return self.last(mixed.unflatten(2, (rows, columns)))


def fetch(folder: str | Path) -> Path:
    """The weights, from the wheel of galaxygrad 0.2.1; downloaded once, and not installed."""
    folder = Path(folder)
    target = folder / Path(WEIGHTS).name
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", str(folder), "galaxygrad==0.2.1"], check=True)
        with zipfile.ZipFile(folder / WHEEL) as wheel:
            target.write_bytes(wheel.read(WEIGHTS))
    if hashlib.sha256(target.read_bytes()).hexdigest() != CHECKSUM:
        raise ValueError(f"{target} is not the file that this example was measured with")
    return target


def vp_time(sigma: Tensor) -> Tensor:
    """The time at which the variance-preserving process has noise level sigma."""
    return torch.log1p(sigma**2)


def load(weights: str | Path) -> ti.priors.NetworkPrior:
    """The published network as a prior of ``u = 10 log(1 + flux)``, with all of its range.

    Its galaxies are alone, in the middle of 64x64 pixels, without blur, of a peak near 1.2.
    """
    with torch.random.fork_rng(devices=[]):  # layers draw weights before they get their own
        network = ti.priors.formats.fill(ScoreNet(), weights)
    return ti.priors.NetworkPrior(
        network.eval().requires_grad_(False),
        "score",
        coordinates="vp",
        shape=(1, SIZE, SIZE),
        label=vp_time,
        sigma_min=0.01,
        sigma_max=float(np.sqrt(np.expm1(10))),
        name="HSC_ScoreNet64",
    )


def usable(prior: ti.priors.Prior) -> ti.priors.Prior:
    """The prior in the range that it can be trusted in, found with its own samples.

    Samples from a range that is too large are no galaxies, so it is measured again on those of the
    smaller one, until nothing is left to cut.
    """
    while True:
        report = ti.check_prior(prior)
        smaller = report.mended_prior()
        if smaller.sigma_max >= prior.sigma_max:
            return prior
        print(f"of use up to {smaller.sigma_max:.3g}, of {prior.sigma_max:.3g}")
        prior = smaller


class Telescope(ops.Operator):
    """``u -> amplitude (exp(u / 10) - 1)``, convolved with a point spread function."""

    def __init__(self, psf: Tensor, amplitude: float):
        super().__init__(domain_shape=(1, SIZE, SIZE), range_shape=(1, SIZE, SIZE))
        self.blur, self.amplitude = ops.Blur(psf, (1, SIZE, SIZE)), amplitude

    def flux(self, u: Tensor) -> Tensor:
        return self.amplitude * torch.expm1(u / 10)

    def forward(self, u: Tensor) -> Tensor:
        return self.blur.forward(self.flux(u))


class Field(NamedTuple):
    """What was observed round one galaxy.

    Attributes:
        y: ``(1, 64, 64)``, the galaxy in the middle, sky subtracted.
        seen: ``(1, 64, 64)``, where there are data, and no other object.
        psf: of the band.
        noise: standard deviation of the sky.
        box: ``(1, 64, 64)``, the pixels in the catalogue's box of the galaxy.
        catalogue: its flux in this band, by the catalogue: the flux of the detection image, which
            is the mean of the bands, times the band's share of it in that box.
    """

    y: Tensor
    seen: Tensor
    psf: Tensor
    noise: float
    box: Tensor
    catalogue: float


def observed(path: str | Path, band: str = "i") -> Field:
    """Cut the brightest galaxy of the catalogue out of the field."""
    data = np.load(path)
    objects, place = data["catalog"], BANDS.index(band)
    main = int(objects["flux"].argmax())
    image = data["images"][place].astype(np.float64)
    away = np.ones(image.shape, bool)
    others = np.zeros(image.shape, bool)
    for number, one in enumerate(objects):
        away[_around(one, 2 * MARGIN)] = False
        if number != main:
            others[_around(one, MARGIN)] = True
    sky, noise = image[away].mean(), float(image[away].std())
    box = np.zeros(image.shape, bool)
    box[_around(objects[main], 0)] = True
    share = image[box].sum() / data["images"].mean(0)[box].sum()
    centre = int(objects["ypeak"][main]), int(objects["xpeak"][main])
    psf = torch.from_numpy(data["psfs"][place]).float()
    return Field(
        _cut(image - sky, centre),
        _cut((~others).astype(float), centre),
        psf / psf.sum(),
        noise,
        _cut(box.astype(float), centre),
        float(objects["flux"][main] * share),
    )


def _around(one, margin: int) -> tuple[slice, slice]:
    """The box of an object in the catalogue, larger by a margin."""
    return tuple(
        slice(max(int(one[axis + "min"]) - margin, 0), int(one[axis + "max"]) + margin + 1)
        for axis in "yx"
    )


def _cut(image: np.ndarray, centre: tuple[int, int]) -> Tensor:
    """64x64 pixels round `centre`, 0 where the field ends."""
    padded = np.pad(image, SIZE // 2)
    rows, columns = (slice(middle, middle + SIZE) for middle in centre)
    return torch.from_numpy(padded[rows, columns]).float()[None]


class Result(NamedTuple):
    """Flux in the catalogue's units, and how the samples fit.

    Attributes:
        inside: 90 % interval of the flux in the catalogue's box, as the telescope sees it.
        total: the same of all the flux, without blur.
        catalogue: of the catalogue, in its isophote inside that box.
        chi_square, verdict: of the residuals.
    """

    inside: tuple[float, float]
    total: tuple[float, float]
    catalogue: float
    chi_square: float
    verdict: str


def main(
    data: str | Path,
    weights: str | Path,
    amplitudes: tuple[float, ...] = (10.0, 20.0),
    num_samples: int = 8,
    steps: int = 40,
    sigma_max: float | None = None,
    picture: str | None = None,
) -> dict[float, Result]:
    """Deconvolve the galaxy at several amplitudes; its flux should hardly depend on them.

    Args:
        data: the field.
        weights: the network's, by `fetch`.
        amplitudes: flux of a pixel of flux 1 in the network's galaxies, which have a peak near 1.2.
        num_samples, steps: of each posterior.
        sigma_max: the largest noise level of the walk; default what the network is of use up to.
        picture: a file for the galaxy at the last amplitude.
    """
    field = observed(data)
    prior = load(weights)
    prior = usable(prior) if sigma_max is None else prior.limited(sigma_max=sigma_max)
    results = {}
    for amplitude in amplitudes:
        telescope = Telescope(field.psf, amplitude)
        mask = ops.Mask(field.seen, noise=ops.GaussianNoise(field.noise))
        posterior = ti.solve(
            field.y * field.seen,
            ops.compose(mask, telescope),
            prior,
            num_samples=num_samples,
            steps=steps,
            seed=0,
        )

        def inside(u: Tensor, telescope: Telescope = telescope) -> Tensor:
            return (field.box * telescope.forward(u)).sum((1, 2, 3))

        def total(u: Tensor, telescope: Telescope = telescope) -> Tensor:
            return telescope.flux(u).sum((1, 2, 3))

        results[amplitude] = Result(
            *(tuple(map(float, posterior.interval(0.9, of=flux))) for flux in (inside, total)),
            field.catalogue,
            float(posterior.diagnostics.residual_chi_square.mean()),
            posterior.diagnostics.verdict,
        )
    if picture:
        draw(picture, field, telescope, posterior)
    return results


def draw(path: str, field: Field, telescope: Telescope, posterior: ti.Posterior) -> None:
    """Observed, two samples, mean, standard deviation and residual, the flux by its arcsinh."""
    from matplotlib.figure import Figure

    flux = telescope.flux(posterior.samples)
    residual = (field.y - telescope.forward(posterior.samples).mean(0)) / field.noise
    panels = [
        ("observed", torch.where(field.seen > 0, field.y, torch.nan)),
        ("sample", flux[0]),
        ("another", flux[1]),
        ("mean", flux.mean(0)),
        ("std", flux.std(0)),
    ]
    figure = Figure(figsize=(13, 2.5), layout="constrained")
    axes = figure.subplots(1, len(panels) + 1)
    for axis, (title, values) in zip(axes, panels, strict=False):
        shown = axis.imshow(torch.asinh(values[0] / field.noise), origin="lower", vmin=0, vmax=6)
        axis.set_title(title)
    figure.colorbar(shown, ax=axes[len(panels) - 1], label="asinh(flux / noise)")
    masked = torch.where(field.seen > 0, residual, torch.nan)[0]
    shown = axes[-1].imshow(masked, origin="lower", cmap="RdBu", vmin=-4, vmax=4)
    axes[-1].set_title("residual of the mean")
    figure.colorbar(shown, ax=axes[-1], label="noise levels")
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="hsc_cosmos.npz: images, psfs, filters, catalog")
    parser.add_argument("--cache", default="galaxygrad-weights", help="folder for the weights")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--amplitudes", type=float, nargs="+", default=[7.0, 10.0, 14.0, 20.0])
    parser.add_argument("--picture", default="galaxy.png")
    options = parser.parse_args()
    found = main(
        options.data,
        fetch(options.cache),
        tuple(options.amplitudes),
        options.samples,
        options.steps,
        picture=options.picture,
    )
    for amplitude, result in found.items():
        inside, total = (f"{low:.1f} to {high:.1f}" for low, high in result[:2])
        print(
            f"amplitude {amplitude:g}: flux in the box {inside}, in all {total}; catalogue "
            f"{result.catalogue:.1f}; chi-square {result.chi_square:.2f}, {result.verdict}"
        )
