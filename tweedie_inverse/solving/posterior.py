"""The answer: samples of ``p(x | y)``, their summaries, and how they were made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import instance
from tweedie_inverse.priors.scaling import Scaling
from tweedie_inverse.runtime.devices import usable
from tweedie_inverse.solving import export, posterior_file
from tweedie_inverse.solving.diagnostics import Diagnostics
from tweedie_inverse.solving.difference import difference_of
from tweedie_inverse.solving.directions import PrincipalDirections
from tweedie_inverse.solving.exceedance import Exceedance
from tweedie_inverse.solving.functional import Functional, functional_of, share_of
from tweedie_inverse.solving.measured import Measured
from tweedie_inverse.solving.member import place_of
from tweedie_inverse.solving.origin import Origin
from tweedie_inverse.solving.parameters import (
    InstrumentSamples,
    NoisePosterior,
    Parameters,
    noise_of,
)
from tweedie_inverse.solving.quantity import Quantity
from tweedie_inverse.solving.recalibrated import Recalibrated, recalibrated_by
from tweedie_inverse.solving.shown import Shown
from tweedie_inverse.solving.stats import Stats


@dataclass(frozen=True, eq=False, repr=False)
class Posterior(Shown):
    """Posterior samples in data units, equally weighted.

    It is a sequence of measurements: ``len(posterior)``, ``posterior[0]``, ``posterior[2:5]``.  Two
    posteriors are equal if they are the same object.

    Attributes:
        samples: ``(batch, num_samples, *shape)``; without `batch` when y came without one.
        diagnostics: whether the samples fit their measurement, and other signs of trouble.
        stats: method, cost.
        origin: seed, settings, operator, prior, noise and versions; None for samples from elsewhere
            and for batches of several origins.
        calibration: what the prior kept of a calibration made as these samples were, or nearly so;
            None where it keeps none.
        instrument: what was drawn of an instrument with unknowns; see `parameters` and `noise`.
        measured: y with the residuals of the mean and of a sample, for `report`; three times the
            numbers of y.  None for samples from elsewhere, and from files of older versions.
    """

    samples: Tensor
    diagnostics: Diagnostics
    stats: Stats
    origin: Origin | None = None
    calibration: Scaling | None = None
    instrument: InstrumentSamples | None = None
    measured: Measured | None = None

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

    def __len__(self) -> int:
        """The number of measurements; 1 where y came without a batch axis."""
        return self.samples.shape[0] if self._axis else 1

    def __getitem__(self, index: int | slice) -> "Posterior":
        """One measurement, without the batch axis, or a slice of them.

        Raises:
            IndexError: there is no such measurement.
        """
        place = place_of(index, len(self), bool(self._axis))
        if not self._axis:
            return self
        return replace(
            self,
            samples=self.samples[place],
            diagnostics=self.diagnostics.of(place),
            instrument=InstrumentSamples.changed(self.instrument, lambda tensor: tensor[place]),
            measured=Measured.changed(self.measured, lambda tensor: tensor[place]),
        )

    def to(self, device: torch.device | str) -> "Posterior":
        """The same samples and diagnostics on another device."""
        try:
            samples = self.samples.to(torch.device(device))
        except (RuntimeError, AssertionError, TypeError):
            usable(device, "Posterior.to")  # says what is there instead
            raise
        instrument = InstrumentSamples.changed(self.instrument, lambda tensor: tensor.to(device))
        measured = Measured.changed(self.measured, lambda tensor: tensor.to(device))
        return replace(
            self,
            samples=samples,
            diagnostics=self.diagnostics.to(device),
            instrument=instrument,
            measured=measured,
        )

    @staticmethod
    def concatenate(posteriors: Sequence["Posterior"]) -> "Posterior":
        """The measurements of several posteriors, one after the other, with a batch axis.

        Costs are added up, or averaged where they are those of a sample.

        Raises:
            ValueError: none given, or samples of different shapes, numbers or methods.
        """
        need = "a list of posteriors"
        for part in instance("concatenate", "posteriors", posteriors, Sequence, need=need):
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
            parts[0].calibration if len({id(part.calibration) for part in parts}) == 1 else None,
            InstrumentSamples.joined([part.instrument for part in parts]),
            Measured.joined([part.measured for part in parts]),
        )

    def _as_batch(self) -> "Posterior":
        return replace(
            self,
            samples=self.samples[None],
            diagnostics=self.diagnostics.of(None),
            instrument=InstrumentSamples.changed(self.instrument, lambda tensor: tensor[None]),
            measured=Measured.changed(self.measured, lambda tensor: tensor[None]),
        )

    @property
    def parameters(self) -> Parameters:
        """The posteriors of the unknown numbers of an `ops.parametric` operator, by name."""
        return Parameters(()) if self.instrument is None else self.instrument.parameters

    @property
    def noise(self) -> NoisePosterior:
        """The posterior of the noise, where `solve` drew it: ``posterior.noise.std``."""
        return noise_of(self.instrument)

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

    def functional(self, of: Quantity | None = None) -> Functional:
        """The posterior of a quantity of the image, with Monte Carlo standard errors.

        Args:
            of: ``(walkers, *shape) -> (walkers, ...)``, such as ``lambda x: x.amax((1, 2, 3))``, or
                a boolean mask of a region, ``(height, width)`` or ``(*shape)``, for the mean over
                it: that of every channel where the mask has none and there are several.  Default
                the values of the image itself.

        Raises:
            TypeError: neither a function of real values nor a boolean mask.
            ValueError: the function does not keep the first axis, mixes the samples or is not
                finite; a mask of another shape, or without a pixel.
        """
        return self._functional("functional(of=)", of)

    def _functional(self, caller: str, of: Quantity | None) -> Functional:
        return functional_of(caller, of, self.samples, self.diagnostics, self.origin)

    def quantile(self, q: float | Sequence[float] | Tensor, of: Quantity | None = None) -> Tensor:
        """Quantile of every pixel, or of a quantity; linear between the samples.

        Sample k of n in increasing order stands at ``(k - 1/2) / n``; a single sample is every
        quantile, and says nothing of the spread (`interval` is NaN then).

        Args:
            q: in [0, 1]: one for all measurements, a tensor ``(batch,)`` with one for each, or a
                list or tuple of several for all.
            of: as of `functional`.

        Returns:
            ``(batch, *shape)`` or ``(batch, ...)``; of a list ``(len(q), batch, ...)``.

        Raises:
            ValueError: q outside [0, 1]; or as `functional` raises.
        """
        return self._functional("quantile(of=)", of).quantile(q)

    def interval(self, level: float = 0.9, of: Quantity | None = None) -> tuple[Tensor, Tensor]:
        """Lower and upper end of a central interval; a calibrated one covers `level` on average.

        Between order statistics of rank ``(n + 1) (1 - level) / 2`` where there are enough samples
        for that, else mean and standard deviation with Student's quantile (exact for Gaussian
        posteriors); n is the effective number of samples.

        Args:
            level: between 0 and 1.
            of: as of `functional`.

        Returns:
            Two tensors ``(batch, ...)``; NaN for a single sample, which has no spread.

        Raises:
            ValueError: a level outside (0, 1); or as `functional` raises.
        """
        return self._functional("interval(of=)", of).interval(level)

    def probability(self, event: Callable[[Tensor], Tensor], of: Quantity | None = None) -> Tensor:
        """Share of the samples for which something holds: ``lambda x: x > 0.5``.

        Args:
            event: ``(walkers, *shape) -> (walkers, ...)``, boolean; of the quantity where there is
                `of`, such as ``(lambda mean: mean > 0.5, of=mask)``.
            of: as of `functional`.

        Returns:
            ``(batch, ...)``, in multiples of ``1 / num_samples``.

        Raises:
            ValueError: the answer is not boolean, or does not keep the first axis.
        """
        values = self._functional("probability(of=)", of).samples
        return share_of(event, values, self._axis, "images" if of is None else "values")

    def exceedance(self, threshold: float | Tensor, of: Quantity | None = None) -> Exceedance:
        """Where the image lies above a threshold: of each pixel, and of whole sets at once.

        "Below" is ``exceedance(-threshold, of=lambda x: -x)``.

        Args:
            threshold: in data units, a number or an image ``(*shape)``.
            of: as of `functional`.

        Raises:
            ValueError: a threshold that is not for one image, or NaN; or as `functional` raises.
        """
        return self._functional("exceedance(of=)", of).exceedance(threshold)

    def principal_directions(self, count: int = 4) -> PrincipalDirections:
        """Directions in which the samples differ most, and how much of the variance they hold.

        Args:
            count: at most ``num_samples - 1``.

        Raises:
            ValueError: more directions than the samples have, or fewer than three samples.
        """
        return self._functional("", None).principal_directions(count)

    def difference(self, other: "Posterior", of: Quantity | None = None) -> Functional:
        """The posterior of ``x - x'`` of two independent measurements, such as before and after.

        Only samples of different numbers are paired: solves with one seed share random numbers.

        Args:
            other: of images of the same shape and units, with as many measurements.
            of: as of `functional`; the difference is then that of the quantity.

        Raises:
            ValueError: the two do not match; or as `functional` raises.
        """
        instance("difference", "other", other, Posterior, need="a posterior, as of ti.solve")
        mine, theirs = (one._functional("difference(of=)", of) for one in (self, other))
        return difference_of(mine, theirs)

    def recalibrated(self) -> Recalibrated:
        """These samples with intervals that cover what they say, by the prior's own calibration.

        The result names the calibration.  The promise is for measurements of images like its
        truths.

        Raises:
            ValueError: the prior has no calibration (`Prior.with_calibration`), or one made with
                another operator, noise, walk or number of steps or samples.
        """
        return recalibrated_by(self, self.calibration, self.origin)

    def numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays by name: samples, mean, std, diagnostics of every sample, and drawn unknowns."""
        tensors = {"samples": self.samples, "mean": self.mean, "std": self.std}
        tensors |= self.diagnostics.tensors()
        if self.instrument is not None:
            tensors |= self.instrument.samples()
        return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, in one stroke; `Posterior.load` reads it.

        Raises:
            ValueError: the name has another suffix than ``.safetensors``.
        """
        posterior_file.save(path, self)

    def to_xarray(self) -> Any:
        """An `xarray.Dataset` with named axes: measurement, sample, channel, y, x (z of volumes).

        It holds `samples`, the diagnostics of every sample and measurement, and samples and trace
        of each drawn unknown (`width`, `noise_std`); how they were made are its attributes.  Two
        channels, a complex image, are called "real" and "imaginary".

        Raises:
            ImportError: xarray is not installed.
        """
        return export.dataset(*self._exported)

    def to_arviz(self) -> Any:
        """What arviz computes with: `arviz.InferenceData`, or a `DataTree` from its version 1 on.

        Group `posterior` has the variable `image`, one chain of num_samples draws, and one for
        each drawn unknown; `sample_stats` has the diagnostics of every sample.

        Raises:
            ImportError: arviz is not installed.
        """
        return export.inference_data(*self._exported)

    def export(self, path: str | Path) -> None:
        """Write the samples for other programs, in the format that the suffix says.

        netCDF (``.nc``) holds what `to_xarray` gives; HDF5 (``.h5``) the array ``samples`` and how
        they were made; TIFF (``.tif``) a stack of pages in the order (measurement, sample, channel,
        y, x).  `save` keeps everything for this package.

        Raises:
            ImportError: the package that writes the format is not installed.
            ValueError: another suffix.
        """
        export.write(path, *self._exported)

    @property
    def _exported(self) -> tuple[Any, ...]:
        return self.samples, self.diagnostics, self.stats, self.origin, self.instrument

    @staticmethod
    def load(path: str | Path) -> "Posterior":
        """Read what `save` wrote, or ``solve(samples_to=)``, whose samples stay in their file.

        Raises:
            ValueError: no such file of this version of the package.
        """
        return Posterior(*posterior_file.load(path))
