"""Forward operators of imaging instruments, with their noise models."""

from . import spectral
from .adapters import from_pylops, from_scipy
from .algebra import compose, scale, stack, transpose
from .base import LinearOperator, Operator
from .blur import Blur
from .bridge import from_deepinv, to_deepinv
from .checks import adjoint_error, dense_matrix, linearity_error, operator_norm
from .colour import Demosaicing, Greyscale
from .compressed_sensing import StructuredRandom
from .counts import PoissonGaussianNoise, PoissonNoise
from .detector import Clipping, Quantization, Transmission
from .digitized import DigitizedNoise
from .downsampling import Downsampling
from .fourier import FourierSampling
from .kernels import gaussian_kernel, motion_kernel
from .mask import Mask
from .masks import box_mask, cartesian_mask, radial_mask, random_mask
from .matrix import MatrixOperator
from .noise import GaussianNoise, NoiseModel
from .noise_level import estimate_noise
from .per_image import per_image
from .phase_retrieval import PhaseRetrieval, random_codes
from .tomography import Tomography

__all__ = [
    "Blur",
    "Clipping",
    "Demosaicing",
    "DigitizedNoise",
    "Downsampling",
    "FourierSampling",
    "GaussianNoise",
    "Greyscale",
    "LinearOperator",
    "Mask",
    "MatrixOperator",
    "NoiseModel",
    "Operator",
    "PhaseRetrieval",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "Quantization",
    "StructuredRandom",
    "Tomography",
    "Transmission",
    "adjoint_error",
    "box_mask",
    "cartesian_mask",
    "compose",
    "dense_matrix",
    "estimate_noise",
    "from_deepinv",
    "from_pylops",
    "from_scipy",
    "gaussian_kernel",
    "linearity_error",
    "motion_kernel",
    "operator_norm",
    "per_image",
    "radial_mask",
    "random_codes",
    "random_mask",
    "scale",
    "spectral",
    "stack",
    "to_deepinv",
    "transpose",
]
