"""The covariance of a denoising error around an image: larger where the image has edges."""

import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Cosines
from tweedie_inverse.priors.error.denoising_error import DenoisingError
from tweedie_inverse.priors.error.local_error import LocalError, contrast_of

SHAPE = (1, 12, 12)
# So large that the linear correction has nothing to go by.
SIGMAS = torch.tensor([50.0, 100.0]).double()


class Pattern(ti.priors.Prior):
    """Always the same image, contrasted on its right half."""

    shape, sigma_min, sigma_max = SHAPE, 50.0, 100.0

    def __init__(self):
        self.image = torch.zeros(SHAPE)
        self.image[..., 6:] = (torch.arange(12)[:, None] + torch.arange(6)) % 2

    def denoise(self, x, sigma):
        return self.image.to(x).expand_as(x)

    def denoising_error(self, sigma):
        raise NotImplementedError


def images_with_error(deviation, count=3000):
    """`Pattern` plus white errors of that standard deviation ``(count or 1, *SHAPE)``."""
    return Pattern().image + deviation * normal((1,), (count, *SHAPE))


def halves():
    """Standard deviation 0.1 where the image is flat, 1 where it is contrasted."""
    deviation = torch.full(SHAPE, 0.1)
    deviation[..., 6:] = 1.0
    return deviation


def variance_of(covariance, count):
    """Variance of every pixel, ``(count, *SHAPE)``, from the covariance's own columns."""
    units = torch.eye(144).double().reshape(144, *SHAPE)
    rows = [
        covariance_of(covariance, index).factor_transposed(units).flatten(1).square().sum(1)
        for index in range(count)
    ]
    return torch.stack(rows).reshape(count, *SHAPE)


def covariance_of(covariance, index):
    return Covariance(covariance.basis, covariance.variance, covariance.scale[index])


def mean_spectrum(covariance):
    """Variances of the coefficients, the scale taken at its mean square."""
    return covariance.variance * covariance.scale.square().mean(dim=(-2, -1), keepdim=True)


def test_the_error_follows_the_contrast_of_the_image():
    error = ti.measure_denoising_error(Pattern(), images_with_error(halves()), sigmas=SIGMAS)
    seen = Pattern().image.double()[None]
    variance = variance_of(error.around(seen, 50.0), 1)[0]
    # Away from the border between the halves, which the window sees from both sides.
    assert variance[..., :3].mean() == pytest.approx(0.01, rel=0.1)
    assert variance[..., 9:].mean() == pytest.approx(1.0, rel=0.1)
    # Of the mirrored image the other half is uncertain.
    mirrored = variance_of(error.around(seen.flip(-1), 50.0), 1)[0]
    torch.testing.assert_close(mirrored.flip(-1), variance, rtol=0.1, atol=1e-3)
    average = error.at(50.0, SHAPE)
    assert float(average.variance.mean()) == pytest.approx(0.505, rel=0.05)


def test_what_the_denoiser_knows_everywhere_stays_known():
    """An error at edges only, but of fine frequencies only: modulation adds no coarse ones."""
    deviation = halves().double()
    white = normal((1,), (3000, *SHAPE)).double()
    basis = Cosines()
    fine = torch.ones(SHAPE).double()
    fine[..., :4, :4] = 1e-3
    images = Pattern().image + basis.inverse(fine * basis.transform(deviation * white)).float()
    error = ti.measure_denoising_error(Pattern(), images, sigmas=SIGMAS)
    around = error.around(Pattern().image.double()[None], 50.0)
    assert float(around.scale.amax() / around.scale.amin()) > 5
    drawn = basis.transform(around.colour(normal((2,), (3000, *SHAPE)).double()))
    seen = basis.transform(images.double() - Pattern().image)
    ratio = drawn.var(0) / seen.var(0)
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0.5, atol=0)
    assert float(ratio.mean()) == pytest.approx(1, rel=0.1)


def test_a_stationary_gaussian_error_is_the_same_everywhere():
    """Contrast tells nothing then: the covariance around any image is the average."""
    deviation = torch.tensor(0.5)
    images = images_with_error(deviation)
    error = ti.measure_denoising_error(Pattern(), images, sigmas=SIGMAS)
    around = error.around(images[:4].double(), 70.0)
    spectrum = mean_spectrum(around)
    torch.testing.assert_close(spectrum, torch.full_like(spectrum, 0.25), rtol=0.15, atol=0)
    assert float(around.scale.std() / around.scale.mean()) < 0.03


def test_rare_errors_among_equal_places_raise_the_variance():
    """Half of the images are known: at a unit of error energy, twice the average variance."""
    deviation = 0.2 * (torch.arange(3000) % 2)[:, None, None, None]
    error = ti.measure_denoising_error(Pattern(), images_with_error(deviation), sigmas=SIGMAS)
    around, average = error.around(Pattern().image[None], 50.0), error.at(50.0, SHAPE)
    ratio = mean_spectrum(around).mean() / average.variance.mean()
    assert float(ratio) == pytest.approx(2, rel=0.1)


def tabulated(*variances):
    """Errors of these variances at two levels, whatever the contrast."""
    variance = torch.tensor(variances)[:, None, None, None].expand(2, *SHAPE).double()
    local = LocalError.same_everywhere(torch.ones(2).double())
    return DenoisingError(
        SIGMAS, variance, torch.zeros(2, *SHAPE).double(), local, torch.eye(1).double()
    )


@pytest.mark.parametrize(
    ("sigma", "variance"), [(5000**0.5, 800.0), (50.0, 400.0), (25.0, 100.0), (200.0, 1600.0)]
)
def test_variances_are_interpolated_in_log_sigma(sigma, variance):
    """And scaled like sigma^2 below the first level, constant above the last."""
    around = tabulated(400.0, 1600.0).around(Pattern().image[None], sigma)
    expected = torch.full((1, *SHAPE), variance).double()
    torch.testing.assert_close(variance_of(around, 1), expected, rtol=1e-5, atol=0)


def test_no_place_varies_more_than_the_noise():
    around = tabulated(1e4, 1e4).around(Pattern().image[None], 60.0)
    expected = torch.full((1, *SHAPE), 3600.0).double()
    torch.testing.assert_close(variance_of(around, 1), expected, rtol=1e-5, atol=0)


def test_contrast_is_the_variance_in_a_window():
    slope = torch.arange(16.0).expand(1, 1, 16, 16)
    weights = torch.exp(-0.5 * torch.arange(-3.0, 4.0).square())
    expected = (weights * torch.arange(-3.0, 4.0).square()).sum() / weights.sum()
    inner = contrast_of(0.1 * slope)[..., 4:-4, 4:-4]
    torch.testing.assert_close(inner.exp(), (0.01 * expected).expand_as(inner), rtol=1e-3, atol=0)
    # A flat image has next to none, whatever its level.
    assert float(contrast_of(torch.full((1, 1, 8, 8), 0.7)).max()) < -12
