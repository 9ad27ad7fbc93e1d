"""What a prior is: a denoiser in data units, with the size of its own error."""

import copy
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import instance, number
from tweedie_inverse.boundary.arrays import advice_on_shape, real_tensor, tensor_of
from tweedie_inverse.boundary.contracts import Contract, checked_result
from tweedie_inverse.numerics.covariance import Covariance, isotropic
from tweedie_inverse.numerics.spectral import Basis
from tweedie_inverse.priors.moving import Movable
from tweedie_inverse.priors.scaling import Scaled, Scaling
from tweedie_inverse.priors.tweedie import score_from_denoised
from tweedie_inverse.runtime.digest import digest
from tweedie_inverse.runtime.ranks import Alone, Ranks


def sigma_column(x: Tensor, sigma: float | Tensor) -> Tensor:
    """``sigma`` (scalar or ``(batch,)``) as ``(batch, 1, ..., 1)`` in the dtype and device of x."""
    if isinstance(sigma, float | int) and not math.isfinite(sigma):
        raise ValueError(f"denoise(x, sigma): sigma must be a finite number, got {sigma}")
    if not isinstance(sigma, float | int | Tensor):
        sigma = real_tensor("denoise", "sigma", sigma, finite=False)
    if isinstance(sigma, Tensor):
        column = sigma.to(dtype=x.dtype, device=x.device)
    else:  # filled in where it is needed: a tensor of one number would have to be sent
        column = torch.full((), sigma, dtype=x.dtype, device=x.device)
    if column.ndim > 1 or (column.ndim == 1 and column.shape[0] not in (1, x.shape[0])):
        raise ValueError(
            f"denoise(x, sigma): sigma must be a scalar or one value an image, shape "
            f"({x.shape[0]},); got shape {tuple(column.shape)}"
        )
    return column.expand(x.shape[0]).reshape(-1, *[1] * (x.ndim - 1))


def refuse_level(caller: str, sigma: Any, *, zero: bool = True) -> None:
    """Raise an error for a number that is no noise level; those in tensors are not looked at.

    To look at them would halt an accelerator at every call.

    Args:
        zero: whether 0 is one.
    """
    if isinstance(sigma, Tensor | np.ndarray) and sigma.ndim > 0:
        if sigma.dtype in (torch.bool, np.bool_):
            raise TypeError(f"{caller}(sigma=): needs numbers, got truth values")
        return
    if isinstance(sigma, Tensor) and sigma.device.type != "cpu":
        return
    if isinstance(sigma, list | tuple):
        return
    level = sigma if isinstance(sigma, float) else number(caller, "sigma", sigma, finite=False)
    if not 0 <= level < math.inf or (level == 0 and not zero):
        raise ValueError(
            f"{caller}(sigma={level:g}): needs a finite noise level "
            f"{'of 0 or more' if zero else 'above 0'}, in data units"
        )


def refuse_correlated(prior: "Prior", caller: str) -> None:
    """Raise a `ValueError` where a prior's denoiser answers for noise that is not white."""
    if prior.noise_covariance is not None:
        raise ValueError(
            f"{caller}: needs a denoiser of white noise, and that of {prior!r} is correlated "
            "across slices; use another method, or the slices with correlation=0"
        )


# Root mean square rounding of numbers near 1, 0.4 of the largest one; float32
# convolutions of accelerators may have fewer bits.
ROUNDOFF = {
    torch.float64: 0.4 * 2.0**-53,
    torch.float32: 0.4 * 2.0**-24,
    torch.float16: 0.4 * 2.0**-11,
    torch.bfloat16: 0.4 * 2.0**-8,
}
TF32_ROUNDOFF = 0.4 * 2.0**-11

_ROUNDING = 5e-3  # of an end that was read from a report, which prints three digits


class Prior(Movable, ABC):
    """A denoiser ``D(x, sigma) = E[x0 | x0 + sigma n = x]`` in data units.

    Attributes:
        shape: of one image.
        sigma_min, sigma_max: range of noise levels it answers for, in data units.
        centre: mean of the data, roughly, a number or ``(*shape)``: walks start there, plus noise.
        any_sigma: whether levels outside that range are answered as well as those inside: exact
            priors, whose range is only where a walk may sensibly begin and end.
        unit: how much images differ, roughly, in data units; noise well above it hides them.
        value_range: ends of the range in which its images lie, in data units; None where it is not
            known.
        units: what one data unit is, for colour bars, such as ``"HU"``; empty where not known.
        suits_populations: whether evaluations are cheap enough for a population of walkers, and
            the prior is not so simple that independent walkers are exact anyway; with few
            dimensions, ``method="auto"`` then chooses the particle walk.
        noise_covariance: of the noise n that `denoise` answers for, of variance 1 everywhere; None
            where it is white.  Walks and samplers add such noise.
        probe_basis: basis in which random probes tell a spectrum; None is that of the shape.
    """

    shape: tuple[int, ...]
    sigma_min: float
    sigma_max: float
    centre: Tensor | float = 0.0
    any_sigma: bool = False
    unit: float = 1.0
    value_range: tuple[float, float] | None = None
    units: str = ""
    suits_populations: bool = False
    noise_covariance: Covariance | None = None
    probe_basis: Basis | None = None
    _calibration: Mapping[str, Scaling] | None = None

    def __init_subclass__(cls) -> None:
        """Let denoisers take arrays, and hold their arguments and results to the prior's shape."""
        for name in ("denoise", "denoise_drawing", "score"):
            if name in cls.__dict__:
                setattr(cls, name, _checked(cls.__dict__[name], name))

    @abstractmethod
    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """``E[x0 | x0 + sigma n = x]``.

        Args:
            x: ``(batch, *shape)``, noisy images in data units.
            sigma: scalar or ``(batch,)``, noise standard deviation in data units.

        Raises:
            ValueError: images of another shape, or a denoiser that does not return theirs.
            TypeError: no images of floating-point numbers.
        """

    def coloured(self, white: Tensor) -> Tensor:
        """Standard normal numbers ``(batch, *shape)`` as the noise that `denoise` answers for."""
        return white if self.noise_covariance is None else self.noise_covariance.colour(white)

    def noise_at(self, sigma: float) -> Covariance:
        """Covariance of that noise at a level."""
        if self.noise_covariance is None:
            return isotropic(sigma**2)
        return self.noise_covariance.map(lambda v: sigma**2 * v)

    def denoise_drawing(
        self, x: Tensor, sigma: float | Tensor, noise: Callable[[tuple[int, ...]], Tensor]
    ) -> Tensor:
        """`denoise`, for a walk with random numbers to give; few priors take any.

        ``noise(shape)`` draws ``(batch, *shape)`` standard normal numbers.
        """
        return self.denoise(x, sigma)

    @abstractmethod
    def denoising_error(self, sigma: float) -> Covariance:
        """Covariance of ``x0 - D(x0 + sigma n, sigma)``, averaged over the prior."""

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Gradient of ``log p_sigma(x)`` by Tweedie's formula, ``(D(x, sigma) - x) / sigma^2``.

        Where the noise is correlated, the inverse of its covariance takes the place of ``1 /
        sigma^2``.
        """
        x = _images(self, "score", x)
        refuse_level(f"{type(self).__name__}.score", sigma, zero=False)
        score = score_from_denoised(x, self.denoise(x, sigma), sigma_column(x, sigma))
        if self.noise_covariance is None:
            return score
        return self.noise_covariance.map(torch.reciprocal).apply(score)

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        """The Gaussian model of ``p(x0 | x_sigma)`` that the decoupled walk draws from.

        By default the denoising error; a prior whose error differs from place to place may answer
        with a covariance for each of the images ``denoised = D(x, sigma)``, ``(batch, *shape)``.
        """
        return self.denoising_error(sigma)

    def moments(self) -> tuple[Tensor, Covariance]:
        """Mean ``(*shape)`` and covariance of the images.

        By default the centre, and what the denoising error at sigma_max says: V is ``P sigma^2 (P
        + sigma^2)^-1`` there, and solved for P.
        """
        square = self.sigma_max**2
        # A denoiser that removes nothing at all would know nothing of the prior.
        largest = 1 - 1e-3
        covariance = self.denoising_error(self.sigma_max).map(
            lambda v: v / (1 - (v / square).clamp(max=largest))
        )
        return torch.as_tensor(self.centre).expand(self.shape), covariance

    def uncorrected(self) -> "Prior":
        """This prior without any measured correction of its denoiser."""
        return self

    def limited(self, *, sigma_min: float | None = None, sigma_max: float | None = None) -> "Prior":
        """This prior with a smaller range of noise levels, in which walks then begin and end.

        Networks are often of no use at the ends of the range they were trained on; `check_prior`
        measures where.

        Args:
            sigma_min, sigma_max: ends of the new range in data units; None keeps the old ones.

        Raises:
            ValueError: an end that lies outside the prior's range, or an empty range.
        """
        caller = f"{type(self).__name__}.limited"
        ends = {"sigma_min": self.sigma_min, "sigma_max": self.sigma_max}
        for name, given in (("sigma_min", sigma_min), ("sigma_max", sigma_max)):
            if given is None:
                continue
            ends[name] = number(caller, name, given, above=0)
            room = 1 + _ROUNDING
            if not self.sigma_min / room <= ends[name] <= self.sigma_max * room:
                raise ValueError(
                    f"{caller}({name}={given:g}): lies outside the prior's range, sigma "
                    f"{self.sigma_min:.4g} to {self.sigma_max:.4g} in data units; only less can be "
                    "asked for"
                )
        if not ends["sigma_min"] < ends["sigma_max"]:
            raise ValueError(
                f"{caller}: needs sigma_min < sigma_max, got {ends['sigma_min']:g} and "
                f"{ends['sigma_max']:g}"
            )
        other = copy.copy(self)
        other.sigma_min, other.sigma_max = ends["sigma_min"], ends["sigma_max"]
        return other

    @property
    def calibration(self) -> Mapping[str, Scaling]:
        """What calibrations have found of this prior, by operator, noise, walk and samples.

        Those of another range of noise levels, denoising error, tiling or network are left out;
        what `faster` and another device change is rounding.
        """
        kept = {} if self._calibration is None else self._calibration
        return {key: one for key, one in kept.items() if self._is_of(one)}

    def with_calibration(self, calibration: Scaled | Scaling | None) -> "Prior":
        """This prior with what a calibration has found, beside what it has; without any for None.

        A posterior that `solve` makes with it can be `recalibrated`.

        Args:
            calibration: of `calibrate`, or one of the values of another prior's `calibration`.

        Raises:
            ValueError: it was made with another prior.
        """
        other, caller = copy.copy(self), f"{type(self).__name__}.with_calibration"
        if calibration is None:
            other._calibration = None
            return other
        need = "what ti.calibrate returns, or None"
        given = instance(caller, "calibration", calibration, Scaled | Scaling, need=need)
        one = given.scaling if isinstance(given, Scaled) else given
        if not self._is_of(one):
            raise ValueError(
                f"{caller}: needs a calibration of this prior, got one of {' '.join(one.prior)}; "
                "calibrate this one, or give it to the prior that it was made with"
            )
        other._calibration = {**self.calibration, one.key: one}
        return other

    @property
    def ranks(self) -> Ranks:
        """The processes over which its network evaluations are spread; usually this one alone."""
        return Alone()

    def over_ranks(self) -> "Prior":
        """This prior with its evaluations spread over processes; a `ValueError` for most."""
        raise ValueError(
            f"{type(self).__name__}.over_ranks(): tiles and slices can be spread, and this prior "
            "has none; ask the one that it is made of, prior.tiled().over_ranks()"
        )

    def plain(self) -> "Prior":
        """This prior with its network run in torch's usual way, as before `faster`."""
        return self

    def _is_of(self, scaling: Scaling) -> bool:
        """Whether these numbers were measured with this prior."""
        try:
            return digest(self.for_shape(scaling.shape).plain()) == scaling.prior[1]
        except ValueError:  # no form for images of that shape
            return False

    def contracts(self, x: Tensor, sigma: float) -> list[tuple[object, Contract]]:
        """What must hold of the user's functions behind this prior, each with its owner.

        Args:
            x: two noisy images ``(2, *shape)`` of level sigma.

        Returns:
            By default the denoiser itself, owned by the prior; none for the package's exact priors.
        """
        name = f"denoise() of {type(self).__name__}"
        call = lambda x: self.denoise(x, sigma)  # noqa: E731
        return [(self, Contract(name, call, (x,), tuple(self.shape), alone=(1,)))]

    @property
    def device(self) -> torch.device:
        """The device of the prior's weights or tensors, where it computes.

        By default the CPU; a prior that holds tensors says where they are.
        """
        return torch.device("cpu")

    @property
    def error_is_measured(self) -> bool:
        """Whether `denoising_error` is exact or measured, and not a guess."""
        return True

    @property
    def rounding(self) -> float:
        """Root mean square rounding of a number of `denoise`, roughly, in data units.

        Differences of two answers say nothing where they are as small.  By default that of float32.
        """
        return self.unit * ROUNDOFF[torch.float32]

    @property
    def error_is_exact(self) -> bool:
        """Whether `conditional_covariance` is that of ``p(x0 | x_sigma)``, then a Gaussian."""
        return False

    def for_shape(self, shape: tuple[int, ...]) -> "Prior":
        """This prior for images of `shape`; a `ValueError` where it has no such form."""
        if tuple(shape) != tuple(self.shape):
            raise ValueError(
                f"{type(self).__name__} is a prior for images of shape {tuple(self.shape)}, but "
                f"images of shape {tuple(shape)} are asked for. Use an operator whose "
                f"domain_shape is {tuple(self.shape)}, or another prior (ti.list_priors())"
                f"{_lifted(tuple(self.shape), tuple(shape))}."
            )
        return self


def _lifted(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """How a prior of images becomes one of what is asked for, as the end of a message."""
    if len(shape) == 3 and len(wanted) == 4:
        return "; ti.priors.Slices(prior, depth=..., correlation=...) makes one of volumes of it"
    if shape[0] == 1 and wanted[0] == 2 and shape[1:] == wanted[1:]:
        return (
            "; ti.priors.Complex(prior, phase=...) makes one of complex images of it, and an "
            "operator with real=True, such as ops.FourierSampling(mask, real=True), sees real ones"
        )
    return ""


def _checked(method: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """A denoiser that compares images and result with the shape of its prior, at every call."""

    @functools.wraps(method)
    def checked(self: Prior, x: Any, sigma: Any, *rest: Any, **settings: Any) -> Tensor:
        x = _images(self, name, x)
        refuse_level(f"{type(self).__name__}.{name}", sigma, zero=name != "score")
        result = method(self, x, sigma, *rest, **settings)
        return checked_result(f"{type(self).__name__}.{name}()", result, tuple(x.shape), x)

    return checked


def _images(prior: Prior, name: str, x: Any) -> Tensor:
    """Noisy images as a tensor ``(batch, *shape)``, of a shape that the prior answers for."""
    caller, shape = f"{type(prior).__name__}.{name}", tuple(prior.shape)
    x = tensor_of(caller, "x", x)
    if not x.is_floating_point():
        raise TypeError(
            f"{caller}: needs images of floating-point numbers, got {x.dtype}; ti.as_image makes "
            "one of a picture, and complex images are two channels"
        )
    if tuple(x.shape[1:]) != shape:
        if x.ndim == len(shape) + 1:
            try:
                prior.for_shape(tuple(x.shape[1:]))
                return x
            except ValueError:
                pass
        raise ValueError(
            f"{caller}: needs shape (batch, {', '.join(map(str, shape))}), got {tuple(x.shape)}"
            f"{advice_on_shape(x.shape, shape)}"
        )
    return x
