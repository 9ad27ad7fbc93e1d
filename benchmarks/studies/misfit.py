"""How often `check_fit` raises a false alarm, and which misfits of a prior it sees.

    python -m tweedie_inverse.benchmarks.studies.misfit exact
    python -m tweedie_inverse.benchmarks.studies.misfit phantoms photographs --each 20

Exact: Gaussian priors, where every alarm of the right prior is false; every repeat has references
of its own.  Phantoms and photographs: shipped priors on images of their kind that they were not
trained on, on others, and on a real head CT (a test file of pydicom).
"""

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.problems.suites import photographs
from tweedie_inverse.benchmarks.studies.recipes import field
from tweedie_inverse.datasets.registry import held_out
from tweedie_inverse.evaluation.fit.plan import SAMPLES, STEPS
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.wrapped import WrappedPrior

LEVEL = 0.05
_HEAD = "J2K_pixelrep_mismatch.dcm"
# Held-out images beyond those on which the shipped denoising errors were measured.
_FIRST, _REFERENCES = 512, 2000


class AtOtherSigma(WrappedPrior):
    """A network that is called at a multiple of the noise level of its images."""

    def __init__(self, prior: Prior, factor: float):
        super().__init__(prior)
        self.factor = factor

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device) * self.factor
        return self.prior.denoise(x, level.clamp(max=self.prior.sigma_max))

    def denoising_error(self, sigma: float) -> Covariance:
        return self.prior.denoising_error(min(sigma * self.factor, self.prior.sigma_max))

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        level = min(sigma * self.factor, self.prior.sigma_max)
        return self.prior.conditional_covariance(level, denoised)


@dataclass(frozen=True)
class Case:
    """Measurements of something.

    Attributes:
        name: what is measured.
        measured: from how many and a seed to measurements ``(count, *range_shape)``.
    """

    name: str
    measured: Callable[[int, int], Tensor]


def alarms(reference: ti.FitReference, y: Tensor) -> list[ti.FitReport]:
    """The reports of all measurements."""
    return reference.check_each(y, level=LEVEL)


def row(setting: str, case: str, reports: list[ti.FitReport]) -> str:
    """A line of the table: alarms, the middle p-value, and which families see it."""
    count = len(reports)
    p_values = sorted(one.p_value for one in reports)
    families = [
        f"{name} {sum(one.p_values[name] <= LEVEL + 1e-9 for one in reports) / count:.2f}"
        for name in reports[0].p_values
    ]
    seen = sum(not one.passed for one in reports)
    worst = reports[0].worst[0].name if seen else ""
    return (
        f"| {setting} | {case} | {count} | {seen / count:.3f} | {p_values[count // 2]:.3f} | "
        f"{', '.join(families)} | {worst} |"
    )


HEAD = (
    "| prior and operator | measurement | number | alarms | median p | by family | for example |\n"
    "|---|---|---|---|---|---|---|"
)


# Exact priors.


def exact(options: argparse.Namespace) -> None:
    """Every repeat has references, images and noise of its own."""
    count, size = options.each, options.size
    prior = field(size)
    spectrum = prior.covariance.variance.reshape(size, size)
    shape, kernel = (1, size, size), torch.ones(3, 3, dtype=torch.float64) / 9
    operator = ops.Blur(kernel, shape, noise=ops.GaussianNoise(0.1))
    moved = operator_moved(operator)

    def images(seed: int) -> Tensor:
        return prior.draw(count, seed=10**6 + seed)

    def at_noise(std: float) -> Callable[[int, int], Tensor]:
        other = ops.Blur(kernel, shape, noise=ops.GaussianNoise(std))
        return lambda number, seed: other.measure(images(seed)[:number], seed=seed)

    def of(change: Callable[[Tensor], Tensor]) -> Callable[[int, int], Tensor]:
        return lambda number, seed: operator.measure(change(images(seed)[:number]), seed=seed)

    cases = [
        Case("of the prior", of(lambda x: x)),
        Case("noise 1.2 times as told", at_noise(0.12)),
        Case("noise 1.5 times as told", at_noise(0.15)),
        Case("noise twice as told", at_noise(0.2)),
        Case("noise half as told", at_noise(0.05)),
        Case("images twice as large", of(lambda x: 2 * x)),
        Case("images half as large", of(lambda x: x / 2)),
        Case("images offset by one standard deviation", of(lambda x: x + 0.5)),
        Case("white images of the same variance", of(lambda x: 0.5 * white(x))),
        Case("a bright square of 2 x 2 pixels", of(square)),
        Case("moved by half a pixel", lambda n, s: moved(operator, images(s)[:n], s)),
    ]
    mean = torch.zeros(shape, dtype=torch.float64)
    told = {
        "field, blur": (prior, cases),
        "prior at twice sigma": (ti.priors.Gaussian(mean, power_spectrum=spectrum / 4), cases[:1]),
        "prior at half sigma": (ti.priors.Gaussian(mean, power_spectrum=spectrum * 4), cases[:1]),
    }
    for setting, (model, listed) in told.items():
        listed = listed[: 1 if options.right else None]
        found: dict[str, list[ti.FitReport]] = {case.name: [] for case in listed}
        for repeat in range(options.repeats):
            reference = made(options, operator, model, count=options.count, seed=repeat)
            for case in listed:
                found[case.name] += alarms(reference, case.measured(count, repeat))
        for name, reports in found.items():
            print(row(setting, name, reports), flush=True)


def operator_moved(operator: ops.Blur) -> Callable[[ops.Blur, Tensor, int], Tensor]:
    """Measurements half a pixel from where they are told to be, along both axes."""

    def measured(told: ops.Blur, x: Tensor, seed: int) -> Tensor:
        other = x
        for axis in (-2, -1):
            other = (other + other.roll(1, axis)) / 2
        return told.measure(other, seed=seed)

    return measured


def white(x: Tensor) -> Tensor:
    """White noise of variance 1, fixed by x."""
    generator = torch.Generator().manual_seed(int(x.abs().sum() * 1e6) % 2**31)
    return torch.randn(x.shape, generator=generator, dtype=x.dtype)


def square(x: Tensor) -> Tensor:
    """Four standard deviations in four pixels."""
    other = x.clone()
    other[..., 2:4, 4:6] += 2.0
    return other


# Networks.


def made(
    options: argparse.Namespace, operator: ops.Operator, prior: Prior, **settings: Any
) -> ti.FitReference:
    """References with the samples and steps of the command."""
    chosen = {"num_samples": options.samples, "steps": options.steps}
    return ti.fit_reference(operator, prior, **chosen, **settings)


def grey(count: int, size: int = 64) -> Tensor:
    """Held-out photographs without colour, ``(count, 1, size, size)``."""
    return photographs(size, count, "test").mean(1, keepdim=True)


def head(size: int) -> Tensor:
    """A real slice of a head in the units of the phantoms, ``(1, size, size)``; air outside."""
    from pydicom.data import get_testdata_file

    scan = ti.io.read(str(get_testdata_file(_HEAD, download=False)))
    hounsfield = F.avg_pool2d(scan.values.clamp(min=-1000.0)[None], scan.shape[-1] // size)[0]
    return (hounsfield + 1000) / 2000


def table(
    title: str,
    reference: ti.FitReference,
    cases: dict[str, Tensor],
    operator: ops.Operator,
) -> None:
    """A line for each kind of image, measured by the operator or the given one."""
    for number, (name, images) in enumerate(cases.items()):
        y = operator.measure(images, seed=1000 + number)
        print(row(title, name, alarms(reference, y)), flush=True)


def scan(std: float = 0.5) -> ops.Tomography:
    """Twenty views of 64 x 64 pixels."""
    return ops.Tomography((1, 64, 64), 20, noise=ops.GaussianNoise(std))


def phantoms(options: argparse.Namespace) -> None:
    """`phantom-64` with sparse-view CT."""
    prior, each, count = ti.load_prior("phantom-64"), options.each, options.count
    assert isinstance(prior, NetworkPrior)
    own = held_out("slices", 64, each, _FIRST)
    cases = {
        "the network's own samples": ti.sample(prior, each, seed=77),
        "held-out phantoms": own,
        "photographs": grey(min(each, 10)),
        "textures": held_out("textures", 64, min(each, 10), _FIRST),
        "real head CT": head(64)[None],
    }
    reference = made(options, scan(), prior, count=count)
    table("phantom-64, CT", reference, cases, scan())
    for factor in (1.2, 2.0):
        named = {f"held-out phantoms, noise {factor:g} times as told": own}
        table("phantom-64, CT", reference, named, scan(0.5 * factor))
    images = held_out("slices", 64, count, _REFERENCES)
    given = made(options, scan(), prior, count=count, images=images)
    chosen = ("held-out phantoms", "photographs", "real head CT")
    title = "phantom-64, CT; references of held-out phantoms"
    table(title, given, {name: cases[name] for name in chosen}, scan())


def mistakes(options: argparse.Namespace) -> None:
    """`phantom-64` called at twice sigma, and told another value range, on phantoms."""
    prior, count = ti.load_prior("phantom-64"), options.count
    assert isinstance(prior, NetworkPrior)
    own = {"held-out phantoms": held_out("slices", 64, min(options.each, 10), _FIRST)}
    twice = made(options, scan(), AtOtherSigma(prior, 2.0), count=count)
    table("phantom-64 at twice sigma, CT", twice, own, scan())
    other = copy.copy(prior.uncorrected())
    other.scale, other.offset, other.unit = 2 * prior.scale, 2 * prior.offset, 2 * prior.unit
    doubled = made(options, scan(), other, count=count)
    table("phantom-64 told the range 0 to 2, CT", doubled, own, scan())


def colour(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1)


def photos(options: argparse.Namespace) -> None:
    """`photo-64` with inpainting."""
    prior, each, count = ti.load_prior("photo-64"), options.each, options.count
    shape = (3, 64, 64)
    mask = ops.Mask(ops.random_mask(shape, 0.3, seed=1), noise=ops.GaussianNoise(0.05))
    cases = {
        "the network's own samples": ti.sample(prior, each, seed=77),
        "held-out photographs": held_out("photos", 64, each, _FIRST),
        "the astronaut": photographs(64, 10, "test"),
        "phantoms": colour(held_out("slices", 64, min(each, 10), _FIRST)),
    }
    reference = made(options, mask, prior, count=count)
    table("photo-64, inpainting", reference, cases, mask)
    images = held_out("photos", 64, count, _REFERENCES)
    given = made(options, mask, prior, count=count, images=images)
    title = "photo-64, inpainting; references of held-out photographs"
    del cases["the network's own samples"]
    table(title, given, cases, mask)


def brightness(options: argparse.Namespace) -> None:
    """`photo-64` with CT of the brightness of its colour images."""
    few, count = min(options.each, 10), options.count
    ct = ops.compose(scan(), ops.Greyscale((3, 64, 64)))
    prior = ti.load_prior("photo-64")
    reference = made(options, ct, prior, count=count, noise=0.5)
    cases = {
        "phantoms": held_out("slices", 64, few, _FIRST),
        "real head CT": head(64)[None],
        "held-out photographs": held_out("photos", 64, few, _FIRST),
    }
    for number, (name, x) in enumerate(cases.items()):
        y = scan().measure(x.mean(1, keepdim=True), seed=number)
        print(row("photo-64, CT of the brightness", name, alarms(reference, y)), flush=True)


PARTS = {
    "exact": exact,
    "phantoms": phantoms,
    "mistakes": mistakes,
    "photographs": photos,
    "brightness": brightness,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--repeats", type=int, default=100, help="of the exact part")
    parser.add_argument("--each", type=int, default=4, help="measurements of a kind, a repeat")
    parser.add_argument("--count", type=int, default=59, help="references")
    parser.add_argument("--size", type=int, default=8, help="of the exact fields, in pixels")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of each measurement")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each sample")
    parser.add_argument("--right", action="store_true", help="exact images of the prior only")
    options = parser.parse_args()
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]}; choose of {', '.join(PARTS)}")
    print(f"{options.count} references, level {LEVEL}\n{HEAD}", flush=True)
    for name in options.parts or PARTS:
        PARTS[name](options)


if __name__ == "__main__":
    with endings():
        main()
