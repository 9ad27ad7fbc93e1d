"""How well the shipped priors denoise: PSNR against sigma, next to classical denoisers.

    python -m tweedie_inverse.benchmarks.studies.denoising
        every shipped prior, table and figure
    python -m tweedie_inverse.benchmarks.studies.denoising --priors photo-64 --photographs

TV and wavelet denoising are deepinv's, each with the best of several strengths *on these very
images*, which favours them; BM3D is deepinv's with the true sigma, where the package bm3d is
installed.  All see the same noise.  Images are held out: generated ones, patches of photographs
for priors that take them, and with --photographs whole crops of the three photographs.  Beside
CT-like slices stands a bound, a filter that is given the anatomy and has only the texture to find.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.harness.packages import require
from tweedie_inverse.benchmarks.studies.texture_oracle import mean_given_anatomy
from tweedie_inverse.datasets.photographs import HELD_OUT_PHOTOS, load_photo
from tweedie_inverse.datasets.registry import held_out
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.evaluation.metrics import psnr
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.network import NetworkPrior

SIGMAS = (5 / 255, 15 / 255, 25 / 255, 50 / 255, 0.5, 1.0)
# What each shipped prior was trained on.
DATA = {
    "digits-32": "digits",
    "phantom-128": "slices",
    "phantom-64": "slices",
    "photo-64": "photos",
    "texture-64": "textures",
}
# Held-out images from here on were not used to measure the denoising error.
_FRESH = 512
_STRENGTHS = (0.5, 0.7, 0.9, 1.1, 1.4, 1.8, 2.4)
# The column of the bound; far above all denoisers, so that it is left out of the figure.
_BOUND = "anatomy given"

Denoiser = Callable[[Tensor, float], Tensor]
Row = dict[str, float]


def load_network(name: str) -> NetworkPrior:
    """A prior that is a network.

    Raises:
        ValueError: it is another kind of prior.
    """
    prior = ti.load_prior(name)
    if not isinstance(prior, NetworkPrior):
        raise ValueError(f"{name} is a {type(prior).__name__}; the study needs a NetworkPrior")
    return prior


def images_for(prior: NetworkPrior, count: int, photographs: bool) -> Tensor:
    """Held-out images ``(count, *shape)``, or 256x256 crops of the held-out photographs."""
    if not photographs:
        return held_out(DATA[prior.name], prior.shape[-1], _FRESH + count)[_FRESH:]
    crops = torch.stack([load_photo(name)[:, 100:356, 100:356] for name in HELD_OUT_PHOTOS])
    return crops if prior.shape[0] == 3 else crops.mean(1, keepdim=True)


def mean_psnr(images: Tensor, truth: Tensor) -> float:
    """Mean over images, in dB for a range of 1."""
    return float(psnr(images, truth).mean())


def classical() -> dict[str, list[Denoiser]]:
    """Denoisers by name, several where a strength has to be chosen."""
    require(("deepinv",), "studies.denoising")
    import deepinv

    try:
        import ptwt  # noqa: F401
    except ImportError:
        raise SystemExit(
            "studies.denoising: deepinv's wavelet denoiser needs another package: "
            "pip install ptwt (and bm3d, to have BM3D too)"
        ) from None
    tv = deepinv.models.TVDenoiser(n_it_max=300)
    wavelet = deepinv.models.WaveletDenoiser(level=3, wv="db8", non_linearity="soft")

    def of_strength(model: Callable[[Tensor, Tensor], Tensor], strength: float) -> Denoiser:
        return lambda x, sigma: model(x, torch.tensor(strength * sigma))

    found = {
        "TV": [of_strength(tv, strength) for strength in _STRENGTHS],
        "wavelet": [of_strength(wavelet, strength) for strength in _STRENGTHS],
    }
    try:
        import bm3d  # noqa: F401
    except ImportError:
        return found
    return {**found, "BM3D": [deepinv.models.BM3D()]}


@torch.no_grad()
def compare(prior: NetworkPrior, images: Tensor) -> Iterator[tuple[float, Row]]:
    """Noise levels, and the PSNR of each denoiser there."""
    others = classical()
    if DATA[prior.name] == "slices":
        first = HELD_OUT_SEED + _FRESH
        seeds = range(first, first + len(images))
        others[_BOUND] = [lambda x, s: mean_given_anatomy(x, s, seeds)]
    prior = prior.for_shape(images.shape[1:])
    for index, sigma in enumerate(SIGMAS):
        noisy = images + sigma * normal(("noisy", index), images.shape).to(images)
        network = torch.cat([prior.denoise(part, sigma) for part in noisy.split(8)])
        row = {"noisy": mean_psnr(noisy, images), "network": mean_psnr(network, images)}
        for name, strengths in others.items():
            row[name] = max(mean_psnr(denoise(noisy, sigma), images) for denoise in strengths)
        yield sigma, row


def table(title: str, rows: list[tuple[float, Row]]) -> Iterator[str]:
    names = list(rows[0][1])
    yield f"\n{title}\n\n| sigma x 255 | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}"
    for sigma, row in rows:
        cells = " | ".join(f"{row[name]:.2f}" for name in names)
        yield f"| {255 * sigma:.0f} | {cells} |"


def draw(curves: dict[str, list[tuple[float, Row]]], path: Path) -> None:
    """One panel for each prior: gain over the noisy image against sigma."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(3.4 * len(curves), 3.2), squeeze=False)
    for axis, (name, rows) in zip(axes[0], curves.items(), strict=True):
        for column in rows[0][1]:
            if column not in ("noisy", _BOUND):
                gains = [row[column] - row["noisy"] for _, row in rows]
                axis.semilogx([sigma for sigma, _ in rows], gains, "o-", label=column, ms=4)
        axis.set(title=name, xlabel="sigma")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("gain in PSNR, dB")
    axes[0, -1].legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(DATA)
    parser.add_argument("--priors", nargs="+", choices=names, default=names)
    parser.add_argument("--count", type=int, default=16, help="held-out images")
    parser.add_argument("--photographs", action="store_true", help="256x256 crops instead")
    parser.add_argument("--figure", default="denoising.png")
    options = parser.parse_args()
    curves: dict[str, list[tuple[float, Row]]] = {}
    for name in options.priors:
        prior = load_network(name)
        images = images_for(prior, options.count, options.photographs)
        curves[name] = list(compare(prior, images))
        for line in table(f"{name}, {len(images)} images", curves[name]):
            print(line, flush=True)
    draw(curves, Path(options.figure))
    print(f"\nfigure: {Path(options.figure).resolve()}")


if __name__ == "__main__":
    with endings():
        main()
