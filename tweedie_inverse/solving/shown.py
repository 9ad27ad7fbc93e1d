"""What a posterior looks like: as a figure, as a line with a picture in a notebook, as a page."""

from abc import abstractmethod
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor

from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.runtime import html
from tweedie_inverse.solving.diagnostics import Diagnostics
from tweedie_inverse.solving.measured import Measured
from tweedie_inverse.solving.member import measurement_shown, truth_shown, truths_shown
from tweedie_inverse.solving.moments import OfSamples
from tweedie_inverse.solving.origin import Origin
from tweedie_inverse.solving.page.page import page
from tweedie_inverse.solving.parameters import InstrumentSamples
from tweedie_inverse.solving.plots import Summary, glance, plot_posterior, summary_of
from tweedie_inverse.solving.recalibrated import Recalibrated
from tweedie_inverse.solving.stats import Stats


class Shown(OfSamples):
    """Samples with all that pictures of them need; `Posterior` is the one class that is."""

    diagnostics: Diagnostics
    stats: Stats
    origin: Origin | None
    instrument: InstrumentSamples | None
    measured: Measured | None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: Any) -> "Shown": ...

    @abstractmethod
    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def recalibrated(self) -> Recalibrated: ...

    def _repr_html_(self) -> str:
        first = " The picture is of the first." if len(self) > 1 else ""
        said = f"<p>{escape(repr(self) + first)}</p>"
        return said + glance(self[0].samples, self.origin)

    @property
    def summary(self) -> Summary:
        """What pictures of the first measurement show."""
        one = self[0]
        return summary_of(one.samples, one.mean, one.std, one.interval(), one.origin)

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
        if truth is not None:
            truth = truth_shown(truth, tuple(one.mean.shape), index, len(self))
        if measurement is not None:
            measurement = measurement_shown(measurement, self.origin, index, len(self))
        return plot_posterior(one.summary, path, truth=truth, measurement=measurement)

    def report(self, path: str | Path, *, truth: Any = None, title: str | None = None) -> Path:
        """Write one HTML page for any browser, which needs no other file and no network.

        It holds samples to flick through, mean, standard deviation and the central 90 % interval,
        the numbers of every pixel under the cursor, measurement and residuals, the verdict, drawn
        unknowns of the instrument, intervals of the prior's calibration, and what is needed to
        repeat the solve.  Values are within 1/2000 of the range that is shown.  At most 12
        measurements, 24 samples and 24 slices are on it, and large images are averaged over blocks
        of pixels until the page has 20 MB or less; it says what was left out.

        Args:
            path: of the page, ``.html``.
            truth: ``(batch, *shape)``, or ``(*shape)`` of a single measurement, where it is known.
            title: its headline.

        Returns:
            The path.

        Raises:
            ValueError: another suffix, or a truth of another shape.
            TypeError: a title that is no text.
        """
        target = html.checked_page(path)
        if title is not None and not isinstance(title, str):
            raise TypeError(f"report(title=): needs text, got {type(title).__name__}")
        shape = tuple(self.samples.shape[self._axis + 1 :])
        truths = None if truth is None else truths_shown(truth, shape, len(self))
        return html.write(target, page(self, truths, title))
