"""Published denoisers in one line, with the noise levels that they were trained on.

Images on [0, 1].  A network that is told its noise level has a range; one that is told nothing was
trained at one level, or blind to it on a range, and no file says which.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch

from tweedie_inverse.boundary.warn import warn_user
from tweedie_inverse.priors.formats.base import Format, Source, Target
from tweedie_inverse.priors.formats.denoiser_files import (
    Family,
    Named,
    family_of,
    levels_named,
)
from tweedie_inverse.priors.formats.networks.plain import PerChannel
from tweedie_inverse.priors.formats.reading.files import load_weights, ready
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.one_level import ONE_LEVEL, OneLevelPrior

_SMALLEST = 1 / 255


class Levels(NamedTuple):
    """Noise levels of the training, on [0, 1]; `guess` says what was assumed, if anything."""

    low: float
    high: float
    single: bool = False
    guess: str = ""


@dataclass(frozen=True)
class KnownDenoiser(Format):
    """DnCNN, IRCNN, FDnCNN, FFDNet, DRUNet, SCUNet, Restormer and their relatives, by their keys.

    Attributes:
        sigma: the one noise level that the network was trained at, on [0, 1], such as 25 / 255.
        sigma_min, sigma_max: the range instead, where it is another than that of the published
            networks, or where the network is blind and its name does not say so.
        shape: ``(channels, height, width)`` of the smallest images; default 64 x 64.  A grey
            network takes each channel of a colour image as an image of its own.
    """

    name: ClassVar[str] = "known-denoiser"
    sigma: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    shape: tuple[int, ...] | None = None

    def recognises(self, source: Source) -> bool:
        try:
            return source.checkpoint is not None and _family(source) is not None
        except KeyError:  # one of these, and incomplete, which loading it will say
            return True

    def describe(self, source: Source) -> dict[str, Any]:
        family = self._family(source)
        rows = {"network": family.name, "channels": family.channels, "network_range": (0.0, 1.0)}
        try:
            found = self._levels(family, source)
        except ValueError:
            return rows | {"sigma": "not in the file: format=KnownDenoiser(sigma=...)"}
        if found.single:
            level = f"{255 * found.low:.3g}/255"
            return rows | {"sigma": f"one level, {level}: no walk is possible with it"}
        return rows | {"sigma_min": found.low, "sigma_max": found.high}

    def load(self, source: Source, target: Target) -> NetworkPrior:
        family = self._family(source)
        levels = self._levels(family, source)
        shape = self.shape or (family.channels, 64, 64)
        if len(shape) != 3 or (shape[0] != family.channels and family.channels != 1):
            raise ValueError(
                f"load_prior({source.name!r}): this {family.name} is for images of "
                f"{family.channels} channels, but KnownDenoiser(shape={shape}) was given"
            )
        with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten at once
            network = family.build()
        assert source.checkpoint is not None
        if family.weights:
            load_weights(network, dict(family.weights), source.checkpoint.path)
        network = ready(network, target.device)
        for guess in (levels.guess, self._guessed(family, source)):
            if guess:
                warn_user(f"load_prior({source.name!r}): {guess}")
        offset, scale = target.units((0.0, 1.0))
        width = ONE_LEVEL if levels.single else 0.0
        kind = OneLevelPrior if levels.single else NetworkPrior
        return kind(
            network if shape[0] == family.channels else PerChannel(network),
            "x0",
            shape=tuple(shape),
            offset=offset,
            scale=scale,
            sigma_min=levels.low * scale * (1 - width),
            sigma_max=levels.high * scale * (1 + width),
            centre=sum(target.value_range) / 2,
            fully_convolutional=family.fully_convolutional,
            name=family.name,
        )

    def _family(self, source: Source) -> Family:
        try:
            found = _family(source)
        except KeyError as error:
            raise ValueError(
                f"load_prior({source.name!r}): the weights of a published denoiser, but {error} is "
                "missing"
            ) from error
        if found is None:
            names = ", ".join(list(source.state)[:5]) or "no tensors"
            raise ValueError(
                f"load_prior({source.name!r}): no published denoiser has these weights ({names}); "
                "build the network and pass the module with formats.Module(...)"
            )
        return found

    def _guessed(self, family: Family, source: Source) -> str:
        """What is to be said where nothing but the channels speaks for the family."""
        named = family.name.lower() in Path(source.name).stem.lower()
        if family.as_published or named or self != KnownDenoiser():
            return ""
        return (
            f"read as {family.name} by the channels of its convolutions, though the published ones "
            "have other layers. Any setting of KnownDenoiser(...) says that it is one; if it is "
            "not, build the network and pass the module with formats.Module(...)"
        )

    def _levels(self, family: Family, source: Source) -> Levels:
        """As the user says; else as the family was trained; else as the file's name says."""
        low = self.sigma_min or _SMALLEST
        if self.sigma is not None:
            if self.sigma_max is not None or family.told == "level":
                why = "" if family.told == "level" else "one level, and sigma_max= a range"
                why = why or f"of one level, and a {family.name} is told its level: say sigma_max="
                raise ValueError(f"load_prior({source.name!r}): KnownDenoiser(sigma=) is {why}")
            return Levels(self.sigma, self.sigma, single=True)
        if self.sigma_max is not None:
            if not low < self.sigma_max:
                raise ValueError(
                    f"load_prior({source.name!r}): KnownDenoiser needs sigma_min < sigma_max, got "
                    f"{low:g} and {self.sigma_max:g}"
                )
            return Levels(low, self.sigma_max)
        named = levels_named(Path(source.name).stem)
        if named.real:
            raise ValueError(
                f"load_prior({source.name!r}): its name says that it removes the noise of real "
                "cameras, not Gaussian noise of a known level, so that it is not E[x0 | x]. If it "
                "is one of Gaussian noise, say KnownDenoiser(sigma=...) or (sigma_max=...)"
            )
        if family.told == "level":
            return self._told(family, named, low)
        return self._not_told(family, named, low, source)

    def _told(self, family: Family, named: Named, low: float) -> Levels:
        high, guess = family.sigma_max or 1.0, ""
        if family.name == "DRUNet" and named.deepinv:
            high = 20 / 255  # deepinv's own training, where DPIR's went to 50 / 255
        if named.clipped:
            guess = (
                "its name says that it was trained on noisy images clipped to [0, 1]; those of a "
                "walk are not clipped, and dark and bright places will be too far from the ends. "
                "Take the network without 'clip' in its name; sigma_max= ends this warning"
            )
        return Levels(low, high, guess=guess)

    def _not_told(self, family: Family, named: Named, low: float, source: Source) -> Levels:
        if named.level is not None and not named.blind:
            level = f"{255 * named.level:.3g}/255"
            guess = (
                f"a {family.name} for one noise level; that it is {level} was taken from the "
                f"file's name. KnownDenoiser(sigma={level}) says so, another sigma= or sigma_max= "
                "otherwise"
            )
            return Levels(named.level, named.level, single=True, guess=guess)
        if family.sigma_max is not None and (named.blind or family.told == "blind"):
            what = f"up to {255 * family.sigma_max:.0f}/255"
            guess = "" if named.blind else (
                f"read as a blind {family.name}, trained on noise {what}, as the published ones "
                "with as many layers are. KnownDenoiser(sigma_max=...) says the range, sigma= that "
                "it is of one level"
            )  # fmt: skip
            return Levels(low, family.sigma_max, guess=guess)
        raise ValueError(
            f"load_prior({source.name!r}): this {family.name} is not told its noise level, and the "
            "file does not say at which it was trained. Give format=KnownDenoiser(sigma=25/255) "
            "for one level, or (sigma_max=55/255) for a blind network"
        )


def _family(source: Source) -> Family | None:
    content = None if source.checkpoint is None else source.checkpoint.content
    return family_of(content, source.state)
