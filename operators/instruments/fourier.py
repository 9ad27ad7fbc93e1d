"""Fourier sampling: single- and multi-coil magnetic resonance imaging."""

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import flag
from tweedie_inverse.boundary.arrays import complex_tensor, real_tensor
from tweedie_inverse.numerics.residence import derived, resident
from tweedie_inverse.numerics.spectral import (
    ComplexFourier,
    Spectrum,
    centred_fft,
    centred_ifft,
    from_complex,
    to_complex,
)
from tweedie_inverse.operators.base import LinearOperator
from tweedie_inverse.operators.noise.base import NoiseModel


class FourierSampling(LinearOperator):
    """``y = mask * F (s_c x)``: k-space samples of a complex image, held as two channels.

    F is the unitary 2-D transform with the origin in the centre, the pixel ``(height // 2, width //
    2)``.  Without coils the image is ``(2, height, width)``, real and imaginary part, and so is y,
    with zeros where nothing was sampled; with coils y is ``(2, coils, height, width)``.  White
    noise of `std` in y is independent in both parts.  Volumes have a depth before the height, and
    F is 3-D.

    Args:
        mask: boolean or 0/1, ``(height, width)``; see `cartesian_mask` and `radial_mask`; ``(depth,
            height, width)`` for volumes.
        coils: sensitivities s_c, complex ``(coils, height, width)``, or with a depth; None is one
            perfect coil.
        real: the image is real, ``(1, height, width)``, as a prior of grey images needs it.
    """

    def __init__(
        self,
        mask: Tensor,
        *,
        coils: Tensor | None = None,
        real: bool = False,
        noise: NoiseModel | None = None,
    ):
        real = flag("FourierSampling", "real", real)
        mask = real_tensor("FourierSampling", "mask", mask)
        if coils is not None:
            coils = complex_tensor("FourierSampling", "coils", coils)
        if (
            mask.ndim not in (2, 3)
            or not bool(((mask == 0) | (mask == 1)).all())
            or not bool(mask.any())
        ):
            raise ValueError(
                "FourierSampling: needs a mask (height, width), or (depth, height, width), of "
                f"zeros and ones with at least one 1, got shape {tuple(mask.shape)}"
            )
        if coils is not None and (coils.ndim == 0 or coils.shape[1:] != mask.shape):
            raise ValueError(
                f"FourierSampling(coils=): needs sensitivities (coils, "
                f"{', '.join(map(str, mask.shape))}), complex, got {tuple(coils.shape)}"
            )
        planes = () if coils is None else (coils.shape[0],)
        super().__init__(
            domain_shape=(1 if real else 2, *mask.shape),
            range_shape=(2, *planes, *mask.shape),
            noise=noise,
        )
        self.mask, self.real, self.coils = mask.bool(), real, coils
        self._axes = mask.ndim
        self.domain_is_complex = not self.real

    range_is_complex = True

    @property
    def observed(self) -> Tensor:
        return self.mask.expand(self.range_shape)

    @property
    def spectrum(self) -> Spectrum | None:
        if self.coils is not None or self.real:
            return None
        return Spectrum(ComplexFourier(self._axes), self.mask.double(), self._select, self._select)

    def forward(self, x: Tensor) -> Tensor:
        image = torch.complex(x[:, 0], torch.zeros_like(x[:, 0])) if self.real else to_complex(x)
        if self.coils is not None:
            image = image[:, None] * resident(self.coils, image)
        return self._select(from_complex(centred_fft(image, self._axes)))

    def adjoint(self, y: Tensor) -> Tensor:
        image = centred_ifft(to_complex(self._select(y)), self._axes)
        if self.coils is not None:
            coils = derived(resident(self.coils, image), torch.conj_physical)
            image = (image * coils).sum(1)
        return image.real[:, None] if self.real else from_complex(image)

    def _select(self, y: Tensor) -> Tensor:
        return y * resident(self.mask, y)
