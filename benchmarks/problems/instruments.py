"""One case of each kind of instrument, for timings: an operator, its shape, a shipped prior."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.problems.priors import load
from tweedie_inverse.benchmarks.problems.suites import NOISE, phantoms, photographs
from tweedie_inverse.operators import Operator
from tweedie_inverse.priors.base import Prior

Shape = tuple[int, int, int]


class Case(NamedTuple):
    """An instrument that is made when it is asked for.

    Attributes:
        title: the instrument and its noise in a few words.
        prior: a shipped one.
        shape: of an image.
        make: the operator for images of a shape.
    """

    title: str
    prior: str
    shape: Shape
    make: Callable[[Shape], Operator]

    def given(self, device: str) -> tuple[Operator, Tensor, Prior]:
        """The operator, one measurement ``(1, *range_shape)`` and the prior, on a device."""
        operator = self.make(self.shape)
        size, colour = self.shape[-1], self.shape[0] == 3
        truth = photographs(size, 1, "test") if colour else phantoms(1, "test")
        prior = load(self.prior, device).for_shape(self.shape)
        return operator, operator.measure(truth, seed=0).to(device), prior


def _colour(size: int) -> dict[str, Case]:
    shape: Shape = (3, size, size)
    noise = NOISE(0.05)
    makers: dict[str, tuple[str, Callable[[Shape], Operator]]] = {
        "mask": (
            "70 % missing",
            lambda shape: ops.Mask(ops.random_mask(shape, 0.3, seed=1), noise=noise),
        ),
        "Gaussian blur": (
            "1.5 pixels",
            lambda shape: ops.Blur(ops.gaussian_kernel(1.5), shape, noise=noise),
        ),
        "motion blur": (
            "random path",
            lambda shape: ops.Blur(
                ops.motion_kernel(shape[-1] // 4 + 1, seed=0), shape, noise=noise
            ),
        ),
        "super-resolution": (
            "4x bicubic",
            lambda shape: ops.Downsampling(shape, 4, noise=noise),
        ),
    }
    text = f"noise 0.05, {size}x{size} colour"
    return {
        name: Case(f"{title}, {text}", "photo-64", shape, make)
        for name, (title, make) in makers.items()
    }


def cases(size: int = 128) -> dict[str, Case]:
    """Photographs of a size, and CT and MRI of 64x64 phantoms, by name."""
    shape: Shape = (1, 64, 64)
    return _colour(size) | {
        "CT": Case(
            "20 views, noise 0.5 pixel lengths, 64x64",
            "phantom-64",
            shape,
            lambda shape: ops.Tomography(shape, 20, noise=NOISE(0.5)),
        ),
        "MRI": Case(
            "12 spokes, noise 0.02, 64x64",
            "phantom-64",
            shape,
            lambda shape: ops.FourierSampling(
                ops.radial_mask(shape[1:], 12), real=True, noise=NOISE(0.02)
            ),
        ),
    }
