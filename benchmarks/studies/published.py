"""Published denoisers with nothing measured, beside the same with a table of their error.

    python -m tweedie_inverse.benchmarks.studies.published --checkpoints FOLDER
    python -m tweedie_inverse.benchmarks.studies.published --checkpoints FOLDER --split validation

60 % missing and a blur of 1.5 pixels, noise 0.03, on 64x64 tiles of a photograph.  The table is
measured on 60 tiles of another photograph.  All rows of a task see the same measurements; behind
+-: standard errors over images and seeds.  ``../shared/checkpoints`` has the weights.
"""

import argparse
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.problems.published import PUBLISHED, published_prior
from tweedie_inverse.benchmarks.problems.suites import photographs
from tweedie_inverse.benchmarks.studies.scores import HEAD, Effort, against, cells, outcome
from tweedie_inverse.datasets.photographs import load_photo

NOISE = ops.GaussianNoise(0.03)
_OTHER = {"test": "coffee", "validation": "astronaut"}
# What a row is called: the source of the covariance, and whether the table is there.
WAYS = {
    "measured": ("measured", True),
    "network": ("network", False),
    "isotropic": ("isotropic", False),
}


def tasks(shape: tuple[int, int, int]) -> dict[str, ops.LinearOperator]:
    return {
        "60 % missing": ops.Mask(ops.random_mask(shape, 0.4, seed=1), noise=NOISE),
        "blur 1.5": ops.Blur(ops.gaussian_kernel(1.5), shape, noise=NOISE),
    }


def measured_on(split: str, count: int = 60) -> Tensor:
    """Tiles ``(count, 3, 64, 64)`` of the photograph that the split is not from."""
    photo = load_photo(_OTHER[split])[None]
    photo = F.interpolate(photo, scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1)[0]
    random = torch.Generator().manual_seed(0)
    rows = torch.randint(photo.shape[1] - 63, (count,), generator=random).tolist()
    columns = torch.randint(photo.shape[2] - 63, (count,), generator=random).tolist()
    return torch.stack(
        [photo[:, a : a + 64, b : b + 64] for a, b in zip(rows, columns, strict=True)]
    )


def rows(
    names: Sequence[str],
    folder: str,
    ways: Sequence[str],
    *,
    split: str,
    images: int,
    effort: Effort,
) -> Iterator[str]:
    """Lines of the table."""
    yield (
        f"{images} images ({split}), {effort.seeds} seeds, {effort.samples} samples, "
        f"{effort.steps} evaluations\n\n"
        f"| network, task | covariance | {HEAD} | CRPS against {ways[0]} | evaluations |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name in names:
        bare = published_prior(name, folder)
        truths, others = photographs(64, images, split), measured_on(split)
        if bare.shape[0] == 1:
            truths, others = truths.mean(1, keepdim=True), others.mean(1, keepdim=True)
        table = None
        if any(WAYS[way][1] for way in ways):
            table = ti.measure_denoising_error(bare, others, form="radial", levels=12)
        for task, operator in tasks((bare.shape[0], 64, 64)).items():
            first = None
            for way in ways:
                error, with_table = WAYS[way]
                prior = bare.with_error(table) if with_table else bare
                walk = ti.walks.Decoupled(error=error)
                found = outcome(walk, prior, operator, truths, effort)
                first = found if first is None else first
                yield (
                    f"| {name}, {task} | {way} | {cells(found.scores)} "
                    f"| {against(found.scores, first.scores)} | {found.evaluations:.0f} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", required=True, help="folder of the weights")
    parser.add_argument("--networks", nargs="+", choices=list(PUBLISHED), default=list(PUBLISHED))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    for line in rows(
        options.networks,
        options.checkpoints,
        options.ways,
        split=options.split,
        images=options.images,
        effort=Effort(options.seeds, options.samples, options.steps),
    ):
        print(line, flush=True)


if __name__ == "__main__":
    main()
