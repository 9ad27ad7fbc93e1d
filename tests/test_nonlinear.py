"""Nonlinear operators and noise that is not Gaussian, through `solve`, against long plain MCMC."""

import pytest
import torch
from torch import Tensor

import tweedie_inverse as ti
from tests.posteriors import Moments, agreement, random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import Streams

SIZE, COUNT = 4, 1000
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


BLUR = ops.Blur(ops.gaussian_kernel(0.7, 3), SHAPE)
TOMOGRAPHY = ops.Tomography(SHAPE, angles=3)
CASES = {
    "phase-retrieval": lambda: ops.PhaseRetrieval(SHAPE, noise=ops.GaussianNoise(0.1)),
    "coded-diffraction": lambda: ops.PhaseRetrieval(
        SHAPE,
        oversampling=1,
        codes=ops.random_codes(2, (SIZE, SIZE)),
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


def long_mcmc(prior, operator, y: Tensor, *, chains: int, burn: int, keep: int) -> Moments:
    """Preconditioned Crank-Nicolson (Cotter et al. 2013): nothing in common with what is tested.

    Only the prior's covariance and `log_prob` are used, no gradient.
    """
    streams = Streams([(77, chain) for chain in range(chains)])
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
            kept.append(offset)
    flat = (prior.mean + torch.cat(kept)).flatten(1)
    return Moments(flat.mean(0), flat.mT.cov())


@pytest.mark.parametrize("name", CASES)
def test_posterior_moments_agree_with_long_mcmc(name):
    prior, operator = positive_field(), CASES[name]()
    y = operator.measure(prior.draw(1, seed=3)[0], seed=5)
    posterior = ti.solve(y, operator, prior, num_samples=COUNT, steps=15, seed=1)
    assert posterior.stats.method == "decoupled"
    assert "Hamiltonian" in posterior.stats.reason
    exact = long_mcmc(prior, operator, y, chains=300, burn=500, keep=1500)
    found = agreement(posterior.samples, exact)
    print(name, found, float(exact.covariance.trace()) / 0.64)
    # 1,000 samples: a variance that is off by a quarter in any direction shows.
    assert found.worst_z < 5
