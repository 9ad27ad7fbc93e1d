"""Noise levels and numbers of an operator with the shipped priors, for `unknown_instrument`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.problems.suites import phantoms
from tweedie_inverse.benchmarks.studies.blind_deblurring import Scale, richardson_lucy
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
    "| problem | unknown | mean | inside 90 % | spread of the samples "
    "| error / spread (if right) | image coverage, known -> drawn "
    "| CRPS, known -> without the pilot's evaluations -> drawn "
    "| error, ours, most probable, Richardson-Lucy's | seconds, known -> drawn |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
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


def image_rows(kind: str, only: str, scale: Scale) -> Iterator[str]:
    """A row for each instrument, below a line for each image.

    All images of an instrument are solved for together, which a GPU needs: small networks take it
    as long for one image as for a hundred.
    """
    for name, case in cases(kind).items():
        if only not in name:
            continue
        of_phantoms = case.prior == "phantom-64"
        images = scale.first + scale.images
        truth = phantoms(images, "test") if of_phantoms else held_out("photos", 64, images, _BEYOND)
        found = _solved(case, truth[scale.first :].to(scale.device), scale)
        yield f"image {' '.join(found.columns)}"
        for index, row in enumerate(zip(*found.columns.values(), strict=True)):
            yield f"{scale.first + index} {' '.join(f'{float(value):.4g}' for value in row)}"
        yield IMAGE_HEAD
        yield found.row(name, kind, scale.num_samples)


@dataclass(frozen=True)
class Found:
    """What is known of each image after the solves, ``(images,)`` a column, and their seconds."""

    columns: dict[str, Tensor]
    seconds: list[float]

    def row(self, name: str, kind: str, num_samples: int) -> str:
        """The averages."""
        c = {key: column.double().cpu() for key, column in self.columns.items()}
        images = len(c["mean"])
        # Where all is right, a truth is this far from the mean in standard deviations of samples.
        expected = math.sqrt((1 + 1 / num_samples) * _student_variance(num_samples))
        errors = [c[key].square().mean().sqrt() for key in ("error", "likely", "deepinv")]
        scores = [c[key].mean() for key in c if key.startswith(("coverage", "crps"))]
        return (
            f"| {name} | {kind} | {c['mean'].mean():.3f} +- {c['mean'].std(correction=0):.3f} "
            f"| {int(c['inside'].sum())} of {images} (told {int(c['told'].sum())}) "
            f"| {c['spread'].square().mean().sqrt():.3f} "
            f"| {(c['error'] / c['spread']).square().mean().sqrt():.2f} ({expected:.2f}) "
            f"| {' -> '.join(f'{score:.3f}' for score in scores[:2])} "
            f"| {' -> '.join(f'{score:.5f}' for score in scores[2:])} "
            f"| {', '.join(f'{error:.3f}' for error in errors)} "
            f"| {' -> '.join(f'{each:.0f}' for each in self.seconds)} |"
        )


# Pilot's evaluations, where the walk goes on after it, and evaluations in all.
_SETTINGS = ((8, 6.0, 24), (8, 2.0, 24), (5, 6.0, 24), (5, 2.0, 24), (16, 6.0, 48), (32, 6.0, 96))


def setting_rows(scale: Scale) -> Iterator[str]:
    """The width of a PSF with other settings of the walk; evaluations are those of `_SETTINGS`."""
    names = [
        "pilot",
        "goes on at",
        "steps",
        "error",
        "spread",
        "error / spread",
        "inside",
        "CRPS",
        "seconds",
    ]
    yield f"| {' | '.join(names)} |"
    yield "|---" * len(names) + "|"
    (case,) = cases("width").values()
    truth = phantoms(scale.first + scale.images, "test")[scale.first :].to(scale.device)
    prior, y = ti.load_prior(case.prior, device=scale.device), measured(case, truth, scale.first)
    known: dict[int, float] = {}
    assert case.truth is not None
    for pilot, goes_on, steps in _SETTINGS:
        if steps not in known:
            found = ti.solve(
                y, case.known, prior, noise=case.std, num_samples=scale.num_samples, steps=steps
            )
            known[steps] = float(crps(found, truth).mean())
        found = ti.solve(
            y,
            case.drawn,
            prior,
            noise=case.std,
            num_samples=scale.num_samples,
            steps=steps,
            method=UnknownInstrument(pilot=pilot, goes_on=goes_on),
        )
        (width,) = found.parameters.values()
        error, (low, high) = width.mean - case.truth, width.interval()
        inside = int(((low <= case.truth) & (case.truth <= high)).sum())
        yield (
            f"| {pilot} | {goes_on:g} | {steps} | {float(error.square().mean().sqrt()):.3f} "
            f"| {float(width.std.square().mean().sqrt()):.3f} "
            f"| {float((error / width.std).square().mean().sqrt()):.2f} "
            f"| {inside} of {len(y)} "
            f"| {known[steps]:.5f} -> {float(crps(found, truth).mean()):.5f} "
            f"| {found.stats.seconds:.0f} |"
        )


def _student_variance(num_samples: int) -> float:
    """Variance of Student's t of so many samples; infinite for 3 and fewer."""
    freedom = num_samples - 1
    return freedom / (freedom - 2) if freedom > 2 else math.inf


def _solved(case: Case, truth: Tensor, scale: Scale) -> Found:
    """Known and drawn; where a pilot takes a share, also known with what it leaves."""
    y = measured(case, truth, scale.first)
    prior = ti.load_prior(case.prior, device=scale.device)

    def run(operator: ops.LinearOperator, noise: float | str, steps: int) -> ti.Posterior:
        return ti.solve(
            y, operator, prior, noise=noise, num_samples=scale.num_samples, steps=steps, seed=0
        )

    left = scale.steps - _pilot(y, case, prior, scale.steps)
    known = run(case.known, case.std, scale.steps)
    shorter = run(case.known, case.std, left) if left < scale.steps else known
    drawn = run(case.drawn, "estimate" if case.truth is None else case.std, scale.steps)
    if case.truth is None:
        parameter, level, likely = drawn.noise.std, case.std, y.new_full((len(y),), math.nan)
    else:
        (parameter,) = drawn.parameters.values()
        level, likely = case.truth, _most_probable(y, case, prior) - case.truth
    low, high = parameter.interval()
    widest = y.new_full((len(y),), math.nan)
    if "width" in drawn.parameters:
        widths = [_width_of_deepinv(one) for one in y.cpu().split(1)]
        widest = torch.tensor(widths) - level
    columns = {
        "mean": parameter.mean,
        "spread": parameter.std,
        "inside": (low <= level) & (level <= high),
        "told": parameter.is_told,
        "coverage,known": coverage(known, truth),
        "coverage,drawn": coverage(drawn, truth),
        "crps,known": crps(known, truth),
        "crps,known,without-pilot": crps(shorter, truth),
        "crps,drawn": crps(drawn, truth),
        "error": parameter.mean - level,
        "likely": likely,
        "deepinv": widest,
    }
    return Found(columns, [known.stats.seconds, drawn.stats.seconds])


def measured(case: Case, truth: Tensor, first: int = 0) -> Tensor:
    """Measurements of images, with noise of their own; `first` is the number of the first."""
    clean = enumerate(case.known.forward(truth).split(1), first)
    return torch.cat([ops.GaussianNoise(case.std).sample(one, seed=i) for i, one in clean])


def _pilot(y: Tensor, case: Case, prior: ti.priors.Prior, steps: int) -> int:
    """Evaluations of the pilot."""
    if case.truth is None:
        return 0
    problem = Problem(y[:1], case.drawn, ops.GaussianNoise(case.std))
    walk = UnknownInstrument().plan(problem, prior, steps).walk
    assert isinstance(walk, UnknownInstrument)
    return walk.pilot or 0


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


def _most_probable(y: Tensor, case: Case, prior: ti.priors.Prior) -> Tensor:
    """The number at the maximum of its marginal likelihood, of each image.

    The Gaussian of the likelihood has the prior's moments.
    """
    problem = Problem(y, case.drawn, ops.GaussianNoise(case.std))
    walk = UnknownInstrument().plan(problem, prior, 50).walk
    assert isinstance(walk, UnknownInstrument)
    geometric = [0] if walk.geometric else []
    start = Instrument(problem).start()
    return first_guess(problem, *prior.moments(), start, geometric, WIDER).u[:, 0]


def family_rows(scale: Scale, references: int) -> Iterator[str]:
    """Straight motion taken for a Gaussian of unknown width, and the width of a Gaussian."""
    yield f"| image | PSF | width | chi-square | verdict | `check_fit`, {references} references |"
    yield "|---|---|---|---|---|---|"
    drawn = cases("width")["PSF of 1.5 pixels"].drawn
    assert isinstance(drawn, ops.Parametric)
    prior, noise = ti.load_prior("phantom-64", device=scale.device), ops.GaussianNoise(0.05)
    motion = ops.motion_kernel(25, length=float(_MOTION), angle=30.0)
    operators = {"motion": ops.Blur(motion, (1, 64, 64)), "Gaussian": drawn.at(width=1.5)}
    truths = phantoms(scale.first + scale.images, "test")[scale.first :].to(scale.device)
    for index, truth in enumerate(truths.split(1), scale.first):
        for name, operator in operators.items():
            y = noise.sample(operator.forward(truth), seed=index)
            found = ti.solve(
                y[0],
                drawn,
                prior,
                noise=noise,
                num_samples=scale.num_samples,
                steps=scale.steps,
                seed=index,
            )
            width = found.parameters["width"]
            at = drawn.at(width=float(width.mean))
            report = ti.check_fit(y[0], at, prior, count=references, noise=noise)
            low, high = (float(end) for end in width.interval())
            yield (
                f"| {index} | {name} | {float(width.mean):.2f} [{low:.2f}, {high:.2f}] "
                f"| {float(found.diagnostics.chi_square):.2f} "
                f"| {found.diagnostics.verdict} | {report.verdict} |"
            )
