"""A measurement, its operator and its noise: everything a walk may ask about the data.

Checks happen here, once; the counter of operator calls lives here too.
"""

from functools import cached_property

import torch
from torch import Tensor

from operators import GaussianNoise, LinearOperator, NoiseModel, Operator, operator_norm
from operators.random import normal

from .covariance import Basis, natural_basis

# Above this the adjoint is not the adjoint; rounding stays far below.
_ADJOINT_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}

_PROBES, _PROBE_SEED = 8, 20241127


class Problem:
    """``y = A(x) + noise`` for a batch of walkers, one measurement each.

    Attributes:
        y: ``(walkers, *range_shape)``.
        operator_calls: applications of A or its adjoint so far, counted per walker.
    """

    def __init__(self, y: Tensor, operator: Operator, noise: NoiseModel):
        self.y, self.operator, self.noise = y, operator, noise
        self.operator_calls = 0
        self._curvatures: dict[Basis, Tensor] = {}

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
    def basis(self) -> Basis:
        """Where A is closest to diagonal: for covariances that are diagonal in any basis."""
        return natural_basis(
            self.operator.domain_shape, shift_invariant=self.operator.shift_invariant
        )

    def curvature(self, basis: Basis) -> Tensor:
        """Diagonal of ``B A^T S^-1 A B^T`` for Gaussian noise, estimated, once a basis.

        By random signs (Hutchinson 1990), smoothed over neighbouring frequencies, its sign errors
        folded back; good enough
        to precondition with, and the same for all walkers.
        """
        if basis not in self._curvatures:
            assert isinstance(self.noise, GaussianNoise)
            signs = normal((_PROBE_SEED,), (_PROBES, *self.operator.domain_shape)).sign()
            probes = basis.transform(signs.to(self.y)).sign()
            ax = self.forward(basis.inverse(probes))
            back = basis.transform(self.adjoint(ax / self.noise.std.to(ax) ** 2))
            self._curvatures[basis] = basis.smooth((probes * back).mean(0)).abs()
        return self._curvatures[basis]

    def forward(self, x: Tensor) -> Tensor:
        """``A(x)``, counted."""
        self.operator_calls += x.shape[0]
        return self.operator.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y``, counted; linear operators only."""
        assert isinstance(self.operator, LinearOperator)
        self.operator_calls += y.shape[0]
        return self.operator.adjoint(y)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """``log p(y | x)``, ``(walkers,)``."""
        return self.noise.log_prob(self.y, self.forward(x))

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient of the log-likelihood, like x; by autograd where A is not linear."""
        if isinstance(self.operator, LinearOperator):
            return self.adjoint(self.noise.gradient(self.y, self.forward(x)))
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.log_likelihood(x).sum(), x)
        return gradient


def residual_chi_square(x: Tensor, y: Tensor, operator: Operator, std: Tensor) -> Tensor:
    """``|y - A(x)|^2 / std^2`` per observed entry, ``(batch,)``; 1 on average for the truth."""
    squares = ((y - operator.forward(x)) / std.to(x)) ** 2
    if operator.observed is None:
        return squares.flatten(1).mean(1)
    seen = operator.observed.to(x)
    return (squares * seen).flatten(1).sum(1) / seen.sum()


def check_measurement(y: Tensor, operator: Operator) -> tuple[Tensor, bool]:
    """y with a batch axis and without junk in unobserved entries; whether it came without one."""
    if not isinstance(y, Tensor) or not y.is_floating_point():
        kind = f"dtype {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"solve: y must be a float32 or float64 tensor, got {kind}")
    if y.dtype not in _ADJOINT_TOLERANCE:
        raise TypeError(f"solve: y must be float32 or float64, got {y.dtype}; use y.float()")
    single = tuple(y.shape) == operator.range_shape
    if not single and (tuple(y.shape[1:]) != operator.range_shape or y.shape[0] == 0):
        raise ValueError(
            f"solve: {operator!r} gives measurements of shape {operator.range_shape}; y must be "
            f"one of them or (batch, {', '.join(map(str, operator.range_shape))}), got "
            f"{tuple(y.shape)}"
        )
    y = y[None] if single else y
    if operator.observed is not None:
        y = torch.where(operator.observed.to(y.device), y, torch.zeros_like(y))
    bad = ~y.isfinite()
    if bool(bad.any()):
        raise ValueError(
            f"solve: y holds {int(bad.sum())} NaN or infinite entries of {y.numel()}, the first at "
            f"index {tuple(bad.nonzero()[0].tolist())}. Leave missing data out with ops.Mask, or "
            "repair them"
        )
    return y, single


def resolve_noise(noise: NoiseModel | float | None, operator: Operator) -> NoiseModel:
    """The noise model of a solve: the argument, else the operator's."""
    if isinstance(noise, int | float):
        return GaussianNoise(float(noise))
    chosen = noise if noise is not None else operator.noise
    if chosen is None:
        raise ValueError(
            f"solve: the noise level is unknown. {type(operator).__name__} has no noise model; "
            "build it with noise=ops.GaussianNoise(std), or pass noise=std to solve (std in units "
            "of y)"
        )
    if not isinstance(chosen, NoiseModel):
        raise TypeError(
            f"solve(noise=): needs a number or a noise model such as ops.GaussianNoise(0.1), got "
            f"{chosen!r}"
        )
    return chosen


@torch.no_grad()
def check_operator(operator: Operator, like: Tensor) -> None:
    """Refuse an operator with wrong shapes, or a linear one that is not, or whose adjoint is not.

    One forward and one adjoint on random numbers, in the dtype and on the device of `like`.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn((1, *shape), generator=generator, dtype=torch.float64).to(like)

    def norm(a: Tensor) -> float:
        return float(torch.linalg.vector_norm(a.double()))

    x, z = draw(operator.domain_shape), draw(operator.domain_shape)
    ax = operator.forward(x)
    _refuse_shape(operator, "forward", x, ax, operator.range_shape)
    if not isinstance(operator, LinearOperator):
        return
    tolerance, name = _ADJOINT_TOLERANCE[like.dtype], type(operator).__name__
    together, az = operator.forward(x + 2 * z), operator.forward(z)
    bend = norm(together - ax - 2 * az) / max(norm(together), 1e-30)
    if bend > tolerance:
        raise ValueError(
            f"solve: {name} is declared linear, but A(x + 2 z) differs from A x + 2 A z by "
            f"{bend:.1e}, relative. Subtract a constant offset from y instead of adding it in "
            "forward(), or derive from ops.Operator"
        )
    y = draw(operator.range_shape)
    y = ax + y * (norm(ax) / norm(y))
    back = operator.adjoint(y)
    _refuse_shape(operator, "adjoint", y, back, operator.domain_shape)
    left, right = float((ax * y).double().sum()), float((x * back).double().sum())
    error = abs(left - right) / max(abs(left), 1e-30)
    if not error <= tolerance:
        raise ValueError(
            f"solve: adjoint() of {name} is not the adjoint of forward(): on random x and y, "
            f"<A x, y> = {left:.6g} but <x, A^T y> = {right:.6g}, off by {error:.1e}, relative "
            f"(allowed {tolerance:.0e}). Mend adjoint(), or leave it out: it is then derived from "
            "forward() by automatic differentiation"
        )


def _refuse_shape(
    operator: Operator, method: str, given: Tensor, got: Tensor, wanted: tuple[int, ...]
) -> None:
    if tuple(got.shape) != (1, *wanted):
        raise ValueError(
            f"solve: {type(operator).__name__}.{method}() of a batch {tuple(given.shape)} must "
            f"return {(1, *wanted)}, as declared; it returned {tuple(got.shape)}"
        )
