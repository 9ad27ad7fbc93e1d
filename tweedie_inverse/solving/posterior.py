"""The answer: samples of ``p(x | y)``, their summaries, and how they were made."""

import operator as arithmetic
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import instance, number
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.boundary.arrays import (
    advice_on_shape,
    batch_of,
    real_tensor,
    refuse_type,
    tensor_of,
)
from tweedie_inverse.boundary.contracts import called
from tweedie_inverse.runtime.devices import usable
from tweedie_inverse.solving import posterior_file
from tweedie_inverse.solving.diagnostics import Diagnostics
from tweedie_inverse.solving.interval import central_interval, quantile_along
from tweedie_inverse.solving.origin import Origin
from tweedie_inverse.solving.plots import Summary, as_html, plot_posterior
from tweedie_inverse.solving.stats import Stats


@dataclass(frozen=True, eq=False, repr=False)
class Posterior:
    """Posterior samples in data units, equally weighted.

    It is a sequence of measurements: ``len(posterior)``, ``posterior[0]``, ``posterior[2:5]``.  Two
    posteriors are equal if they are the same object.

    Attributes:
        samples: ``(batch, num_samples, *shape)``; without `batch` when y came without one.
        diagnostics: whether the samples fit their measurement, and other signs of trouble.
        stats: method, cost.
        origin: seed, settings, operator, prior, noise and versions; None for samples from elsewhere
            and for batches of several origins.
    """

    samples: Tensor
    diagnostics: Diagnostics
    stats: Stats
    origin: Origin | None = None

    @property
    def _axis(self) -> int:
        return self.diagnostics.residual_chi_square.ndim - 1

    def __repr__(self) -> str:
        count, shape = self.samples.shape[self._axis], tuple(self.samples.shape[self._axis + 1 :])
        many = f" for each of {len(self)} measurements" if len(self) > 1 else ""
        return (
            f"Posterior({count} sample{'s' * (count > 1)} of {shape}{many}, {self.stats.method}, "
            f"{self.stats.denoiser_calls:g} evaluations each; {self.diagnostics.verdict})"
        )

    def _repr_html_(self) -> str:
        return as_html(repr(self), self.plot())

    def __len__(self) -> int:
        """The number of measurements; 1 where y came without a batch axis."""
        return self.samples.shape[0] if self._axis else 1

    def __getitem__(self, index: int | slice) -> "Posterior":
        """One measurement, without the batch axis, or a slice of them.

        Raises:
            IndexError: there is no such measurement.
        """
        if isinstance(index, slice):
            if not self._axis:
                raise IndexError(
                    f"posterior[{index}]: y came without a batch axis, so that there is one "
                    "measurement; its samples are posterior.samples"
                )
            return replace(
                self, samples=self.samples[index], diagnostics=self.diagnostics.of(index)
            )
        if isinstance(index, bool) or not hasattr(type(index), "__index__"):
            raise TypeError(
                f"posterior[{index!r}]: needs the number of a measurement, or a slice of them"
            )
        place = arithmetic.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"posterior[{place}]: it holds {len(self)} measurement(s)")
        if not self._axis:
            return self
        return replace(self, samples=self.samples[place], diagnostics=self.diagnostics.of(place))

    def to(self, device: torch.device | str) -> "Posterior":
        """The same samples and diagnostics on another device."""
        try:
            samples = self.samples.to(torch.device(device))
        except (RuntimeError, AssertionError, TypeError):
            usable(device, "Posterior.to")  # says what is there instead
            raise
        return replace(self, samples=samples, diagnostics=self.diagnostics.to(device))

    @staticmethod
    def concatenate(posteriors: Sequence["Posterior"]) -> "Posterior":
        """The measurements of several posteriors, one after the other, with a batch axis.

        Costs are added up, or averaged where they are those of a sample.

        Raises:
            ValueError: none given, or samples of different shapes, numbers or methods.
        """
        need = "a list of posteriors"
        listed = instance("concatenate", "posteriors", posteriors, Sequence, need=need)
        for part in listed:
            instance("concatenate", "posteriors", part, Posterior, need=need)
        parts = [part if part._axis else part._as_batch() for part in posteriors]
        kinds = {(tuple(p.samples.shape[1:]), p.stats.method, p.stats.steps) for p in parts}
        if len(kinds) != 1:
            raise ValueError(
                "Posterior.concatenate: needs posteriors with samples of one shape and number, by "
                f"one method and number of steps; got {sorted(kinds) or 'none'}"
            )
        return Posterior(
            torch.cat([part.samples for part in parts]),
            Diagnostics.joined([part.diagnostics for part in parts]),
            Stats.joined([part.stats for part in parts], [len(part) for part in parts]),
            Origin.common([part.origin for part in parts]),
        )

    def _as_batch(self) -> "Posterior":
        diagnostics = self.diagnostics.of(None)
        return replace(self, samples=self.samples[None], diagnostics=diagnostics)

    @property
    def log_evidence(self) -> Tensor:
        """Estimate of ``log p(y)`` in nats, ``(batch,)``; particle walk only.

        Its differences compare noise levels, operators and priors on the same y.
        """
        if self.diagnostics.population is None:
            raise AttributeError(
                f"log_evidence: the {self.stats.method} walk does not estimate it; use "
                "ti.solve(..., method='particle')"
            )
        return self.diagnostics.population.log_evidence

    @property
    def mean(self) -> Tensor:
        """Posterior mean, ``(batch, *shape)``."""
        return self.samples.mean(self._axis)

    @property
    def std(self) -> Tensor:
        """Posterior standard deviation of every pixel, unbiased; NaN for a single sample."""
        if self.samples.shape[self._axis] == 1:
            return torch.full_like(self.mean, torch.nan)
        return self.samples.std(self._axis)

    def quantile(self, q: float | Tensor) -> Tensor:
        """Quantile of every pixel, ``(batch, *shape)``; linear between the samples.

        Sample k of n in increasing order stands at ``(k - 1/2) / n``; a single sample is every
        quantile, and says nothing of the spread (`interval` is NaN then).

        Args:
            q: in [0, 1], one for all measurements or ``(batch,)``.

        Raises:
            ValueError: q outside [0, 1].
        """
        levels = real_tensor("quantile", "q", q, finite=False).double()
        if isinstance(q, bool) or levels.ndim > 1 or (levels.ndim and len(levels) != len(self)):
            raise ValueError(
                f"quantile(q={q}): needs a number in [0, 1], or one for each of {len(self)} "
                "measurements"
            )
        if not bool(((levels >= 0) & (levels <= 1)).all()):
            raise ValueError(f"quantile(q={q}): needs a number in [0, 1]")
        return quantile_along(self.samples, self._axis, levels)

    def interval(
        self, level: float = 0.9, of: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Lower and upper end of a central interval; a calibrated one covers `level` on average.

        Between order statistics of rank ``(n + 1) (1 - level) / 2`` where there are enough samples
        for that, else mean and standard deviation with Student's quantile (exact for Gaussian
        posteriors); n is the effective number of samples.

        Args:
            level: between 0 and 1.
            of: ``(walkers, *shape) -> (walkers, ...)``, a quantity of each image, such as its
                mean over a region; default the values of its pixels.

        Returns:
            Two tensors ``(batch, ...)``; NaN for a single sample, which has no spread.

        Raises:
            ValueError: a level outside (0, 1), or `of` does not keep the first axis.
        """
        need = "a share between 0 and 1, such as 0.9"
        level = number("interval", "level", level, above=0, high=1 - 1e-9, need=need)
        values = self.samples if of is None else self._each("interval(of=)", of)
        return central_interval(values, self._axis, level, self.diagnostics.effective_sample_size)

    def probability(self, event: Callable[[Tensor], Tensor]) -> Tensor:
        """Share of the samples for which something holds: ``lambda x: x > 0.5``.

        Args:
            event: ``(walkers, *shape) -> (walkers, ...)``, boolean.

        Returns:
            ``(batch, ...)``, in multiples of ``1 / num_samples``.

        Raises:
            ValueError: the answer is not boolean, or does not keep the first axis.
        """
        found = self._each("probability(event)", event)
        if found.dtype != torch.bool:
            raise ValueError(
                f"probability(event): needs a function with boolean values, such as lambda x: "
                f"x > 0.5; it returned {found.dtype}"
            )
        return found.to(self.samples.dtype).mean(self._axis)

    def _each(self, caller: str, function: Callable[[Tensor], Tensor]) -> Tensor:
        """A quantity of every sample, ``(batch, num_samples, ...)``."""
        need = "a function of images (walkers, *shape), such as lambda x: x > 0.5"
        if not callable(function):
            raise TypeError(f"{caller}: needs {need}, got {type(function).__name__}")
        lead = self.samples.shape[: self._axis + 1]
        flat = self.samples.reshape(-1, *self.samples.shape[self._axis + 1 :])
        found = called(f"the function of {caller}", function, flat)
        if not isinstance(found, Tensor) or found.ndim == 0 or found.shape[0] != len(flat):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"{caller}: the function is given images {tuple(flat.shape)} and must return "
                f"a tensor whose first axis is {len(flat)}; it returned {got}"
            )
        return found.reshape(*lead, *found.shape[1:])

    def numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays by name: samples, mean, std, and the diagnostics of every sample."""
        tensors = {"samples": self.samples, "mean": self.mean, "std": self.std}
        tensors |= self.diagnostics.tensors()
        return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, in one stroke; `Posterior.load` reads it.

        Raises:
            ValueError: the name has another suffix than ``.safetensors``.
        """
        notes = {
            "stats": asdict(self.stats),
            "origin": None if self.origin is None else asdict(self.origin),
            **self.diagnostics.notes(),
        }
        posterior_file.write(path, {"samples": self.samples, **self.diagnostics.tensors()}, notes)

    @staticmethod
    def load(path: str | Path) -> "Posterior":
        """Read what `save` wrote.

        Raises:
            ValueError: no such file of this version of the package.
        """
        tensors, notes = posterior_file.read(path)
        origin = None if notes["origin"] is None else Origin.from_notes(notes["origin"])
        diagnostics = Diagnostics.of_file(tensors, notes)
        return Posterior(tensors["samples"], diagnostics, Stats(**notes["stats"]), origin)

    @property
    def summary(self) -> Summary:
        """What pictures of the first measurement show."""
        one = self[0]
        known = one.origin
        return Summary(
            one.samples,
            one.mean,
            one.std,
            one.interval(),
            None if known is None else known.value_range,
            "" if known is None else known.units,
        )

    def plot(
        self,
        path: str | Path | None = None,
        *,
        measurement: Tensor | None = None,
        truth: Tensor | None = None,
        index: int = 0,
    ):
        """Samples, mean, standard deviation and interval of one measurement; returns the figure.

        Values are shown in the prior's range where it is known, else in their own, with colour bars
        in the prior's units.  Images of two channels are complex: magnitude and phase.

        Args:
            path: where to save the picture; its suffix says the format.
            measurement: y, as it was given to `solve`, or one of it, to be shown beside the rest.
            truth: ``(*shape)`` or ``(batch, *shape)``, where it is known, for errors and PSNR.
            index: which measurement of a batch.

        Raises:
            IndexError: there is no such measurement.
            ValueError: a truth of another shape.
        """
        if path is not None:
            path = checked_path("plot", "path", path)
        one = self[index]
        shape = tuple(one.mean.shape)
        if truth is not None:
            truth = real_tensor("plot", "truth", truth)
            refuse_type("plot(truth=)", truth)
            truth = _member("truth", truth, shape, index, len(self))
        if measurement is not None:
            measurement = tensor_of("plot", "measurement", measurement)
            if self.origin is not None:  # as `solve` took it, complex or without its first axis
                known = self.origin.range_shape
                measurement = batch_of(
                    "plot(measurement=)",
                    "measurement",
                    measurement,
                    known,
                    is_complex=known[0] % 2 == 0,
                    single=True,
                    need=f"needs shape {known}, as solve took it",
                )
                measurement = _member("measurement", measurement, known, index, len(self))
        return plot_posterior(one.summary, path, truth=truth, measurement=measurement)


def _member(name: str, given: Tensor, shape: tuple[int, ...], index: int, batch: int) -> Tensor:
    """One of a batch, or the only one; a `ValueError` where the shape is neither."""
    if tuple(given.shape) == shape:
        return given
    if tuple(given.shape) != (batch, *shape):
        raise ValueError(
            f"plot({name}=): needs shape {shape}, or a batch of {batch}, got {tuple(given.shape)}"
            f"{advice_on_shape(given.shape, shape)}"
        )
    return given[index]
