"""Every deepinv physics that can be built offline, at a tiny size, for the tests of the bridge.

What stays out, and why:

| class | reason |
|---|---|
| `Haze` | takes a list of three images; `Operator.from_function` does it (tested) |
| `Tomography(adjoint_via_backprop=False)` | no exact transpose, not even by autograd (tested) |
| `RadioInterferometry`, `PET`, `NonCartesianMRI` | run where their packages are installed |
| `TomographyWithAstra` | needs a CUDA device |
| `Physics`, `DecomposablePhysics`, ... | base classes, covered by their subclasses |

What these cases showed of deepinv 0.5.0, and the bridge goes round: `SequentialMRI` and
`CompressiveSpectralImaging` fail deepinv's own `adjointness_test`, and `A_adjoint` of a 3-D `Blur`
with an even side raises, so the derived adjoint is used; the adjoint that `LinearPhysics` derives
works in float32 only; `SequentialMRI` and `SinglePhotonLidar` cannot take a batch, so they run
image by image; `UltrasoundPlaneWave` computes in float32 whatever it is given.
"""

import functools
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import deepinv
import pytest
import torch
from deepinv import physics as dp

from tests.seeds import torch_generator
from tweedie_inverse.numerics.random import normal


class Case(NamedTuple):
    """`build` makes the physics; `domain_shape` is given to `from_deepinv` where not None.

    `dtype` is the most precise type that the physics computes in.
    """

    build: Callable[[], dp.Physics]
    domain_shape: tuple[int, ...] | None = None
    dtype: torch.dtype = torch.float64


def _rng() -> torch.Generator:
    return torch_generator(0)


def _circle(count: int) -> torch.Tensor:
    angle = torch.arange(count) * 2 * math.pi / count
    return torch.stack([angle.cos(), angle.sin()])


def _virtual() -> dp.Physics:
    shift = deepinv.transform.Shift()
    base = dp.BlurFFT(img_size=(1, 8, 8), filter=KERNEL)
    return dp.VirtualLinearPhysics(
        physics=base, transform=shift, g_params={"x_shift": [1], "y_shift": [2]}
    )


KERNEL = (normal((1,), (1, 1, 4, 5)).abs() / 10).float()  # neither symmetric nor odd-sized
FILTERS = normal((2,), (1, 1, 2, 3, 3)).float()
MASK = (normal((3,), (8, 8)) > 0).float()
MASKS = (normal((3,), (3, 8, 8)) > 0).float()
COILS = torch.complex(normal((4,), (1, 3, 8, 8)), normal((5,), (1, 3, 8, 8))).to(torch.complex64)
ELEMENTS = torch.stack([torch.linspace(-2e-3, 2e-3, 6), torch.zeros(6)], 1)


def _blur(padding: str) -> Case:
    return Case(lambda: dp.Blur(filter=KERNEL, padding=padding), (2, 10, 9))


def _blur_fft(height: int = 10) -> dp.Physics:
    return dp.BlurFFT(img_size=(2, height, 8), filter=KERNEL)


LINEAR = {
    "blur-valid": _blur("valid"),
    "blur-circular": _blur("circular"),
    "blur-replicate": _blur("replicate"),
    "blur-reflect": _blur("reflect"),
    "blur-constant": _blur("constant"),
    "blur-by-fft": Case(
        lambda: dp.Blur(filter=KERNEL, padding="circular", use_fft=True), (2, 10, 9)
    ),
    "blur-3d": Case(lambda: dp.Blur(filter=FILTERS[:, 0][None], padding="circular"), (1, 4, 5, 6)),
    "blur-fft": Case(_blur_fft),
    "space-varying-blur": Case(
        lambda: dp.SpaceVaryingBlur(
            filters=FILTERS, multipliers=normal((6,), (1, 1, 2, 8, 8)).float()
        ),
        (1, 8, 8),
    ),
    "tiled-blur": Case(
        lambda: dp.TiledSpaceVaryingBlur(
            filters=normal((1,), (1, 1, 9, 3, 3)).float(), patch_size=6, stride=4
        ),
        (1, 12, 12),
    ),
    "downsampling": Case(lambda: dp.Downsampling(img_size=(2, 12, 8), filter="bicubic", factor=2)),
    "downsampling-any-size": Case(
        lambda: dp.Downsampling(filter="gaussian", factor=2, padding="reflect"), (2, 24, 24)
    ),
    "downsampling-matlab": Case(lambda: dp.DownsamplingMatlab(factor=2), (2, 12, 8)),
    "upsampling": Case(lambda: dp.Upsampling(img_size=(2, 12, 8), filter="bilinear", factor=2)),
    "inpainting": Case(lambda: dp.Inpainting(img_size=(2, 8, 8), mask=MASK.expand(2, 8, 8))),
    "demosaicing": Case(lambda: dp.Demosaicing(img_size=(6, 6))),
    "decolorize": Case(dp.Decolorize, (3, 5, 6)),
    "denoising": Case(dp.Denoising, (1, 5, 6)),
    "tomography": Case(lambda: dp.Tomography(angles=5, img_width=10, normalize=False)),
    "tomography-normalized": Case(lambda: dp.Tomography(angles=5, img_width=10, normalize=True)),
    "tomography-fan": Case(
        lambda: dp.Tomography(angles=5, img_width=10, normalize=False, fan_beam=True)
    ),
    "mri": Case(lambda: dp.MRI(mask=MASK, img_size=(8, 8))),
    "multi-coil-mri": Case(lambda: dp.MultiCoilMRI(mask=MASK, coil_maps=COILS, img_size=(8, 8))),
    "dynamic-mri": Case(lambda: dp.DynamicMRI(mask=MASKS, img_size=(2, 3, 8, 8))),
    "sequential-mri": Case(lambda: dp.SequentialMRI(mask=MASKS, img_size=(2, 3, 8, 8))),
    "compressed-sensing": Case(lambda: dp.CompressedSensing(m=10, img_size=(1, 5, 5), rng=_rng())),
    "compressed-sensing-channelwise": Case(
        lambda: dp.CompressedSensing(m=10, img_size=(2, 5, 5), channelwise=True, rng=_rng())
    ),
    "compressed-sensing-complex": Case(
        lambda: dp.CompressedSensing(m=10, img_size=(1, 5, 5), dtype=torch.cfloat, rng=_rng())
    ),
    "compressed-sensing-complex-images": Case(
        lambda: dp.CompressedSensing(m=10, img_size=(1, 5, 5), dtype=torch.cfloat, rng=_rng()),
        (2, 5, 5),
    ),
    "structured-random": Case(
        lambda: dp.StructuredRandom(img_size=(1, 5, 6), output_size=(1, 5, 6), rng=_rng())
    ),
    "single-pixel-camera": Case(lambda: dp.SinglePixelCamera(m=20, img_size=(1, 8, 8), rng=_rng())),
    "single-pixel-camera-dense": Case(
        lambda: dp.SinglePixelCamera(m=20, img_size=(1, 6, 8), fast=False, rng=_rng())
    ),
    "spectral-imaging-ss": Case(
        lambda: dp.CompressiveSpectralImaging(img_size=(4, 6, 6), rng=_rng())
    ),
    "spectral-imaging-sd": Case(
        lambda: dp.CompressiveSpectralImaging(img_size=(4, 6, 6), mode="sd", rng=_rng())
    ),
    "ptychography-linear": Case(lambda: dp.PtychographyLinearOperator(img_size=(1, 16, 16))),
    "ptychography-linear-complex": Case(
        lambda: dp.PtychographyLinearOperator(img_size=(1, 16, 16)), (2, 16, 16)
    ),
    "ultrasound": Case(
        lambda: dp.UltrasoundPlaneWave(
            img_size=(8, 8),
            angles=[0.0, 0.1],
            element_positions=ELEMENTS,
            n_samples=40,
            sampling_frequency=5e6,
        ),
        dtype=torch.float32,  # its measurements are allocated in float32
    ),
    "pansharpen": Case(lambda: dp.Pansharpen(img_size=(3, 16, 16))),
    "unmixing": Case(
        lambda: dp.HyperSpectralUnmixing(M=normal((3,), (4, 6)).float().abs()), (4, 5, 5)
    ),
    "stack": Case(lambda: dp.stack(dp.Blur(filter=KERNEL, padding="valid"), _blur_fft())),
    "stack-complex": Case(
        lambda: dp.stack(
            dp.PtychographyLinearOperator(img_size=(1, 16, 16)), dp.Denoising(dp.ZeroNoise())
        )
    ),
    "compose": Case(
        lambda: dp.compose(
            _blur_fft(), dp.Downsampling(img_size=(2, 10, 8), filter="bilinear", factor=2)
        )
    ),
    "virtual": Case(_virtual),
    "multi-scaler": Case(
        lambda: dp.LinearPhysicsMultiScaler(
            dp.Blur(filter=KERNEL, padding="circular"), (1, 16, 16), "bilinear", (2,)
        )
    ),
    "cropper": Case(
        lambda: dp.PhysicsCropper(dp.Blur(filter=KERNEL, padding="circular"), (1, 1)), (1, 12, 12)
    ),
    "own": Case(lambda: dp.LinearPhysics(A=lambda x: x.roll(1, -1), img_size=(1, 4, 4))),
    "radio": Case(
        lambda: dp.RadioInterferometry(img_size=(8, 8), samples_loc=normal((1,), (2, 5)).float()),
        dtype=torch.float32,
    ),
    "pet": Case(lambda: dp.PET(img_size=(1, 8, 8)), dtype=torch.float32),
    "non-cartesian-mri": Case(lambda: dp.NonCartesianMRI(img_size=(8, 8)), dtype=torch.float32),
}

NONLINEAR = {
    "phase-retrieval": Case(
        lambda: dp.PhaseRetrieval(dp.Blur(filter=KERNEL, padding="circular")), (1, 8, 8)
    ),
    "random-phase-retrieval": Case(
        lambda: dp.RandomPhaseRetrieval(m=40, img_size=(1, 4, 4), rng=_rng())
    ),
    "random-phase-retrieval-complex": Case(
        lambda: dp.RandomPhaseRetrieval(m=40, img_size=(1, 4, 4), rng=_rng()), (2, 4, 4)
    ),
    "structured-phase-retrieval": Case(
        lambda: dp.StructuredRandomPhaseRetrieval(
            img_size=(1, 6, 6), output_size=(1, 8, 8), n_layers=2
        )
    ),
    "ptychography": Case(lambda: dp.Ptychography(img_size=(1, 16, 16))),
    "unwrapping": Case(dp.SpatialUnwrapping, (1, 6, 6)),
    "scattering": Case(
        lambda: dp.Scattering(
            img_width=12,
            receivers=_circle(4),
            transmitters=_circle(3),
            background_wavenumber=8.0,
            solver_config=dp.Scattering.SolverConfig(tol=1e-10),  # its gradient is as exact
        )
    ),
    "lidar": Case(lambda: dp.SinglePhotonLidar(bins=12), (3, 4, 5)),
    "compose-nonlinear": Case(lambda: dp.compose(_blur_fft(), dp.SpatialUnwrapping())),
    "own-nonlinear": Case(lambda: dp.Physics(A=lambda x: x**2), (1, 4, 4)),
}

CASES = LINEAR | NONLINEAR


@functools.cache
def build(name):
    # Some of deepinv's constructors draw from the global generator, and warn about defaults.
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CASES[name].build()


def physics_of(name):
    try:
        return build(name)
    except ImportError as error:
        pytest.skip(str(error))


def images(operator, count, dtype):
    return torch.special.ndtr(normal((9,), (count, *operator.domain_shape))).to(dtype)
