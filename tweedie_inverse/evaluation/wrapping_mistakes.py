"""The usual mistakes in wrapping a network, each undone in turn to see whether it helps."""

import copy
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

_CLEARLY = 1.1  # a mistake is suspected if undoing it divides the squared error by this

Denoiser = Callable[[Tensor, Tensor], Tensor]


class Suspect(NamedTuple):
    """A mistake, and by what factor undoing it reduces the squared error."""

    mistake: str
    improvement: float


def find_mistakes(
    prior: Prior, images: Tensor, sigmas: list[float], seed: int
) -> tuple[Suspect, ...]:
    """The mistake whose undoing reduces the error most, and those that do as well.

    Args:
        images: ``(count, *shape)``, in data units.
        sigmas: noise levels at which it is tried.
    """
    bare = _remembering(prior.uncorrected())
    batches = [
        (images + s * normal(("check prior", seed, "try", i), images.shape).to(images), s)
        for i, s in enumerate(sigmas)
    ]

    def error_of(denoiser: Denoiser) -> Tensor:
        errors = []
        for noisy, sigma in batches:
            denoised = denoiser(noisy, torch.full((len(noisy),), sigma).to(noisy))
            errors.append((denoised - images).double().square().mean())
        logs = torch.stack(errors).log().nan_to_num(nan=50.0, posinf=50.0)
        return logs.clamp(max=50.0).mean()

    as_is = error_of(bare.denoise)
    found: dict[str, float] = {}
    for mistake, undone in _mistakes(bare):
        improvement = float((as_is - error_of(undone)).exp())
        found[mistake] = max(improvement, found.get(mistake, 0.0))
    best = max(found.values())
    if best < _CLEARLY:
        return ()
    alike = [Suspect(*item) for item in found.items() if item[1] > 0.98 * best]
    return tuple(sorted(alike, key=lambda suspect: -suspect.improvement))


def _mistakes(prior: Prior) -> Iterator[tuple[str, Denoiser]]:
    """Name of a mistake, and the denoiser in which it is undone."""
    for factor in (0.5, 2.0):
        yield "a factor of 2 in sigma", _told(prior, factor)
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


def _told(prior: Prior, factor: float) -> Denoiser:
    return lambda x, sigma: prior.denoise(x, factor * sigma)


def _rescaled(prior: Prior, slope: float, shift: float) -> Denoiser:
    return lambda x, sigma: (prior.denoise(slope * x + shift, slope * sigma) - shift) / slope


def _variant(prior: NetworkPrior, kind: Parameterization, coordinates: Coordinates) -> NetworkPrior:
    other = copy.copy(prior)
    other.parameterization, other.coordinates = kind, coordinates
    return other


def _relabelled(prior: NetworkPrior, change: Callable[[Tensor], Tensor]) -> NetworkPrior:
    """The network is told another sigma, while its input stays as it is."""

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
    """Parameterizations differ in what is done with the output: do not compute it again."""

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
