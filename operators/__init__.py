"""Forward operators of imaging instruments, with their noise models."""

from .adapters import from_pylops, from_scipy
from .base import LinearOperator, Operator
from .blur import Blur, gaussian_kernel
from .bridge import from_deepinv, to_deepinv
from .checks import adjoint_error, dense_matrix, linearity_error, operator_norm
from .downsampling import Downsampling
from .mask import Mask, random_mask
from .matrix import MatrixOperator
from .noise import GaussianNoise, NoiseModel
from .tomography import Tomography

__all__ = [
    "Blur",
    "Downsampling",
    "GaussianNoise",
    "LinearOperator",
    "Mask",
    "MatrixOperator",
    "NoiseModel",
    "Operator",
    "Tomography",
    "adjoint_error",
    "dense_matrix",
    "from_deepinv",
    "from_pylops",
    "from_scipy",
    "gaussian_kernel",
    "linearity_error",
    "operator_norm",
    "random_mask",
    "to_deepinv",
]
