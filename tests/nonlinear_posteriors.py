"""Nonlinear operators and other noise than Gaussian: posterior moments by long plain MCMC.

The moments are committed in `references/nonlinear.safetensors`, each with its measurement and its
standard errors.  ``python -m tests.nonlinear_posteriors`` makes them anew in a quarter of an hour;
a slow test makes them with fewer steps and other numbers, and compares.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.streams import Streams

FILE = Path(__file__).parent / "references" / "nonlinear.safetensors"
SIZE = 4
SHAPE = (1, SIZE, SIZE)


def positive_field() -> ti.priors.Gaussian:
    """The random field, brighter and smaller: mean 1, variance 0.04; rarely negative."""
    field = random_field(SIZE)
    spectrum = field.covariance.variance.reshape(SIZE, SIZE) * 0.16
    return ti.priors.Gaussian(torch.ones(SHAPE).double(), power_spectrum=spectrum)


class Square(ops.Operator):
    """A user's own nonlinear map: a blur, squared."""

    def __init__(self, noise):
        super().__init__(domain_shape=SHAPE, range_shape=SHAPE, noise=noise)
        self.blur = ops.Blur(ops.gaussian_kernel(0.7, 3), SHAPE)

    def forward(self, x):
        return self.blur.forward(x) ** 2


# Not drawn: with another salt, the references would be those of another operator.
CODES = torch.polar(
    torch.ones(2 * SIZE**2, dtype=torch.float64), torch.arange(2 * SIZE**2).double() ** 2
).reshape(2, SIZE, SIZE)
BLUR = ops.Blur(ops.gaussian_kernel(0.7, 3), SHAPE)
TOMOGRAPHY = ops.Tomography(SHAPE, angles=3)
CASES = {
    "phase-retrieval": lambda: ops.PhaseRetrieval(SHAPE, noise=ops.GaussianNoise(0.1)),
    "coded-diffraction": lambda: ops.PhaseRetrieval(
        SHAPE,
        oversampling=1,
        codes=CODES,
        intensity=True,
        noise=ops.GaussianNoise(0.3),
    ),
    "clipping": lambda: ops.Clipping(SHAPE, high=1.05, noise=ops.GaussianNoise(0.1)),
    "quantization": lambda: ops.Quantization(SHAPE, 0.5, noise=ops.GaussianNoise(0.2)),
    "transmission-counts": lambda: ops.Transmission(TOMOGRAPHY, 200.0, noise=ops.PoissonNoise(1.0)),
    "blur-few-counts": lambda: ops.compose(BLUR, noise=ops.PoissonNoise(0.3)),
    "blur-counts-and-readout": lambda: ops.compose(BLUR, noise=ops.PoissonGaussianNoise(0.1, 0.15)),
    "coarse-digits": lambda: ops.compose(
        BLUR, noise=ops.DigitizedNoise(0.1, step=0.25, low=0.0, high=1.0)
    ),
    "saturation": lambda: ops.compose(BLUR, noise=ops.DigitizedNoise(0.1, high=1.0)),
    "own-function": lambda: Square(ops.GaussianNoise(0.2)),
    "counts-and-a-photograph": lambda: ops.stack(
        ops.compose(BLUR, noise=ops.PoissonNoise(0.3)),
        ops.Downsampling(SHAPE, 2, noise=ops.GaussianNoise(0.05)),
    ),
}


class Reference(NamedTuple):
    """Moments of one posterior, flattened, float64, with the standard errors of the chains.

    Attributes:
        y: the measurement, ``(*range_shape)``.
        mean, mean_error: ``(n,)``.
        covariance, covariance_error: ``(n, n)``.
    """

    y: Tensor
    mean: Tensor
    mean_error: Tensor
    covariance: Tensor
    covariance_error: Tensor


def long_mcmc(
    prior: ti.priors.Gaussian,
    operator: ops.Operator,
    y: Tensor,
    *,
    chains: int,
    burn: int,
    keep: int,
    seed: int,
) -> Reference:
    """Preconditioned Crank-Nicolson (Cotter et al. 2013): nothing in common with what is tested.

    Only the prior's covariance and `log_prob` are used, no gradient.  The chains are independent,
    which gives the standard errors.
    """
    streams = Streams([("reference", seed, chain) for chain in range(chains)])
    like = torch.zeros((), dtype=torch.float64)

    def coloured():
        return prior.covariance.colour(streams.normal(SHAPE, like))

    def log_likelihood(offset):
        return operator.noise.log_prob(data, operator.forward(prior.mean + offset))

    data = y.expand(chains, *y.shape)
    offset = coloured()
    value, beta, kept = log_likelihood(offset), 0.6, []
    for step in range(burn + keep):
        tried = (1 - beta**2) ** 0.5 * offset + beta * coloured()
        found = log_likelihood(tried)
        level = torch.special.ndtr(streams.normal((1,), like)[:, 0]).log()
        accepted = level < found - value
        if step < burn:  # one width for all, while nothing is kept
            beta = min(1.0, max(0.02, beta * (1 + 0.1 * (float(accepted.double().mean()) - 0.3))))
        offset = torch.where(accepted.reshape(-1, 1, 1, 1), tried, offset)
        value = torch.where(accepted, found, value)
        if step >= burn and step % 20 == 0:
            kept.append((prior.mean + offset).flatten(1))
    return _moments(y, torch.stack(kept, dim=1))


def _moments(y: Tensor, draws: Tensor) -> Reference:
    """Of ``(chains, draws, n)``; a chain's own averages are one independent observation."""
    mean = draws.mean((0, 1))
    centred = draws - mean
    products = torch.einsum("cdi,cdj->cij", centred, centred) / draws.shape[1]
    root = len(draws) ** 0.5
    return Reference(
        y=y,
        mean=mean,
        mean_error=draws.mean(1).std(0) / root,
        covariance=products.mean(0),
        covariance_error=products.std(0) / root,
    )


def load_references() -> dict[str, Reference]:
    from safetensors.torch import load_file

    tensors = load_file(FILE)
    return {
        name: Reference(*(tensors[f"{name}.{field}"] for field in Reference._fields))
        for name in CASES
    }


def make_references() -> None:
    """Measure, run the chains and write the file."""
    from safetensors.torch import save_file

    prior, tensors = positive_field(), {}
    for name, build in CASES.items():
        operator = build()
        y = operator.measure(prior.draw(1, seed=3)[0], seed=5)
        found = long_mcmc(prior, operator, y, chains=400, burn=800, keep=6000, seed=0)
        for field, value in found._asdict().items():
            tensors[f"{name}.{field}"] = value.contiguous()
        print(name, flush=True)
    FILE.parent.mkdir(exist_ok=True)
    save_file(tensors, FILE)


if __name__ == "__main__":
    make_references()
