"""An instrument with a few unknown scalars: the width of a PSF, an offset of the detector, a gain.

`solve` draws them together with the image.
"""

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import function as checked_function
from tweedie_inverse.boundary.arguments import number
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.operators.base import LinearOperator
from tweedie_inverse.operators.instruments.blur import Blur, stacked_blurs
from tweedie_inverse.operators.noise.base import NoiseModel
from tweedie_inverse.operators.scalar_prior import ScalarPrior

# Operators that are kept for each one that was asked for: of walkers before a move and after it.  A
# scan's system matrix is large, so that no more are.
_KEPT = 2


def parametric(
    function: Callable[..., LinearOperator], *, noise: NoiseModel | None = None, **priors: Any
) -> "Parametric":
    """A linear operator with unknown scalars, for `solve`, which draws them with each sample.

        ops.parametric(lambda width: ops.Blur(ops.gaussian_kernel(width), shape), width=(0.5, 4.0))

    Args:
        function: a linear operator from numbers, by name; always of the same shapes, and the same
            operator for the same numbers.  What does not depend on them should be made outside of
            it: it is called once for every set of numbers that is tried.
        noise: None takes that of the operators.
        priors: for each number its range ``(low, high)``, in which it is uniform, or a
            `ScalarPrior`.

    Returns:
        A `Parametric` operator, for `solve`; ``operator.at(width=1.5)`` is that of known numbers.

    Raises:
        TypeError: no function, no prior, or what it returns is not a linear operator.
        ValueError: an empty range, or operators of different shapes at its ends.

    Examples:
        >>> def blur(width):
        ...     kernel = ops.gaussian_kernel(width, 5)
        ...     return ops.Blur(kernel, (1, 8, 8), noise=ops.GaussianNoise(0.1))
        >>> unknown = ops.parametric(blur, width=(0.5, 2.0))
        >>> seen = unknown.at(width=1.0).measure(x, seed=0)
        >>> posterior = ti.solve(seen, unknown, prior, num_samples=4, steps=6)
        >>> posterior.parameters["width"].samples.shape
        torch.Size([4])
    """
    if not priors:
        raise TypeError(
            "parametric: needs the range of each unknown by name, such as width=(0.5, 4.0)"
        )
    function = checked_function("parametric", "function", function)
    try:
        inspect.signature(function).bind(**priors)
    except TypeError as error:
        raise TypeError(
            f"parametric: the function must take {', '.join(priors)} by name ({error})"
        ) from error
    except ValueError:  # some functions do not say what they take
        pass
    unknowns = {name: ScalarPrior.of("parametric", name, given) for name, given in priors.items()}
    return Parametric(function, unknowns, noise)


class Parametric(LinearOperator):
    """Made by `parametric`; `at` gives the operator for known numbers.

    Attributes:
        unknowns: the prior of each number, by name.
        examples: operators with all numbers at the lower ends of their ranges, in the middle, and
            at the upper ends.
    """

    def __init__(
        self,
        function: Callable[..., LinearOperator],
        unknowns: Mapping[str, ScalarPrior],
        noise: NoiseModel | None,
    ):
        self._function, self.unknowns, self._noise = function, dict(unknowns), noise
        self._kept: OrderedDict[tuple[float, ...], LinearOperator] = OrderedDict()
        sets = (
            [prior.low for prior in unknowns.values()],
            [prior.middle for prior in unknowns.values()],
            [prior.high for prior in unknowns.values()],
        )
        self.examples = tuple(self._made(tuple(values)) for values in sets)
        first = self.examples[0]
        for other in self.examples[1:]:
            _refuse_other_shapes(first, other)
        super().__init__(
            domain_shape=first.domain_shape,
            range_shape=first.range_shape,
            noise=first.noise if noise is None else noise,
        )
        self.domain_is_complex = first.domain_is_complex
        self.range_is_complex = first.range_is_complex

    def __repr__(self) -> str:
        told = ", ".join(f"{name} in {prior!r}" for name, prior in self.unknowns.items())
        return f"parametric({type(self.examples[1]).__name__}, {told})"

    def at(self, **values: float) -> LinearOperator:
        """The operator for known numbers, inside their ranges or not, with this one's noise.

        Raises:
            TypeError: other names than those of the unknowns, or no numbers.
        """
        if values.keys() != self.unknowns.keys():
            raise TypeError(
                f"parametric.at: needs {', '.join(self.unknowns)}; got {', '.join(values) or None}"
            )
        numbers = {name: number("parametric.at", name, value) for name, value in values.items()}
        found = self._made(tuple(numbers[name] for name in self.unknowns))
        if self._noise is not None:
            found = copy.copy(found)
            found.noise = self._noise
        return found

    def members(self, values: Tensor) -> LinearOperator | Sequence[LinearOperator]:
        """Those of rows of numbers ``(batch, count)``: one each, or one for such a batch.

        They are kept until others, twice as many, have been asked for.
        """
        keys = [tuple(each) for each in values.tolist()]
        found = []
        for key in keys:
            found.append(self.member(key))
            self._kept[key] = found[-1]
            self._kept.move_to_end(key)
        while len(self._kept) > _KEPT * len(keys):
            self._kept.popitem(last=False)
        return found

    def member(self, values: Sequence[float]) -> LinearOperator:
        """The operator for numbers in the order of `unknowns`."""
        found = self._kept.get(tuple(values))
        if found is None:
            found = self._made(tuple(values))
            _refuse_other_shapes(self.examples[0], found)
        return found

    @property
    def observed(self) -> Tensor | None:
        return self.examples[1].observed

    def forward(self, x: Tensor) -> Tensor:
        self._refuse("forward")

    def adjoint(self, y: Tensor) -> Tensor:
        self._refuse("adjoint")

    def _refuse(self, method: str) -> NoReturn:
        raise TypeError(
            f"{method}() of {self!r}: the operator has unknown numbers, which ti.solve draws by "
            f"the decoupled walk; operator.at({self._asked}) is the operator for known ones"
        )

    @property
    def _asked(self) -> str:
        """What `at` takes."""
        return ", ".join(f"{name}=..." for name in self.unknowns)

    def _made(self, values: tuple[float, ...]) -> LinearOperator:
        given = dict(zip(self.unknowns, values, strict=True))
        operator = self._function(**given)
        if not isinstance(operator, LinearOperator) or isinstance(operator, Parametric):
            told = ", ".join(f"{name}={value:g}" for name, value in given.items())
            raise TypeError(
                f"parametric: the function must return a linear operator; for {told} it returned "
                f"{operator!r}"
            )
        return operator

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_kept": OrderedDict()}


def _refuse_other_shapes(first: LinearOperator, other: LinearOperator) -> None:
    """Refuse operators that do not fit in one batch."""
    here, there = ((one.domain_shape, one.range_shape) for one in (first, other))
    if here != there:
        raise ValueError(
            f"parametric: the function must return operators of the same shapes; it returned "
            f"{first!r} and {other!r}. A kernel of fixed size keeps a 'valid' convolution's shape"
        )
    seen, other_seen = first.observed, other.observed
    if seen is None or other_seen is None:
        same = seen is other_seen
    else:
        same = torch.equal(seen, other_seen)
    if not same:
        raise ValueError(
            f"parametric: {first!r} and {other!r} observe different entries of y; those that are "
            "observed must not depend on the unknown numbers"
        )


class Members(LinearOperator):
    """For each image of a batch its own operator, and its own factor for each measurement.

    Args:
        operators: as many as the batch has images, of the same shapes; or one for all.
        rows: factors ``(batch, *range_shape)`` or broadcasting to it; None is 1.
    """

    def __init__(self, operators: Sequence[LinearOperator] | LinearOperator, rows: Tensor | None):
        one = operators if isinstance(operators, LinearOperator) else operators[0]
        super().__init__(domain_shape=one.domain_shape, range_shape=one.range_shape)
        self.rows = rows
        self._members: tuple[LinearOperator, ...] = ()
        if isinstance(operators, LinearOperator):
            self._shared: LinearOperator | None = operators
            return
        together = None
        if all(type(operator) is Blur for operator in operators):
            together = stacked_blurs([op for op in operators if isinstance(op, Blur)])
        self._shared = together
        if together is None:
            self._members = tuple(operators)

    def forward(self, x: Tensor) -> Tensor:
        if self._shared is not None:
            return self._weighted(self._shared.forward(x))
        pairs = zip(self._members, x.split(1), strict=True)
        return self._weighted(torch.cat([operator.forward(image) for operator, image in pairs]))

    def adjoint(self, y: Tensor) -> Tensor:
        y = self._weighted(y)
        if self._shared is not None:
            return self._shared.adjoint(y)
        pairs = zip(self._members, y.split(1), strict=True)
        return torch.cat([operator.adjoint(part) for operator, part in pairs])

    @property
    def treats_channels_alike(self) -> bool:
        return False  # of some images of the batch alone it would not know which they are

    def normal(self, x: Tensor) -> Tensor:
        if self.rows is not None:
            return super().normal(x)
        if self._shared is not None:
            return self._shared.normal(x)
        pairs = zip(self._members, x.split(1), strict=True)
        return torch.cat([operator.normal(image) for operator, image in pairs])

    def _weighted(self, y: Tensor) -> Tensor:
        return y if self.rows is None else y * resident(self.rows, y)
