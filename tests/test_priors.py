"""Contract of every prior, exact denoisers, and networks in all six parameterizations."""

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.posteriors import prior_covariance, random_field
from tests.registry import PRIORS
from tweedie_inverse.numerics.covariance import Covariance, isotropic
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Cosines
from tweedie_inverse.priors.error.denoising_error import (
    basis_of,
    resample_cosines,
    resample_fourier,
)


@pytest.fixture(params=PRIORS)
def prior(request):
    return PRIORS[request.param]()


def test_shapes_dtypes_and_inputs(prior):
    x = normal((1,), (3, *prior.shape))
    for dtype in (torch.float32, torch.float64):
        given = x.to(dtype)
        before = given.clone()
        for sigma in (0.3, torch.tensor(0.3), torch.tensor([0.3, 0.3, 0.3])):
            denoised = prior.denoise(given, sigma)
            assert denoised.shape == given.shape
            assert denoised.dtype == dtype
        assert torch.equal(given, before)


def test_each_image_has_its_own_sigma(prior):
    x = normal((1,), (3, *prior.shape))
    sigmas = torch.tensor([0.1, 1.0, 5.0]).double()
    together = prior.denoise(x, sigmas)
    for image, sigma, denoised in zip(x, sigmas, together, strict=True):
        torch.testing.assert_close(prior.denoise(image[None], sigma)[0], denoised)
    with pytest.raises(ValueError, match="one value an image"):
        prior.denoise(x, torch.ones(2))


def test_score_is_tweedie(prior):
    x = normal((1,), (3, *prior.shape))
    score = (prior.denoise(x, 0.4) - x) / 0.4**2
    torch.testing.assert_close(prior.score(x, 0.4), score)


def test_denoiser_is_the_best_one(prior):
    """E[(x0 - D) x^T] = 0: a prior off by a factor of 2 in sigma fails (next test)."""
    clean = prior.draw(20000, seed=1).double()
    assert max(_orthogonality(prior, clean, sigma, sigma) for sigma in (0.2, 1.0)) < 5


def test_a_factor_of_two_in_sigma_is_seen(prior):
    clean = prior.draw(20000, seed=1).double()
    assert max(_orthogonality(prior, clean, s, 2 * s) for s in (0.2, 1.0)) > 10


def _orthogonality(prior, clean, sigma, told):
    """Largest z-score of the error against the input, pixel by pixel."""
    x = clean + sigma * normal((2,), clean.shape)
    product = ((clean - prior.denoise(x, told)) * (x - clean.mean(0))).flatten(1)
    return float((product.mean(0) / product.std(0) * len(x) ** 0.5).abs().max())


def test_denoising_error_is_the_covariance_of_the_error(prior):
    clean = prior.draw(20000, seed=3).double()
    for sigma in (0.2, 1.0):
        x = clean + sigma * normal((4,), clean.shape)
        measured = (clean - prior.denoise(x, sigma)).flatten(1).square().sum(1)
        units = torch.eye(clean[0].numel()).double().reshape(-1, *prior.shape)
        trace = prior.denoising_error(sigma).apply(units).flatten(1).diagonal().sum()
        # The mixtures' error is itself a Monte Carlo average over 2048 draws.
        z = (measured.mean() - trace) / (measured.std() * (1 / 20000 + 1 / 2048) ** 0.5)
        assert abs(float(z)) < 5


def test_exact_samples_have_the_prior_covariance():
    field = random_field(8)
    flat = field.draw(20000, seed=1).flatten(1)
    exact = prior_covariance(field)
    spread = (exact.diagonal()[:, None] * exact.diagonal() + exact**2).sqrt() / 20000**0.5
    assert float(((flat.mT @ flat / 20000 - exact) / spread).abs().max()) < 5.5


def test_bare_data_set_returns_its_points():
    data = normal((1,), (5, 1, 4, 4))
    prior = ti.priors.Empirical(data)
    torch.testing.assert_close(prior.denoise(data + 1e-3, 0.01), data)
    torch.testing.assert_close(prior.denoise(data, 1e4)[0], data.mean(0), rtol=1e-3, atol=1e-3)


def test_shape_mismatch_is_told():
    with pytest.raises(ValueError, match="images of shape"):
        random_field(8).for_shape((1, 16, 16))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ti.priors.Gaussian(torch.zeros(3)), "either covariance"),
        (lambda: ti.priors.Gaussian(torch.zeros(3), torch.eye(4)), r"shape \(3, 3\)"),
        (lambda: ti.priors.Gaussian(torch.zeros(2), -torch.eye(2)), "semidefinite"),
        (
            lambda: ti.priors.Gaussian(
                torch.zeros(1, 4, 4), power_spectrum=torch.arange(16.0).reshape(4, 4)
            ),
            "even",
        ),
        (lambda: ti.priors.GaussianMixture(torch.zeros(2, 3), torch.ones(3), 1.0), "weights"),
        (lambda: ti.priors.GaussianMixture(torch.zeros(2, 3), -torch.ones(2), 1.0), "positive"),
        (lambda: ti.priors.NetworkPrior(nn.Identity(), "noise", shape=(1,)), "choose one of"),
        (
            lambda: ti.priors.NetworkPrior(
                nn.Identity(), "epsilon", shape=(1,), timesteps=torch.tensor([2.0, 1.0])
            ),
            "increasing",
        ),
    ],
)
def test_bad_priors_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Exact(nn.Module):
    """What a perfect network for N(0.3, 0.8^2) data would return; knows nothing of adapters."""

    mean, std = 0.3, 0.8

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.dtype = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, given, label):
        label = label.reshape(-1, 1)
        if self.kind == "flow":  # label is t, input (1 - t) x0 + t n
            sigma = label / (1 - label)
            x = given * (1 + sigma)
        elif self.kind in ("epsilon", "v"):  # label is sigma, input variance-preserving
            sigma = label
            x = given * (1 + sigma**2).sqrt()
        elif self.kind == "edm":  # label is log(sigma) / 4, input of unit variance
            sigma = (4 * label).exp()
            x = given * (sigma**2 + 0.5**2).sqrt()
        else:
            sigma, x = label, given
        gain = self.std**2 / (self.std**2 + sigma**2)
        x0 = self.mean + gain * (x - self.mean)
        n = (x - x0) / sigma
        match self.kind:
            case "x0":
                return x0
            case "epsilon":
                return n
            case "score":
                return -n / sigma
            case "flow":
                return n - x0
            case "v":
                return (n - sigma * x0) / (1 + sigma**2).sqrt()
        total = sigma**2 + 0.5**2
        return (x0 - 0.25 / total * x) / (sigma * 0.5 / total.sqrt())


@pytest.mark.parametrize("kind", ["x0", "epsilon", "v", "score", "edm", "flow"])
def test_all_parameterizations_agree(kind):
    """Data on [10, 14], network on [-1, 1]: offset 12, scale 2."""
    prior = ti.priors.NetworkPrior(Exact(kind), kind, shape=(5,), offset=12.0, scale=2.0)
    reference = ti.priors.Gaussian(
        torch.full((5,), 12.0 + 2 * 0.3).double(), covariance=torch.eye(5) * (2 * 0.8) ** 2
    )
    x = 12 + 3 * normal((1,), (4, 5))
    for sigma in (0.01, 0.5, 7.0):
        torch.testing.assert_close(prior.denoise(x, sigma), reference.denoise(x, sigma))


@pytest.mark.parametrize("recipe", ["ddim", "ddpm", "heun"])
def test_all_parameterizations_sample_alike(recipe):
    """The same scores in any walk: samples and scores agree to rounding."""
    reference = ti.priors.Gaussian(torch.full((5,), 0.3).double(), covariance=torch.eye(5) * 0.64)
    grid = ti.schedules.karras(12, 0.01, 50.0)
    options = {"recipe": recipe, "schedule": grid, "dtype": torch.float64}
    expected = ti.sample(reference, 3, **options)
    for kind in ("x0", "epsilon", "v", "score", "edm", "flow"):
        prior = ti.priors.NetworkPrior(Exact(kind), kind, shape=(5,), centre=0.3)
        torch.testing.assert_close(ti.sample(prior, 3, **options), expected)
        torch.testing.assert_close(prior.score(expected, 0.7), reference.score(expected, 0.7))


def cosine_field():
    """A Gaussian field that is diagonal in the cosine basis, variances from 4 down to 0.04."""
    k = torch.arange(8).double()
    spectrum = 4 / (1 + k[:, None] ** 2 + k**2)
    field = ti.priors.Gaussian(torch.zeros(1, 8, 8).double(), power_spectrum=torch.ones(8, 8))
    field.covariance = Covariance(Cosines(), spectrum[None])
    return field


def test_measured_error_of_an_exact_prior_is_its_spectrum():
    """And an exact denoiser needs no correction."""
    field = cosine_field()
    levels = torch.tensor([0.05, 0.8, 20.0]).double()
    error = ti.measure_denoising_error(field, field.draw(4000, seed=2), sigmas=levels)
    for index, sigma in enumerate(levels.tolist()):
        ratio = error.at(sigma, (1, 8, 8)).variance / field.denoising_error(sigma).variance
        # 64 chi-squares of 4000: each scatters by 2.2 %.
        assert float((ratio - 1).abs().max()) < 5 * (2 / 4000) ** 0.5
        share = field.denoising_error(sigma).variance / sigma**2  # of noise kept, per frequency
        spread = (share / (1 - share)).sqrt() / 4000**0.5
        assert float((error.gain[index] / spread).abs().max()) < 5


def test_spectrum_reads_the_same_frequency_at_other_sizes():
    def log_spectrum(n):
        f = torch.arange(n).double() / n
        return (-3 * (f[:, None] + f))[None, None]

    torch.testing.assert_close(resample_cosines(log_spectrum(16), (16, 16)), log_spectrum(16))
    larger = resample_cosines(log_spectrum(16), (32, 48))
    f, g = torch.arange(32).double() / 32, torch.arange(48).double() / 48
    expected = -3 * (f[:, None].clamp(max=15 / 16) + g.clamp(max=15 / 16))
    torch.testing.assert_close(larger[0, 0], expected)


class Mistaken(ti.priors.Prior):
    """An exact denoiser spoiled by a known share of its input: D - 0.3 (x - D)."""

    def __init__(self, exact):
        self.exact, self.shape, self.centre = exact, exact.shape, exact.centre
        self.sigma_min, self.sigma_max = exact.sigma_min, exact.sigma_max

    def denoise(self, x, sigma):
        best = self.exact.denoise(x, sigma)
        return best - 0.3 * (x - best)

    def denoising_error(self, sigma):
        raise NotImplementedError


def test_measurement_finds_and_mends_a_denoiser_that_keeps_too_little():
    """D' = D - 0.3 (x - D) has x - D' = 1.3 (x - D): the gain 0.3 / 1.3 restores D."""
    field = cosine_field()
    images, sigma = field.draw(2000, seed=2), 0.8
    error = ti.measure_denoising_error(
        Mistaken(field), images, sigmas=torch.tensor([0.5 * sigma, sigma, 2 * sigma]).double()
    )
    assert float((error.gain - 0.3 / 1.3).abs().mean()) < 0.02
    x = field.draw(50, seed=9) + sigma * normal((7,), (50, 1, 8, 8))
    levels = torch.full((50,), sigma).double()
    mended = error.correct(x, Mistaken(field).denoise(x, sigma), levels)
    difference = float((mended - field.denoise(x, sigma)).square().mean())
    assert difference < 0.01 * float((field.denoise(x, sigma) - x).square().mean())
    ratio = error.at(sigma, (1, 8, 8)).variance / field.denoising_error(sigma).variance
    assert float(ratio.mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("transform", ["cosine", "fourier"])
@pytest.mark.parametrize("form", ["full", "separable", "radial"])
def test_every_form_of_spectrum_is_measured(transform, form):
    """White images: each form and transform must find the same flat spectrum."""
    white = ti.priors.Gaussian(torch.zeros(1, 8, 8).double(), power_spectrum=torch.ones(8, 8))
    levels = torch.tensor([0.5, 2.0]).double()
    error = ti.measure_denoising_error(
        white, white.draw(600, seed=3), sigmas=levels, transform=transform, form=form
    )
    exact = levels**2 / (1 + levels**2)
    ratio = error.variance / exact[:, None, None, None]
    # Standard deviations: one frequency, the product of a row and a column, a ring of frequencies.
    scatter = (2 / 600) ** 0.5 * {"full": 1.0, "separable": 0.5, "radial": 1.0}[form]
    assert float((ratio - 1).abs().max()) < 5 * scatter
    assert error.at(0.5, (1, 12, 10)).variance.shape == (1, 12, 10)
    assert error.transform == transform


def test_a_periodic_field_has_its_fourier_spectrum_and_reads_it_at_other_sizes():
    def spectrum(height, width):
        rows, columns = torch.fft.fftfreq(height).double(), torch.fft.fftfreq(width).double()
        return 0.1 + (-((rows[:, None] - 0.1) ** 2 + 3 * columns**2) / 0.08).exp()

    def even(height, width):  # of a real field: the same at opposite frequencies
        s = spectrum(height, width)
        return 0.5 * (s + s.flip(0, 1).roll((1, 1), (0, 1)))

    field = ti.priors.Gaussian(torch.zeros(1, 12, 10).double(), power_spectrum=even(12, 10))
    levels = torch.tensor([0.3, 3.0]).double()
    error = ti.measure_denoising_error(
        field, field.draw(3000, seed=2), sigmas=levels, transform="fourier"
    )
    exact = field.denoising_error(0.3).variance
    assert (
        float((error.at(0.3, (1, 12, 10)).variance / exact - 1).abs().max()) < 5 * (2 / 3000) ** 0.5
    )
    # Every other frequency of a doubled size is one of the old ones; the rest lie between.
    doubled = resample_fourier(even(12, 10)[None, None], (24, 20))[0, 0]
    torch.testing.assert_close(doubled[::2, ::2], even(12, 10))
    assert float((doubled - even(24, 20)).abs().max()) < 0.1


def test_the_fourier_basis_of_mixed_channels_is_orthonormal():
    basis = basis_of("fourier", torch.linalg.qr(normal((1,), (3, 3)))[0])
    x = normal((2,), (2, 3, 6, 5))
    torch.testing.assert_close(basis.inverse(basis.transform(x)), x)
    torch.testing.assert_close(basis.transform(x).norm(), x.norm())


def test_forms_and_transforms_are_refused_by_name():
    with pytest.raises(ValueError, match="'full', 'separable' or 'radial'"):
        ti.measure_denoising_error(cosine_field(), torch.zeros(2, 1, 8, 8), form="diagonal")


def test_an_exact_prior_knows_its_error_without_images():
    """Its samples are images, so that measuring on them finds the exact spectrum."""
    field = cosine_field()
    sigmas = torch.tensor([0.1, 0.8, 3.0]).double()
    error = ti.estimate_denoising_error(field, 1500, steps=60, sigmas=sigmas)
    for index, sigma in enumerate(sigmas.tolist()):
        ratio = error.variance[index] / field.denoising_error(sigma).variance
        # The sampler's own error at 60 steps is small beside this scatter.
        assert float((ratio - 1).abs().max()) < 5 * (2 / 1500) ** 0.5


def test_moments_of_a_prior_that_does_not_know_them():
    """From the denoising error at sigma_max; 50 standard deviations away that is nearly exact."""
    field = random_field(8)
    mean, covariance = ti.priors.base.Prior.moments(field)
    torch.testing.assert_close(mean, field.mean)
    expected = field.covariance.variance
    torch.testing.assert_close(covariance.variance, expected, rtol=1e-6, atol=0)
    assert float(isotropic(1.0).variance) == 1
