"""Samples of what was not known of an instrument: noise levels, and numbers of its operator."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.operators.kernel_prior import KernelPrior
from tweedie_inverse.operators.phase_prior import PhasePrior
from tweedie_inverse.solving.parameter import Parameter, settled
from tweedie_inverse.solving.parameter_plots import histograms

# The data do not tell a number whose posterior is wider than this share of its prior.
_NO_NEWS = 0.7
_CHANCE = 0.05
# A truth may lie at an end of its range by chance: of many measurements so large a share may.
_MANY = 0.25


class Chains(NamedTuple):
    """Coordinates of all unknowns, as the walkers of a part went through them."""

    trace: Tensor  # (walkers, levels, count) float64, after each noise level
    start: Tensor  # (walkers, moves, count), at the first level
    accepted: Tensor  # (walkers,), share of the moves that were


@dataclass(frozen=True, eq=False, repr=False)
class NoisePosterior:
    """The posterior of the noise.

    Attributes:
        std: its level, or its levels; of counts the read-out noise.
        gain: of counts.
    """

    drawn: tuple[Parameter, ...]

    @property
    def std(self) -> Parameter:
        return self._named("std")

    @property
    def gain(self) -> Parameter:
        return self._named("gain")

    def _named(self, name: str) -> Parameter:
        for one in self.drawn:
            if one.name == f"noise {name}":
                return one
        names = ", ".join(one.name.removeprefix("noise ") for one in self.drawn)
        raise AttributeError(f"posterior.noise.{name}: it was not drawn, only {names}")

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.drawn))


class Parameters(Mapping[str, Parameter]):
    """Posteriors of the unknown numbers of an operator, by name."""

    def __init__(self, given: Sequence[Parameter]):
        self._by_name = {each.name: each for each in given}

    def __getitem__(self, name: str) -> Parameter:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self._by_name.values())) or "no unknown numbers"

    def plot(
        self,
        path: str | Path | None = None,
        *,
        index: int = 0,
        truth: Mapping[str, float] | None = None,
    ):
        """Samples and trace of every number, one below the other; returns the figure.

        Args:
            path: where to save it.
            index: which measurement of a batch.
            truth: numbers by name, where they are known.

        Raises:
            ValueError: there are no numbers.
            KeyError: a truth of another name.
        """
        truth = dict(truth or {})
        if not self._by_name:
            raise ValueError("parameters.plot: no unknown numbers; see ops.parametric")
        for name in truth.keys() - self._by_name.keys():
            raise KeyError(f"no unknown {name!r}; there are {', '.join(self._by_name)}")
        if len(self) == 1:
            only = next(iter(self.values()))
            return only.plot(path, index=index, truth=truth.get(only.name))
        ones = [each.of(index) for each in self.values()]
        return histograms(ones, [truth.get(each.name) for each in ones], path)


@dataclass(frozen=True, eq=False)
class InstrumentSamples:
    """All that a walk drew of its instrument, in coordinates; without `batch` as a posterior is.

    Attributes:
        names: of the operator's numbers.
        is_logarithmic: whether the coordinate is a logarithm, of all unknowns, noise levels first.
        by_group: whether the noise has levels by channel or group.
        u: ``(batch, num_samples, count)``, the samples.
        trace, start, accepted: as of `Chains`, ``(batch, num_samples, ...)``.
        low, high, deviation: ``(batch, count)``, ends and standard deviation of the priors.
        kernel, phase: the prior of an unknown kernel or phase, which the operator's numbers make.
        noise_names: what the unknowns of the noise are, "std" or "gain".
    """

    names: tuple[str, ...]
    is_logarithmic: tuple[bool, ...]
    by_group: bool
    u: Tensor
    trace: Tensor
    start: Tensor
    accepted: Tensor
    low: Tensor
    high: Tensor
    deviation: Tensor
    kernel: KernelPrior | None = None
    phase: PhasePrior | None = None
    noise_names: tuple[str, ...] = ("std",)

    TENSORS = ("u", "trace", "start", "accepted", "low", "high", "deviation")

    @property
    def levels(self) -> int:
        """How many of the unknowns are noise levels."""
        return len(self.is_logarithmic) - len(self.names)

    @property
    def parameters(self) -> Parameters:
        if self.kernel is not None:
            return Parameters([self._of_kernel(self.kernel)])
        if self.phase is not None:
            return Parameters([self._of_phase(self.phase)])
        return Parameters(
            [self._parameter(name, self.levels + i) for i, name in enumerate(self.names)]
        )

    @property
    def noise(self) -> NoisePosterior | None:
        """None where the noise was given."""
        if not self.levels:
            return None
        places: Sequence[int | slice] = range(self.levels)
        if self.by_group:
            places = [slice(0, self.levels)]
        named = zip(self.noise_names, places, strict=True)
        return NoisePosterior(tuple(self._parameter(f"noise {name}", at) for name, at in named))

    def _of_kernel(self, prior: KernelPrior) -> Parameter:
        axis = self.low.ndim - 1
        numbers, trace, start = (
            prior.kernels(of[..., self.levels :]) for of in (self.u, self.trace, self.start)
        )
        spread = numbers.std(axis) if numbers.shape[axis] > 1 else numbers.mean(axis) * torch.nan
        ends = self.low.new_tensor([0.0, 1.0]).expand(*self.low.shape[:-1], 2)
        told = _is_told(spread, prior.deviation.to(spread), numbers.shape[axis])
        return Parameter("kernel", numbers, ends, trace, settled(start, axis), told)

    def _of_phase(self, prior: PhasePrior) -> Parameter:
        """Radians; not told where it is open by a quarter of a turn."""
        axis = self.low.ndim - 1
        maps, trace, start = (
            prior.maps(of[..., self.levels :]) for of in (self.u, self.trace, self.start)
        )
        spread = maps.std(axis) if maps.shape[axis] > 1 else maps.mean(axis) * torch.nan
        ends = self.low.new_tensor([-prior.reach, prior.reach]).expand(*self.low.shape[:-1], 2)
        told = ~(spread > torch.pi / 2)
        return Parameter("phase", maps, ends, trace, settled(start, axis), told)

    def _parameter(self, name: str, place: int | slice) -> Parameter:
        first = place.start if isinstance(place, slice) else place
        logarithmic = self.is_logarithmic[first]
        axis = self.low.ndim - 1
        u = self.u[..., place]
        spread = u.std(axis) if u.shape[axis] > 1 else torch.full_like(u.mean(axis), torch.nan)
        ends = torch.stack([self.low[..., first], self.high[..., first]], -1)

        def values(coordinates: Tensor) -> Tensor:
            return coordinates.exp() if logarithmic else coordinates

        return Parameter(
            name,
            values(u),
            values(ends),
            values(self.trace[..., place]),
            settled(self.start[..., place], axis),
            _is_told(spread, self.deviation[..., place], self.u.shape[axis]),
            logarithmic,
        )

    def map(self, function: Any) -> "InstrumentSamples":
        """With every tensor changed alike."""
        return replace(self, **{name: function(getattr(self, name)) for name in self.TENSORS})

    @staticmethod
    def changed(given: "InstrumentSamples | None", function: Any) -> "InstrumentSamples | None":
        """`map`, of None too."""
        return None if given is None else given.map(function)

    @staticmethod
    def joined(parts: Sequence["InstrumentSamples | None"]) -> "InstrumentSamples | None":
        """Those of several batches; None where one has none, or they are of different unknowns."""
        known = [part for part in parts if part is not None]
        kinds = {
            (
                *(part.names, part.is_logarithmic, part.by_group),
                *(part.kernel, part.phase, part.noise_names),
            )
            for part in known
        }
        if len(known) < len(parts) or len(kinds) != 1:
            return None
        joined: dict[str, Any] = {
            name: torch.cat([getattr(part, name) for part in known])
            for name in InstrumentSamples.TENSORS
        }
        return replace(known[0], **joined)

    def tensors(self) -> dict[str, Tensor]:
        """By the names that they have in files."""
        return {f"instrument.{name}": getattr(self, name) for name in self.TENSORS}

    def notes(self) -> dict[str, Any]:
        """The rest of it, as JSON."""
        return {
            "names": list(self.names),
            "is_logarithmic": list(self.is_logarithmic),
            "by_group": self.by_group,
            "kernel": None if self.kernel is None else asdict(self.kernel),
            "phase": None if self.phase is None else asdict(self.phase),
            "noise_names": list(self.noise_names),
        }

    @staticmethod
    def of_file(
        tensors: Mapping[str, Tensor], notes: Mapping[str, Any] | None
    ) -> "InstrumentSamples | None":
        """What `tensors` and `notes` were written from; None where the instrument was known."""
        if notes is None:
            return None
        return InstrumentSamples(
            tuple(notes["names"]),
            tuple(notes["is_logarithmic"]),
            notes["by_group"],
            **{name: tensors[f"instrument.{name}"] for name in InstrumentSamples.TENSORS},
            kernel=None if notes["kernel"] is None else KernelPrior(**notes["kernel"]),
            phase=PhasePrior.of_notes(notes.get("phase")),
            noise_names=tuple(notes.get("noise_names", ("std",))),
        )

    @property
    def each(self) -> list[Parameter]:
        """The posteriors of all unknowns, the noise first."""
        noise = () if self.noise is None else self.noise.drawn
        return [*noise, *self.parameters.values()]

    @property
    def at_edge(self) -> tuple[str, ...]:
        """Which of the unknowns lie at an end of a range, in words.

        Such a range, and not the data, says where they are.  Normal priors have no ends.
        """
        found = []
        for one in [] if self.kernel or self.phase else self.each:
            for side, is_there in zip(("lower", "upper"), one.at_ends() or (), strict=False):
                # A truth may lie at an end by chance: of many measurements not one is meant.
                if float(is_there.double().mean()) > _MANY:
                    low, high = one.prior_range.reshape(-1, 2)[0].tolist()
                    found.append(f"{one.name} at the {side} end of [{low:.4g}, {high:.4g}]")
        return tuple(found)

    @property
    def report(self) -> str:
        """What they are, line by line, and what a drawn noise level hides."""
        lines = [*map(repr, self.each)]
        if self.noise is not None:
            lines.append(
                "a noise level that is drawn grows with what prior or operator have wrong, and "
                "keeps the chi-square near 1; check_fit with a known level looks for that"
            )
        return "\n".join(lines)

    def samples(self) -> dict[str, Tensor]:
        """The samples of all unknowns, by name."""
        return {each.name: each.samples for each in self.each}

    def remark(self) -> str:
        """What a user should know: of which numbers the data tell nothing; empty if of none."""
        # Of a kernel some entries are always as uncertain as before.
        needed = 1.0 if self.kernel is None else 0.5
        untold = [each.name for each in self.each if float(each.is_told.double().mean()) < needed]
        if not untold:
            return ""
        return f"; the data do not tell {', '.join(untold)}: samples are as wide as the prior"


def _is_told(spread: Tensor, deviation: Tensor, count: int) -> Tensor:
    """Whether samples are narrower than their prior, and by more than chance.

    So many samples of a normal prior itself pass for it in one case of twenty at most.
    """
    from scipy.stats import chi2

    freedom = max(count - 1, 1)
    chance = math.sqrt(chi2.ppf(_CHANCE, freedom) / freedom)
    return ~(spread > min(_NO_NEWS, chance) * deviation)


def noise_of(instrument: InstrumentSamples | None) -> NoisePosterior:
    """What a solve drew of the noise.

    Raises:
        AttributeError: the noise was given.
    """
    found = None if instrument is None else instrument.noise
    if found is None:
        raise AttributeError(
            "posterior.noise: the noise was given and not drawn; use ti.solve(..., "
            "noise='estimate')"
        )
    return found
