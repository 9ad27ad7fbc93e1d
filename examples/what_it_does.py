"""Two jobs in one picture: few-view CT, and a photograph of which four pixels in five are missing.

python examples/what_it_does.py
"""

import argparse

import torch

import tweedie_inverse as ti

_TITLES = "truth", "measured", "a sample", "another sample", "mean", "spread"


def main(
    picture: str = "what_it_does.png",
    names: tuple[str, ...] = ("ct", "inpainting"),
    *,
    steps: int = 50,
    num_samples: int = 16,
) -> list[str]:
    """Solve, draw, and return the verdicts."""
    import matplotlib.pyplot as plt

    figure, rows = plt.subplots(
        len(names), len(_TITLES), figsize=(11, 2.05 * len(names)), layout="constrained"
    )
    verdicts = []
    for axes, name in zip(rows, names, strict=True):
        problem = ti.example(name)
        posterior = ti.solve(
            problem.y, problem.operator, problem.prior, num_samples=num_samples, steps=steps
        )
        verdicts.append(posterior.diagnostics.verdict)
        images = (problem.truth, None, *posterior.samples[:2], posterior.mean)
        for axis, image in zip(axes, images, strict=False):
            if image is not None:
                _show(axis, image)
        measured = problem.y if name == "inpainting" else problem.y.mT / problem.y.max()
        _show(axes[1], measured)
        axes[1].set(aspect="auto", box_aspect=1)
        spread = axes[-1].imshow(posterior.std.mean(0), cmap="magma", vmin=0)
        figure.colorbar(spread, ax=axes[-1], shrink=0.8)
        axes[0].set_ylabel(problem.title.split(",")[0], fontsize=9)
    for axis, title in zip(rows[0], _TITLES, strict=True):
        axis.set_title(title, fontsize=10)
    for axis in rows.flat:
        axis.set(xticks=[], yticks=[])
    figure.savefig(picture, dpi=110)
    plt.close(figure)
    return verdicts


def _show(axis, image: torch.Tensor) -> None:
    """A grey or colour image ``(channels, height, width)`` with values in [0, 1]."""
    axis.imshow(image.clamp(0, 1).permute(1, 2, 0).squeeze(-1), cmap="gray", vmin=0, vmax=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", default="what_it_does.png")
    parser.add_argument("--samples", type=int, default=16)
    options = parser.parse_args()
    for verdict in main(options.out, num_samples=options.samples):
        print(verdict)
