"""`check_prior` on networks as they are, and with mistakes planted in their wrapping.

    python -m tweedie_inverse.benchmarks.studies.checked_priors
    python -m tweedie_inverse.benchmarks.studies.checked_priors --checkpoints FOLDER

FOLDER adds published denoisers (FFDNet, DnCNN); ``../shared/checkpoints`` has some.  A row is right
where the verdict and the first suspect are those expected.  ``--exact 200`` counts false alarms on
exact networks of several sizes, for so many seeds.
"""

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import tweedie_inverse as ti
from tweedie_inverse.benchmarks.problems.suites import photographs
from tweedie_inverse.datasets.registry import held_out
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.network import NetworkPrior

PASSED = "passed"
ONE_LEVEL = "one noise level"
_SHIPPED = {
    "digits-32": ("digits", 32),
    "phantom-64": ("slices", 64),
    "phantom-128": ("slices", 128),
    "photo-64": ("photos", 64),
    "texture-64": ("textures", 64),
    "digits-32-psld": ("digits", 32),
}


class Case(NamedTuple):
    """A prior, images that it should know, and what the report must say.

    Attributes:
        expected: ``"passed"``, a part of the first suspect's name, or a part of a finding.
    """

    name: str
    prior: ti.priors.Prior
    images: Tensor
    expected: str


class Changed(nn.Module):
    """A network for images on another range, told another label, or with another output.

    ``(1 - own) D(...) + own x``, images as ``slope x`` and labels as ``factor label + offset``.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        factor: float = 1.0,
        slope: float = 1.0,
        residual: bool = False,
        logarithm: bool = False,
    ):
        super().__init__()
        self.module, self.factor, self.slope = module, factor, slope
        self.residual, self.logarithm = residual, logarithm

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        told = label.log() / 4 if self.logarithm else self.factor * label
        output = self.module(self.slope * x, told) / self.slope
        return x - output if self.residual else output


def wrapped(prior: NetworkPrior, **changes) -> NetworkPrior:
    """The prior without its measured error, and with other attributes."""
    other = copy.copy(prior.uncorrected())
    for name, value in changes.items():
        setattr(other, name, value)
    return other


def as_they_are(checkpoints: Path | None, count: int) -> Iterator[Case]:
    """Networks that are wrapped right."""
    for name, (data, size) in _SHIPPED.items():
        few = count if size < 128 else max(2, count // 2)
        yield Case(name, ti.load_prior(name), held_out(data, size, few), PASSED)
    if checkpoints is None:
        return
    colour = photographs(64, 8, "validation")
    grey = colour.mean(1, keepdim=True)
    yield Case("ffdnet-color", _published(checkpoints, "ffdnet-color", 3), colour, PASSED)
    yield Case("dncnn6N", _published(checkpoints, "scico-dncnn6N", 1), grey, PASSED)
    one = ti.priors.formats.KnownDenoiser(sigma=25 / 255, shape=(1, 64, 64))
    prior = ti.load_prior(checkpoints / "kair-dncnn-25.pth", format=one)
    yield Case("dncnn-25", prior, grey, ONE_LEVEL)
    assert isinstance(prior, NetworkPrior)
    believed = NetworkPrior(
        prior.module, "x0", shape=(1, 64, 64), sigma_min=1 / 255, sigma_max=50 / 255, centre=0.5
    )
    yield Case("dncnn-25, wrapped for 1 to 50 / 255", believed, grey, ONE_LEVEL)


def _published(folder: Path, name: str, channels: int) -> NetworkPrior:
    known = ti.priors.formats.KnownDenoiser(shape=(channels, 64, 64))
    prior = ti.load_prior(folder / f"{name}.safetensors", format=known)
    assert isinstance(prior, NetworkPrior)
    return prior


def planted(checkpoints: Path | None, count: int) -> Iterator[Case]:
    """The same networks with one mistake, or two."""
    digits, images = _network("digits-32"), held_out("digits", 32, count)
    low, high = "[0, 1] as if they were on [-1, 1]", "[0, 255] as if they were on [0, 1]"
    returned = f"the network returns {digits.parameterization!r}"
    yield Case("digits: offset 0, scale 1", wrapped(digits, offset=0.0, scale=1.0), images, low)
    yield Case("digits: images in 255ths", digits, 255 * images, high)
    yield Case("digits: white for black", digits, 1 - images, "black and white are exchanged")
    yield Case("digits: as 'x0'", wrapped(digits, parameterization="x0"), images, returned)
    yield Case(
        "digits: as 'epsilon'", wrapped(digits, parameterization="epsilon"), images, returned
    )
    told = wrapped(digits, label=lambda sigma: digits.label(2 * sigma))
    yield Case("digits: told 2 sigma", told, images, "a factor of 2 in sigma")
    told = wrapped(digits, label=lambda sigma: sigma)
    yield Case("digits: told sigma", told, images, "takes log(sigma) / 4")
    both = wrapped(digits, parameterization="v", offset=0.0, scale=1.0)
    yield Case("digits: as 'v', offset 0, scale 1", both, images, "; and ")
    phantom, slices = _network("phantom-64"), held_out("slices", 64, count)
    yield Case("phantom-64: white for black", phantom, 1 - slices, "black and white are exchanged")
    grey = photographs(64, 8, "validation").mean(1, keepdim=True)
    yield Case("phantom-64 on photographs", phantom, grey, "no suspect")
    if checkpoints is None:
        return
    ffdnet, colour = _published(checkpoints, "ffdnet-color", 3), photographs(64, 8, "validation")
    for name, changes, expected in (
        ("told 255 sigma", {"factor": 255.0}, "sigma on [0, 255], not on [0, 1]"),
        ("takes 255 sigma", {"factor": 1 / 255}, "sigma on [0, 1], and takes that on [0, 255]"),
        ("made for [0, 255]", {"slope": 1 / 255, "factor": 1 / 255}, "[0, 1] as if they were on"),
        ("returns the noise", {"residual": True}, "the network returns the noise"),
    ):
        network = Changed(ffdnet.module, **changes)
        yield Case(f"ffdnet: {name}", wrapped(ffdnet, module=network), colour, expected)


def _network(name: str) -> NetworkPrior:
    prior = ti.load_prior(name)
    assert isinstance(prior, NetworkPrior)
    return prior


def verdict(case: Case) -> tuple[bool, str]:
    """Whether the report says what is expected, and what it says first."""
    report = ti.check_prior(case.prior, case.images)
    if report.passed:
        return case.expected == PASSED, PASSED
    if report.suspects:
        said = report.suspects[0].mistake
        return case.expected in said, said
    said = "; ".join(one.text for one in report.findings if not one.passed)
    return case.expected in (said if case.expected != "no suspect" else "no suspect"), said


class Exact(nn.Module):
    """A network that is exactly a mixture's denoiser."""

    def __init__(self, mixture: ti.priors.GaussianMixture):
        super().__init__()
        self.mixture = mixture

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.mixture.denoise(x, sigma)


def false_alarms(seeds: int) -> dict[tuple[int, int], int]:
    """Reports that fail on exact networks, by side of the images and their number."""
    found = {}
    for size in (1, 2, 4, 8):
        for count in (8, 64):
            shape, failed = (1, size, size), 0
            for seed in range(seeds):
                means = 0.5 + 0.3 * normal(("mixtures", seed), (5, *shape)).float()
                mixture = ti.priors.GaussianMixture(means, torch.ones(5) / 5, 0.1)
                prior = NetworkPrior(
                    Exact(mixture), "x0", shape=shape, sigma_min=0.01, sigma_max=20.0
                )
                images = mixture.draw(count, seed=seed).float()
                failed += not ti.check_prior(prior, images, seed=seed).passed
            found[size, count] = failed
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=Path, help="folder of published denoisers")
    parser.add_argument("--count", type=int, default=16, help="images of the shipped priors")
    parser.add_argument("--exact", type=int, default=0, help="seeds of exact networks")
    options = parser.parse_args()
    if options.exact:
        for (size, count), failed in false_alarms(options.exact).items():
            print(f"{count} images of {size}x{size}: {failed} of {options.exact} fail", flush=True)
        return
    right = cases = 0
    print("| prior | right | report |\n|---|---|---|")
    for make in (as_they_are, planted):
        for case in make(options.checkpoints, options.count):
            ok, said = verdict(case)
            right, cases = right + ok, cases + 1
            print(f"| {case.name} | {'yes' if ok else 'NO'} | {said[:200]} |", flush=True)
    print(f"\n{right} of {cases} right")


if __name__ == "__main__":
    main()
