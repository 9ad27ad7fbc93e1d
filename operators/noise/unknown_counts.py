"""Counts of which the gain or the read-out noise are not known; `solve` draws them."""

from typing import Any

from torch import Tensor

from tweedie_inverse.boundary.arguments import positive
from tweedie_inverse.operators.noise.base import UnknownNoise, refuse_flag
from tweedie_inverse.operators.scalar_prior import ScalarPrior


class UnknownCountingNoise(UnknownNoise):
    """Made by `PoissonNoise.unknown` and `PoissonGaussianNoise.unknown`.

    Attributes:
        known: numbers that were given, by name, "gain" and "std".
        priors: of the others, by name; None where it follows from y.
        reads_out: whether there is read-out noise.
    """

    def __init__(self, caller: str, numbers: dict[str, Any]):
        self.known: dict[str, float] = {}
        self.priors: dict[str, ScalarPrior | None] = {}
        self.reads_out = "std" in numbers
        for name, given in numbers.items():
            if given is None:
                self.priors[name] = None
            elif isinstance(given, tuple | list | ScalarPrior):
                self.priors[name] = _positive_prior(caller, name, given)
            else:
                refuse_flag(caller, name, given)
                need = "a range (low, high), a prior, a positive number where it is known, or None"
                self.known[name] = positive(caller, name, given, need=need)
        if not self.priors:
            kind, given = caller.removesuffix(".unknown"), ", ".join(numbers)
            raise ValueError(f"{caller}: all numbers are known; use {kind}({given})")

    def refuse(self, y: Tensor) -> None:
        if not self.reads_out and bool((y < 0).any()):
            raise ValueError(
                f"{self!r}: counts cannot be negative, but y goes down to {float(y.min()):.4g}; "
                "use PoissonGaussianNoise.unknown() where the detector adds read-out noise"
            )

    @property
    def unknown_names(self) -> tuple[str, ...]:
        """Names of what is drawn."""
        return tuple(self.priors)

    def __repr__(self) -> str:
        shown = {name: f"{value:g}" for name, value in self.known.items()}
        shown |= {
            name: "?" if prior is None else repr(prior) for name, prior in self.priors.items()
        }
        kind = "PoissonGaussianNoise" if self.reads_out else "PoissonNoise"
        return f"{kind}.unknown({', '.join(f'{name}={text}' for name, text in shown.items())})"


def _positive_prior(caller: str, name: str, given: Any) -> ScalarPrior:
    """A prior of a positive number, flat in the logarithm where it is a range."""
    prior = ScalarPrior.of(caller, name, given)
    if prior.low <= 0:
        raise ValueError(f"{caller}({name}={prior!r}): needs a range of positive numbers")
    return ScalarPrior.log_uniform(prior.low, prior.high) if prior.centre is None else prior
