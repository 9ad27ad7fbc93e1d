"""The suites: instruments with their noise, priors, and images that no prior was trained on.

A suite is a function ``(size, images, split) -> tasks``; a line in `SUITES` adds one.  The split
"validation" is for tuning a method's settings, "test" for reporting.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.problems.priors import FIELD, field_prior
from tweedie_inverse.benchmarks.problems.task import Suite, Task
from tweedie_inverse.datasets.photographs import load_photo
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.slices import CTSlices

NOISE = ops.GaussianNoise
# Far beyond the held-out phantoms that the prior's denoising error was measured on.
_PHANTOM_SEEDS = {"test": HELD_OUT_SEED + 10_000, "validation": HELD_OUT_SEED + 20_000}
_PHOTOS = {"test": "astronaut", "validation": "coffee"}
_FIELD_SEEDS = {"test": 1, "validation": 2}
# 64x64 tiles of the half-size photograph, (row, column), busy ones first.
_TILES = (
    *((1, 1), (2, 2), (0, 1), (3, 0), (1, 2), (2, 0), (3, 3), (1, 3), (2, 1), (0, 3), (3, 1)),
    *((0, 0), (1, 0)),
)


def field(size: int, images: int, split: str) -> list[Task]:
    """Gaussian random fields: the posterior is known."""
    shape, prior = (1, size, size), field_prior(size)
    truths = prior.draw(images, seed=_FIELD_SEEDS[split]).float()
    mask = ops.random_mask(shape, 0.3, seed=1)
    kernel = ops.gaussian_kernel(1.5)
    operators = {
        "random inpainting": ("70 % missing, noise 0.05", ops.Mask(mask, noise=NOISE(0.05))),
        "blur": ("Gaussian, 1.5 pixels, noise 0.02", ops.Blur(kernel, shape, noise=NOISE(0.02))),
        "super-resolution": (
            "4x bicubic, noise 0.02",
            ops.Downsampling(shape, 4, noise=NOISE(0.02)),
        ),
        "sparse-view CT": (
            "12 views, noise 0.2 pixel lengths",
            ops.Tomography(shape, 12, noise=NOISE(0.2)),
        ),
    }
    return [
        Task(name, title, f"{FIELD}{size}", operator, truths)
        for name, (title, operator) in operators.items()
    ]


def photographs(size: int, images: int, split: str) -> Tensor:
    """Tiles of a photograph, ``(images, 3, size, size)``; larger tiles from the full size."""
    photo = load_photo(_PHOTOS[split])[None, :, :, :512]
    if size <= 64:
        photo = F.interpolate(photo, scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1)
    rows, columns = photo.shape[2] // size, photo.shape[3] // size
    tiles = [photo[0, :, a * size :, b * size :][:, :size, :size] for a, b in _TILES]
    whole = [tile for tile in tiles if tile.shape[1:] == (size, size)]
    if len(whole) < images:
        raise ValueError(
            f"images: {images} images of {size} pixels were asked for, there are {len(whole)} "
            f"({rows} x {columns} tiles)"
        )
    return torch.stack(whole[:images])


def images(size: int, count: int, split: str) -> list[Task]:
    """Photographs, with the noise levels of the literature."""
    shape, truths = (3, size, size), photographs(size, count, split)
    noise, box = NOISE(0.05), 3 * size // 8
    motion = ops.motion_kernel(max(5, size // 4 + 1), seed=0)
    operators = {
        "box inpainting": ops.Mask(ops.box_mask(shape, (box, box)), noise=noise),
        "random inpainting": ops.Mask(ops.random_mask(shape, 0.3, seed=1), noise=noise),
        "super-resolution": ops.Downsampling(shape, 4, noise=noise),
        "Gaussian blur": ops.Blur(ops.gaussian_kernel(1.5), shape, noise=noise),
        "motion blur": ops.Blur(motion, shape, noise=noise),
    }
    titles = (f"{box}x{box} box", "70 % missing", "4x bicubic", "1.5 pixels", "random path")
    return [
        Task(name, f"{title}, noise 0.05", "photo-64", operator, truths)
        for title, (name, operator) in zip(titles, operators.items(), strict=True)
    ]


def phantoms(images: int, split: str) -> Tensor:
    first = _PHANTOM_SEEDS[split]
    return CTSlices(64).images(range(first, first + images))


def ct(size: int, images: int, split: str) -> list[Task]:
    """Tomography of phantoms; the prior has one size."""
    shape, truths = (1, 64, 64), phantoms(images, split)
    arc = torch.arange(0.0, 120.0, 4.0)
    dose = ops.Transmission(
        ops.Tomography(shape, 60, pixel_size=0.05), 200.0, noise=ops.PoissonNoise()
    )
    scans: dict[str, tuple[str, ops.Operator]] = {
        "sparse view": (
            "20 views, noise 0.5 pixel lengths",
            ops.Tomography(shape, 20, noise=NOISE(0.5)),
        ),
        "limited angle": (
            "30 views over 120 degrees, noise 0.5 pixel lengths",
            ops.Tomography(shape, arc, noise=NOISE(0.5)),
        ),
        "low dose": ("60 views, 200 photons a ray, Poisson", dose),
    }
    return _on_phantoms(scans, truths)


def mri(size: int, images: int, split: str) -> list[Task]:
    """Fourier samples of real phantoms; the prior has one size."""
    truths, plane = phantoms(images, split), (64, 64)
    masks = {
        "4x columns": ("a quarter of the columns, noise 0.02", ops.cartesian_mask(plane, 4)),
        "radial": ("12 spokes, noise 0.02", ops.radial_mask(plane, 12)),
    }
    scans = {
        name: (title, ops.FourierSampling(mask, real=True, noise=NOISE(0.02)))
        for name, (title, mask) in masks.items()
    }
    return _on_phantoms(dict(scans), truths)


def nonlinear(size: int, images: int, split: str) -> list[Task]:
    """Instruments that are not linear; the prior has one size."""
    shape, truths = (1, 64, 64), phantoms(images, split)
    codes = ops.random_codes(2, shape[1:])
    clipped = ops.compose(
        ops.Clipping(shape, high=0.4), ops.Blur(ops.gaussian_kernel(1.5), shape), noise=NOISE(0.03)
    )
    instruments: dict[str, tuple[str, ops.Operator]] = {
        "phase retrieval": (
            "2x oversampled magnitudes, noise 0.05",
            ops.PhaseRetrieval(shape, noise=NOISE(0.05)),
        ),
        "coded diffraction": (
            "two codes, noise 0.05",
            ops.PhaseRetrieval(shape, oversampling=1, codes=codes, noise=NOISE(0.05)),
        ),
        "clipping": ("blur of 1.5 pixels, clipped at 0.4, noise 0.03", clipped),
    }
    return _on_phantoms(instruments, truths)


def _on_phantoms(instruments: dict[str, tuple[str, ops.Operator]], truths: Tensor) -> list[Task]:
    return [
        Task(name, title, "phantom-64", operator, truths)
        for name, (title, operator) in instruments.items()
    ]


_ALL = (
    Suite("field", "Gaussian random fields, exact posterior", field, 32, 16, cap=1000),
    Suite("images", "Photographs (tiles of scikit-image's astronaut)", images),
    Suite("images-128", "Photographs, 128x128", images, 128),
    Suite("images-256", "Photographs, 256x256", images, 256),
    Suite("ct", "Tomography of CT-like slices", ct),
    Suite("mri", "Fourier samples of CT-like slices", mri),
    Suite("nonlinear", "Instruments that are not linear", nonlinear),
)
SUITES = {suite.name: suite for suite in _ALL}

# Suites that are studies as well: `python -m tweedie_inverse.benchmarks.studies.<name>` prints
# their tables.
STUDIES = {
    "mixture": "25-component mixtures, exact posterior and evidence",
    "operators": "Tomography operators: time of their products",
    "speed": "What a walk costs beside its network",
    "tiles": "Denoising in tiles beside the whole image",
}
