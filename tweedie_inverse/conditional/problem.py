"""A measurement, its operator and its noise: everything that a walk may ask about the data.

Applications of the operator are counted here too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.numerics.spectral import Basis, Cosines, Pixels, Spectrum
from tweedie_inverse.operators import (
    GaussianNoise,
    LinearOperator,
    NoiseModel,
    Operator,
    operator_norm,
)

_PROBES = 8
_LOOK_AFTER, _FIRST_LOOK = 2, 16
_TOGETHER = 2**20  # numbers in the probes that are taken at once: bounds the memory


class Linearization(NamedTuple):
    """``A(x)``, and products with the Jacobian J at x: ``push`` with J, ``pull`` with ``J^T``."""

    ax: Tensor
    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]


@dataclass
class Applications:
    """Of A or its adjoint, counted per walker; they outlive the problem, and its operators do not.

    Attributes:
        count: so far.
    """

    count: int = 0


class Problem:
    """``y = A(x) + noise`` for a batch of walkers, one measurement each.

    Attributes:
        y: ``(walkers, *range_shape)``.
        populations: number of measurements among them, for walks whose walkers interact; each has
            equally many walkers, and they stand one measurement after the other.
        applications: of A or its adjoint so far.
        kept: what the modules of linear solves made of it once, by name.
        differs: whether walkers have operators of their own.
        unit: ``(walkers, 1, ...)`` like an image, where each walker has a noise level of its own:
            images and data of this problem are then counted in it (`conditional.units`).
    """

    def __init__(self, y: Tensor, operator: Operator, noise: NoiseModel, *, populations: int = 1):
        self.y, self.operator, self.noise, self.populations = y, operator, noise, populations
        self.applications = Applications()
        self._ends: dict[float, int] = {}
        self.kept: dict[str, Any] = {}
        self.unit: Tensor | None = None
        self.differs = False
        self._curvatures: dict[Basis, Tensor] = {}
        self._matrix: tuple[Basis, Tensor] | None = None
        self._of_basis: tuple[Basis, Spectrum | None] | None = None

    @property
    def operator_calls(self) -> int:
        """Applications of A or its adjoint so far, counted per walker."""
        return self.applications.count

    @operator_calls.setter
    def operator_calls(self, count: int) -> None:
        self.applications.count = count

    def first_look(self, tolerance: float) -> int:
        """Iterations after which an accelerator asks whether a linear solve has ended.

        They are more than the last solve of this tolerance took, because an iteration costs less
        than a question.  No result depends on them.
        """
        return max(_FIRST_LOOK, _LOOK_AFTER * self._ends.get(tolerance, 0))

    def note_end(self, tolerance: float, iterations: int) -> None:
        """What a linear solve took."""
        self._ends[tolerance] = iterations

    @property
    def is_linear_gaussian(self) -> bool:
        """Whether the exact Gaussian draw applies."""
        return isinstance(self.operator, LinearOperator) and isinstance(self.noise, GaussianNoise)

    @cached_property
    def operator_norm(self) -> float:
        """``||A||`` of a linear operator, measured once."""
        assert isinstance(self.operator, LinearOperator)
        return operator_norm(self.operator, dtype=self.y.dtype, device=self.y.device)

    @property
    def gaussian_noise(self) -> GaussianNoise:
        """The noise of a problem that `is_linear_gaussian`."""
        assert isinstance(self.noise, GaussianNoise)
        return self.noise

    @property
    def spectrum(self) -> Spectrum:
        """The decomposition of an operator that has one."""
        assert self._spectrum is not None
        return self._spectrum

    @cached_property
    def _spectrum(self) -> Spectrum | None:
        # Some operators work it out whenever they are asked.
        return self.operator.spectrum if isinstance(self.operator, LinearOperator) else None

    def spectrum_in(self, basis: Basis) -> Spectrum | None:
        """The decomposition in a basis, asked for once; None where A has none."""
        if self._of_basis is None or self._of_basis[0] != basis:
            operator, found = self.operator, None
            if self._spectrum is not None and isinstance(operator, LinearOperator):
                same = self._spectrum.basis == basis
                found = self._spectrum if same else operator.spectrum_in(basis)
            self._of_basis = basis, found
        return self._of_basis[1]

    @cached_property
    def response(self) -> Tensor:
        """The singular values over the noise, like y."""
        return self.response_of(self.spectrum)

    def response_of(self, spectrum: Spectrum) -> Tensor:
        """The singular values of a decomposition over white noise, like y."""
        std = self.gaussian_noise.std.reshape(())
        return (spectrum.singular / std).to(self.y)

    @cached_property
    def basis(self) -> Basis:
        """The basis in which A is closest to diagonal: for isotropic covariances, which fit any."""
        if self._spectrum is not None:
            return self.spectrum.basis
        axes = len(self.operator.domain_shape) - 1
        return Cosines(axes=axes) if axes in (2, 3) else Pixels()

    def is_diagonal(self, basis: Basis) -> bool:
        """Whether the modes of A in `basis` are measured one by one, with the same white noise."""
        if not (self.is_linear_gaussian and self.gaussian_noise.is_white):
            return False
        return self.spectrum_in(basis) is not None

    @property
    def is_planar(self) -> bool:
        """Whether the channels of an image are measured one by one, and all of them alike."""
        operator = self.operator
        return (
            self.is_linear_gaussian
            and self.gaussian_noise.is_white
            and operator.images is None
            and isinstance(operator, LinearOperator)
            and operator.treats_channels_alike
        )

    def curvature(self, basis: Basis) -> Tensor:
        """Diagonal of ``B A^T S^-1 A B^T`` for Gaussian noise, estimated once for a basis.

        The estimate uses random signs (Hutchinson 1990), is smoothed over neighbouring frequencies
        and made positive.  It is good enough for a preconditioner, and the same for all walkers.
        """
        if basis not in self._curvatures:
            shape, total = self.operator.domain_shape, torch.zeros(())
            together = min(_PROBES, max(1, _TOGETHER // math.prod(shape)))
            for first in range(0, _PROBES, together):
                key = ("probes", first) if first else ("probes",)
                signs = normal(key, (min(together, _PROBES - first), *shape)).sign().to(self.y)
                probes = basis.transform(signs).sign()
                z = self.gaussian_noise.whiten(self.forward(basis.inverse(probes)))
                back = basis.transform(self.adjoint(self.gaussian_noise.whiten_transposed(z)))
                total = total.to(back) + (probes * back).sum(0, keepdim=True)
            self._curvatures[basis] = basis.smooth(total / _PROBES)[0].abs()
        return self._curvatures[basis]

    def whitened_matrix(self, basis: Basis) -> Tensor:
        """``S^-1/2 A B^T`` for Gaussian noise, ``(measurements, coefficients)``, kept for a basis.

        One application of the adjoint for each measurement: for operators with few of them.
        """
        if self._matrix is None or self._matrix[0] != basis:
            shape = tuple(self.y.shape[1:])
            size = math.prod(shape)
            units = torch.eye(size, dtype=self.y.dtype, device=self.y.device)
            whitened = self.gaussian_noise.whiten_transposed(units.reshape(size, *shape))
            self._matrix = basis, basis.transform(self.adjoint(whitened)).flatten(1)
        return self._matrix[1]

    def information(self, at: "Linearization", basis: Basis) -> Tensor:
        """Diagonal of ``B J^T F J B^T`` for every walker, F being the information of the noise.

        It takes products with the transposed Jacobian only: ``mean (B J^T F^1/2 z)^2`` over random
        signs z, the same for every walker, smoothed over neighbouring frequencies.
        """
        signs = resident(self._signs, at.ax)
        roots = (self.noise.information_root(z.expand_as(at.ax), self.y, at.ax) for z in signs)
        squares = [basis.transform(at.pull(root)).square() for root in roots]
        return basis.smooth(torch.stack(squares).mean(0))

    @cached_property
    def _signs(self) -> Tensor:
        return normal(("probes",), (_PROBES, *self.operator.range_shape)).sign()

    def forward(self, x: Tensor) -> Tensor:
        """``A(x)``, counted."""
        self.operator_calls += x.shape[0]
        return self.operator.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y``, counted; linear operators only."""
        assert isinstance(self.operator, LinearOperator)
        self.operator_calls += y.shape[0]
        return self.operator.adjoint(y)

    def normal(self, x: Tensor) -> Tensor:
        """``A^T A x``, counted as two applications; linear operators only."""
        assert isinstance(self.operator, LinearOperator)
        self.operator_calls += 2 * x.shape[0]
        return self.operator.normal(x)

    def normal_of_planes(self, planes: Tensor) -> Tensor:
        """`normal` of channels ``(planes, 1, height, width)`` of a problem that `is_planar`."""
        channels, *size = self.operator.domain_shape
        missing = -len(planes) % channels
        if missing:
            planes = torch.cat([planes, planes.new_zeros((missing, 1, *size))])
        images = self.normal(planes.reshape(-1, channels, *size))
        return images.reshape(-1, 1, *size)[: len(planes) - missing]

    def linearize(self, x: Tensor) -> "Linearization":
        """``A(x)``, and products with the Jacobian of A at x."""
        if isinstance(self.operator, LinearOperator):
            return Linearization(self.forward(x), self.forward, self.adjoint)
        # Products with J are the derivative of a vector-Jacobian product in its vector.  Measured
        # against `torch.func` in torch 2.14: its `linearize` takes half a second a call, stops at
        # sparse matrices, and treats maps that leave torch as constants without a word; its `jvp`
        # evaluates A for every product; and both need autograd functions with a `jvp` of their own.
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            ax = self.forward(x)
        if not ax.requires_grad:
            raise TypeError(
                f"solve: forward() of {self.operator!r} is not differentiable by torch (it leaves "
                "torch, or detaches), and the walk needs its gradient; write it in torch, or as a "
                "torch.autograd.Function"
            )

        @cache
        def transposed() -> tuple[Tensor, Tensor]:
            """``J^T z`` as a function of z: linear, so that its own transpose is J."""
            with torch.enable_grad():
                z = torch.zeros_like(ax, requires_grad=True)
                (product,) = torch.autograd.grad(ax, x, z, create_graph=True)
            return product, z

        def push(v: Tensor) -> Tensor:
            self.operator_calls += len(v)
            product, z = transposed()
            return torch.autograd.grad(product, z, v, retain_graph=True)[0]

        def pull(w: Tensor) -> Tensor:
            self.operator_calls += len(w)
            return torch.autograd.grad(ax, x, w, retain_graph=True)[0]

        return Linearization(ax.detach(), push, pull)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """``log p(y | x)``, ``(walkers,)``."""
        return self.noise.log_prob(self.y, self.forward(x))

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of the log-likelihood, like x; by autograd where A is not linear."""
        at = self.linearize(x)
        return at.pull(self.noise.gradient(self.y, at.ax))

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`log_likelihood` and `gradient` from one evaluation of A."""
        at = self.linearize(x)
        gradient = at.pull(self.noise.gradient(self.y, at.ax))
        return self.noise.log_prob(self.y, at.ax), gradient


def residual_chi_square(x: Tensor, y: Tensor, operator: Operator, noise: NoiseModel) -> Tensor:
    """Mean squared standardized residual of the observed entries, ``(batch,)``.

    It is ``|y - A(x)|^2 / std^2`` for Gaussian noise and Pearson's chi-square for counts, and 1 on
    average for the true image.
    """
    squares = noise.standardize(y, operator.forward(x)).square()
    if operator.observed is None:
        return squares.flatten(1).mean(1)
    seen = resident(operator.observed, x)
    return (squares * seen).flatten(1).sum(1) / seen.sum()
