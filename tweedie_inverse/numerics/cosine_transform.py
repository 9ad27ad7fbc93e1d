"""The orthonormal DCT-II of one axis by fast Fourier transforms, for axes too long for a matrix.

With ``v = (x_0, x_2, x_4, ..., x_5, x_3, x_1)``, V its Fourier transform and ``W_k = exp(-i pi k /
2n) V_k``, the coefficients are ``X_k = s_k Re W_k`` and ``X_{n-k} = -s_{n-k} Im W_k`` (Makhoul
1980).  Large images go in blocks, so that no more than the result and a block are held beside them.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

# Numbers in a block, on a CPU and elsewhere.
_BLOCK_CPU, _BLOCK = 2**18, 2**22
# Up to this length a matrix product is faster, measured on a CPU core.
_LONGEST_OF_A_MATRIX = 512
_TYPES = (torch.float32, torch.float64)


def is_fast_for(x: Tensor, axis: int) -> bool:
    """Whether an axis of x is so long, and of a number type that Fourier transforms take."""
    return x.shape[axis] > _LONGEST_OF_A_MATRIX and x.dtype in _TYPES


def cosines(x: Tensor, axis: int) -> Tensor:
    """Coefficients of x along one axis, counted from the end."""
    return _in_blocks(_cosines, x, axis)


def of_cosines(coefficients: Tensor, axis: int) -> Tensor:
    """The inverse of `cosines`."""
    return _in_blocks(_of_cosines, coefficients, axis)


def _in_blocks(transform: Callable[[Tensor], Tensor], x: Tensor, axis: int) -> Tensor:
    """A transform of the last axis, along another one."""
    block = _BLOCK_CPU if x.device.type == "cpu" else _BLOCK
    if x.numel() <= block:
        return transform(x.movedim(axis, -1)).movedim(-1, axis)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    others = [one for one in range(-x.ndim, 0) if one != axis]
    along = max(others, key=lambda one: x.shape[one])
    size = max(1, block * x.shape[along] // x.numel())
    for first in range(0, x.shape[along], size):
        # Not split(), whose parts autograd lets nobody write to.
        place = along, first, min(size, x.shape[along] - first)
        found = transform(x.narrow(*place).movedim(axis, -1))
        out.narrow(*place).copy_(found.movedim(-1, axis))
    return out


def _cosines(x: Tensor) -> Tensor:
    n = x.shape[-1]
    v = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)
    w = torch.fft.rfft(v) * _turn(n, v.dtype, v.device).conj()
    return torch.cat([w.real, -w.imag[..., 1 : n - n // 2].flip(-1)], -1)


def _of_cosines(c: Tensor) -> Tensor:
    n = c.shape[-1]
    # Coefficient n, the partner of the first one, is 0.
    partner = torch.cat([torch.zeros_like(c[..., :1]), c[..., n - n // 2 :].flip(-1)], -1)
    w = torch.complex(c[..., : n // 2 + 1], -partner)
    turn = _turn(n, c.dtype, c.device)
    v = torch.fft.irfft(w / turn.abs().square() * turn, n)
    first = n - n // 2
    return torch.stack([v[..., :first], _filled(v[..., first:].flip(-1), first)], -1).flatten(-2)[
        ..., :n
    ]


def _filled(values: Tensor, size: int) -> Tensor:
    """With a zero at the end where there is one too few."""
    return torch.nn.functional.pad(values, (0, size - values.shape[-1]))


@lru_cache(maxsize=16)
def _turn(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``s_k exp(i pi k / 2n)`` for k up to n / 2."""
    k = torch.arange(n // 2 + 1, dtype=torch.float64)
    scale = torch.full_like(k, math.sqrt(2 / n))
    scale[0] = math.sqrt(1 / n)
    wide = torch.complex128 if dtype == torch.float64 else torch.complex64
    return torch.polar(scale, math.pi / (2 * n) * k).to(device=device, dtype=wide)
