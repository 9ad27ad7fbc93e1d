"""Linear operators of SciPy and PyLops as ours, and ours as theirs.

Whatever has `shape`, `matvec` and `rmatvec` comes in.  The products of such an operator are
computed with numpy arrays on the CPU.  Results have the dtype and device of the tensor that came
in, and gradients flow through `forward` and `adjoint`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import sizes
from tweedie_inverse.boundary.arrays import refuse_infinite
from tweedie_inverse.numerics.autograd import linear_map
from tweedie_inverse.operators.base import LinearOperator, linear_operator
from tweedie_inverse.operators.noise.base import NoiseModel


def from_scipy(
    operator: Any,
    *,
    domain_shape: Sequence[int] | None = None,
    range_shape: Sequence[int] | None = None,
    noise: NoiseModel | None = None,
) -> LinearOperator:
    """A SciPy linear operator, sparse or dense matrix.

    An operator with complex values maps real images to complex measurements.  These are given as
    real parts, then imaginary parts, along the first axis of the measurement, which is then twice
    as long.
    Its adjoint is then the real part of the complex one, which is the transpose of this real map.

    Args:
        operator: `scipy.sparse.linalg.LinearOperator`, scipy sparse matrix or array, numpy matrix,
            or an object with `shape` ``(m, n)``, `matvec` and `rmatvec`.
        domain_shape: shape of one image, with n entries; default ``(n,)``.
        range_shape: shape of one measurement, with m entries; default ``(m,)``.

    Raises:
        TypeError: not such an operator, or it has no `rmatvec`.
        ValueError: shapes that do not fit.
    """
    from scipy.sparse import issparse
    from scipy.sparse.linalg import aslinearoperator

    try:
        matrix = aslinearoperator(operator)
        rows, columns = matrix.shape
        entries = getattr(operator, "data", None) if issparse(operator) else operator
        if isinstance(entries, np.ndarray) and entries.dtype.kind in "fc":
            refuse_infinite("from_scipy", "operator", torch.from_numpy(entries))
        kind = np.dtype(matrix.dtype).kind if matrix.dtype is not None else "f"
        if kind not in "biufc":
            raise TypeError(f"its entries are {matrix.dtype}")
    except (TypeError, AttributeError) as error:
        raise TypeError(
            "from_scipy: needs a scipy LinearOperator, a sparse or dense matrix, or an object with "
            f"shape (m, n), matvec and rmatvec; got {type(operator).__name__} ({error})"
        ) from error
    domain_shape = _checked("domain_shape", domain_shape, columns)
    range_shape = _checked("range_shape", range_shape, rows)
    try:
        ax = matrix.matvec(np.zeros(columns))
        matrix.rmatvec(np.zeros(rows))
    except (NotImplementedError, AttributeError, TypeError) as error:
        raise TypeError(
            f"from_scipy: {type(operator).__name__} needs matvec and rmatvec on float64 vectors; "
            f"it failed with {type(error).__name__}: {error}. Give it an rmatvec, the product with "
            "the (conjugate) transpose"
        ) from error
    return _MatrixFree(matrix, domain_shape, range_shape, np.iscomplexobj(ax), noise)


def from_pylops(
    operator: Any,
    *,
    domain_shape: Sequence[int] | None = None,
    range_shape: Sequence[int] | None = None,
    noise: NoiseModel | None = None,
) -> LinearOperator:
    """A PyLops operator; otherwise like `from_scipy`.

    Args:
        operator: its own shapes, ``dims`` and ``dimsd``, have no channel axis.
        domain_shape: of one image, such as ``(1, height, width)``; default ``operator.dims``.
        range_shape: of one measurement; default ``operator.dimsd``.
    """
    if not all(hasattr(operator, name) for name in ("dims", "dimsd")):
        raise TypeError(
            "from_pylops: needs a PyLops operator, which has dims and dimsd; got "
            f"{type(operator).__name__}. Other linear operators come in by from_scipy"
        )
    return from_scipy(
        operator,
        domain_shape=operator.dims if domain_shape is None else domain_shape,
        range_shape=operator.dimsd if range_shape is None else range_shape,
        noise=noise,
    )


def to_scipy(operator: LinearOperator, *, dtype: Any = np.float64) -> Any:
    """A linear operator as `scipy.sparse.linalg.LinearOperator` ``(m, n)``, for SciPy's solvers.

    Images and measurements are flattened vectors; complex ones have their real parts first.

    Args:
        dtype: float64 or float32, of the products.

    Raises:
        TypeError: not a linear operator.
        ValueError: another dtype, or an operator for each of several images.
    """
    from scipy.sparse.linalg import LinearOperator as Theirs

    kind = _flat(operator, "to_scipy", dtype)
    sizes = math.prod(operator.range_shape), math.prod(operator.domain_shape)
    forward, adjoint = _on_columns(operator, kind)
    return Theirs(
        shape=sizes,
        dtype=kind,
        matvec=lambda x: forward(x.reshape(-1, 1))[:, 0],
        rmatvec=lambda y: adjoint(y.reshape(-1, 1))[:, 0],
        matmat=forward,
        rmatmat=adjoint,
    )


def to_pylops(operator: LinearOperator, *, dtype: Any = np.float64) -> Any:
    """A linear operator as a PyLops operator of the same shapes; otherwise like `to_scipy`."""
    import pylops

    kind = _flat(operator, "to_pylops", dtype)
    forward, adjoint = _on_columns(operator, kind)

    class FromTweedieInverse(pylops.LinearOperator):
        def _matvec(self, x: np.ndarray) -> np.ndarray:
            return forward(x.reshape(-1, 1))[:, 0]

        def _rmatvec(self, x: np.ndarray) -> np.ndarray:
            return adjoint(x.reshape(-1, 1))[:, 0]

    return FromTweedieInverse(dtype=kind, dims=operator.domain_shape, dimsd=operator.range_shape)


def _flat(operator: LinearOperator, caller: str, dtype: Any) -> np.dtype:
    """The number type; raises where the operator is no one matrix."""
    linear_operator(caller, operator)
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise ValueError(f"{caller}(dtype={dtype!r}): needs float32 or float64")
    if operator.images is not None:
        raise ValueError(
            f"{caller}: {operator!r} holds an operator for each of {operator.images} images; take "
            "one of them, operator.select(0)"
        )
    return kind


def _on_columns(
    operator: LinearOperator, kind: np.dtype
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Products with the columns of a matrix, ``(n, k)``: each is one image of a batch."""

    def product(apply: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Any:
        @torch.no_grad()
        def of(columns: np.ndarray) -> np.ndarray:
            if np.iscomplexobj(columns):  # as SciPy's solvers of eigenvalues may ask
                return of(columns.real) + 1j * of(columns.imag)
            rows = torch.from_numpy(np.array(columns.T, dtype=kind, order="C"))
            return apply(rows.reshape(-1, *shape)).flatten(1).numpy(force=True).T

        return of

    return (
        product(operator.forward, operator.domain_shape),
        product(operator.adjoint, operator.range_shape),
    )


class _MatrixFree(LinearOperator):
    def __init__(
        self,
        matrix: Any,
        domain_shape: tuple[int, ...],
        range_shape: tuple[int, ...],
        is_complex: bool,
        noise: NoiseModel | None,
    ):
        if is_complex:
            range_shape = (2 * range_shape[0], *range_shape[1:])
        super().__init__(domain_shape=domain_shape, range_shape=range_shape, noise=noise)
        self.matrix, self._is_complex = matrix, is_complex
        self.range_is_complex = is_complex

    def forward(self, x: Tensor) -> Tensor:
        return linear_map(x, self._forward, self._adjoint)

    def adjoint(self, y: Tensor) -> Tensor:
        return linear_map(y, self._adjoint, self._forward)

    def _forward(self, x: Tensor) -> Tensor:
        return self._apply(self._multiply, x, self.range_shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._apply(self._multiply_transposed, y, self.domain_shape)

    def _multiply(self, columns: np.ndarray) -> np.ndarray:
        product = np.asarray(self.matrix.matmat(columns))
        return np.concatenate([product.real, product.imag]) if self._is_complex else product

    def _multiply_transposed(self, columns: np.ndarray) -> np.ndarray:
        if self._is_complex:
            real, imaginary = np.split(columns, 2)
            columns = real + 1j * imaginary
        return np.asarray(self.matrix.rmatmat(columns)).real

    @staticmethod
    def _apply(
        product: Callable[[np.ndarray], np.ndarray], x: Tensor, shape: tuple[int, ...]
    ) -> Tensor:
        # SciPy's products do not take half precision.
        dtype = torch.float32 if x.dtype == torch.float32 else torch.float64
        # A copy: foreign code may write to its argument, and some of it wants contiguous arrays.
        columns = np.array(x.detach().cpu().to(dtype).flatten(1).mT.numpy(), order="C")
        rows = np.ascontiguousarray(product(columns).T)
        return torch.from_numpy(rows).to(x).reshape(x.shape[0], *shape)


def _checked(name: str, shape: Sequence[int] | None, size: int) -> tuple[int, ...]:
    shape = (size,) if shape is None else sizes("from_scipy", name, shape)
    if math.prod(shape) != size:
        raise ValueError(
            f"from_scipy({name}={shape}): the operator needs {size} entries there, that shape has "
            f"{math.prod(shape)}"
        )
    return shape
