"""The usual mistakes in wrapping a network, each undone in turn to see whether it helps."""

import copy
import math
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from operator import mul
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.timesteps import timestep_to_sigma
from tweedie_inverse.priors import NetworkPrior, Prior
from tweedie_inverse.priors.network import Coordinates, Parameterization

# A mistake is suspected if undoing it divides the squared error by this, and its logarithm is this
# many standard errors away from zero.  Undoing what was right makes the error larger on average, so
# that a few are enough.
_CLEARLY, _STANDARD_ERRORS = 1.1, 2.0
# Suspects that are nearly as good as the best one are named, too.
_ALIKE = 0.98
# Keeps the noise of the trials apart from that of the check itself.
_TRY = zlib.crc32(b"try")
_WORST = 50.0  # the largest logarithm of a squared error that counts: infinity and NaN, too

# (x (batch, *shape), sigma (batch,)), both in data units -> the denoised images.
Denoiser = Callable[[Tensor, Tensor], Tensor]


class Suspect(NamedTuple):
    """A mistake, and by what factor undoing it reduces the squared error."""

    mistake: str
    improvement: float


class _Trial(NamedTuple):
    """Images ``(count, *shape)``, and the same with noise of level `sigma`."""

    clean: Tensor
    noisy: Tensor
    sigma: float


def find_mistakes(
    prior: Prior, images: Tensor, sigmas: list[float], seed: int
) -> tuple[Suspect, ...]:
    """The mistake whose undoing reduces the error most, and those that do as well.

    Args:
        images: ``(count, *shape)``, in data units; two or more.
        sigmas: noise levels at which it is tried.
        seed: of the noise.
    """
    bare = _remembering(prior.uncorrected())
    trials = [
        _Trial(
            images, images + s * normal(("check prior", seed, _TRY, i), images.shape).to(images), s
        )
        for i, s in enumerate(sigmas)
    ]
    as_is = _squared_errors(bare.denoise, trials)
    found: dict[str, float] = {}
    for mistake, undone in _mistakes(bare):
        improvement = _improvement(as_is, _squared_errors(undone, trials))
        found[mistake] = max(improvement, found.get(mistake, 0.0))
    best = max(found.values())
    if best < _CLEARLY:
        return ()
    alike = [Suspect(*item) for item in found.items() if item[1] > _ALIKE * best]
    return tuple(sorted(alike, key=lambda suspect: -suspect.improvement))


def _squared_errors(denoiser: Denoiser, trials: list[_Trial]) -> Tensor:
    """Mean squared errors ``(levels, count)`` of each image at each noise level, float64."""
    errors = []
    for clean, noisy, sigma in trials:
        denoised = denoiser(noisy, torch.full((len(noisy),), sigma).to(noisy))
        errors.append((denoised - clean).double().square().flatten(1).mean(1))
    worst = math.exp(_WORST)
    return torch.stack(errors).nan_to_num(nan=worst, posinf=worst).clamp(max=worst)


def _improvement(as_is: Tensor, undone: Tensor) -> float:
    """The factor between two tables of squared errors, geometric over the levels; 1 by chance.

    Args:
        as_is, undone: ``(levels, count)``, of the same images.
    """
    before, after = as_is.mean(1, keepdim=True), undone.mean(1, keepdim=True)
    logarithm = float((before.log() - after.log()).mean())
    # To first order, the logarithm is the average over the images of its value plus this share.
    share = (as_is / before - undone / after).mean(0)
    standard_error = float(share.std()) / math.sqrt(len(share))
    return math.exp(logarithm) if logarithm > _STANDARD_ERRORS * standard_error else 1.0


def _mistakes(prior: Prior) -> Iterator[tuple[str, Denoiser]]:
    """Name of a mistake, and the denoiser in which it is undone."""
    for factor in (0.5, 2.0):
        yield "a factor of 2 in sigma", _with_other_sigma(prior, factor)
    for given, wanted, slope, shift in (
        ("[0, 1]", "[-1, 1]", 2.0, -1.0),
        ("[-1, 1]", "[0, 1]", 0.5, 0.5),
        ("[0, 255]", "[0, 1]", 1 / 255, 0.0),
        ("[0, 255]", "[-1, 1]", 2 / 255, -1.0),
    ):
        yield (
            f"range: it is given images on {given} as if they were on {wanted}",
            _rescaled(prior, slope, shift),
        )
    yield (
        "parameterization: the sign of the output",
        lambda x, sigma: 2 * x - prior.denoise(x, sigma),
    )
    if isinstance(prior, NetworkPrior):
        yield from _network_mistakes(prior)
    else:
        low, high = prior.sigma_min, prior.sigma_max
        yield (
            "timestep direction: small and large sigma are exchanged",
            lambda x, sigma: prior.denoise(x, low * high / sigma),
        )


def _network_mistakes(prior: NetworkPrior) -> Iterator[tuple[str, Denoiser]]:
    for kind in get_args(Parameterization):
        for coordinates in get_args(Coordinates):
            if (kind, coordinates) == (prior.parameterization, prior.coordinates):
                continue
            if kind == prior.parameterization:
                mistake = f"coordinates: they are {coordinates!r}"
            else:
                mistake = f"parameterization: the network returns {kind!r}"
            yield mistake, _variant(prior, kind, coordinates).denoise
    for factor in (0.5, 2.0):
        yield "a factor of 2 in sigma", _relabelled(prior, partial(mul, factor)).denoise
    mistake = "timestep direction: small and large sigma are exchanged"
    if prior.timesteps is None:
        low, high = prior.sigma_min / prior.scale, prior.sigma_max / prior.scale
        yield mistake, _relabelled(prior, lambda sigma: low * high / sigma).denoise
    else:
        last, flipped = len(prior.timesteps) - 1, copy.copy(prior)
        flipped.module = _Relabelled(prior.module, lambda t: last - t)
        yield mistake, flipped.denoise


def _with_other_sigma(prior: Prior, factor: float) -> Denoiser:
    return lambda x, sigma: prior.denoise(x, factor * sigma)


def _rescaled(prior: Prior, slope: float, shift: float) -> Denoiser:
    return lambda x, sigma: (prior.denoise(slope * x + shift, slope * sigma) - shift) / slope


def _variant(prior: NetworkPrior, kind: Parameterization, coordinates: Coordinates) -> NetworkPrior:
    other = copy.copy(prior)
    other.parameterization, other.coordinates = kind, coordinates
    return other


def _relabelled(prior: NetworkPrior, change: Callable[[Tensor], Tensor]) -> NetworkPrior:
    """The prior with the noise label of another sigma; the network's input stays as it is."""

    def label_of(label: Tensor) -> Tensor:
        return prior.label(change(_sigma_of(prior, label)))

    other = copy.copy(prior)
    other.module = _Relabelled(prior.module, label_of)
    return other


def _sigma_of(prior: NetworkPrior, label: Tensor) -> Tensor:
    """Inverse of `NetworkPrior.label`, within a table."""
    if prior.timesteps is not None:
        return timestep_to_sigma(label, prior.timesteps.to(label))
    if prior.coordinates == "edm":
        return (4 * label).exp()
    return label / (1 - label) if prior.coordinates == "flow" else label


class _Relabelled(nn.Module):
    def __init__(self, module: nn.Module, change: Callable[[Tensor], Tensor]):
        super().__init__()
        self.module, self.change = module, change

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.module(x, self.change(label))


class _Remembering(nn.Module):
    """A network that remembers its outputs.

    Parameterizations differ in what is made of the output, which need not be computed again.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.known: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        for known_x, known_label, output in self.known:
            if torch.equal(known_x, x) and torch.equal(known_label, label):
                return output
        output = self.module(x, label)
        self.known.append((x, label, output))
        return output


def _remembering(prior: Prior) -> Prior:
    if not isinstance(prior, NetworkPrior):
        return prior
    other = copy.copy(prior)
    other.module = _Remembering(prior.module)
    return other
