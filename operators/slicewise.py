"""Stacks of 2-D scans: each slice of a volume is seen by itself."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, instance
from tweedie_inverse.numerics.slice_modes import SliceModes
from tweedie_inverse.numerics.spectral import Basis, Pixels, Spectrum
from tweedie_inverse.operators.base import LinearOperator, Operator
from tweedie_inverse.operators.noise.base import GaussianNoise, NoiseModel


def slicewise(
    operator: Operator | Sequence[Operator],
    depth: int | None = None,
    *,
    noise: NoiseModel | None = None,
) -> "Slicewise":
    """An operator on volumes ``(channels, depth, height, width)``: each slice is seen by itself.

    Measurements have the depth after their first axis: slices with sinograms ``(1, angles,
    detectors)`` are measured as ``(1, depth, angles, detectors)``, and vectors ``(m,)`` as
    ``(depth, m)``.  Where a measurement is complex, its first axis still holds real parts, then
    imaginary parts.  Linear where the operators are.

    Args:
        operator: of one slice, such as a `Tomography`; or one for each slice, of the same shapes,
            such as masks of k-space that differ.
        depth: number of slices; that of the list, where there is one.
        noise: of the whole measurement; None takes that of the operator of a slice, independent
            from slice to slice.

    Raises:
        ValueError: no depth, operators of different shapes, or noise that has no form for a stack.
    """
    if isinstance(operator, Operator):
        if depth is None:
            raise ValueError("slicewise(depth=): needs the number of slices")
        operators: Sequence[Operator] = [operator]
        depth = count("slicewise", "depth", depth)
    else:
        need = "an operator of one slice, or a list with one for each slice"
        operators = instance("slicewise", "operator", operator, list | tuple, need=need)
        for one in operators:
            instance("slicewise", "operator", one, Operator, need=need)
        if not operators or depth not in (None, len(operators)):
            raise ValueError(f"slicewise(depth={depth}): got {len(operators)} operators")
        depth = len(operators)
    first = operators[0]
    shapes = {(one.domain_shape, one.range_shape) for one in operators}
    if len(shapes) != 1 or len(first.domain_shape) != 3:
        raise ValueError(
            "slicewise: needs operators on images (channels, height, width) of the same shapes, "
            f"got {sorted(shapes)}"
        )
    if any(one.images is not None for one in operators):
        raise ValueError(
            "slicewise: per_image operators have no place in a stack; give a list with the "
            "operator of each slice, and per_image([...]) round the stacks"
        )
    noise = _of_stack(operators, depth) if noise is None else noise
    if all(isinstance(one, LinearOperator) for one in operators):
        return _LinearSlicewise(operators, depth, noise)
    return Slicewise(operators, depth, noise)


class Slicewise(Operator):
    """Made by `slicewise`.

    Attributes:
        operators: one for all slices, or one for each.
        depth: number of slices.
    """

    def __init__(self, operators: Sequence[Operator], depth: int, noise: NoiseModel | None):
        first = operators[0]
        channels, height, width = first.domain_shape
        super().__init__(
            domain_shape=(channels, depth, height, width),
            range_shape=_stacked_shape(first.range_shape, depth),
            noise=noise,
        )
        self.operators, self.depth = tuple(operators), depth
        self.domain_is_complex = first.domain_is_complex
        self.range_is_complex = first.range_is_complex
        # Where the depth stands in a batch of measurements.
        self._place = 1 if len(first.range_shape) == 1 else 2

    @property
    def observed(self) -> Tensor | None:
        masks = [one.observed for one in self.operators]
        if all(mask is None for mask in masks):
            return None
        shape = self.operators[0].range_shape
        everything = torch.ones(shape, dtype=torch.bool)
        masks = [everything if mask is None else mask.expand(shape) for mask in masks]
        stacked = torch.stack([mask for mask in masks if mask is not None], self._place - 1)
        return stacked.expand(self.range_shape)

    def forward(self, x: Tensor) -> Tensor:
        return self._each(x, 2, self._place, "forward")

    def _each(self, x: Tensor, place: int, to: int, method: str) -> Tensor:
        """A method of the operators on every slice; the depth moves from one place to another."""
        stack = x.movedim(place, 1)
        if len(self.operators) == 1:
            seen = getattr(self.operators[0], method)(stack.flatten(0, 1))
            seen = seen.unflatten(0, stack.shape[:2])
        else:
            pairs = zip(self.operators, stack.unbind(1), strict=True)
            seen = torch.stack([getattr(one, method)(slices) for one, slices in pairs], 1)
        return seen.movedim(1, to)


class _LinearSlicewise(Slicewise, LinearOperator):
    """Made by `slicewise` from linear operators."""

    operators: tuple[LinearOperator, ...]

    def adjoint(self, y: Tensor) -> Tensor:
        return self._each(y, self._place, 2, "adjoint")

    def normal(self, x: Tensor) -> Tensor:
        return self._each(x, 2, 2, "normal")

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self._each(y, self._place, 2, "pseudo_inverse")

    @property
    def treats_channels_alike(self) -> bool:
        return all(one.treats_channels_alike for one in self.operators)

    @property
    def spectrum(self) -> Spectrum | None:
        inner = self.operators[0].spectrum
        if inner is None:
            return None
        return self.spectrum_in(
            SliceModes(inner.basis, torch.eye(self.depth, dtype=torch.float64)[None])
        )

    def spectrum_in(self, basis: Basis) -> Spectrum | None:
        """One scan for all slices is diagonal in any modes across them."""
        inner = self.operators[0].spectrum if len(self.operators) == 1 else None
        if inner is None or not isinstance(basis, SliceModes) or basis.axis != 0:
            return None
        if basis.slices != inner.basis:
            return None
        modes = basis
        zeros = torch.zeros((1, *self.operators[0].domain_shape), dtype=torch.float64)
        singular = inner.singular.expand(inner.basis.transform(zeros).shape[1:])

        def to_modes(y: Tensor) -> Tensor:
            stack = y.movedim(self._place, 1)
            found = inner.to_modes(stack.flatten(0, 1)).unflatten(0, stack.shape[:2])
            return modes.across_slices(found.movedim(1, 2))

        def from_modes(c: Tensor) -> Tensor:
            stack = modes.back_to_slices(c).movedim(2, 1)
            y = inner.from_modes(stack.flatten(0, 1)).unflatten(0, stack.shape[:2])
            return y.movedim(1, self._place)

        return Spectrum(modes, singular.unsqueeze(1), to_modes, from_modes)


def _stacked_shape(shape: tuple[int, ...], depth: int) -> tuple[int, ...]:
    return (depth, *shape) if len(shape) == 1 else (shape[0], depth, *shape[1:])


def _of_stack(operators: Sequence[Operator], depth: int) -> NoiseModel | None:
    """The noise of a stack of scans, from that of a scan.

    Raises:
        ValueError: the scans have noise models of their own, or one with an entry for each channel.
    """
    noise, shape = operators[0].noise, operators[0].range_shape
    if any(one.noise is not noise for one in operators):
        raise ValueError(
            "slicewise: the operators have noise models of their own; pass noise= for the stack"
        )
    if isinstance(noise, GaussianNoise):
        std = noise.std
        if isinstance(noise.basis, Pixels):
            is_full = std.ndim == len(shape) > 1
            return GaussianNoise(std.unsqueeze(1)) if is_full else noise
        if len(shape) > 1:
            modes = SliceModes(noise.basis, torch.eye(depth, dtype=torch.float64)[None])
            axes = noise.basis.transform(torch.zeros((1, *shape))).ndim - 1
            return GaussianNoise(std.unsqueeze(1) if std.ndim == axes else std, basis=modes)
    tensors = [] if noise is None else [v for v in vars(noise).values() if isinstance(v, Tensor)]
    if any(1 < tensor.ndim == len(shape) for tensor in tensors):
        raise ValueError(
            f"slicewise: {noise!r} has numbers for every entry of one scan {tuple(shape)}; pass "
            f"noise= for the stack, of shape {_stacked_shape(shape, depth)}"
        )
    return noise
