"""The two base classes: an operator, and a linear one.

An instrument is a forward map and a noise model.  An operator of your own is a subclass that
writes `forward`; a linear one gets its adjoint from automatic differentiation unless it writes
`adjoint` as well.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, instance, sizes
from tweedie_inverse.boundary.arguments import function as checked_function
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.boundary.arrays import batch_of, refuse_infinite
from tweedie_inverse.boundary.contracts import refuse_not_finite
from tweedie_inverse.boundary.modes import with_gradients
from tweedie_inverse.numerics.autograd import linear_map
from tweedie_inverse.numerics.krylov import conjugate_gradient
from tweedie_inverse.numerics.residence import resident_on
from tweedie_inverse.numerics.spectral import Basis, Spectrum
from tweedie_inverse.operators.noise.base import NoiseModel
from tweedie_inverse.operators.shapes import checked_shape


class Operator(ABC):
    """A forward map ``A`` with its noise model: ``y = A(x) + noise``.

    Args:
        domain_shape: shape of one image, without the batch axis.
        range_shape: shape of one measurement, without the batch axis.
        noise: noise model of the instrument; None if it is not known yet (then pass
            ``noise=`` to `solve`).
    """

    # The number of images it is made for, where each has its own operator; None is any number.
    images: int | None = None
    # Whether the first axis of an image or a measurement holds real parts, then imaginary parts:
    # complex arrays are then taken, too.
    domain_is_complex: bool = False
    range_is_complex: bool = False

    def __init__(
        self,
        *,
        domain_shape: Sequence[int],
        range_shape: Sequence[int],
        noise: NoiseModel | None = None,
    ):
        name = type(self).__name__
        self.domain_shape = sizes(name, "domain_shape", domain_shape)
        self.range_shape = sizes(name, "range_shape", range_shape)
        if noise is not None and not isinstance(noise, NoiseModel):
            raise TypeError(
                f"{name}(noise=): needs a noise model such as GaussianNoise(0.1), got {noise!r}"
            )
        if noise is not None:
            noise.refuse_shape(name, self.range_shape)
        self.noise = noise

    def __init_subclass__(cls) -> None:
        """Let methods take arrays, and refuse wrong shapes: most would broadcast."""
        for name in ("forward", "adjoint", "pseudo_inverse", "least_squares"):
            if name in cls.__dict__:
                setattr(cls, name, checked_shape(cls.__dict__[name], name))

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Noise-free measurements ``(batch, *range_shape)`` of ``(batch, *domain_shape)``."""

    def select(self, index: int) -> "Operator":
        """The operator of one image: this one, unless each image has its own (`per_image`)."""
        return self

    @staticmethod
    def from_function(
        function: Callable[[Tensor], Tensor],
        domain_shape: Sequence[int],
        *,
        range_shape: Sequence[int] | None = None,
        noise: NoiseModel | None = None,
    ) -> "Operator":
        """An operator that need not be linear, from a function differentiable by torch.

        Args:
            function: ``(batch, *range_shape)`` from ``(batch, *domain_shape)``.
            domain_shape: shape of one image, without the batch axis.
            range_shape: shape of one measurement; found by one call on zeros (float32, on the
                CPU) when not given.

        Raises:
            ValueError: the call on zeros failed, or did not keep the batch axis.
        """
        domain_shape = sizes("from_function", "domain_shape", domain_shape)
        if range_shape is None:
            range_shape = _probe(function, domain_shape)
        return _Function(function, domain_shape, range_shape, noise)

    @property
    def observed(self) -> Tensor | None:
        """Which entries of y carry information, boolean `range_shape`; None means all."""
        return None

    def measure(self, x: Tensor, *, seed: int = 0) -> Tensor:
        """Simulate measurements: ``forward`` plus noise from stream `seed`.

        Args:
            x: ``(batch, *domain_shape)``, or one image without the batch axis (then the result
                has none either); a tensor or a NumPy array, complex where the image is.
            seed: fixes the noise of each image by its place in the batch.

        Raises:
            ValueError: wrong shape, or the operator has no noise model.
        """
        if self.noise is None:
            raise ValueError(
                f"{type(self).__name__}.measure: the operator has no noise model. Build it with "
                "noise=GaussianNoise(std), or call forward(x) for noise-free data"
            )
        caller = f"{type(self).__name__}.measure"
        seed = checked_seed(caller, "seed", seed)
        self.noise.refuse_shape(caller, self.range_shape)
        x = batch_of(
            caller, "x", x, self.domain_shape, is_complex=self.domain_is_complex, single=True
        )
        refuse_infinite(caller, "x", x)
        single = tuple(x.shape) == self.domain_shape
        x = x[None] if single else x
        ax = self.forward(x)
        refuse_not_finite(f"{type(self).__name__.lstrip('_')}.forward()", x, ax)
        y = self.noise.sample(ax, seed=seed)
        if self.observed is not None:
            y = torch.where(resident_on(self.observed, y.device), y, torch.zeros_like(y))
        return y[0] if single else y

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds: all but the cached properties, which it works out anew.

        Decompositions hold functions, which cannot be pickled.
        """
        kinds = {name: kind for cls in type(self).__mro__[::-1] for name, kind in vars(cls).items()}
        return {
            name: value
            for name, value in vars(self).items()
            if not isinstance(kinds.get(name), cached_property)
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.domain_shape} -> {self.range_shape})"


class LinearOperator(Operator):
    """A linear forward map.

    A subclass writes `forward` alone, or `forward` and `adjoint`; `adjoint_error` tells whether
    the two fit.
    """

    @property
    def spectrum(self) -> Spectrum | None:
        """The singular value decomposition, where it is known and cheap to apply."""
        return None

    def spectrum_in(self, basis: Basis) -> Spectrum | None:
        """The decomposition with the image in another basis than `spectrum` has; most know none."""
        return None

    @property
    def treats_channels_alike(self) -> bool:
        """Whether A acts on each channel of an image by itself, and on all of them in the same way.

        It then commutes with any mixing of the channels, and they can be solved for one by one.
        """
        return len(self.domain_shape) == 3 and self.domain_shape[0] == 1

    @staticmethod
    def from_function(
        function: Callable[[Tensor], Tensor],
        domain_shape: Sequence[int],
        *,
        range_shape: Sequence[int] | None = None,
        adjoint: Callable[[Tensor], Tensor] | None = None,
        noise: NoiseModel | None = None,
    ) -> "LinearOperator":
        """A linear operator from a linear function; see `Operator.from_function`.

        Args:
            adjoint: ``(batch, *domain_shape)`` from ``(batch, *range_shape)``; by automatic
                differentiation when not given.  With it, `function` may leave torch.
        """
        domain_shape = sizes("from_function", "domain_shape", domain_shape)
        if range_shape is None:
            range_shape = _probe(function, domain_shape)
        if adjoint is None:
            return _LinearFunction(function, domain_shape, range_shape, noise)
        return _LinearPair(function, adjoint, domain_shape, range_shape, noise)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y``: images ``(batch, *domain_shape)`` from ``(batch, *range_shape)``."""
        with with_gradients():
            y = y.clone() if y.is_inference() else y
            x = y.new_zeros((y.shape[0], *self.domain_shape)).requires_grad_()
            ax = self.forward(x)
            if not ax.requires_grad:
                raise TypeError(
                    f"{type(self).__name__}.adjoint: forward() is not differentiable by torch (it "
                    "leaves torch, or detaches). Write adjoint(self, y) as well"
                )
            (gradient,) = torch.autograd.grad(ax, x, y)
        return gradient

    def normal(self, x: Tensor) -> Tensor:
        """``A^T A x``, like x; operators that know a shorter way than both products take it."""
        return self.adjoint(self.forward(x))

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """Images ``(batch, *domain_shape)`` from y: `least_squares`, or the instrument's own way.

        It is for first pictures and comparisons; the samplers do not use it.
        """
        return self.least_squares(y)

    @torch.no_grad()
    def least_squares(self, y: Tensor, *, iterations: int = 50) -> Tensor:
        """Least-squares solution of least norm, by conjugate gradients stopped early.

        Args:
            y: ``(batch, *range_shape)``.
            iterations: most iterations of conjugate gradients; each takes a forward and an adjoint.
        """
        iterations = count(f"{type(self).__name__}.least_squares", "iterations", iterations)
        rhs = self.adjoint(y)
        # Beyond the square root of the resolution of the number type, iterations on a singular
        # system only amplify noise.
        resolution = torch.finfo(y.dtype).eps ** 0.5
        return conjugate_gradient(
            lambda x: self.adjoint(self.forward(x)),
            rhs,
            tolerance=resolution * rhs.flatten(1).square().mean(1).sqrt(),
            max_iterations=iterations,
        ).solution


def linear_operator(caller: str, operator: Any) -> LinearOperator:
    """The operator, if it is a linear one; a `TypeError` otherwise."""
    if isinstance(operator, Operator) and not isinstance(operator, LinearOperator):
        raise TypeError(
            f"{caller}(operator=): needs a linear operator, got {operator!r}, which is not linear"
        )
    return instance(caller, "operator", operator, LinearOperator, need="a linear operator")


class _Function(Operator):
    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        domain_shape: Sequence[int],
        range_shape: Sequence[int],
        noise: NoiseModel | None,
    ):
        super().__init__(domain_shape=domain_shape, range_shape=range_shape, noise=noise)
        self.function = checked_function("from_function", "function", function)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class _LinearFunction(_Function, LinearOperator):
    """A linear function whose adjoint comes from automatic differentiation."""


class _LinearPair(LinearOperator):
    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        adjoint: Callable[[Tensor], Tensor],
        domain_shape: Sequence[int],
        range_shape: Sequence[int],
        noise: NoiseModel | None,
    ):
        super().__init__(domain_shape=domain_shape, range_shape=range_shape, noise=noise)
        self.function = checked_function("from_function", "function", function)
        self.transposed = checked_function("from_function", "adjoint", adjoint)

    def forward(self, x: Tensor) -> Tensor:
        return linear_map(x, self.function, self.transposed)

    def adjoint(self, y: Tensor) -> Tensor:
        return linear_map(y, self.transposed, self.function)


@torch.no_grad()
def _probe(function: Callable[[Tensor], Tensor], domain_shape: Sequence[int]) -> Sequence[int]:
    """Shape of one measurement, by a call on one image of zeros."""
    zeros = torch.zeros((1, *domain_shape), dtype=torch.float32)
    try:
        y = function(zeros)
    except Exception as error:
        raise ValueError(
            f"from_function: the function failed on zeros of shape {tuple(zeros.shape)}, float32, "
            f"on the CPU ({error}). Mend it, or pass range_shape= if it needs another dtype or "
            "device"
        ) from error
    if not isinstance(y, Tensor) or y.ndim < 2 or y.shape[0] != 1:
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(
            "from_function: the function must return a tensor (batch, ...) from a tensor (batch, "
            f"...); from {tuple(zeros.shape)} it returned {got}. Keep the batch axis first"
        )
    return y.shape[1:]
