"""Noise models: how a measurement scatters around the noise-free one."""

import math
from abc import ABC, abstractmethod
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import flag, instance, number
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.arrays import real_tensor, refuse_spread
from tweedie_inverse.boundary.modes import with_gradients
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.numerics.spectral import Basis, Fourier, Pixels
from tweedie_inverse.operators.scalar_prior import ScalarPrior


class NoiseModel(ABC):
    """The law of ``y`` given ``Ax``.

    A noise model of your own needs `sample`, `log_prob` and `variance`.
    """

    @abstractmethod
    def sample(self, ax: Tensor, *, seed: int = 0) -> Tensor:
        """Noisy measurements ``(batch, *range_shape)``; each of the batch has its own stream."""

    @abstractmethod
    def log_prob(self, y: Tensor, ax: Tensor) -> Tensor:
        """``log p(y | Ax)``, ``(batch,)``, normalized."""

    @abstractmethod
    def variance(self, ax: Tensor) -> Tensor:
        """Variance of each entry of y given Ax; like `ax`, or broadcasting to it."""

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        """Gradient of `log_prob` with respect to `ax`, same shape."""
        with with_gradients():
            ax = (ax.clone() if ax.is_inference() else ax).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.log_prob(y, ax).sum(), ax)
        return gradient

    def standardize(self, y: Tensor, ax: Tensor) -> Tensor:
        """Residuals like y, of mean 0 and variance 1 where `ax` is the noise-free measurement."""
        return (y - ax) / self.variance(ax).sqrt()

    def curvature(self, y: Tensor, ax: Tensor) -> Tensor:
        """Information about each entry of Ax, not negative: how sharply `log_prob` bends there.

        It is the expected (Fisher) or the observed information; by default the inverse variance,
        which is the expected information of Gaussian and Poisson noise.
        """
        return (1 / self.variance(ax)).expand(ax.shape)

    def information(self, r: Tensor, y: Tensor, ax: Tensor) -> Tensor:
        """The matrix F whose diagonal is `curvature`, times r."""
        return r * self.curvature(y, ax)

    def information_root(self, z: Tensor, y: Tensor, ax: Tensor) -> Tensor:
        """``R z`` with ``R R^T = F``; z like y."""
        return z * self.curvature(y, ax).sqrt()

    def scaled(self, factor: float) -> "NoiseModel":
        """The noise of ``factor * y``, `factor` not 0.

        Raises:
            ValueError: this noise has no scaled form.
        """
        raise ValueError(
            f"{self!r} has no scaled form: build the operator without noise, scale it, and pass "
            "noise= to solve"
        )

    def refuse(self, y: Tensor) -> None:
        """Raise a `ValueError` where this noise cannot have produced y."""
        return None

    def refuse_shape(self, caller: str, range_shape: tuple[int, ...]) -> None:
        """Raise a `ValueError` where this noise is not one of measurements of `range_shape`."""
        return None


class GaussianNoise(NoiseModel):
    """``y ~ N(Ax, S)``: independent entries, in pixels or in another orthonormal basis of y.

    Args:
        std: positive, in units of y; a number, or a tensor that broadcasts to `range_shape` (to
            one measurement's coefficients, where a `basis` is given).
        basis: where the noise is independent, such as ``ops.spectral.Fourier()`` for stationary
            noise with a power spectrum; None is the entries of y themselves.

    Raises:
        ValueError: a negative, zero or non-finite std.

    Examples:
        >>> white = ops.GaussianNoise(0.1)
        >>> white.sample(torch.zeros(1, 1, 8, 8), seed=0).shape
        torch.Size([1, 1, 8, 8])
    """

    def __init__(self, std: float | Tensor, *, basis: Basis | None = None):
        refuse_flag("GaussianNoise", "std", std)
        self.std = real_tensor("GaussianNoise", "std", std, finite=False, dtype=torch.float64)
        need = "a basis such as ops.spectral.Fourier()"
        self.basis = (
            Pixels()
            if basis is None
            else instance("GaussianNoise", "basis", basis, Basis, need=need)
        )
        if self.std.numel() == 0 or not bool((self.std.isfinite() & (self.std > 0)).all()):
            raise ValueError(
                f"GaussianNoise(std={std}): needs a positive, finite standard deviation in units "
                "of y; for nearly noise-free data use a small one, such as 1e-3 of the data range"
            )

    @classmethod
    def stationary(cls, power_spectrum: Tensor) -> "GaussianNoise":
        """Correlated noise, circular: `power_spectrum` ``(height, width)`` as ``fft2`` lays it out.

        It is the variance of each coefficient of the orthonormal transform, so that its mean is
        the variance of a pixel; symmetric under a change of sign of the frequency.
        """
        spectrum = real_tensor(
            "GaussianNoise.stationary", "power_spectrum", power_spectrum, dtype=torch.float64
        )
        if spectrum.ndim != 2 or spectrum.numel() == 0:
            raise ValueError(
                "GaussianNoise.stationary: needs a spectrum (height, width), got shape "
                f"{tuple(spectrum.shape)}"
            )
        mirrored = spectrum.flip((-2, -1)).roll((1, 1), (-2, -1))
        if not torch.allclose(spectrum, mirrored):
            raise ValueError(
                "GaussianNoise.stationary: needs a spectrum (height, width) with the same value "
                f"at frequency f and -f, in the layout of torch.fft.fft2; got shape "
                f"{tuple(spectrum.shape)}"
            )
        return cls(spectrum.sqrt(), basis=Fourier())

    @staticmethod
    def unknown(
        range: tuple[float, float] | ScalarPrior | None = None,
        *,
        by_channel: bool = False,
        groups: Tensor | None = None,
    ) -> "UnknownGaussianNoise":
        """White noise of unknown level, which `solve` draws with each sample.

        Args:
            range: of the standard deviation, in units of y, flat in its logarithm; or a
                `ScalarPrior`.  None is from 1e-4 to 2 times the root mean square of y.
            by_channel: whether each channel, the first axis of y, has a level of its own.
            groups: whole numbers from 0 on, broadcasting to `range_shape`: which measurements
                share a level.

        Raises:
            TypeError, ValueError: no range, both kinds of groups, or groups that are not counted
                from 0 without a gap.
        """
        return UnknownGaussianNoise(range, by_channel=by_channel, groups=groups)

    @property
    def is_white(self) -> bool:
        """Whether S is a multiple of the identity."""
        return self.std.numel() == 1

    def __repr__(self) -> str:
        where = "" if isinstance(self.basis, Pixels) else f", basis={type(self.basis).__name__}"
        if self.std.ndim == 0:
            return f"GaussianNoise({float(self.std):g}{where})"
        return f"GaussianNoise({tuple(self.std.shape)} values{where})"

    def scaled(self, factor: float) -> "GaussianNoise":
        factor = abs(number("GaussianNoise.scaled", "factor", factor))
        return GaussianNoise(self.std * factor, basis=self.basis)

    def colour(self, white: Tensor) -> Tensor:
        """``S^1/2 n``: standard normal coefficients ``(batch, ...)`` to noise on y."""
        return self.basis.inverse(white * resident(self.std, white))

    def whiten(self, r: Tensor) -> Tensor:
        """``S^-1/2 r``: noise on y to standard normal coefficients."""
        return self.basis.transform(r) / resident(self.std, r)

    def whiten_transposed(self, z: Tensor) -> Tensor:
        """The transpose of `whiten`."""
        return self.basis.inverse(z / resident(self.std, z))

    def information(self, r: Tensor, y: Tensor, ax: Tensor) -> Tensor:
        return self.whiten_transposed(self.whiten(r))

    def information_root(self, z: Tensor, y: Tensor, ax: Tensor) -> Tensor:
        return self.whiten_transposed(z)

    def sample(self, ax: Tensor, *, seed: int = 0) -> Tensor:
        return ax + self.colour(white_noise(ax, seed))

    def log_prob(self, y: Tensor, ax: Tensor) -> Tensor:
        _refuse_pair("log_prob", y, ax)
        # torch.distributions would send its own mean of 0 to the device at every call.
        std, constant = resident(self.std, ax), math.log(math.sqrt(2 * math.pi))
        misfit = self.basis.transform(y - ax) ** 2 / (2 * std**2)
        return (-misfit - std.log() - constant).flatten(1).sum(1)

    def gradient(self, y: Tensor, ax: Tensor) -> Tensor:
        _refuse_pair("gradient", y, ax)
        return self.whiten_transposed(self.whiten(y - ax))

    def variance(self, ax: Tensor) -> Tensor:
        if isinstance(self.basis, Pixels):
            return resident(self.std, ax) ** 2
        # In a Fourier basis every coefficient contributes equally to every entry.
        return (resident(self.std, ax) ** 2).expand(ax.shape[1:]).mean()

    def standardize(self, y: Tensor, ax: Tensor) -> Tensor:
        return self.whiten(y - ax)

    def refuse_shape(self, caller: str, range_shape: tuple[int, ...]) -> None:
        refuse_spread(
            caller, "the std of GaussianNoise", self.std.shape, range_shape, "measurement"
        )


class UnknownNoise(NoiseModel):
    """Noise of which numbers are not known: no law yet, and only `solve` can do with it."""

    def sample(self, ax: Tensor, *, seed: int = 0) -> Tensor:
        self._refuse("sample")

    def log_prob(self, y: Tensor, ax: Tensor) -> Tensor:
        self._refuse("log_prob")

    def variance(self, ax: Tensor) -> Tensor:
        self._refuse("variance")

    def _refuse(self, method: str) -> NoReturn:
        raise TypeError(
            f"{method}() of {self!r}: the level is not known; ti.solve draws it by the decoupled "
            "walk, and everything else needs noise with numbers, such as GaussianNoise(std)"
        )


class UnknownGaussianNoise(UnknownNoise):
    """Made by `GaussianNoise.unknown`: white noise whose level is drawn by `solve`.

    Attributes:
        prior: of the standard deviation; None where it follows from y.
    """

    def __init__(self, range: Any = None, *, by_channel: bool = False, groups: Any = None):
        caller = "GaussianNoise.unknown"
        flag(caller, "by_channel", by_channel)
        if by_channel and groups is not None:
            raise ValueError(f"{caller}: needs by_channel or groups, not both")
        prior = None if range is None else ScalarPrior.of(caller, "range", range)
        if prior is not None and prior.centre is None:
            prior = ScalarPrior.log_uniform(prior.low, prior.high)
        if prior is not None and prior.low <= 0:
            raise ValueError(f"{caller}(range={prior!r}): a noise level is positive")
        self.prior, self.by_channel = prior, by_channel
        self.groups = None if groups is None else _groups(groups)

    def __repr__(self) -> str:
        kind = ", by channel" if self.by_channel else ""
        if self.groups is not None:
            kind = f", {int(self.groups.max()) + 1} groups"
        return f"GaussianNoise.unknown({'' if self.prior is None else repr(self.prior)}{kind})"

    def group_of(self, range_shape: tuple[int, ...]) -> Tensor | None:
        """The group of each measurement, ``(*range_shape)``; None where all are of one."""
        if self.groups is not None:
            return self.groups.expand(range_shape)
        if self.by_channel and range_shape[0] > 1:
            column = torch.arange(range_shape[0]).reshape(-1, *[1] * (len(range_shape) - 1))
            return column.expand(range_shape)
        return None

    def refuse_shape(self, caller: str, range_shape: tuple[int, ...]) -> None:
        if self.groups is not None:
            shape = self.groups.shape
            refuse_spread(caller, "groups of the noise", shape, range_shape, "measurement")


def _groups(given: Any) -> Tensor:
    """Groups of measurements, checked."""
    groups = torch.as_tensor(given)
    whole = not groups.is_floating_point() and groups.dtype != torch.bool and groups.numel() > 0
    found = groups.unique().tolist() if whole else []
    if not whole or found != list(range(len(found))):
        raise ValueError(
            "GaussianNoise.unknown(groups=): needs whole numbers from 0 on, without a gap, got "
            f"{found or groups.dtype}"
        )
    return groups.long()


def refuse_flag(caller: str, name: str, value: object) -> None:
    """Raise a `TypeError` where a truth value stands for a number: True is not 1 unit of y."""
    kind = getattr(value, "dtype", type(value))
    if kind in (bool, torch.bool, np.bool_):
        raise TypeError(f"{caller}({name}={value}): needs a number, got a truth value")


def _refuse_pair(method: str, y: Tensor, ax: Tensor) -> None:
    """Raise an error where a measurement and ``A x`` are no pair."""
    if not (isinstance(y, Tensor) and isinstance(ax, Tensor)):
        raise TypeError(f"GaussianNoise.{method}(y, ax): needs two tensors of measurements")
    if ax.ndim == 0 or y.shape[-(ax.ndim - 1) :] != ax.shape[1:]:
        raise ValueError(
            f"GaussianNoise.{method}(y, ax): needs measurements of one shape, got "
            f"{tuple(y.shape)} and {tuple(ax.shape)}"
        )


def white_noise(like: Tensor, seed: int, purpose: str = "noise") -> Tensor:
    """Standard normal numbers like ``(batch, ...)``; each of the batch has its own stream."""
    if not isinstance(like, Tensor) or not like.is_floating_point() or like.ndim == 0:
        got = like.dtype if isinstance(like, Tensor) else type(like).__name__
        raise TypeError(
            f"sample(ax=): needs measurements (batch, ...) in a tensor of floats, got {got}"
        )
    seed = checked_seed("sample", "seed", seed)
    rows = [normal((purpose, seed, i), like.shape[1:]) for i in range(len(like))]
    return torch.stack(rows).to(like)
