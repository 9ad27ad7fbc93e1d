"""How deepinv's images and measurements become one real tensor, and back.

Complex values become channels: real parts, then imaginary parts, along the first axis after the
batch (``(C, H, W)`` complex is ``(2 C, H, W)`` real).  The list of a stacked physics becomes one
vector: each part laid out like that, flattened, one after the other.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Part(NamedTuple):
    """One tensor of deepinv: its shape without the batch axis, and what its entries are.

    `kind` is "real", "complex", or "embedded": complex to deepinv, with zero imaginary part.
    """

    shape: tuple[int, ...]
    kind: str

    @property
    def real_shape(self) -> tuple[int, ...]:
        shape = self.shape or (1,)
        return (2 * shape[0], *shape[1:]) if self.kind == "complex" else shape

    def to_real(self, value: Tensor) -> Tensor:
        value = value.reshape(value.shape[0], *(self.shape or (1,)))
        if self.kind == "complex":
            return torch.cat([value.real, value.imag], 1)
        # A real image has a real gradient: the imaginary part of an adjoint is not asked for.
        return value.real if value.is_complex() else value

    def from_real(self, x: Tensor) -> Tensor:
        if self.kind == "real":
            return x.reshape(x.shape[0], *self.shape)
        if self.kind == "embedded":
            return x.to(x.dtype.to_complex()).reshape(x.shape[0], *self.shape)
        real, imaginary = x.chunk(2, 1)
        return torch.complex(real.contiguous(), imaginary.contiguous()).reshape(
            x.shape[0], *self.shape
        )


class Layout(NamedTuple):
    """The parts of an image or a measurement; `is_list` if deepinv has them as a TensorList."""

    parts: tuple[Part, ...]
    is_list: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the real tensor, without the batch axis."""
        if not self.is_list:
            return self.parts[0].real_shape
        return (sum(math.prod(part.real_shape) for part in self.parts),)

    @property
    def sizes(self) -> list[int]:
        """Number of real entries of each part."""
        return [math.prod(part.real_shape) for part in self.parts]

    def to_real(self, value: Any) -> Tensor:
        if not self.is_list:
            return self.parts[0].to_real(value)
        pairs = zip(self.parts, value, strict=True)
        return torch.cat([part.to_real(tensor).flatten(1) for part, tensor in pairs], 1)

    def from_real(self, x: Tensor) -> Any:
        if not self.is_list:
            return self.parts[0].from_real(x)
        from deepinv.utils import TensorList

        pieces = zip(self.parts, x.split(self.sizes, 1), strict=True)
        return TensorList(
            [part.from_real(piece.reshape(len(x), *part.real_shape)) for part, piece in pieces]
        )


def layout_of(value: Any) -> Layout:
    """The layout of a measurement ``(1, ...)``, or a list of them, as deepinv returned it.

    Raises:
        ValueError: no batch axis of one.
    """
    is_list = not isinstance(value, Tensor)
    tensors = list(value) if is_list else [value]
    for tensor in tensors:
        if tensor.ndim < 1 or tensor.shape[0] != 1:
            raise ValueError(
                f"from one image it made a measurement of shape {tuple(tensor.shape)}, not of "
                "batch 1; parameters need a batch axis of 1 (ops.per_image joins several physics)"
            )
    parts = (
        Part(tuple(tensor.shape[1:]), "complex" if tensor.is_complex() else "real")
        for tensor in tensors
    )
    return Layout(tuple(parts), is_list)
