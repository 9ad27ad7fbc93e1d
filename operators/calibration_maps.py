"""What a magnetic resonance scan says of itself: the sensitivities of its coils, and the phase.

Both are read from the middle of k-space, which is sampled without gaps, before the image is solved
for; the same data are then used again, as is usual.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, number, positive
from tweedie_inverse.boundary.arrays import refuse_infinite, tensor_of
from tweedie_inverse.operators.base import LinearOperator, linear_operator


def estimate_coil_maps(
    kspace: Any, *, calibration: int = 24, kernel: int = 6, crop: float = 0.0
) -> Tensor:
    """Sensitivities of the coils by ESPIRiT (Uecker et al. 2014), as sigpy computes it.

    Args:
        kspace: ``(coils, height, width)``, complex, or ``(2, coils, height, width)``, real parts
            then imaginary parts, as `FourierSampling` measures it; a depth before the height for
            volumes.  The origin is in the centre, and the middle is sampled without gaps.
        calibration: width of that middle, in samples.
        kernel: width of the windows whose dependence is looked for, in samples.
        crop: where the largest eigenvalue is below, nothing is there to see, and maps are 0; the
            prior alone then says what is there.  With 0 there are maps everywhere.

    Returns:
        Complex ``(coils, height, width)``, of squares that sum to one; its phase is relative to
        that of the first coil.

    Raises:
        ImportError: sigpy is not installed.
        ValueError: another shape, one coil, or a middle that is empty or smaller than asked for.
    """
    caller = "estimate_coil_maps"
    given = _complex(caller, kspace)
    calibration, kernel = count(caller, "calibration", calibration), count(caller, "kernel", kernel)
    crop = number(caller, "crop", crop, low=0, high=1)
    if given.ndim not in (3, 4) or given.shape[0] < 2:
        raise ValueError(
            f"{caller}: needs k-space (coils, height, width) of two coils or more, complex, got "
            f"shape {tuple(given.shape)}"
        )
    sizes = given.shape[1:]
    if calibration > min(sizes) or kernel >= calibration:
        raise ValueError(
            f"{caller}(calibration={calibration}, kernel={kernel}): needs a kernel smaller than "
            f"the middle, and a middle no wider than {min(sizes)} samples"
        )
    middle = tuple(slice(n // 2 - calibration // 2, n // 2 + calibration // 2) for n in sizes)
    filled = (given[(slice(None), *middle)].abs().sum(0) > 0).double().mean()
    if float(filled) < 0.99:
        raise ValueError(
            f"{caller}(calibration={calibration}): only {float(filled):.0%} of the middle of "
            "k-space is sampled; ask for a smaller one, or sample it"
        )
    try:
        from sigpy.mri.app import EspiritCalib
    except ImportError as error:
        raise ImportError(f"{caller}: needs sigpy: pip install 'tweedie-inverse[mri]'") from error
    app = EspiritCalib(
        given.numpy().astype(np.complex64), calib_width=calibration, kernel_width=kernel, crop=crop,
        show_pbar=False,
    )  # fmt: skip
    return torch.from_numpy(np.array(app.run())).to(torch.complex128)


def estimate_phase(y: Any, operator: Any, *, width: float = 4.0) -> Tensor:
    """The smooth phase of the image behind a measurement, in radians, ``(height, width)``.

    It is that of ``A^H y``, smoothed with a Gaussian window: for MRI, of the middle of k-space
    (Noll, Nishimura and Macovski 1991).  Where nothing is seen it is a guess.

    Args:
        y: one measurement of the operator.
        operator: linear, of complex images ``(2, *size)``.
        width: standard deviation of the window, in pixels; wide enough that only samples without
            gaps count: those up to about ``side / (2 pi width)`` from the centre of k-space.

    Raises:
        TypeError, ValueError: images that are not complex, or a measurement of another shape.
    """
    operator = linear_operator("estimate_phase", operator)
    width = positive("estimate_phase", "width", width)
    if not operator.domain_is_complex:
        raise ValueError(
            f"estimate_phase(operator=): needs an operator of complex images, got {operator!r}"
        )
    values = tensor_of("estimate_phase", "y", y)
    refuse_infinite("estimate_phase", "y", values)
    if not values.is_complex() and tuple(values.shape) != operator.range_shape:
        raise ValueError(
            f"estimate_phase: needs one measurement of shape {operator.range_shape}, got "
            f"{tuple(values.shape)}"
        )
    return smoothed_adjoint(values, operator, width).angle()


def smoothed_adjoint(y: Tensor, operator: LinearOperator, width: float = 4.0) -> Tensor:
    """``A^H y`` of one measurement, smoothed as in `estimate_phase`: complex ``(*size)``."""
    image = operator.adjoint(y[None])[0]
    whole = torch.complex(*(part.double() for part in image.unbind(0)))
    axes = [torch.fft.fftfreq(n, dtype=torch.float64).to(whole.device) for n in whole.shape]
    squares = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0)
    window = torch.exp(-2 * (math.pi * width) ** 2 * squares)
    return torch.fft.ifftn(torch.fft.fftn(whole) * window)


def _complex(caller: str, kspace: Any) -> Tensor:
    found = tensor_of(caller, "kspace", kspace).detach().cpu()
    refuse_infinite(caller, "kspace", found)
    if found.is_complex():
        return found.to(torch.complex128)
    if found.ndim < 4 or found.shape[0] != 2:
        raise ValueError(
            f"{caller}: needs complex k-space (coils, height, width), or real and imaginary parts "
            f"(2, coils, height, width), got {tuple(found.shape)} of {found.dtype}"
        )
    return torch.complex(found[0].double(), found[1].double())
