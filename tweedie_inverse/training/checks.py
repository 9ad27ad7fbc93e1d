"""What a look at a run measures, and whether the run is still learning or learning by heart."""

from typing import NamedTuple

import torch

# In data units, where images are in [0, 1].
LEVELS = (0.02, 0.05, 0.1, 0.25, 0.5)
# Standard errors, and a rise of the mean squared error, above which it is said to rise.
_SURE, _RISE = 3.0, 0.01


class Check(NamedTuple):
    """One look.

    Attributes:
        step: of the run.
        trained, held_out: mean squared errors at `LEVELS`, in data units.
        each: log of the mean squared error of each held-out image, averaged over the levels.
        warning: what is wrong, in words; empty where nothing is.
    """

    step: int
    trained: list[float]
    held_out: list[float]
    each: list[float]
    warning: str = ""

    def psnr(self, kind: str = "held_out") -> list[float]:
        """In dB for a range of 1, at `LEVELS`."""
        return [-10 * float(torch.tensor(error).log10()) for error in getattr(self, kind)]


def judge(checks: list[Check]) -> str:
    """Whether the error on held-out images has risen since it was lowest.

    The same images with the same noise are compared, one by one: the difference of their errors
    counts in standard errors.
    """
    *earlier, last = checks
    if len(earlier) < 2:
        return ""
    best = min(earlier, key=lambda check: sum(check.each))
    rise = torch.tensor(last.each) - torch.tensor(best.each)
    mean, error = float(rise.mean()), float(rise.std()) / len(rise) ** 0.5
    if mean < _RISE or mean < _SURE * error:
        return ""
    known = torch.tensor(last.trained).log() - torch.tensor(best.trained).log()
    change = float(known.mean())
    seen = f"the squared error on held-out images is {mean:.1%} above that of step {best.step}"
    if change < mean / 2:
        fell = f"fell by {-change:.1%}" if change < 0 else f"rose by {change:.1%} only"
        return (
            f"{seen}, while on training images it {fell}: the network learns its images by heart. "
            f"End the run near step {best.step} (--steps), add images, or allow --flips"
        )
    return f"{seen}, and so on training images ({change:+.1%}): the rate may be too high (--rate)"
