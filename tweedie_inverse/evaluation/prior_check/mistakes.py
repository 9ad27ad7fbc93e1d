"""The usual mistakes in wrapping a network, each with the prior in which it is undone.

Every entry is a copy of the prior with other settings, so that what helps can be kept.
"""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from tweedie_inverse.numerics.timesteps import TABLES, sigma_to_timestep
from tweedie_inverse.priors import NetworkPrior, Prior
from tweedie_inverse.priors.parameterizations import Coordinates, Parameterization
from tweedie_inverse.priors.wrapped import WrappedPrior


class Undone(NamedTuple):
    """A mistake, the prior without it, and the settings that make the difference.

    Attributes:
        mistake: its name.
        prior: a copy of the prior, wrapped otherwise.
        cure: what to do, with the settings of `NetworkPrior` as they are written; empty where the
            name says it all.
        is_of_kind: whether it is one of kind, such as a parameterization, and not of degree, such
            as a range: a little more contrast may suit a network by chance.
    """

    mistake: str
    prior: Prior
    cure: str
    is_of_kind: bool = False


# (images as they are given, as they are wanted, slope and shift from the first to the second)
_RANGES = (
    ("[0, 1]", "[-1, 1]", 2.0, -1.0),
    ("[-1, 1]", "[0, 1]", 0.5, 0.5),
    ("[0, 255]", "[0, 1]", 1 / 255, 0.0),
    ("[0, 255]", "[-1, 1]", 2 / 255, -1.0),
    ("[0, 1]", "[0, 255]", 255.0, 0.0),
    ("[0, 1]", "[-0.5, 0.5]", 1.0, -0.5),
    ("[-1, 1]", "[-0.5, 0.5]", 0.5, 0.0),
    ("[-0.5, 0.5]", "[0, 1]", 1.0, 0.5),
    ("[-0.5, 0.5]", "[-1, 1]", 2.0, 0.0),
)
_COLOURS = 3
_SAME = 1e-9  # two shifts that are one


def mistakes_of(prior: Prior) -> Iterator[Undone]:
    """Each mistake that may have been made in wrapping this prior."""
    if isinstance(prior, NetworkPrior):
        yield from _network_mistakes(prior)
    else:
        yield from _denoiser_mistakes(prior)


def _range_name(given: str, wanted: str) -> str:
    return f"range: it is given images on {given} as if they were on {wanted}"


_DIRECTION = "timestep direction: small and large sigma are exchanged"
_FACTOR = "a factor of 2 in sigma"
_INVERTED = "range: black and white are exchanged"


def _network_mistakes(prior: NetworkPrior) -> Iterator[Undone]:
    for given, wanted, slope, shift in _RANGES:
        name = _range_name(given, wanted)
        # As the wrapping shows it, from what the network is given to what it should be given ...
        yield _in_range(prior, name, slope, shift)
        # ... and in data units, where the images are others than the wrapping is made for.
        moved = (slope * prior.offset + shift - prior.offset) / prior.scale
        if abs(moved - shift) > _SAME:
            yield _in_range(prior, name, slope, moved)
    for shift in (0.0, 1.0):  # x -> shift - x: about 0 for [-1, 1], about 1 / 2 for [0, 1]
        other = _moved(prior, 1.0, -shift)
        other.module = _Negated(prior.module)
        yield Undone(_INVERTED, other, "exchange them in the images, such as 1 - x for [0, 1]")
    if prior.shape[0] == _COLOURS and len(prior.shape) == _COLOURS:
        other = copy.copy(prior)
        other.module = _OtherWayRound(prior.module)
        yield Undone("channels: blue is taken for red", other, "give it x.flip(1)")
    yield from _outputs(prior)
    yield from _labels(prior)


def _in_range(prior: NetworkPrior, mistake: str, slope: float, shift: float) -> Undone:
    other = _moved(prior, slope, shift)
    cure = f"set offset={other.offset:.6g}, scale={other.scale:.6g}"
    return Undone(mistake, other, cure)


def _moved(prior: NetworkPrior, slope: float, shift: float) -> NetworkPrior:
    """The network sees ``slope * x + shift`` of what it sees now; its range goes along."""
    other = copy.copy(prior)
    other.offset = prior.offset - shift * prior.scale / slope
    other.scale = other.unit = prior.scale / slope
    other.sigma_min, other.sigma_max = prior.sigma_min / slope, prior.sigma_max / slope
    return other


def _outputs(prior: NetworkPrior) -> Iterator[Undone]:
    """Another parameterization, or other coordinates, or both."""
    for kind in get_args(Parameterization):
        for coordinates in get_args(Coordinates):
            if (kind, coordinates) == (prior.parameterization, prior.coordinates):
                continue
            other = copy.copy(prior)
            other.parameterization, other.coordinates = kind, coordinates
            mistake = f"parameterization: the network returns {kind!r}"
            if kind == prior.parameterization:
                mistake = f"coordinates: they are {coordinates!r}"
            yield Undone(mistake, other, f"set {kind!r}, coordinates={coordinates!r}", True)
    negated, residual = copy.copy(prior), copy.copy(prior)
    negated.module = _Output(prior.module, -1.0)
    yield Undone(
        "parameterization: the sign of the output", negated, "wrap -network(x, label)", True
    )
    residual.module = _Output(prior.module, -1.0, 1.0)
    residual.parameterization, residual.coordinates = "x0", "ve"
    mistake = "parameterization: the network returns the noise, x - x0"
    yield Undone(mistake, residual, "wrap x - network(x, label) as 'x0'", True)


def _labels(prior: NetworkPrior) -> Iterator[Undone]:
    """What the network may want to be told instead of what it is told; its input stays."""
    for factor in (0.5, 2.0):
        other = _told(prior, _FACTOR, partial(_of_other_level, prior, factor), "")
        yield other._replace(is_of_kind=True)
    reverse = partial(_exchanged, prior)
    yield _told(prior, _DIRECTION, reverse, "")
    for factor, cure in ((255.0, "set label_scale=255"), (1 / 255, "set label_scale=1 / 255")):
        name = "noise label: it is told sigma " + (
            "on [0, 1], and takes that on [0, 255]" if factor > 1 else "on [0, 255], not on [0, 1]"
        )
        yield _told(prior, name, partial(_scaled, prior, factor), cure)
    if prior.timesteps is not None:
        count = len(prior.timesteps)
        for steps in (count, count - 1):
            name, cure = (
                f"noise label: the network takes t / {count}",
                f"set label_scale=1 / {steps}",
            )
            yield _told(prior, name, partial(_scaled, prior, 1 / steps), cure)
    for count in (1000, 999):
        name = "noise label: it is told t / 1000, and takes t"
        yield _told(prior, name, partial(_scaled, prior, float(count)), f"set label_scale={count}")
    for name, form in _FORMS.items():
        yield _told(
            prior, f"noise label: the network takes {name}", form, "set label=, a function of sigma"
        )
    for name, table in TABLES.items():
        cure = f"set timesteps=ti.schedules.{table.__name__}()"
        told = partial(_number_in, table())
        yield _told(prior, f"noise label: it is t of the {name} schedule", told, cure)


def _told(
    prior: NetworkPrior, mistake: str, label: Callable[[Tensor], Tensor], cure: str
) -> Undone:
    other = copy.copy(prior)
    other.label = label  # type: ignore[method-assign,assignment]
    return Undone(mistake, other, cure)


def _of_other_level(prior: NetworkPrior, factor: float, sigma: Tensor) -> Tensor:
    return prior.label(factor * sigma)


def _scaled(prior: NetworkPrior, factor: float, sigma: Tensor) -> Tensor:
    return factor * prior.label(sigma)


def _exchanged(prior: NetworkPrior, sigma: Tensor) -> Tensor:
    if prior.timesteps is not None:
        return len(prior.timesteps) - 1 - prior.label(sigma)
    return prior.label(prior.sigma_min * prior.sigma_max / prior.scale**2 / sigma)


def _number_in(table: Tensor, sigma: Tensor) -> Tensor:
    return sigma_to_timestep(sigma, table.to(sigma))


def _sigma(sigma: Tensor) -> Tensor:
    return sigma


def _quarter_logarithm(sigma: Tensor) -> Tensor:
    return sigma.log() / 4


def _share(sigma: Tensor) -> Tensor:
    return sigma / (1 + sigma)


def _vp_time(sigma: Tensor) -> Tensor:
    return torch.log1p(sigma**2)


_FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigma": _sigma,
    "log(sigma)": torch.log,
    "log(sigma) / 4": _quarter_logarithm,
    "sigma / (1 + sigma)": _share,
    "log(1 + sigma^2)": _vp_time,
}


def _denoiser_mistakes(prior: Prior) -> Iterator[Undone]:
    """Of a denoiser of the user's own, whose inside is not known."""
    for factor in (0.5, 2.0):
        yield Undone(_FACTOR, _Read(prior, told=factor), "", True)
    for factor in (255.0, 1 / 255):
        name = "noise label: sigma is taken " + (
            "on [0, 255], and told on [0, 1]" if factor > 1 else "on [0, 1], and told on [0, 255]"
        )
        yield Undone(name, _Read(prior, told=factor), "")
    for given, wanted, slope, shift in _RANGES:
        yield Undone(_range_name(given, wanted), _Read(prior, slope=slope, shift=shift), "")
    for shift in (0.0, 1.0):
        yield Undone(_INVERTED, _Read(prior, slope=-1.0, shift=shift), "")
    yield Undone("parameterization: the sign of the output", _Read(prior, sign=-1.0), "")
    noise = "parameterization: the network returns the noise, x - x0"
    yield Undone(noise, _Read(prior, sign=-1.0, own=0.0), "")
    yield Undone(_DIRECTION, _Read(prior, exchanged=True), "")


class _Read(WrappedPrior):
    """A user's denoiser, given other images or another sigma, or with another sign of its output.

    Images go in as ``slope x + shift`` and come out again.  With ``sign=-1`` the answer is ``(1 +
    own) x - D``: for a denoiser that adds the noise it should take away, or, where `own` is 0, for
    one that returns the noise itself.
    """

    def __init__(
        self,
        prior: Prior,
        *,
        told: float = 1.0,
        slope: float = 1.0,
        shift: float = 0.0,
        sign: float = 1.0,
        own: float = 1.0,
        exchanged: bool = False,
    ):
        super().__init__(prior)
        self.told, self.slope, self.shift = told, slope, shift
        self.sign, self.own, self.exchanged = sign, own, exchanged
        self.sigma_min = prior.sigma_min / abs(slope)
        self.sigma_max = prior.sigma_max / abs(slope)

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level = abs(self.slope) * torch.as_tensor(sigma)
        if self.exchanged:
            level = self.prior.sigma_min * self.prior.sigma_max / level
        given = self.slope * x + self.shift
        denoised = self.prior.denoise(given, self.told * level)
        if self.sign < 0:
            denoised = (1 + self.own) * given - denoised
        return (denoised - self.shift) / self.slope


class _Negated(nn.Module):
    """``-network(-x)``: the same network for images with black and white exchanged."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return -self.module(-x, label)


class _OtherWayRound(nn.Module):
    """A network whose channels are in the opposite order."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.module(x.flip(1), label).flip(1)


class _Output(nn.Module):
    """``own x + sign network(x)``."""

    def __init__(self, module: nn.Module, sign: float, own: float = 0.0):
        super().__init__()
        self.module, self.sign, self.own = module, sign, own

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.own * x + self.sign * self.module(x, label)
