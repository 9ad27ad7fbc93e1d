"""A detector that rounds and saturates *after* its Gaussian noise, with the exact likelihood."""

import math

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import number
from tweedie_inverse.operators.noise.base import NoiseModel, refuse_flag, white_noise


class DigitizedNoise(NoiseModel):
    """``y = clip(round((Ax + std n) / step) * step, low, high)``.

    After rounding only an interval is known, so the likelihood is the Gaussian probability of this
    interval, ``Phi((b - Ax) / std) - Phi((a - Ax) / std)``; at the ends of the range one side is
    open (Tobin 1958).  With `step` 0 nothing is rounded, and only the range is cut.

    Args:
        std: standard deviation of the noise before digitization, in units of y.
        step: one digital unit, in units of y; 0 for no rounding.
        low, high: range of the detector, in units of y.

    Raises:
        ValueError: std not positive, negative step, an empty range, or ends that no step reaches.
    """

    def __init__(
        self, std: float, *, step: float = 0.0, low: float = -math.inf, high: float = math.inf
    ):
        given = {"std": std, "step": step, "low": low, "high": high}
        for name, value in given.items():
            refuse_flag("DigitizedNoise", name, value)
        std, step, low, high = (
            number("DigitizedNoise", name, value, finite=False) for name, value in given.items()
        )
        if not (math.isfinite(std) and std > 0 and 0 <= step < math.inf and low < high):
            raise ValueError(
                f"DigitizedNoise(std={std}, step={step}, low={low}, high={high}): needs std > 0, "
                "step >= 0 and low < high, all in units of y"
            )
        for end in (low, high):
            if step > 0 and math.isfinite(end) and abs(math.remainder(end, step)) > 1e-6 * step:
                raise ValueError(
                    f"DigitizedNoise(step={step}): the ends of the range, {low} and {high}, must "
                    "be multiples of the step, as the values of a converter are"
                )
        self.std, self.step, self.low, self.high = std, step, low, high

    def __repr__(self) -> str:
        limits = f"low={self.low:g}, high={self.high:g}"
        return f"DigitizedNoise({self.std:g}, step={self.step:g}, {limits})"

    def sample(self, ax: Tensor, *, seed: int = 0) -> Tensor:
        analogue = ax + self.std * white_noise(ax, seed)
        if self.step > 0:
            analogue = (analogue / self.step).round() * self.step
        return analogue.clamp(self.low, self.high)

    def log_prob(self, y: Tensor, ax: Tensor) -> Tensor:
        lower, upper = self._interval(y, ax)
        inside = _log_probability(lower, upper)
        if self.step == 0:
            density = -0.5 * ((y - ax) / self.std) ** 2 - math.log(
                self.std * math.sqrt(2 * math.pi)
            )
            inside = torch.where(self._cut(y), inside, density)
        return inside.flatten(1).sum(1)

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        return self._derivatives(y, ax)[0]

    def curvature(self, y: Tensor, ax: Tensor) -> Tensor:
        """The observed information; it is 0 where a saturated value is far beyond the range."""
        return self._derivatives(y, ax)[1].clamp(min=0)

    def _derivatives(self, y: Tensor, ax: Tensor) -> tuple[Tensor, Tensor]:
        """First derivative of the log-likelihood of every entry, and minus the second."""
        lower, upper = self._interval(y, ax)
        log_mass = _log_probability(lower, upper)
        at_lower = (_log_density(lower) - log_mass).exp()
        at_upper = (_log_density(upper) - log_mass).exp()
        slope = at_lower - at_upper
        # z phi(z) is 0 at an open end.
        change = lower.nan_to_num(0, 0, 0) * at_lower - upper.nan_to_num(0, 0, 0) * at_upper
        bend = slope.square() - change
        if self.step == 0:
            cut = self._cut(y)
            slope = torch.where(cut, slope, (y - ax) / self.std)
            bend = torch.where(cut, bend, 1.0)
        return slope / self.std, bend / self.std**2

    def variance(self, ax: Tensor) -> Tensor:
        """The variance of noise and rounding; saturation, which lowers it, is left out."""
        return torch.full_like(ax, self.std**2 + self.step**2 / 12)

    def refuse(self, y: Tensor) -> None:
        slack = 1e-5 * max(1.0, float(y.abs().max()))
        if bool((y < self.low - slack).any() or (y > self.high + slack).any()):
            raise ValueError(
                f"{self!r}: y reaches from {float(y.min()):.4g} to {float(y.max()):.4g}, outside "
                "the range of the detector; are low and high in units of y?"
            )

    def _cut(self, y: Tensor) -> Tensor:
        return (y <= self.low) | (y >= self.high)

    def _interval(self, y: Tensor, ax: Tensor) -> tuple[Tensor, Tensor]:
        """The interval in which the noisy value was, in standard deviations from Ax."""
        lower = torch.where(y <= self.low, -math.inf, y - self.step / 2)
        upper = torch.where(y >= self.high, math.inf, y + self.step / 2)
        return (lower - ax) / self.std, (upper - ax) / self.std


def _log_density(z: Tensor) -> Tensor:
    return -0.5 * z**2 - 0.5 * math.log(2 * math.pi)


def _log_probability(lower: Tensor, upper: Tensor) -> Tensor:
    """``log(Phi(upper) - Phi(lower))``; by symmetry both ends are taken where Phi is small."""
    flip = lower + upper > 0
    near = torch.where(flip, -lower, upper)
    far = torch.where(flip, -upper, lower)
    log_near, log_far = torch.special.log_ndtr(near), torch.special.log_ndtr(far)
    return log_near + torch.log1p(-(log_far - log_near).exp())
