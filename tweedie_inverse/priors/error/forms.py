"""Forms of a spectrum with fewer numbers than frequencies, which fewer images can tell.

"separable": the product of one spectrum for each axis.  "radial": one variance for each length of
the frequency.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from tweedie_inverse.priors.error.denoising_error import Transform

Form = Literal["full", "separable", "radial"]
_TINY = 1e-20


def rings_of(transform: Transform, size: tuple[int, ...]) -> Tensor:
    """The frequency's length in steps of half a period an image, rounded, ``(*size)``."""
    if len(size) == 0:
        return torch.zeros(()).long()
    frequencies = [
        torch.arange(n) / (2 * n) if transform == "cosine" else torch.fft.fftfreq(n) for n in size
    ]
    squares = sum(f**2 for f in torch.meshgrid(*frequencies, indexing="ij"))
    return (2 * max(size) * torch.as_tensor(squares).sqrt()).round().long()


def over_rings(spectrum: Tensor, rings: Tensor) -> Tensor:
    """Averages over frequencies of one length, ``(channels, *size)``."""
    flat, index = spectrum.reshape(len(spectrum), -1), rings.flatten()
    counts = torch.bincount(index)
    sums = flat.new_zeros(len(flat), len(counts)).index_add_(1, index, flat)
    return (sums / counts)[:, index].reshape(spectrum.shape)


def _product(spectrum: Tensor, rings: Tensor) -> Tensor:
    """The product of one spectrum for each axis that keeps them all."""
    axes = range(1, spectrum.ndim)
    if len(axes) < 2:
        return spectrum
    product = torch.ones((), dtype=spectrum.dtype, device=spectrum.device)
    for axis in axes:
        product = product * spectrum.mean([other for other in axes if other != axis], keepdim=True)
    return product / spectrum.mean(list(axes), keepdim=True).clamp(min=_TINY) ** (len(axes) - 1)


FORMS: dict[Form, Callable[[Tensor, Tensor], Tensor]] = {
    "full": lambda spectrum, rings: spectrum,
    "separable": _product,
    "radial": over_rings,
}
