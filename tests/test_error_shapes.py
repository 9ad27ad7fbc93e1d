"""The denoising error of vectors, signals and volumes: measured, and right in a walk."""

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.posteriors import agreement, gaussian_posterior, prior_covariance
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Cosines, Fourier
from tweedie_inverse.priors.error.denoising_error import resample_cosines, resample_fourier
from tweedie_inverse.priors.formats.own_files import error_in, tensors_of

VOLUME = (1, 4, 6, 5)
COUNT = 400


class Exact(nn.Module):
    """The denoiser of another prior, as a network."""

    def __init__(self, prior):
        super().__init__()
        self.prior = prior

    def forward(self, x, sigma):
        return self.prior.denoise(x, sigma)


def network_of(exact):
    prior = ti.priors.NetworkPrior(
        Exact(exact), "x0", shape=exact.shape, sigma_min=exact.sigma_min, sigma_max=exact.sigma_max
    )
    prior.centre = exact.centre
    return prior


def vectors(n=12):
    """Correlated, of standard deviations from 0.1 to 3 along no coordinate, and of any mean."""
    axes = torch.linalg.qr(normal((1,), (n, n)))[0]
    covariance = axes @ torch.logspace(-2, 1, n).double().diag() @ axes.mT
    return ti.priors.Gaussian(torch.linspace(-1, 1, n).double(), covariance=covariance)


def field(shape, basis):
    """A Gaussian that is diagonal in a basis of its trailing axes; variances from 4 to 0.04."""
    f = torch.meshgrid(
        *(torch.fft.fftfreq(n).double() if isinstance(basis, Fourier) else torch.arange(n) / (2 * n)
          for n in shape[1:]),
        indexing="ij",
    )  # fmt: skip
    spectrum = 4 / (1 + 100 * sum(part**2 for part in f))
    size = torch.Size(shape).numel()
    units = torch.eye(size).double().reshape(size, *shape)
    dense = Covariance(basis, spectrum.double().expand(shape)).apply(units).reshape(size, size)
    return ti.priors.Gaussian(torch.zeros(shape).double(), covariance=dense)


EXACT = {
    "vectors": (vectors, {}),
    "volumes": (lambda: field(VOLUME, Cosines(axes=3)), {}),
    "periodic": (lambda: field(VOLUME, Fourier(axes=3)), {"transform": "fourier"}),
    "radial": (lambda: field(VOLUME, Cosines(axes=3)), {"form": "radial"}),
    "signals": (lambda: field((1, 20), Cosines(axes=1)), {}),
}


@pytest.mark.parametrize("walk", ["decoupled", "particle"])
@pytest.mark.parametrize("name", EXACT)
def test_gaussians_are_solved_with_a_measured_error(name, walk):
    """The mean and covariance of the posterior, as far as walk and table have enough samples.

    A table of as many images as there are samples doubles the variance of both.
    """
    make, settings = EXACT[name]
    exact = make()
    size = torch.Size(exact.shape).numel()
    network = network_of(exact)
    error = ti.measure_denoising_error(network, exact.draw(COUNT, seed=2), levels=16, **settings)
    operator = ops.LinearOperator.from_function(
        lambda x: x.flatten(1)[:, : size // 2], exact.shape, noise=ops.GaussianNoise(0.3)
    )
    y = operator.measure(exact.draw(1, seed=3)[0], seed=5)
    method = ti.walks.Decoupled(error="measured") if walk == "decoupled" else "particle"
    found = ti.solve(
        y, operator, network.with_error(error), method=method, num_samples=COUNT, steps=20, seed=1
    )
    posterior = gaussian_posterior(exact, operator, y, 0.3)
    assert agreement(found.samples, posterior).worst_z < 5 * 2**0.5


@pytest.mark.parametrize("name", ["vectors", "volumes", "periodic", "signals"])
def test_moments_are_those_of_the_data(name):
    """Along the exact principal axes, within what as many images can tell."""
    make, settings = EXACT[name]
    exact = make()
    network = network_of(exact)
    error = ti.measure_denoising_error(network, exact.draw(COUNT, seed=2), levels=4, **settings)
    mean, covariance = network.with_error(error).moments()
    torch.testing.assert_close(mean, exact.mean)
    variances, axes = torch.linalg.eigh(prior_covariance(exact))
    along = covariance.factor_transposed(axes.mT.reshape(-1, *exact.shape)).flatten(1)
    z = (along.square().sum(1) / variances - 1) / (2 / COUNT) ** 0.5
    assert float(z.abs().max()) < 5


def test_axes_of_few_vectors_claim_neither_too_much_nor_too_little():
    """40 vectors of 60 numbers, all of variance 1: the axes of the same 40 would say 0 for 21."""
    white = ti.priors.Gaussian(torch.zeros(60).double(), covariance=torch.eye(60).double())
    levels = torch.tensor([1.0, 50.0]).double()
    error = ti.measure_denoising_error(white, white.draw(40, seed=1), sigmas=levels)
    ratio = error.at(50.0, (60,)).variance
    assert float(((ratio - 1) / (2 / 40) ** 0.5).abs().max()) < 5
    assert float(ratio.min()) > 0.1


@pytest.mark.parametrize("form", ["full", "separable", "radial"])
@pytest.mark.parametrize("shape", [(5,), (2, 7), (2, 3, 4, 5), (1, 2, 3, 2, 4)])
def test_any_shape_is_measured_corrected_and_written(shape, form):
    """A denoiser that removes too much, D - 0.3 (x - D), is mended, whatever the shape."""
    white = ti.priors.Gaussian(
        torch.zeros(shape).double(), covariance=torch.eye(torch.Size(shape).numel()).double()
    )
    sigmas = torch.tensor([0.5, 2.0]).double()
    network = network_of(white)
    network.module.forward = lambda x, sigma: 1.3 * white.denoise(x, sigma) - 0.3 * x
    error = ti.measure_denoising_error(network, white.draw(500, seed=1), sigmas=sigmas, form=form)
    assert error.variance.shape == error.gain.shape == (2, *shape)
    exact = (sigmas**2 / (1 + sigmas**2)).reshape(-1, *[1] * len(shape))
    assert float((error.variance / exact - 1).abs().max()) < 5 * (2 / 500) ** 0.5
    x, mended = white.draw(4, seed=3), network.with_error(error)
    wrong, right = network.denoise(x, 2.0), white.denoise(x, 2.0)
    assert float((mended.denoise(x, 2.0) - right).norm() / (wrong - right).norm()) < 0.3
    around = mended.conditional_covariance(0.5, right)
    assert around.is_diagonal_for(shape)
    assert torch.equal(around.variance, error.at(0.5, shape).variance)
    again = error_in(tensors_of(nn.Identity(), error), "cosine")
    torch.testing.assert_close(
        again.at(0.7, shape).apply(x), error.at(0.7, shape).apply(x), rtol=1e-2, atol=1e-3
    )


def test_an_error_is_for_its_own_channels_and_axes():
    exact = vectors(5)
    error = ti.measure_denoising_error(exact, exact.draw(20, seed=1), levels=3)
    for shape in ((4,), (5, 1), (1, 5, 5)):
        with pytest.raises(ValueError, match="was measured for shape"):
            error.at(0.5, shape)


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("shape", [(), (4,), (5, 1)])
def test_images_of_another_shape_are_refused(shape, count):
    with pytest.raises(ValueError, match=r"shape \(count, 5\)"):
        ti.measure_denoising_error(vectors(5), torch.zeros(count, *shape))


def test_long_vectors_keep_their_coordinates():
    class Halves(ti.priors.Prior):
        shape, sigma_min, sigma_max = (1500,), 0.1, 1.0

        def denoise(self, x, sigma):
            return x / (1 + sigma**2)

        def denoising_error(self, sigma):
            raise NotImplementedError

    error = ti.measure_denoising_error(Halves(), normal((1,), (20, 1500)), levels=2)
    assert error.mixing.shape == (1, 1)
    x = normal((2,), (3, 1500))
    covariance = error.at(0.3, (1500,))
    torch.testing.assert_close(covariance.apply(x), covariance.variance * x)


def test_an_exact_prior_of_vectors_knows_its_error_without_any():
    exact = vectors(4)
    sigmas = torch.tensor([0.3, 3.0]).double()
    error = ti.estimate_denoising_error(exact, 500, steps=40, sigmas=sigmas)
    variances, axes = torch.linalg.eigh(prior_covariance(exact))
    for sigma in (0.3, 3.0):
        along = error.at(sigma, (4,)).factor_transposed(axes.mT).square().sum(1)
        exactly = variances * sigma**2 / (variances + sigma**2)
        assert float(((along / exactly - 1) / (2 / 500) ** 0.5).abs().max()) < 5


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_cosines_of_any_number_of_axes_are_cosines_along_each(axes):
    x = normal((1,), (2, 3, *(4, 6, 5)[:axes]))
    for basis in (Cosines(torch.linalg.qr(normal((2,), (3, 3)))[0], axes), Fourier(axes)):
        torch.testing.assert_close(basis.inverse(basis.transform(x)), x)
        torch.testing.assert_close(basis.transform(x).norm(), x.norm())
        flat = torch.ones_like(x).double()
        assert basis.smooth(flat).shape == x.shape
    torch.testing.assert_close(Cosines(axes=axes).smooth(flat), flat)  # an average of ones
    waves = torch.cos(torch.pi / x.shape[-1] * 2 * (torch.arange(x.shape[-1]) + 0.5)).double()
    seen = Cosines(axes=axes).transform(waves.expand_as(x).contiguous())
    place = (0, 0, *[0] * (axes - 1), 2)
    assert abs(float(seen[place])) == pytest.approx(float(seen[0, 0].norm()))


@pytest.mark.parametrize("resample", [resample_cosines, resample_fourier])
def test_volumes_of_other_sizes_read_the_same_frequency(resample):
    def even(*size):
        read = resample is resample_fourier
        f = [torch.fft.fftfreq(n).double().abs() if read else torch.arange(n) / (2 * n)
             for n in size]  # fmt: skip
        grids = torch.meshgrid(*f, indexing="ij")
        return sum(a * part for a, part in zip((1, 2, 3), grids, strict=True))[None, None].double()

    found = resample(even(4, 6, 8), (8, 12, 16))
    torch.testing.assert_close(found[..., ::2, ::2, ::2], even(4, 6, 8))
    inner = (..., slice(4), slice(6), slice(8))
    torch.testing.assert_close(found[inner], even(8, 12, 16)[inner], atol=0.05, rtol=0.2)
