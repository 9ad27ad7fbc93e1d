"""Complex images from a prior of magnitudes: a known phase, and little beside it.

    x = exp(i phase) (m + i q),    m ~ the prior of real images,   q ~ a prior of what is left

A magnetic resonance image is nearly real once its phase is taken off: the phase is smooth, and its
low frequencies are measured well (Noll, Nishimura and Macovski 1991; Bydder and Robson 2005).  The
rotation is orthogonal at every pixel, so that white noise stays white, and the denoiser of x is
that of m and that of q, each asked for its own part:

    D(x, sigma) = exp(i phase) (D_m(Re x', sigma) + i D_q(Im x', sigma)),    x' = exp(-i phase) x

This is exact for this model.  What is approximate is the model: that the phase is known, and that q
is independent of m, where a wrong phase makes it a share of m.
"""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import instance, number, sizes
from tweedie_inverse.boundary.arrays import tensor_of
from tweedie_inverse.boundary.contracts import Contract
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.rotated import Rotated
from tweedie_inverse.numerics.spectral import Fourier
from tweedie_inverse.priors.analytic import Gaussian
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.runtime.ranks import Ranks


class Complex(Prior):
    """A prior of complex images ``(2, height, width)``, real and imaginary part, from one of real.

    Args:
        prior: of the magnitudes, ``(1, height, width)``, or ``(1, depth, height, width)``.
        phase: of the images, in radians: ``(height, width)``, or one number for all; or complex,
            whose angle is taken.  `ops.estimate_phase` finds one in a measurement, and with an
            operator `ops.UnknownPhase` it is drawn, and 0 here.
        imaginary: what is left when the phase is taken off: a prior of real images of the same
            shape; or a number, the standard deviation of a smooth Gaussian field in data units, 0
            where the phase is trusted.
        width: pixels over which that field is smooth; its power is ``exp(-(2 pi f width)^2 / 2)``.

    Raises:
        TypeError, ValueError: a prior of colours or of correlated noise, a phase of another shape,
            or a setting that is none of these.

    Cost: an evaluation is one of each prior.
    """

    def __init__(
        self,
        prior: Prior,
        *,
        phase: Any = 0.0,
        imaginary: Prior | float = 0.0,
        width: float = 4.0,
    ):
        self.prior = _of_real_images("prior", prior)
        self.phase = _angle(phase)
        self.width = number("Complex", "width", width, low=0)
        if isinstance(imaginary, Prior):
            self.imaginary: Prior | float = _of_real_images("imaginary", imaginary)
        else:
            need = "a standard deviation in data units, 0 or more, or a prior of real images"
            self.imaginary = number("Complex", "imaginary", imaginary, low=0, need=need)
        self._become(tuple(prior.shape))

    def _become(self, shape: tuple[int, ...]) -> None:
        """Take everything that depends on the shape of the magnitudes."""
        self._real = self.prior.for_shape(shape)
        self._rest = (
            self.imaginary.for_shape(shape)
            if isinstance(self.imaginary, Prior)
            else _smooth_field(shape, self.imaginary, self.width)
        )
        size = shape[1:]
        if self.phase.ndim and tuple(self.phase.shape) != size:
            raise ValueError(
                f"Complex(phase=): needs one number or shape {size}, that of the prior's images, "
                f"got {tuple(self.phase.shape)}"
            )
        self.shape = (2, *size)
        self.sigma_min, self.sigma_max = self._real.sigma_min, self._real.sigma_max
        self.unit, self.units = self._real.unit, self._real.units
        phase = self.phase.expand(size)
        waves = Fourier(len(size))
        self._turn = self.probe_basis = Rotated(phase.cos(), phase.sin(), waves, waves)
        self._bases: dict[Any, Rotated] = {}
        centres = (torch.as_tensor(one.centre).double() for one in (self._real, self._rest))
        parts = [centre.expand(1, 1, *size) for centre in centres]
        self.centre = self._turn.joined(*parts)[0]

    def __repr__(self) -> str:
        phase = f"{float(self.phase):g}" if self.phase.ndim == 0 else "map"
        rest = self.imaginary if isinstance(self.imaginary, Prior) else f"{self.imaginary:g}"
        return f"Complex({self.prior!r}, phase={phase}, imaginary={rest})"

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        real, imaginary = self._turn.parts(x)
        return self._turn.joined(
            self._real.denoise(real, sigma), self._rest.denoise(imaginary, sigma)
        )

    def denoising_error(self, sigma: float) -> Covariance:
        return self._joined(self._real.denoising_error(sigma), self._rest.denoising_error(sigma))

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        # Asked for where the images are, so that no table is sent.
        parts = self._turn.parts(denoised)
        pairs = zip((self._real, self._rest), parts, strict=True)
        found = [prior.conditional_covariance(sigma, part) for prior, part in pairs]
        joined = self._joined(*(replace(one, scale=None) for one in found))
        if joined.variance.ndim == 1 or all(one.scale is None for one in found):
            return joined  # flat coefficients have no channels that a mean size could be one of
        # A size by place is one of the turned image, as `Basis.unturned` has it.
        sizes = [
            torch.ones_like(part[:, :1]) if one.scale is None else one.scale.expand_as(part)
            for one, part in zip(found, parts, strict=True)
        ]
        return replace(joined, scale=torch.cat(sizes, 1))

    def moments(self) -> tuple[Tensor, Covariance]:
        (mean, covariance), (other, of_rest) = self._real.moments(), self._rest.moments()
        parts = (mean[None].double(), other[None].double())
        return self._turn.joined(*parts)[0], self._joined(covariance, of_rest)

    def _joined(self, first: Covariance, second: Covariance) -> Covariance:
        """The covariance of x from those of its parts, which have no sizes by place."""
        basis = first.basis
        if first.variance.ndim == 0:  # diagonal in any basis, and best in that of the other
            basis = second.basis if second.variance.ndim else self._turn.first
        other = basis if second.variance.ndim == 0 else second.basis
        key = basis, other
        if key not in self._bases:
            known = self._turn
            self._bases[key] = Rotated(known.cosine, known.sine, basis, other)
        joined = self._bases[key]
        return Covariance(
            joined, joined.variances(first.variance, second.variance, tuple(self.shape[1:]))
        )

    def for_shape(self, shape: tuple[int, ...]) -> "Complex":
        shape = sizes("for_shape", "shape", shape)
        if shape == tuple(self.shape):
            return self
        if shape[0] != 2 or (self.phase.ndim and tuple(self.phase.shape) != shape[1:]):
            super().for_shape(shape)  # raises
        return self._with(self.prior, (1, *shape[1:]))

    def _with(self, prior: Prior, shape: tuple[int, ...]) -> "Complex":
        other = copy.copy(self)
        other.prior = prior
        other._become(shape)
        other.sigma_min, other.sigma_max = self.sigma_min, self.sigma_max  # perhaps `limited`
        return other

    def uncorrected(self) -> "Complex":
        return self._with(self.prior.uncorrected(), tuple(self._real.shape))

    def plain(self) -> "Complex":
        return self._with(self.prior.plain(), tuple(self._real.shape))

    def contracts(self, x: Tensor, sigma: float) -> list[tuple[object, Contract]]:
        real, imaginary = self._turn.parts(x)
        return self._real.contracts(real, sigma) + self._rest.contracts(imaginary, sigma)

    @property
    def device(self) -> torch.device:
        return self.prior.device

    @property
    def ranks(self) -> Ranks:
        return self.prior.ranks

    @property
    def rounding(self) -> float:
        return max(self._real.rounding, self._rest.rounding)

    @property
    def error_is_measured(self) -> bool:
        return self._real.error_is_measured and self._rest.error_is_measured

    @property
    def error_is_exact(self) -> bool:
        return self._real.error_is_exact and self._rest.error_is_exact


def _of_real_images(name: str, prior: Any) -> Prior:
    prior = instance("Complex", name, prior, Prior, need="a prior of real images")
    if len(prior.shape) not in (3, 4) or prior.shape[0] != 1:
        raise ValueError(
            f"Complex({name}=): needs a prior of real images (1, height, width), got one of shape "
            f"{tuple(prior.shape)}; a network of two channels is a prior of complex images as it is"
        )
    if prior.noise_covariance is not None:
        raise ValueError(
            f"Complex({name}=): needs a prior with white noise, and that of {prior!r} is "
            "correlated across slices; make slices of the complex prior: Slices(Complex(...), ...)"
        )
    return prior


def _angle(phase: Any) -> Tensor:
    """Radians, float64."""
    if isinstance(phase, int | float):
        return torch.tensor(number("Complex", "phase", phase), dtype=torch.float64)
    found = tensor_of("Complex", "phase", phase)
    found = found.angle() if found.is_complex() else found
    if not bool(found.isfinite().all()):
        raise ValueError("Complex(phase=): holds NaN or infinity")
    return found.double()


def _smooth_field(shape: tuple[int, ...], std: float, width: float) -> Gaussian:
    """A periodic Gaussian field of zero mean; nothing at all for a standard deviation of 0."""
    axes = [torch.fft.fftfreq(n, dtype=torch.float64) for n in shape[1:]]
    squares = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0)
    spectrum = torch.exp(-((2 * torch.pi * width) ** 2) * squares / 2)
    spectrum = std**2 * spectrum / spectrum.mean()
    zero = torch.zeros(shape, dtype=torch.float64)
    return Gaussian(zero, power_spectrum=spectrum)
