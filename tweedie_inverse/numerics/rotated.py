"""Complex images in coordinates that turn with a known phase: a real and an imaginary part."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.numerics.spectral import Basis


@dataclass(frozen=True, eq=False)
class Rotated(Basis):
    """Coefficients of both parts of ``exp(-i phase) x``, each in a basis of its own.

    An image is ``(batch, 2, *size)``, real and imaginary part.  Coefficients are ``(batch, 2,
    *size)`` where both bases keep the shape of images, else both parts flattened, one after the
    other.

    Attributes:
        cosine, sine: of the phase, ``(*size)`` or ``()``.
        first, second: bases of the real and of the imaginary part, ``(1, *size)``.
    """

    cosine: Tensor
    sine: Tensor
    first: Basis
    second: Basis

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary part of ``exp(-i phase) x``, ``(batch, 1, *size)`` both."""
        cosine, sine = resident(self.cosine, x), resident(self.sine, x)
        real, imaginary = x[:, :1], x[:, 1:]
        return cosine * real + sine * imaginary, cosine * imaginary - sine * real

    def joined(self, first: Tensor, second: Tensor) -> Tensor:
        """The image with these parts, ``(batch, 2, *size)``."""
        cosine, sine = resident(self.cosine, first), resident(self.sine, first)
        return torch.cat([cosine * first - sine * second, sine * first + cosine * second], 1)

    def transform(self, x: Tensor) -> Tensor:
        real, imaginary = self.parts(x)
        return _beside(self.first.transform(real), self.second.transform(imaginary))

    def inverse(self, coefficients: Tensor) -> Tensor:
        first, second = self._split(coefficients)
        return self.joined(self.first.inverse(first), self.second.inverse(second))

    def smooth(self, spectrum: Tensor) -> Tensor:
        first, second = self._split(spectrum)
        return _beside(self.first.smooth(first), self.second.smooth(second))

    def unturned(self) -> Basis:
        return self._unturned

    @cached_property
    def _unturned(self) -> Basis:
        return replace(self, cosine=torch.ones_like(self.cosine), sine=torch.zeros_like(self.sine))

    def variances(self, first: Tensor, second: Tensor, size: tuple[int, ...]) -> Tensor:
        """Variances of both parts as one, like the coefficients of one image.

        Args:
            first, second: each broadcasts to the coefficients of its part.
            size: of the image, without channels.
        """
        zeros = torch.zeros((1, 1, *size), dtype=first.dtype, device=first.device)
        shapes = [basis.transform(zeros).shape for basis in (self.first, self.second)]
        return _beside(
            first.expand(shapes[0]), second.to(first.device, first.dtype).expand(shapes[1])
        )[0]

    def _split(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        first, second = coefficients.chunk(2, 1)
        if coefficients.ndim > 2:
            return first, second
        shape = (1, *self.cosine.shape)
        parts = []
        for basis, flat in ((self.first, first), (self.second, second)):
            like = basis.transform(flat.new_zeros((1, *shape))).shape[1:]
            parts.append(flat.reshape(-1, *like))
        return parts[0], parts[1]


def _beside(first: Tensor, second: Tensor) -> Tensor:
    if first.ndim == second.ndim > 2:
        return torch.cat([first, second], 1)
    return torch.cat([first.flatten(1), second.flatten(1)], 1)
