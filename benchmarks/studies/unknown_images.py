"""Noise levels and numbers of an operator with the shipped priors, for `unknown_instrument`."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.problems.suites import phantoms
from tweedie_inverse.benchmarks.studies.blind_deblurring import richardson_lucy
from tweedie_inverse.conditional.first_guess import WIDER, first_guess
from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.datasets.registry import held_out
from tweedie_inverse.evaluation.calibration import coverage, crps
from tweedie_inverse.walks import UnknownInstrument

KINDS = ("shipped", "width", "offset", "angle")
# The shipped denoising errors were measured on the first 512 held-out images.
_BEYOND = 600
_MOTION = 9
IMAGE_HEAD = (
    "| problem | unknown | mean | inside 90 % | image coverage, known -> drawn "
    "| CRPS, known -> drawn | error, ours, most probable, Richardson-Lucy's "
    "| seconds, known -> drawn |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Case:
    """One instrument with a shipped prior; the unknown is the noise level, or a number."""

    prior: str
    std: float
    known: ops.LinearOperator
    drawn: ops.LinearOperator
    truth: float | None = None


def cases(kind: str) -> dict[str, Case]:
    """The instruments with an unknown noise level, or an unknown number."""
    grey, colour = (1, 64, 64), (3, 64, 64)

    def blur(width: float) -> ops.Blur:
        return ops.Blur(ops.gaussian_kernel(width, 25), grey)

    def shifted(offset: float) -> ops.Tomography:
        return ops.Tomography(grey, 20, detector_offset=offset)

    def turned(angle: float) -> ops.Tomography:
        return ops.Tomography(grey, 20, angle_offset=angle)

    if kind == "width":
        drawn = ops.parametric(blur, width=(0.5, 4.0))
        return {"PSF of 1.5 pixels": Case("phantom-64", 0.05, blur(1.5), drawn, 1.5)}
    if kind == "offset":
        drawn = ops.parametric(shifted, offset=(-4.0, 4.0))
        return {"detector offset of 1.3": Case("phantom-64", 0.5, shifted(1.3), drawn, 1.3)}
    if kind == "angle":
        drawn = ops.parametric(turned, angle=(-4.0, 4.0))
        return {"angle offset of 1.3": Case("phantom-64", 0.5, turned(1.3), drawn, 1.3)}
    scan = ops.Tomography(grey, 20)
    blur_of_photo = ops.Blur(ops.gaussian_kernel(1.5), colour)
    small = ops.Downsampling(colour, 4)
    return {
        "CT, 20 views": Case("phantom-64", 0.5, scan, scan),
        "deblurring": Case("photo-64", 0.05, blur_of_photo, blur_of_photo),
        "super-resolution 4x": Case("photo-64", 0.05, small, small),
    }


def image_rows(kind: str, only: str, images: int, num_samples: int, steps: int) -> Iterator[str]:
    """A row for each instrument, with a line for each image on the way."""
    for name, case in cases(kind).items():
        if only not in name:
            continue
        truth = (
            phantoms(images, "test")
            if case.prior == "phantom-64"
            else held_out("photos", 64, images, _BEYOND)
        )
        prior = ti.load_prior(case.prior)
        rows = []
        for index, one in enumerate(truth):
            rows.append(_one_image(case, prior, one, index, num_samples, steps))
            yield f"    {name}, image {index}: " + " ".join(f"{float(v):.4g}" for v in rows[-1])
        table = torch.tensor(rows, dtype=torch.float64)
        mean, inside = table[:, 0], table[:, 1]
        means, errors = table.mean(0), table[:, 8:].square().mean(0).sqrt()
        yield IMAGE_HEAD
        yield (
            f"| {name} | {kind} | {mean.mean():.3f} +- {mean.std(correction=0):.3f} "
            f"| {inside.mean():.2f} "
            f"| {means[2]:.3f} -> {means[3]:.3f} | {means[4]:.5f} -> {means[5]:.5f} "
            f"| {', '.join(f'{error:.3f}' for error in errors)} "
            f"| {means[6]:.1f} -> {means[7]:.1f} |"
        )


def _one_image(
    case: Case, prior: ti.priors.Prior, truth: Tensor, seed: int, num_samples: int, steps: int
) -> list[float]:
    """Mean, inside or not, coverage, CRPS and seconds of known and drawn, and three errors.

    The errors are those of the mean, of the most probable number by the marginal likelihood of the
    Gaussian that has the prior's moments, and of the width of deepinv's kernel.
    """
    clean = case.known.forward(truth[None])
    y = ops.GaussianNoise(case.std).sample(clean, seed=seed)
    noise: float | str = "estimate" if case.truth is None else case.std

    def run(operator: ops.LinearOperator, noise: float | str) -> tuple[ti.Posterior, float]:
        begin = time.monotonic()
        posterior = ti.solve(
            y, operator, prior, noise=noise, num_samples=num_samples, steps=steps, seed=seed
        )
        return posterior, time.monotonic() - begin

    known, seconds = run(case.known, case.std)
    drawn, longer = run(case.drawn, noise)
    both: list[Callable[[ti.Posterior, Tensor], Tensor]] = [coverage, crps]
    scores = [float(score(run, truth[None])) for score in both for run in (known, drawn)]
    if case.truth is None:
        parameter, level, likely = drawn.noise.std, case.std, float("nan")
    else:
        (parameter,) = drawn.parameters.values()
        level, likely = case.truth, _most_probable(y, case, prior)
    low, high = (float(end) for end in parameter.interval())
    mean = float(parameter.mean)
    inside = float(low <= level <= high)
    widest = _width_of_deepinv(y) if "width" in drawn.parameters else float("nan")
    errors = [found - level for found in (mean, likely, widest)]
    return [mean, inside, *scores, seconds, longer, *errors]


def _width_of_deepinv(y: Tensor) -> float:
    """Standard deviation of the kernel by blind Richardson-Lucy, in pixels."""
    _, kernel = richardson_lucy(y)
    kernel = kernel.clamp(min=0) / kernel.clamp(min=0).sum()
    places = torch.arange(len(kernel)).double()
    spreads = []
    for share in (kernel.sum(0), kernel.sum(1)):
        centre = (share * places).sum()
        spreads.append((share * (places - centre).square()).sum())
    return float(torch.stack(spreads).mean().sqrt())


def _most_probable(y: Tensor, case: Case, prior: ti.priors.Prior) -> float:
    """The number at the maximum of its marginal likelihood."""
    problem = Problem(y, case.drawn, ops.GaussianNoise(case.std))
    walk = UnknownInstrument().plan(problem, prior, 50).walk
    assert isinstance(walk, UnknownInstrument)
    geometric = [0] if walk.geometric else []
    start = Instrument(problem).start()
    return float(first_guess(problem, *prior.moments(), start, geometric, WIDER).u)


def family_rows(images: int, num_samples: int, steps: int) -> Iterator[str]:
    """Straight motion taken for a Gaussian of unknown width, and the width of a Gaussian."""
    yield "| image | PSF | width | chi-square | verdict | `check_fit`, 59 references |"
    yield "|---|---|---|---|---|---|"
    drawn = cases("width")["PSF of 1.5 pixels"].drawn
    assert isinstance(drawn, ops.Parametric)
    prior, noise = ti.load_prior("phantom-64"), ops.GaussianNoise(0.05)
    motion = ops.motion_kernel(25, length=float(_MOTION), angle=30.0)
    operators = {"motion": ops.Blur(motion, (1, 64, 64)), "Gaussian": drawn.at(width=1.5)}
    for index, truth in enumerate(phantoms(images, "test")):
        for name, operator in operators.items():
            y = noise.sample(operator.forward(truth[None]), seed=index)
            found = ti.solve(
                y, drawn, prior, noise=noise, num_samples=num_samples, steps=steps, seed=index
            )
            width = found.parameters["width"]
            at = drawn.at(width=float(width.mean))
            report = ti.check_fit(y[0], at, prior, count=59, noise=noise)
            low, high = (float(end) for end in width.interval())
            yield (
                f"| {index} | {name} | {float(width.mean):.2f} [{low:.2f}, {high:.2f}] "
                f"| {float(found.diagnostics.chi_square.mean()):.2f} "
                f"| {found.diagnostics.verdict} | {report.verdict} |"
            )
