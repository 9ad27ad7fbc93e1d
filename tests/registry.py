"""Every operator, prior and walk once: a line here puts a new one through all contract tests."""

import scipy.sparse
import torch

import tweedie_inverse as ti
from tests.networks import SMALL_ADM, seeded
from tests.posteriors import random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.phase_space import ExactPhaseSpace, PhaseSpaceNetwork, processes
from tweedie_inverse.priors.formats.adm import adm_prior
from tweedie_inverse.priors.formats.base import Target
from tweedie_inverse.priors.formats.networks.adm import ADMUNet

NOISE = ops.GaussianNoise(0.1)


def _kernel() -> torch.Tensor:
    """Not symmetric, even-sized: a flipped or shifted convolution shows."""
    kernel = normal((1,), (4, 5)).abs()
    return kernel / kernel.sum()


# Named, since a lambda cannot be pickled.
def _cumulated(x: torch.Tensor) -> torch.Tensor:
    return x.cumsum(-1)[..., ::2]


def _columns(x: torch.Tensor) -> torch.Tensor:
    return x.sum(2).flatten(1)


def _spread(y: torch.Tensor) -> torch.Tensor:
    return y[:, None, None].expand(-1, 1, 4, 4)


def _antisymmetric(x: torch.Tensor) -> torch.Tensor:
    """Its own adjoint."""
    return x.flip(-1) - x


OPERATORS = {
    "matrix": lambda: ops.MatrixOperator(normal((2,), (7, 12)), noise=NOISE),
    "mask": lambda: ops.Mask(ops.random_mask((3, 8, 9), 0.3), noise=NOISE),
    "mask-grey": lambda: ops.Mask(torch.eye(8), channels=2, noise=NOISE),
    "blur": lambda: ops.Blur(_kernel(), (2, 9, 12), noise=NOISE),
    "blur-4d-kernel": lambda: ops.Blur(_kernel()[None, None], (1, 8, 7), noise=NOISE),
    **{
        f"blur-{padding}": lambda padding=padding: ops.Blur(
            _kernel(), (2, 9, 12), padding=padding, noise=NOISE
        )
        for padding in ("valid", "zero", "reflect", "replicate")
    },
    "blur-a-kernel-a-channel": lambda: ops.Blur(
        normal((6,), (2, 3, 4)).abs(), (2, 9, 8), noise=NOISE
    ),
    "bicubic": lambda: ops.Downsampling((2, 12, 16), 4, noise=NOISE),
    "lanczos": lambda: ops.Downsampling((1, 12, 9), 3, kernel="lanczos", noise=NOISE),
    "bicubic-circular": lambda: ops.Downsampling((2, 12, 8), 4, boundary="circular", noise=NOISE),
    "lanczos-any-factor": lambda: ops.Downsampling((1, 11, 9), 1.7, kernel="lanczos", noise=NOISE),
    "block-mean-any-factor": lambda: ops.Downsampling(
        (1, 11, 8), 2.5, kernel="block_mean", noise=NOISE
    ),
    "mri": lambda: ops.FourierSampling(ops.cartesian_mask((8, 9), 2, centre=0.1), noise=NOISE),
    "mri-coils": lambda: ops.FourierSampling(
        ops.radial_mask((8, 7), 3),
        coils=torch.complex(normal((7,), (3, 8, 7)), normal((8,), (3, 8, 7))),
        noise=NOISE,
    ),
    "mri-real": lambda: ops.FourierSampling(ops.radial_mask((8, 7), 3), real=True, noise=NOISE),
    "compressed-sensing": lambda: ops.StructuredRandom((2, 6, 5), 20, noise=NOISE),
    "greyscale": lambda: ops.Greyscale((3, 4, 5), noise=NOISE),
    "demosaicing": lambda: ops.Demosaicing((3, 5, 6), noise=NOISE),
    "composition": lambda: ops.compose(
        ops.Downsampling((1, 8, 12), 2), ops.Blur(_kernel(), (1, 8, 12)), noise=NOISE
    ),
    "stack": lambda: ops.stack(
        ops.Mask(ops.random_mask((1, 8, 8), 0.3), noise=NOISE),
        ops.Downsampling((1, 8, 8), 2, noise=NOISE),
    ),
    "scaled": lambda: ops.scale(
        ops.Downsampling((1, 8, 8), 2, noise=ops.GaussianNoise(0.04)), -2.5
    ),
    "transposed": lambda: ops.transpose(ops.Downsampling((1, 8, 8), 2), noise=NOISE),
    "mask-volume": lambda: ops.Mask(normal((3,), (1, 3, 4, 5)) > 0, noise=NOISE),
    **{
        f"blur-volume-{padding}": lambda padding=padding: ops.Blur(
            normal((6,), (2, 3, 4)).abs(), (1, 4, 5, 6), padding=padding, noise=NOISE
        )
        for padding in ("circular", "valid", "zero", "reflect", "replicate")
    },
    "bicubic-volume": lambda: ops.Downsampling((1, 4, 6, 6), 2, noise=NOISE),
    "thick-slices": lambda: ops.Downsampling(
        (2, 6, 3, 4), (3, 1, 1), kernel="block_mean", noise=NOISE
    ),
    "mri-volume": lambda: ops.FourierSampling(normal((3,), (3, 4, 5)) > 0, noise=NOISE),
    "mri-volume-coils": lambda: ops.FourierSampling(
        normal((3,), (2, 4, 5)) > 0,
        coils=torch.complex(normal((7,), (3, 2, 4, 5)), normal((8,), (3, 2, 4, 5))),
        noise=NOISE,
    ),
    "slices-of-tomography": lambda: ops.slicewise(ops.Tomography((1, 6, 6), 4, noise=NOISE), 3),
    "slices-of-mri": lambda: ops.slicewise(
        [ops.FourierSampling(ops.cartesian_mask((4, 5), 2, seed=k), noise=NOISE) for k in (0, 1)]
    ),
    "slices-of-downsampling": lambda: ops.slicewise(ops.Downsampling((2, 4, 6), 2, noise=NOISE), 3),
    "slices-of-blur": lambda: ops.slicewise(ops.Blur(_kernel()[:3, :3], (1, 4, 5), noise=NOISE), 4),
    "slices-of-vectors": lambda: ops.slicewise(
        ops.LinearOperator.from_function(_columns, (1, 4, 4), adjoint=_spread, noise=NOISE), 3
    ),
    "block-mean": lambda: ops.Downsampling((1, 8, 8), 2, kernel="block_mean", noise=NOISE),
    "tomography": lambda: ops.Tomography((1, 12, 10), angles=7, noise=NOISE),
    "tomography-angles": lambda: ops.Tomography((1, 9, 9), [0.0, 33.0, 90.0], 11, noise=NOISE),
    "scipy-sparse": lambda: ops.from_scipy(
        scipy.sparse.csr_array(normal((2,), (6, 12)).numpy()), domain_shape=(1, 3, 4), noise=NOISE
    ),
    "scipy-complex": lambda: ops.from_scipy(
        torch.complex(normal((2,), (3, 8)), normal((3,), (3, 8))).numpy(), noise=NOISE
    ),
    "function": lambda: ops.LinearOperator.from_function(_cumulated, (1, 5, 6), noise=NOISE),
    "function-and-adjoint": lambda: ops.LinearOperator.from_function(
        _antisymmetric, (7,), adjoint=_antisymmetric, noise=NOISE
    ),
    "tomography-fan": lambda: ops.Tomography((1, 9, 12), 8, geometry="fan", noise=NOISE),
    "tomography-not-aligned": lambda: ops.Tomography(
        (1, 9, 8), 4, centre=(4.5, 3.1), detector_offset=0.6, angle_offset=9.0, noise=NOISE
    ),
    "tomography-fan-not-aligned": lambda: ops.Tomography(
        (1, 7, 9), 5, 14, geometry="fan", centre=(2.4, 4.6), detector_offset=-1.3, noise=NOISE
    ),
    "tomography-matrix-free": lambda: ops.Tomography(
        (1, 10, 7), 5, storage="matrix-free", noise=NOISE
    ),
    "tomography-fan-arc": lambda: ops.Tomography(
        (1, 7, 7),
        [-100.0, -45.0, 10.0, 45.0],
        8,
        geometry="fan",
        pixel_size=0.25,
        detector_spacing=0.5,
        source_distance=1.5,
        detector_distance=1.0,
        storage="matrix-free",
        noise=NOISE,
    ),
}

NONLINEAR = {
    "phase-retrieval": lambda: ops.PhaseRetrieval((1, 5, 6), noise=NOISE),
    "phase-retrieval-complex": lambda: ops.PhaseRetrieval(
        (2, 4, 4), oversampling=1.5, intensity=True, complex_image=True, noise=NOISE
    ),
    "coded-diffraction": lambda: ops.PhaseRetrieval(
        (3, 4, 5), oversampling=1, codes=ops.random_codes(2, (4, 5)), noise=NOISE
    ),
    "clipping": lambda: ops.Clipping((1, 4, 4), low=-0.5, high=0.5, noise=NOISE),
    "quantization": lambda: ops.Quantization((2, 3, 3), 0.5, noise=NOISE),
    "transmission": lambda: ops.Transmission(
        ops.Tomography((1, 6, 6), angles=4), 50.0, noise=ops.PoissonNoise()
    ),
    "composition": lambda: ops.compose(
        ops.Clipping((1, 4, 6)), ops.Blur(_kernel()[:3, :3], (1, 4, 6)), noise=NOISE
    ),
    "stack": lambda: ops.stack(
        ops.Clipping((1, 4, 4), noise=ops.GaussianNoise(0.2)),
        ops.Mask(torch.ones(4, 4), noise=NOISE),
    ),
    "function": lambda: ops.Operator.from_function(torch.tanh, (1, 4, 4), noise=NOISE),
}

PRIORS = {
    "gaussian-dense": lambda: ti.priors.Gaussian(
        normal((3,), (4,)), covariance=torch.tensor([2.0, 1.0, 0.5, 0.1]).diag() + 0.2
    ),
    "gaussian-field": lambda: random_field(8),
    "mixture": lambda: ti.priors.GaussianMixture(
        3 * normal((4,), (3, 5)), torch.tensor([0.2, 0.5, 0.3]).double(), 0.7
    ),
    "empirical": lambda: ti.priors.Empirical(normal((5,), (6, 1, 3, 3)), std=0.2),
}


class Smoothing(torch.nn.Module):
    """A small network of any convention: one convolution and the noise level."""

    def __init__(self, channels: int = 1, out_channels: int = 1):
        super().__init__()
        self.inner = torch.nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x, level):
        return torch.tanh(self.inner(x)) / (1 + level.reshape(-1, 1, 1, 1).to(x))


# Priors of networks: no closed form, the contract only.
NETWORKS = {
    "edm": lambda: ti.priors.NetworkPrior(
        seeded(Smoothing), "edm", shape=(1, 8, 8), sigma_min=0.01, sigma_max=20.0
    ),
    "v": lambda: ti.priors.NetworkPrior(
        seeded(Smoothing), "v", shape=(1, 8, 8), timesteps=ti.schedules.vp_linear_table()
    ),
    "adm": lambda: adm_prior(seeded(lambda: ADMUNet(SMALL_ADM)), (3, 16, 16), Target()),
    "phase-space": lambda: ExactPhaseSpace(random_field(8), processes.psld()),
    "phase-space-network": lambda: PhaseSpaceNetwork(
        seeded(lambda: Smoothing(2, 2)), processes.psld(), shape=(1, 8, 8), label="time"
    ),
}

WALKS = {
    "decoupled": lambda: ti.walks.Decoupled(),
    "decoupled-average": lambda: ti.walks.Decoupled(error="average"),
    "decoupled-isotropic": lambda: ti.walks.Decoupled(error="isotropic"),
    "decoupled-memory": lambda: ti.walks.Decoupled(memory=1.0),
    "langevin": lambda: ti.walks.Langevin(),
    "particle": lambda: ti.walks.Particle(),
    "particle-wiener": lambda: ti.walks.Particle(path="wiener", correctors=1),
    "particle-flat": lambda: ti.walks.Particle(path="flat", threshold=0.9),
}
