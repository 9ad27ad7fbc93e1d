"""Forward operators of imaging instruments, with their noise models.

The base classes and the combinations of operators are in this folder, instruments and noise models
in folders of it.  Nothing here knows a prior or a walk.
"""

# Under another name this would be a second copy of every class, which nothing would accept.
if __name__ != "tweedie_inverse.operators":
    raise ImportError(
        f"{__name__} is the folder of tweedie_inverse.operators seen from its repository; write "
        "'from tweedie_inverse import operators'"
    )


from tweedie_inverse.numerics import spectral
from tweedie_inverse.operators.adapters import from_pylops, from_scipy, to_pylops, to_scipy
from tweedie_inverse.operators.algebra import compose, scale, stack, transpose
from tweedie_inverse.operators.base import LinearOperator, Operator
from tweedie_inverse.operators.blind_blur import BlindBlur
from tweedie_inverse.operators.calibration_maps import estimate_coil_maps, estimate_phase
from tweedie_inverse.operators.checks import (
    adjoint_error,
    dense_matrix,
    linearity_error,
    operator_norm,
)
from tweedie_inverse.operators.deepinv.bridge import from_deepinv, to_deepinv
from tweedie_inverse.operators.diffct import from_diffct
from tweedie_inverse.operators.foreign import from_astra, from_mri_nufft
from tweedie_inverse.operators.instruments.blur import Blur
from tweedie_inverse.operators.instruments.colour import Demosaicing, Greyscale
from tweedie_inverse.operators.instruments.compressed_sensing import StructuredRandom
from tweedie_inverse.operators.instruments.detector import Clipping, Quantization, Transmission
from tweedie_inverse.operators.instruments.downsampling import Downsampling
from tweedie_inverse.operators.instruments.fourier import FourierSampling
from tweedie_inverse.operators.instruments.kernels import gaussian_kernel, motion_kernel
from tweedie_inverse.operators.instruments.mask import Mask
from tweedie_inverse.operators.instruments.matrix import MatrixOperator
from tweedie_inverse.operators.instruments.phase_retrieval import PhaseRetrieval, random_codes
from tweedie_inverse.operators.instruments.sampling_patterns import (
    box_mask,
    cartesian_mask,
    radial_mask,
    random_mask,
)
from tweedie_inverse.operators.noise.base import (
    GaussianNoise,
    NoiseModel,
    UnknownGaussianNoise,
    UnknownNoise,
)
from tweedie_inverse.operators.noise.counts import PoissonGaussianNoise, PoissonNoise
from tweedie_inverse.operators.noise.digitized import DigitizedNoise
from tweedie_inverse.operators.noise.estimate import estimate_noise
from tweedie_inverse.operators.noise.unknown_counts import UnknownCountingNoise
from tweedie_inverse.operators.parametric import Parametric, parametric
from tweedie_inverse.operators.per_image import per_image
from tweedie_inverse.operators.scalar_prior import ScalarPrior
from tweedie_inverse.operators.slicewise import slicewise
from tweedie_inverse.operators.tomography.tomography import Tomography
from tweedie_inverse.operators.unknown_phase import UnknownPhase

__all__ = [
    "BlindBlur",
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
    "Parametric",
    "PhaseRetrieval",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "Quantization",
    "ScalarPrior",
    "StructuredRandom",
    "Tomography",
    "Transmission",
    "UnknownCountingNoise",
    "UnknownGaussianNoise",
    "UnknownNoise",
    "UnknownPhase",
    "adjoint_error",
    "box_mask",
    "cartesian_mask",
    "compose",
    "dense_matrix",
    "estimate_coil_maps",
    "estimate_noise",
    "estimate_phase",
    "from_astra",
    "from_deepinv",
    "from_diffct",
    "from_mri_nufft",
    "from_pylops",
    "from_scipy",
    "gaussian_kernel",
    "linearity_error",
    "motion_kernel",
    "operator_norm",
    "parametric",
    "per_image",
    "radial_mask",
    "random_codes",
    "random_mask",
    "scale",
    "slicewise",
    "spectral",
    "stack",
    "to_deepinv",
    "to_pylops",
    "to_scipy",
    "transpose",
]
