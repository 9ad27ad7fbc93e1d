"""One network, many samplers: six recipes at growing cost, and three schedules it never trained on.

python examples/six_recipes.py

The first figure draws one sample for each recipe and number of network evaluations, from the same
start.  The second takes the training apart from the sampling: the network saw noise levels from a
log-normal distribution, and is sampled along three other schedules; a deterministic walk ends at
the same images whichever it takes.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import torch

import tweedie_inverse as ti
from tweedie_inverse.sampling.sampling import RecipeLike, plan_for
from tweedie_inverse.training.noise_levels import NOISE_LEVELS

RECIPES: dict[str, RecipeLike] = {
    "the paper's ramp": "simple",
    "VE-SDE": "ve-sde",
    "DDPM": "ddpm",
    "consistent": "consistent",
    "DDIM": "ddim",
    "DPM-Solver++(2M)": "dpm++2m",
}
SCHEDULES = {"Karras": "karras", "DDPM's own": "vp-linear", "the paper's sigmoid": "sigmoid-v1"}
# What the shipped priors were trained on, in network units; their images are twice as fine.
TRAINED_ON, SCALE = NOISE_LEVELS["log-normal-wide"], 0.5


class Result(NamedTuple):
    """Paths of the two figures, and how far apart the schedules' images are."""

    recipes: Path
    schedules: Path
    distance: float  # root mean square over pixels, in data units


def main(
    folder: str = ".",
    budgets: tuple[int, ...] = (8, 16, 32, 64, 128, 256),
    steps: int = 200,
    count: int = 6,
    seed: int = 3,
) -> Result:
    """Draw both figures into `folder`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    recipes, schedules = Path(folder) / "six_recipes.png", Path(folder) / "three_schedules.png"
    prior = ti.load_prior("phantom-64")
    draw_recipes(prior, budgets, seed, recipes)
    distance = draw_schedules(prior, steps, count, seed, schedules)
    return Result(recipes, schedules, distance)


def draw_recipes(prior: ti.priors.Prior, budgets: tuple[int, ...], seed: int, path: Path) -> None:
    """A recipe a row, a number of network evaluations a column."""
    figure, axes = _panels(len(RECIPES), len(budgets), left=0.19, top=0.955)
    for row, (name, recipe) in zip(axes, RECIPES.items(), strict=True):
        row[0].text(-0.1, 0.5, name, transform=row[0].transAxes, ha="right", va="center")
        for axis, steps in zip(row, budgets, strict=True):
            _show(axis, ti.sample(prior, 1, recipe=recipe, steps=steps, seed=seed)[0])
            axis.set_title(plan_for(prior, recipe, steps).evaluations, fontsize=11, visible=False)
    for axis in axes[0]:
        axis.title.set_visible(True)
    figure.text(0.18, 0.965, "network evaluations", ha="right", fontsize=10)
    figure.savefig(path, dpi=80)


def draw_schedules(prior: ti.priors.Prior, steps: int, count: int, seed: int, path: Path) -> float:
    """A schedule a row: its noise levels beside the training's, and the samples along it."""
    figure, axes = _panels(len(SCHEDULES), count + 1, left=0.2, top=0.88)
    trained = TRAINED_ON.sample(20_000, torch.Generator().manual_seed(0)) * SCALE
    images = []
    for row, (name, schedule) in zip(axes, SCHEDULES.items(), strict=True):
        row[0].text(-0.4, 0.5, name, transform=row[0].transAxes, ha="right", va="center")
        grid = torch.tensor(plan_for(prior, "ddim", steps, schedule).sigmas)[:-1]
        _draw_levels(row[0], trained, grid)
        walked = ti.sample(prior, count, recipe="ddim", schedule=schedule, steps=steps, seed=seed)
        images.append(walked)
        for axis, image in zip(row[1:], walked, strict=True):
            _show(axis, image)
    axes[0][0].set_title("sigma", fontsize=10, pad=3)
    figure.suptitle(
        f"grey: noise levels trained on, red: walked along; the same {count} starts in every row",
        fontsize=10,
        y=0.985,
    )
    figure.savefig(path, dpi=80)
    return float(torch.stack(images).var(0, correction=0).mean().sqrt())


def _draw_levels(axis, trained: torch.Tensor, grid: torch.Tensor) -> None:
    """Density of the trained levels, and the grid from left to right, both in log sigma."""
    density, edges = torch.histogram(trained.log10(), bins=40, density=True)
    axis.fill_betweenx(edges[:-1], density / density.max(), color="0.8", step="post")
    axis.plot(torch.linspace(0, 1, len(grid)), grid.log10(), color="C3", linewidth=2)
    axis.set_frame_on(True)
    axis.set_xlim(0, 1)
    axis.set_ylim(-2.7, 1.5)
    axis.set_yticks([-2, -1, 0, 1], ["0.01", "0.1", "1", "10"], fontsize=7)


def _panels(rows: int, columns: int, *, left: float, top: float):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.3 * columns / (0.99 - left), 1.3 * rows / (top - 0.01)))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left, 0.01, 0.99, top, wspace=0.04, hspace=0.04)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flatten():
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_frame_on(False)
    return figure, axes


def _show(axis, image: torch.Tensor) -> None:
    pixels = image.clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy()
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default=".")
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    print(main(options.folder, seed=options.seed))
