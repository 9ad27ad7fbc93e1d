"""The notation of linear algebra: ``A(x)``, ``A @ x``, ``A @ B``, ``2 * A`` and ``A.T @ y``."""

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from tweedie_inverse.boundary.arrays import batch_of


class _Transpose:
    """``A.T``; no property, so that an operator of a user's own may keep something under T."""

    def __get__(self, operator: Any, owner: type | None = None) -> Any:
        if operator is None:
            return self
        make = operator.algebra.get("transpose")
        if make is None or not operator.is_linear:
            raise AttributeError(
                f"{operator!r}.T: only a linear operator has a transpose. Derivatives of this one "
                "are those of torch, torch.func.vjp(operator.forward, x)"
            )
        return make(operator)


class Notation:
    """What an operator is to Python's own signs; the rules behind them are those of `algebra`."""

    domain_shape: tuple[int, ...]
    domain_is_complex: bool
    is_linear: ClassVar[bool] = False
    # `algebra` enters what it makes of operators here, because it stands above them.
    algebra: ClassVar[dict[str, Callable[..., Any]]] = {}
    # NumPy would otherwise multiply an array with an operator entry by entry.
    __array_ufunc__ = None

    T = _Transpose()

    def __call__(self, x: Any) -> Any:
        """``forward(x)``, of one image or a batch; an array for a NumPy array.

        Args:
            x: ``(batch, *domain_shape)``, or one image without the batch axis (then the result has
                none either); a tensor or an array.
        """
        caller = f"{type(self).__name__.lstrip('_')}()"
        is_complex = self.domain_is_complex
        given = batch_of(caller, "x", x, self.domain_shape, is_complex=is_complex, single=True)
        single = tuple(given.shape) == self.domain_shape
        result = self.forward(given[None] if single else given)
        result = result[0] if single else result
        return result.numpy(force=True) if isinstance(x, np.ndarray) else result

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def __matmul__(self, other: Any) -> Any:
        """``A @ B``, which is ``compose(A, B)`` for an operator B; ``A(x)`` for an image."""
        if isinstance(other, Notation):
            return self.algebra["compose"](self, other)
        return self(other)

    def __rmul__(self, factor: Any) -> Any:
        """``factor * A``, which is ``scale(A, factor)``."""
        if isinstance(factor, bool) or not isinstance(factor, Real):
            return NotImplemented
        return self.algebra["scale"](self, float(factor))

    def __neg__(self) -> Any:
        return self.algebra["scale"](self, -1.0)
