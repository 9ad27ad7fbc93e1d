"""The certificate: one verdict, the power behind it, and what it cannot see."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import instance
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.evaluation.calibrate.curves import Curve
from tweedie_inverse.evaluation.calibrate.families import Family, slices
from tweedie_inverse.evaluation.calibrate.faults import NONE
from tweedie_inverse.evaluation.calibrate.page import page
from tweedie_inverse.evaluation.calibrate.pictures import draw
from tweedie_inverse.evaluation.calibrate.power import Power
from tweedie_inverse.evaluation.calibrate.stein_gate import Stein
from tweedie_inverse.priors.scaling import MADE_WITH, Scaled, Scaling
from tweedie_inverse.runtime import html, tensor_file
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.recalibrated import Recalibrated, differences

# Power of which a calibration is told to see a fault.
_SURE = 0.9
_FORMAT, _SUFFIX = "tweedie-inverse-calibration-2", ".safetensors"


@dataclass(frozen=True, eq=False, repr=False)
class Calibration(Scaled):
    """What `calibrate` found; print it, `plot` it, or write its `report`.

    Attributes:
        p_value: of the whole test: how often a right sampler looks as bad as this.
        p_values: by family of statistics, each by itself.
        level: at which the verdict is made.
        findings: which families are off, and which way, the clearest first.
        power: by fault, how often this calibration would have seen it, "none" for false alarms.
        scores: ``crps``, ``energy score`` (both in data units, fair, averaged over truths),
            ``spread over skill`` (1 is right), ``missing mass`` (share of truths that lie apart
            from all samples beyond chance, with its 95 % upper end).
        coverage: of central intervals of the pixels, with a simultaneous band.
        expected_coverage: of balls about random points (TARP), likewise.
        ranks: ``(truths, statistics)``, of each truth among its samples, from 0 to num_samples.
        errors: ``(truths, statistics)``, of the samples' mean, in their standard deviations.
        below: of every pixel's error likewise, its distribution function (`scaling.GRID`); with
            classes a row of all pixels and one of each class.
        families: the statistics, in the order of `ranks`.
        places: ``(*shape)``, mean share of the samples below the truth: 0.5 is right.
        spread, error: ``(*shape)``, mean variance of the samples and squared error of their mean.
        groups: ``(bins, 2)``, spread and error of pixels that are alike in spread.
        count, num_samples: truths, and samples of each.
        settings: what it was made with.
        inconsistent: truths whose samples were not consistent with y, as `solve` judged.
        evaluations: network evaluations a sample; NaN where not counted.
        truths: where the truths come from.
        stein: the kernel Stein test, where it passes its null gate; no part of the verdict.
        not_tested: what this says nothing of.
        class_counts: ``(classes,)``, in how many truths each class of pixels was; None without.
    """

    p_value: float
    p_values: Mapping[str, float]
    level: float
    findings: tuple[str, ...]
    power: Mapping[str, Power]
    scores: Mapping[str, float]
    coverage: Curve
    expected_coverage: Curve
    rank_band: Curve
    ranks: Tensor
    errors: Tensor
    below: Tensor
    families: tuple[Family, ...]
    places: Tensor
    spread: Tensor
    error: Tensor
    groups: Tensor
    count: int
    num_samples: int
    settings: Mapping[str, Any]
    inconsistent: int
    evaluations: float
    truths: str
    stein: Stein
    not_tested: tuple[str, ...]
    class_counts: Tensor | None = None

    @property
    def passed(self) -> bool:
        """Whether no fault was seen at the level; `power` says what that is worth."""
        return self.p_value > self.level

    @property
    def verdict(self) -> str:
        """One line."""
        size = f"{self.count} truths with {self.num_samples} samples"
        if self.passed:
            start = f"passed: no fault seen (p = {self.p_value:.2g}, {size})"
            return f"{start}; {self._worth()}"
        return f"failed: p = {self.p_value:.2g} ({size}); {self.findings[0]}"

    def _worth(self) -> str:
        """What it says that no fault was seen."""
        if not self.power:
            return "what it would have seen was not asked (power=False)"
        faults = [one for name, one in self.power.items() if name != NONE]
        weak = [one.fault for one in faults if one.seen < _SURE]
        often = f"{100 * _SURE:.0f} times of 100 or more"
        if not weak:
            return f"every fault of the list would show, {often}"
        if len(weak) <= 2:
            return f"every fault of the list would show, {often}, but: {', '.join(weak)}"
        shown = len(faults) - len(weak)
        return f"only {shown} of {len(faults)} faults of the list would show, {often}: more truths"

    def __repr__(self) -> str:
        return f"Calibration({self.verdict})"

    def __str__(self) -> str:
        lines = [f"calibration: {self.verdict}", *(f"  {line}" for line in self.findings)]
        lines += [f"{name}: {value:.4g}" for name, value in self.scores.items()]
        if self.inconsistent:
            lines.append(f"{self.inconsistent} of {self.count} solves do not fit their measurement")
        if self.power:
            lines.append(f"faults that {self.count} truths would show (share of repeats):")
        lines += [f"  {p.seen:.2f}  {p.fault}" for p in self.power.values() if p.fault != NONE]
        lines += [self.stein.words] if self.stein.p_value is not None else []
        lines += ["not tested:", *(f"  {line}" for line in self.not_tested)]
        return "\n".join(lines)

    def recalibrated(self, posterior: Posterior) -> Recalibrated:
        """A posterior with intervals that are scaled to cover what they say.

        The promise is for measurements of images like the truths: take your own, `images=`, where
        the prior may not fit them.

        Args:
            posterior: by the same operator, noise, prior, walk and numbers of steps and samples;
                of samples from elsewhere, without `origin`, only their number is known.

        Raises:
            ValueError: it was made with anything else.
        """
        need = "a posterior, such as ti.solve returns"
        instance("recalibrated", "posterior", posterior, Posterior, need=need)
        number = posterior.samples.shape[posterior.diagnostics.residual_chi_square.ndim - 1]
        kept, origin, other = self.scaling, posterior.origin, []
        if number != self.num_samples:
            other = [f"num_samples {number}, where the calibration has {self.num_samples}"]
        elif origin is not None:
            other = differences(kept, origin)
            if origin.prior_checksum not in (kept.prior[1], self.settings["prior"].split(", ")[-1]):
                made = f"{origin.prior} {origin.prior_checksum}"
                other.append(f"prior {made}, where the calibration has {' '.join(kept.prior)}")
        if other:
            raise ValueError(
                "recalibrated(posterior): needs samples made as the calibration's were; these were "
                f"made with {'; '.join(other)}. Solve as for the calibration, or calibrate this"
            )
        return Recalibrated(posterior, kept)

    @property
    def scaling(self) -> Scaling:
        """What `Prior.with_calibration` keeps of this."""
        made = {name: str(self.settings[name]) for name in MADE_WITH}
        given, places = str(self.settings["prior"]), slices(self.families)
        pairs = zip(self.families, places, strict=True)
        none = torch.zeros(0, dtype=torch.long)
        has = self.class_counts is not None
        return Scaling(
            made_with=made,
            prior=(given.rpartition(", ")[0], str(self.settings["plain prior"])),
            shape=tuple(self.places.shape),
            truths=self.truths,
            count=self.count,
            below=self.below[0] if has else self.below,
            scores=self.errors,
            names={family.name: (place.start, place.stop) for family, place in pairs},
            classes=str(self.settings["classes"]) if has else "",
            class_below=self.below[1:] if has else self.below[None][:0],
            class_counts=none if self.class_counts is None else self.class_counts,
        )

    def plot(self, path: str | Path | None = None):
        """Ranks, coverage, random points, spread against error, maps, power; returns the figure.

        Args:
            path: where to save the picture; its suffix says the format.
        """
        target = None if path is None else checked_path("plot", "path", path)
        return draw(self, target)

    def report(self, path: str | Path) -> None:
        """Write one HTML page that needs no other file."""
        html.write(html.checked_page(path), page(self))

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file; `Calibration.load` reads it."""
        target = checked_path("save", "path", path)
        if target.suffix != _SUFFIX:
            raise ValueError(
                f"save({str(path)!r}): calibrations are written as safetensors; name a file such "
                f"as {target.with_suffix(_SUFFIX).name}"
            )
        notes, tensors = {}, {}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                tensors[name] = value
            elif isinstance(value, Curve):
                tensors |= {f"{name}/{key}": part for key, part in value._asdict().items()}
            else:
                notes[name] = value
        notes["power"] = {name: list(one) for name, one in self.power.items()}
        notes["stein"] = list(self.stein)
        notes["families"] = [list(family) for family in self.families]
        target.parent.mkdir(parents=True, exist_ok=True)
        tensor_file.write(target, _FORMAT, tensors, notes)

    @staticmethod
    def load(path: str | Path) -> "Calibration":
        """Read what `save` wrote.

        Raises:
            ValueError: no such file of this version of the package.
        """
        source = checked_path("Calibration.load", "path", path)
        tensors, notes = tensor_file.read(
            source, _FORMAT, caller="Calibration.load", need="a file of calibration.save"
        )
        for name in ("findings", "not_tested"):
            notes[name] = tuple(notes[name])
        notes["power"] = {name: Power(*one) for name, one in notes["power"].items()}
        notes["stein"] = Stein(*notes["stein"])
        notes["families"] = tuple(Family(n, tuple(c), a) for n, c, a in notes["families"])
        notes |= {key: value for key, value in tensors.items() if "/" not in key}
        for name in ("coverage", "expected_coverage", "rank_band"):
            notes[name] = Curve(*(tensors[f"{name}/{field}"] for field in Curve._fields))
        return Calibration(**notes)
