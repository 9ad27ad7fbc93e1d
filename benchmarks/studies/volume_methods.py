"""What the study of volumes compares: prior of slices, total variation in 3-D, deepinv by slices.

Every method makes `Answers` of a `Case`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.methods.base import Method
from tweedie_inverse.benchmarks.problems.task import Task
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.slices import CTSlices
from tweedie_inverse.datasets.volumes import CTVolumes
from tweedie_inverse.evaluation.metrics import psnr
from tweedie_inverse.priors.base import Prior

VIEWS, MILLIMETRES = 20, 5.0  # from slice to slice at 64x64, half of it at 128x128
NOISE = 0.5  # in pixel lengths at 64x64; the same in millimetres at other sizes
WEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of total variation, times the variance of the noise
_SLOPES, _LEANING = 12.0, 3.0  # the squared norm of the gradient in 3-D; dual over primal steps
_SPREAD = 7919  # between the seeds of slices, which are solved one by one


class Answers(NamedTuple):
    """Samples ``(bodies, count, 1, depth, height, width)``, and network evaluations a sample."""

    samples: Tensor
    evaluations: float


@dataclass(frozen=True)
class Case:
    """Bodies, what is measured of them, and how much may be spent.

    Attributes:
        truths: ``(bodies, 1, depth, size, size)``.
        others: other bodies, on which correlations are measured.
        y: ``(bodies, *scan.range_shape)``.
        samples, steps: of a body; network evaluations a sample, of our walks.
        evaluations: of deepinv's samplers, where the number is theirs to choose.
        spacing, pixel: in millimetres, from slice to slice and of a pixel.
        together: slices that deepinv's samplers are given at once.
    """

    truths: Tensor
    others: Tensor
    scan: ops.LinearOperator
    of_a_slice: ops.Tomography
    y: Tensor
    network: Prior
    samples: int
    steps: int
    evaluations: int
    spacing: float
    pixel: float
    together: int

    @property
    def depth(self) -> int:
        return self.truths.shape[2]


def case(
    size: int,
    depth: int,
    bodies: int,
    samples: int,
    steps: int,
    evaluations: int = 100,
    device: str = "cpu",
) -> Case:
    """Bodies of ``phantom-<size>``, every slice seen from so many views."""
    spacing = MILLIMETRES * 64 / size
    data = CTVolumes(size, depth, spacing)
    truths = data.volumes(range(HELD_OUT_SEED, HELD_OUT_SEED + bodies)).to(device)
    others = data.volumes(range(HELD_OUT_SEED + 100, HELD_OUT_SEED + 104)).to(device)
    noise = ops.GaussianNoise(NOISE * size / 64)
    of_a_slice = ops.Tomography((1, size, size), VIEWS, noise=noise)
    scan = ops.slicewise(of_a_slice, depth)
    assert isinstance(scan, ops.LinearOperator)
    return Case(
        truths,
        others,
        scan,
        of_a_slice,
        scan.measure(truths, seed=0),
        ti.load_prior(f"phantom-{size}", device=device),
        samples,
        steps,
        evaluations,
        spacing,
        CTSlices(size).pixel_size,
        together=64 if device == "cpu" else 256,
    )


def of_slices(given: Case, correlation: float | ti.priors.SliceCorrelation) -> Answers:
    """Our walk, with slices as alike as this."""
    prior = ti.priors.Slices(given.network, depth=given.depth, correlation=correlation)
    posterior = ti.solve(
        given.y, given.scan, prior, num_samples=given.samples, steps=given.steps, seed=0
    )
    return Answers(posterior.samples, float(posterior.stats.denoiser_calls))


def of_deepinv(given: Case, settings: Sequence[Method]) -> Answers:
    """A method of deepinv on every slice by itself, with the same network as its denoiser.

    Args:
        settings: the same method several times; the one whose mean suits the truth best is taken.
    """
    found = [_by_slices(given, _within(one, given.evaluations)) for one in settings]
    return max(found, key=lambda one: float(psnr(one.samples.mean(1), given.truths).mean()))


def _within(method: Method, evaluations: int) -> Method:
    return method.within(evaluations) if method.evaluations else method


def _by_slices(given: Case, method: Method) -> Answers:
    bodies, _, depth, *size = given.truths.shape
    slices = given.truths.movedim(2, 1).flatten(0, 1)
    task = Task("slice", "a slice of a body", given.network, given.of_a_slice, slices)
    count = given.samples if method.samples_posterior else 1
    seeds = [[_SPREAD * one + k for k in range(count)] for one in range(bodies * depth)]
    y = given.y.movedim(2, 1).flatten(0, 1)
    drawn = method.draw(y, task, given.network, seeds, given.together)
    samples = drawn.reshape(bodies, depth, count, 1, *size).movedim(1, 3)
    return Answers(samples, method.evaluations)


def is_absent(method: Method) -> str | None:
    """The package that a method lacks here."""
    return next((name for name in method.packages if find_spec(name) is None), None)


def best_total_variation(given: Case) -> Answers:
    """With the weight that suits the truth best, which nobody knows."""
    noise = given.scan.noise
    assert isinstance(noise, ops.GaussianNoise)
    weights = [one * float(noise.std) ** 2 for one in WEIGHTS]
    found = [total_variation(given.scan, given.y, weight) for weight in weights]
    best = max(found, key=lambda x: float(psnr(x, given.truths).mean()))
    return Answers(best[:, None], 0)


def backprojected(given: Case) -> Answers:
    """Filtered backprojection of every slice."""
    return Answers(given.scan.pseudo_inverse(given.y)[:, None], 0)


def total_variation(
    scan: ops.LinearOperator, y: Tensor, weight: float, iterations: int = 300
) -> Tensor:
    """Minimum of ``|A x - y|^2 / 2 + weight TV(x)``, x >= 0 (Chambolle and Pock 2011).

    Slopes are taken in units in which they are as large as the data, and the step of the dual is
    the larger one: without both, 300 iterations end 5 % above the minimum, and with them 0.01 %.
    """
    size = ops.operator_norm(scan, dtype=y.dtype, device=y.device)
    unit = size / math.sqrt(_SLOPES)
    primal, dual = 1 / (_LEANING * math.sqrt(2) * size), _LEANING / (math.sqrt(2) * size)
    x = torch.zeros_like(scan.adjoint(y))
    ahead, residual, slopes = x, torch.zeros_like(y), x.new_zeros(3, *x.shape)
    for _ in range(iterations):
        residual = (residual + dual * (scan.forward(ahead) - y)) / (1 + dual)
        slopes = slopes + dual * unit * _gradient(ahead)
        slopes = slopes / (slopes.norm(dim=0, keepdim=True) * (unit / weight)).clamp(min=1)
        down = scan.adjoint(residual) - unit * _divergence(slopes)
        before, x = x, (x - primal * down).clamp(min=0)
        ahead = 2 * x - before
    return x


def _gradient(x: Tensor) -> Tensor:
    found = x.new_zeros(3, *x.shape)
    for axis in range(3):
        place = [slice(None)] * x.ndim
        place[2 + axis] = slice(0, -1)
        found[axis][tuple(place)] = x.diff(dim=2 + axis)
    return found


def _divergence(slopes: Tensor) -> Tensor:
    """Minus the transpose of `_gradient`."""
    total = torch.zeros_like(slopes[0])
    for axis in range(3):
        part = slopes[axis].narrow(2 + axis, 0, slopes.shape[3 + axis] - 1)
        total.narrow(2 + axis, 0, part.shape[2 + axis]).add_(part)
        total.narrow(2 + axis, 1, part.shape[2 + axis]).sub_(part)
    return total
