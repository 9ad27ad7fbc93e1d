"""What the shipped priors draw when nothing was measured: a row of samples of each.

    python -m tweedie_inverse.benchmarks.studies.sample_grids --figure docs/figures/samples.png

All by DDPM, with the first seeds: none is chosen.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.studies.denoising import DATA


def grids(names: list[str], count: int, steps: int) -> dict[str, Tensor]:
    """``(count, channels, height, width)`` of each prior."""
    return {
        name: ti.sample(ti.load_prior(name), count, recipe="ddpm", steps=steps, seed=0)
        for name in names
    }


def draw(samples: dict[str, Tensor], path: Path) -> None:
    """Draw a titled row of images for each prior, equally many in each."""
    import matplotlib.pyplot as plt

    count = len(next(iter(samples.values())))
    figure, axes = plt.subplots(
        len(samples), count, figsize=(1.4 * count, 1.7 * len(samples)), squeeze=False
    )
    for line, (name, images) in zip(axes, samples.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image.permute(1, 2, 0).clamp(0, 1).squeeze(-1), cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
        line[0].set_title(name, loc="left", fontsize=9)
    figure.tight_layout(pad=0.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(DATA)
    parser.add_argument("--priors", nargs="+", choices=names, default=names)
    parser.add_argument("--samples", type=int, default=8, help="of each prior")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--figure", default="samples.png")
    options = parser.parse_args()
    draw(grids(options.priors, options.samples, options.steps), Path(options.figure))
    print(f"figure: {Path(options.figure).resolve()}")


if __name__ == "__main__":
    with torch.no_grad(), endings():
        main()
