"""The report of a check: print it, read its parts, or take the prior that it mends."""

import math
from dataclasses import dataclass, field

from tweedie_inverse.evaluation.prior_check.errors import CheckedLevel
from tweedie_inverse.evaluation.prior_check.findings import Finding
from tweedie_inverse.evaluation.prior_check.search import Mended, Suspect
from tweedie_inverse.priors import Prior


@dataclass(frozen=True)
class PriorReport:
    """What `check_prior` found; print it.

    Attributes:
        findings: the checks, one after the other.
        suspects: mistakes that would explain what was seen, likeliest first: undone, each makes
            the check pass.
        levels: the measured errors, by sigma.
        usable: the noise levels, in data units, from and to which the prior is of use; None where
            it was not measured or there are none.
        blind: what could not be seen.
        spread: standard deviation of the images' values, in data units.
        prior: the one that was checked.
        mended: the prior without the mistake, for each of the suspects.
    """

    findings: tuple[Finding, ...]
    suspects: tuple[Suspect, ...]
    levels: tuple[CheckedLevel, ...]
    blind: tuple[str, ...]
    spread: float
    usable: tuple[float, float] | None = None
    prior: Prior | None = field(default=None, repr=False)
    mended: tuple[Mended, ...] = field(default=(), repr=False)

    @property
    def passed(self) -> bool:
        """Every check passed and nothing is suspected."""
        return not self.suspects and all(finding.passed for finding in self.findings)

    def mended_prior(self) -> Prior:
        """The prior with the likeliest mistake undone, and its range cut to what is of use.

        A measured denoising error was measured with the mistake, and is left out then: measure it
        again.  Check the prior that comes out, too: its own range has not been measured.

        Raises:
            ValueError: the check failed, and no mistake is named and no range of use.
        """
        if self.suspects:
            return self.mended[0].prior
        if self.prior is None or (self.usable is None and not self.passed) or self._is_lost:
            raise ValueError(
                "mended_prior: the check names no mistake to undo and no range to cut to; print "
                "the report, and see whether network and images are of one kind"
            )
        if self.usable is None:
            return self.prior
        low, high = self.usable
        return self.prior.limited(sigma_min=low, sigma_max=high)

    @property
    def _is_lost(self) -> bool:
        """Whether anything failed that a smaller range does not mend."""
        return any(not finding.passed for finding in self.findings if finding.name != "range")

    def __str__(self) -> str:
        lines = ["prior check: " + ("passed" if self.passed else "FAILED")]
        lines += [f"  {'ok  ' if f.passed else 'FAIL'} {f.name}: {f.text}" for f in self.findings]
        for mistake, improvement, cure in self.suspects:
            setting = f"; {cure}" if cure else ""
            text = f"undoing it divides the squared error by {improvement:.2g}{setting}"
            lines.append(f"  suspect: {mistake} ({text})")
        if self.suspects:
            lines.append("  report.mended_prior() is the prior with the first of them undone")
        elif self.usable is not None and not self.passed and not self._is_lost:
            lines.append("  report.mended_prior() is the prior in the range that is of use")
        elif not self.passed and not self.blind:
            lines.append("  no suspect: undoing none of the usual mistakes makes the check pass")
        lines += [
            f"  {'sigma':>9} {'noisy':>8} {'denoised':>9} {'linear':>8}  dB, full scale = 4 std"
        ]
        for level in self.levels:
            errors = (level.noisy, level.denoised, level.linear)
            noisy, denoised, linear = (self._decibel(error) for error in errors)
            lines.append(f"  {level.sigma:9.4g} {noisy:8.2f} {denoised:9.2f} {linear:8.2f}")
        return "\n".join([*lines, *(f"  not seen: {text}" for text in self.blind)])

    def _decibel(self, error: float) -> float:
        if not math.isfinite(error):
            return -math.inf
        return 10 * math.log10(16 * self.spread**2 / max(error, 1e-30))
