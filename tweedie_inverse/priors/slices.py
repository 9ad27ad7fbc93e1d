"""Volumes from a prior of images: a stack of slices whose noise is as alike as they are.

Slices with the covariance C each and the correlation R across them have the covariance ``R (x) C``.
With noise of covariance ``sigma^2 R (x) I``, white within a slice and correlated across slices,

    Cov(x_sigma) = R (x) (C + sigma^2 I)
    D(x, sigma)  = C (C + sigma^2 I)^-1 x            slice by slice
    V_sigma      = R (x) V,   V = C sigma^2 (C + sigma^2 I)^-1 of one slice

so that the image prior, asked for every slice by itself, is the exact denoiser of the volume.  Its
network sees nothing but slices with white noise, as it was trained.  The same holds for images of
any law whose slices are independent (R = I), or all the same (R full of ones); in between it is a
model.  R may differ from frequency to frequency, and then stationary volumes of any spectrum are
exact; white noise would ask the network to denoise sums and differences of slices, which are no
images.

Several axes: ``D`` is the mean of the denoisers along each, so that the score is that of a product
of priors (geometric mean; Lee et al. 2023 take the axes in turn), and V the mean of their V, which
is what the Jacobian of this D says.  Then noise is white, and slices are held together by what the
other axes say of them.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, instance, sizes
from tweedie_inverse.boundary.contracts import Contract
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.slice_modes import SliceModes, exponential, lifted
from tweedie_inverse.numerics.spectral import Basis, Chained, Cosines, Fourier, Pixels
from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.shared_work import answers, shared
from tweedie_inverse.priors.slice_correlation import SliceCorrelation, checked_correlation
from tweedie_inverse.runtime.ranks import Alone, Ranks, join


class Slices(Prior):
    """A prior of volumes ``(channels, depth, height, width)`` made of a prior of images.

    Args:
        prior: of the slices, ``(channels, height, width)`` for slices along the depth.
        depth: number of slices along the axis, or along the first of several.
        axes: along which the slices follow each other: 0 depth, 1 height, 2 width, or several of
            them; then the prior must have a form for the slices of each.
        correlation: how alike slices are, for one axis: the number of slices over which their
            correlation ``exp(-distance / length)`` falls to 1/e, 0 for slices that know nothing of
            each other; the correlation itself, ``(depth, depth)``; or what
            `measure_slice_correlation` measures on volumes.  The noise of a walk is as alike, which
            keeps samples from flickering.  With several axes noise is white.
        together: slices that the prior is given at once; over ranks, what one process is given.

    Attributes:
        noise_covariance: of the noise that `denoise` answers for: correlated across slices.

    Raises:
        TypeError, ValueError: no prior of images, a setting that is none of these, or a
            correlation by frequency round a prior whose error is not known by frequency.

    Cost: an evaluation is one of the image prior for every slice along every axis.
    """

    def __init__(
        self,
        prior: Prior,
        *,
        depth: int,
        axes: int | Sequence[int] = 0,
        correlation: float | Tensor | SliceCorrelation | None = None,
        together: int = 64,
    ):
        self.prior = instance("Slices", "prior", prior, Prior, need="a prior of images")
        if len(prior.shape) != 3:
            raise ValueError(
                f"Slices(prior=): needs a prior of images (channels, height, width), got one of "
                f"shape {tuple(prior.shape)}"
            )
        if prior.noise_covariance is not None:
            raise ValueError("Slices(prior=): needs a prior of images with white noise")
        self.axes = _axes(axes)
        depth, self.together = (
            count("Slices", "depth", depth),
            count("Slices", "together", together),
        )
        self.correlation = self._checked(correlation, depth)
        self._ranks: Ranks = Alone()
        size = list(prior.shape[1:])
        size.insert(self.axes[0], depth)
        self._become((prior.shape[0], *size))

    def _checked(self, given: Any, depth: int) -> float | Tensor | SliceCorrelation:
        if len(self.axes) > 1:
            if given is not None and not (isinstance(given, int | float) and given == 0):
                raise ValueError(
                    f"Slices(axes={self.axes}, correlation=): slices of several axes need white "
                    "noise; leave correlation= out, or take one axis"
                )
            return 0.0
        if given is None:
            raise TypeError(
                "Slices(correlation=): say how alike neighbouring slices are: over how many slices "
                "their correlation falls to 1/e (0: they know nothing of each other), or "
                "ti.priors.measure_slice_correlation(volumes)"
            )
        return checked_correlation(given, depth)

    def _become(self, shape: tuple[int, ...]) -> None:
        """Take everything that depends on the shape of the volumes."""
        self.shape = shape
        self._priors = [self.prior.for_shape(_slice_shape(shape, axis)) for axis in self.axes]
        leading = self._priors[0]
        self.sigma_min, self.sigma_max = leading.sigma_min, leading.sigma_max
        self.unit, self.any_sigma = leading.unit, leading.any_sigma
        self.value_range, self.units = leading.value_range, leading.units
        centre = leading.centre
        if isinstance(centre, Tensor) and centre.ndim > 1:
            centre = centre.unsqueeze(1 + self.axes[0]).expand(shape)
        self.centre = centre
        self._modes: dict[Basis, tuple[SliceModes, Tensor]] = {}
        self._matrices = self._correlations(shape[1 + self.axes[0]])
        self.noise_covariance = None
        if len(self.axes) == 1 and not _is_identity(self._matrices):
            modes, across = self._across(self._noise_basis(), 3)
            self.noise_covariance = Covariance(modes, across)
            self.probe_basis = leading.probe_basis

    def _correlations(self, depth: int) -> Tensor:
        """``(groups, depth, depth)``."""
        if isinstance(self.correlation, SliceCorrelation):
            return self.correlation.matrices(depth)
        if isinstance(self.correlation, Tensor):
            return self.correlation[None]
        return exponential(self.correlation, depth)[None]

    def _noise_basis(self) -> Basis:
        """Of one slice: where the correlation differs by frequency, that of the prior's error."""
        if not isinstance(self.correlation, SliceCorrelation):
            return Pixels()
        own = self._priors[0].denoising_error(self.sigma_max).basis.unmixed()
        if isinstance(own, Pixels) and not self._priors[0].error_is_measured:
            return Fourier()
        if not isinstance(own, Cosines | Fourier):
            raise ValueError(
                f"Slices(correlation=): {self.prior!r} knows its error in {type(own).__name__}, "
                "not by frequency; give one correlation for all frequencies, such as a length"
            )
        return own

    def _across(self, slices: Basis, slice_axes: int) -> tuple[SliceModes, Tensor]:
        """The modes across slices of a basis, and the eigenvalues of R there."""
        if slices not in self._modes:
            values, vectors = torch.linalg.eigh(self._matrices)
            modes = SliceModes(slices, vectors, self._groups(slices), self.axes[0])
            self._modes[slices] = modes, modes.across(values.clamp(min=0), slice_axes)
        return self._modes[slices]

    def _groups(self, slices: Basis) -> Tensor | None:
        if not isinstance(self.correlation, SliceCorrelation):
            return None
        cosines = isinstance(slices.unmixed(), Cosines)
        size = _slice_shape(self.shape, self.axes[0])[1:]
        return self.correlation.ring(
            [torch.arange(n) / (2 * n) if cosines else torch.fft.fftfreq(n) for n in size]
        )

    def __repr__(self) -> str:
        how = f"axes={self.axes}" if len(self.axes) > 1 else f"correlation={self._shown()}"
        return f"Slices({self.prior!r}, {how}, shape={self.shape})"

    def _shown(self) -> str:
        return "matrix" if isinstance(self.correlation, Tensor) else str(self.correlation)

    def over_ranks(self) -> "Slices":
        """This prior, its slices evaluated by all processes that torchrun has started.

        Each process has the whole volume, evaluates its share of the slices, `together` at a time,
        and gets the others'; the denoised volume is that of one process.

        Raises:
            ValueError: a prior over ranks already, or no other processes.

        Cost: evaluations over the number of processes, and traffic (docs/several-processes.md).
        """
        if self.ranks.size > 1:
            raise ValueError(f"{self!r}.over_ranks(): is over ranks already")
        other = copy.copy(self)
        other._ranks = join("over_ranks", self.device)
        return other

    @property
    def ranks(self) -> Ranks:
        return self._ranks if self._ranks.size > 1 else self.prior.ranks

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self._mean(x, sigma, lambda prior, slices, level, *_: prior.denoise(slices, level))

    def denoise_drawing(
        self, x: Tensor, sigma: float | Tensor, noise: Callable[[tuple[int, ...]], Tensor]
    ) -> Tensor:
        made = cache(noise)  # for the whole volume, whatever its parts

        def denoise(
            prior: Prior, slices: Tensor, level: float | Tensor, part: slice, depth: int
        ) -> Tensor:
            def drawn(shape: tuple[int, ...]) -> Tensor:
                return made((depth, *shape)).flatten(0, 1)[part]

            return prior.denoise_drawing(slices, level, drawn)

        return self._mean(x, sigma, denoise, draws=lambda: made.cache_info().currsize)

    def _mean(
        self,
        x: Tensor,
        sigma: float | Tensor,
        denoise: Callable[..., Tensor],
        *,
        draws: Callable[[], int] | None = None,
    ) -> Tensor:
        """The mean over the axes of what the prior makes of the slices of each."""
        x = shared(self._ranks, x)
        total = torch.zeros_like(x)
        for prior, axis in zip(self._priors, self.axes, strict=True):
            stack = x.movedim(2 + axis, 1)  # (batch, depth, channels, height, width)
            found = self._of_slices(partial(denoise, prior), x, stack, sigma, draws)
            together = torch.cat(found).unflatten(0, stack.shape[:2])
            total = total + together.movedim(1, 2 + axis)
        return total / len(self.axes)

    def _of_slices(
        self,
        denoise: Callable[..., Tensor],
        x: Tensor,
        stack: Tensor,
        sigma: float | Tensor,
        draws: Callable[[], int] | None,
    ) -> list[Tensor]:
        """What becomes of ``stack (batch, depth, ...)``, `together` slices at a time."""
        slices, level = stack.flatten(0, 1), sigma
        if isinstance(sigma, Tensor) and sigma.numel() > 1:
            level = sigma.repeat_interleave(stack.shape[1])
        parts = [
            slice(first, min(first + self.together, len(slices)))
            for first in range(0, len(slices), self.together)
        ]

        def evaluate(part: slice) -> Tensor:
            here = level[part] if isinstance(level, Tensor) and level.numel() > 1 else level
            return denoise(slices[part], here, part, stack.shape[1])

        counts = [part.stop - part.start for part in parts]
        told = torch.as_tensor(sigma, dtype=torch.float64)
        return list(answers(self._ranks, x, told, parts, counts, evaluate, draws=draws))

    def denoising_error(self, sigma: float) -> Covariance:
        return self._over_axes(lambda prior, _: prior.denoising_error(sigma))

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        if len(self.axes) > 1:
            return self.denoising_error(sigma)

        def around(prior: Prior, axis: int) -> Covariance:
            slices = denoised.movedim(2 + axis, 1).flatten(0, 1)
            return prior.conditional_covariance(sigma, slices)

        return self._over_axes(around)

    def moments(self) -> tuple[Tensor, Covariance]:
        mean = self._priors[0].moments()[0].unsqueeze(1 + self.axes[0]).expand(self.shape)
        return mean, self._over_axes(lambda prior, _: prior.moments()[1])

    def _over_axes(self, of_slices: Callable[[Prior, int], Covariance]) -> Covariance:
        """The covariance of volumes, from those of the slices along each axis."""
        found = [
            of_slices(prior, axis) for prior, axis in zip(self._priors, self.axes, strict=True)
        ]
        if len(found) == 1:
            return self._lifted(found[0])
        return _averaged(found, self.axes)

    def _lifted(self, one: Covariance) -> Covariance:
        """``R (x) C``: that of one slice, or those of the slices of a batch of volumes."""
        shape = _slice_shape(self.shape, self.axes[0])
        basis = self._noise_basis() if one.variance.ndim == 0 else one.basis
        axes = basis.transform(torch.zeros((1, *shape))).ndim - 1
        modes, across = self._across(basis, axes)
        depth, variance, scale = self.shape[1 + self.axes[0]], one.variance, one.scale
        if variance.ndim > axes:  # slices that differ: their mean, where R can act
            variance = variance.unflatten(0, (-1, depth)).mean(1)
        if scale is not None:
            scale = scale.unflatten(0, (-1, depth)).movedim(1, 2 + self.axes[0])
        return Covariance(modes, lifted(variance, across), scale)

    def uncorrected(self) -> "Slices":
        return self._of(self.prior.uncorrected())

    def plain(self) -> "Slices":
        return self._of(self.prior.plain())

    def _of(self, prior: Prior) -> "Slices":
        """The same of another form of the image prior."""
        other = copy.copy(self)
        other.prior = prior
        other._priors = [prior.for_shape(tuple(one.shape)) for one in self._priors]
        return other

    def for_shape(self, shape: tuple[int, ...]) -> "Slices":
        shape = sizes("for_shape", "shape", shape)
        if shape == tuple(self.shape):
            return self
        stated = self.correlation
        fits = len(shape) == 4 and (
            not isinstance(stated, Tensor) or shape[1 + self.axes[0]] == len(stated)
        )
        if not fits:
            super().for_shape(shape)  # raises
        other = copy.copy(self)
        other._become(shape)
        other.sigma_min, other.sigma_max = self.sigma_min, self.sigma_max  # perhaps `limited`
        return other

    def contracts(self, x: Tensor, sigma: float) -> list[tuple[object, Contract]]:
        return self._priors[0].contracts(x.select(2 + self.axes[0], 0), sigma)

    @property
    def device(self) -> torch.device:
        return self.prior.device

    @property
    def rounding(self) -> float:
        return self.prior.rounding

    @property
    def error_is_measured(self) -> bool:
        if len(self.axes) == 1:
            return self.prior.error_is_measured
        errors = [prior.denoising_error(self.sigma_max) for prior in self._priors]
        bases = {type(_plane(error.basis)) for error in errors}
        return self.prior.error_is_measured and bases in ({Cosines}, {Fourier})

    @property
    def error_is_exact(self) -> bool:
        return len(self.axes) == 1 and self.prior.error_is_exact


def _axes(given: int | Sequence[int]) -> tuple[int, ...]:
    axes = given if isinstance(given, tuple | list) else (given,)
    found = tuple(
        count(
            "Slices", "axes", axis, least=0, most=2, need="0 depth, 1 height, 2 width, or several"
        )
        for axis in axes
    )
    if not found or len(set(found)) != len(found):
        raise ValueError(f"Slices(axes={given!r}): needs one axis, or several different ones")
    return found


def _slice_shape(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[: 1 + axis] + shape[2 + axis :]


def _is_identity(matrices: Tensor) -> bool:
    return bool((matrices == torch.eye(matrices.shape[-1], dtype=matrices.dtype)).all())


def _plane(basis: Basis) -> Basis:
    """What follows a mixing of the channels."""
    return basis.second if isinstance(basis, Chained) else basis


def _averaged(found: list[Covariance], axes: tuple[int, ...]) -> Covariance:
    """The mean of covariances that say nothing across the slices of their axis.

    Raises:
        ValueError: they are not known by frequency.
    """
    first, plane = found[0].basis, _plane(found[0].basis)
    total = torch.zeros((), dtype=found[0].variance.dtype, device=found[0].variance.device)
    for one, axis in zip(found, axes, strict=True):
        v = one.variance
        total = total + (v.unsqueeze(v.ndim - 2 + axis) if v.ndim else v)
    if total.ndim == 0:
        basis: Basis = Pixels()
    elif isinstance(plane, Cosines):
        basis = replace(plane, axes=3)
    elif isinstance(plane, Fourier):
        basis = replace(first, second=Fourier(3)) if isinstance(first, Chained) else Fourier(3)
    else:
        raise ValueError(
            f"Slices(axes={axes}): errors in {type(plane).__name__} cannot be averaged over axes; "
            "use one axis"
        )
    return Covariance(basis, total / len(found))
