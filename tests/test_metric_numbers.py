"""Every metric of the suites on numbers that are worked out by hand, or taken from outside."""

import math
from statistics import fmean

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.harness import metrics
from tweedie_inverse.numerics.random import normal

SHAPE = (1, 16, 16)
FLAT = torch.full(SHAPE, 0.5, dtype=torch.float64)


def judged(offsets, *, truth=FLAT, y=None, operator=None):
    """All metrics of samples that are the truth plus a number each."""
    operator = operator or ops.Mask(torch.ones(SHAPE), noise=ops.GaussianNoise(0.2))
    samples = torch.stack([truth + offset for offset in offsets])
    return metrics.evaluate(samples, truth, truth if y is None else y, operator)


def test_psnr_of_a_sample_of_the_mean_and_of_the_best():
    """Errors of 0.1 and 0.3: 20 dB and 20 - 20 log10(3) dB; the mean is 0.1 away."""
    found = judged([0.1, -0.3])
    worse = 20 - 20 * math.log10(3)
    assert found["psnr_sample"] == pytest.approx((20 + worse) / 2)
    assert found["psnr_mean"] == pytest.approx(20)
    assert found["psnr_best"] == pytest.approx(20)


def test_ssim_of_flat_images_is_the_papers_luminance_term():
    """Wang et al. 2004, equation 6, with C1 = (0.01 L)^2 and L = 1."""
    terms = [(2 * a * 0.5 + 1e-4) / (a**2 + 0.5**2 + 1e-4) for a in (0.6, 0.2, 0.4)]
    found = judged([0.1, -0.3])
    assert found["ssim_sample"] == pytest.approx(fmean(terms[:2]))
    assert found["ssim_mean"] == pytest.approx(terms[2])
    assert found["ssim_best"] == pytest.approx(terms[0])


def test_ssim_is_that_of_scikit_image():
    from skimage.metrics import structural_similarity

    truth = 0.5 + 0.2 * normal((1,), (3, 24, 20))
    samples = truth + 0.1 * normal((2,), (4, 3, 24, 20))
    for mine, x in zip(metrics.ssim(samples, truth), samples, strict=True):
        theirs = structural_similarity(
            x.numpy(),
            truth.numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert float(mine) == pytest.approx(theirs, rel=1e-9)


def haarpsi(a, b):
    """Reisenhofer et al. 2018, section 2, of grey images in [0, 1]: C = 30, alpha = 4.2."""

    def convolved(image, filter_):
        """The middle of the full convolution, where Matlab's ``same`` has it."""
        first = len(filter_) // 2
        whole = convolve2d(image, filter_)
        return whole[first : first + image.shape[0], first : first + image.shape[1]]

    def halved(image):
        return convolved(255 * image, np.full((2, 2), 0.25))[::2, ::2]

    def coefficients(image, scale, axis):
        size = 2**scale
        filter_ = np.full((size, size), 2.0**-scale)
        filter_[: size // 2] *= -1
        return np.abs(convolved(image, filter_ if axis == 0 else filter_.T))

    a, b = halved(a), halved(b)
    similarity, weight = [], []
    for axis in (0, 1):
        (fine_a, mid_a, coarse_a), (fine_b, mid_b, coarse_b) = (
            [coefficients(image, scale, axis) for scale in (1, 2, 3)] for image in (a, b)
        )
        terms = [
            (2 * p * q + 30) / (p**2 + q**2 + 30) for p, q in ((fine_a, fine_b), (mid_a, mid_b))
        ]
        similarity.append(1 / (1 + np.exp(-4.2 * (terms[0] + terms[1]) / 2)))
        weight.append(np.maximum(coarse_a, coarse_b))
    mean = (np.array(similarity) * weight).sum() / np.array(weight).sum()
    return float((np.log(mean / (1 - mean)) / 4.2) ** 2)


def test_haarpsi_is_the_papers_formula():
    truth = (0.5 + 0.15 * normal((3,), (1, 32, 32))).clamp(0, 1)
    samples = (truth + 0.1 * normal((4,), (3, 1, 32, 32))).clamp(0, 1)
    expected = [haarpsi(x[0].numpy(), truth[0].numpy()) for x in samples]
    assert metrics.haarpsi(samples, truth).tolist() == pytest.approx(expected, abs=1e-4)
    assert max(expected) < 0.9


def test_crps_and_energy_score_of_three_samples():
    """Offsets 0, 1 and 3 of one value that is 2: 4/3 - 2 / 2, the fair estimate."""
    found = judged([-2.0, -1.0, 1.0])
    assert found["crps"] == pytest.approx(4 / 3 - 1)
    # All pixels alike: distances are sqrt(pixels) times those of one, which the score divides by.
    assert found["energy_score"] == pytest.approx(4 / 3 - 1)


def test_the_energy_score_is_of_the_whole_image():
    """(0, 0), (3, 4), (0, 4) about (0, 0): (0 + 5 + 4) / 3 - (5 + 4 + 3) / 3 / 2, over sqrt(2)."""
    samples = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]])[:, None, None]
    found = metrics.energy_score(samples, torch.zeros(1, 1, 2))
    assert float(found) == pytest.approx((3 - 2) / math.sqrt(2))


def test_chi_square_is_of_the_seen_pixels_and_of_all_samples():
    """Residuals of 0.1 and 0.3 over a noise of 0.2, where the mask is 1: (0.25 + 2.25) / 2."""
    mask = torch.zeros(SHAPE, dtype=torch.float64)
    mask[..., ::3] = 1
    operator = ops.Mask(mask, noise=ops.GaussianNoise(0.2))
    found = judged([0.1, -0.3], y=mask * FLAT, operator=operator)
    assert found["chi_square"] == pytest.approx((0.25 + 2.25) / 2)
    assert judged([0.0], y=mask * (FLAT + 0.4), operator=operator)["chi_square"] == pytest.approx(4)


def test_the_interval_of_many_samples_lies_between_order_statistics():
    """Ranks 2 and 38 of 39 samples: each tail holds 2 of 40 gaps, a twentieth."""
    truth = torch.linspace(-25, 30, 256, dtype=torch.float64).reshape(SHAPE)
    samples = torch.linspace(-19.0, 19.0, 39, dtype=torch.float64).reshape(-1, 1, 1, 1)
    operator = ops.Mask(torch.ones(SHAPE), noise=ops.GaussianNoise(1.0))
    found = metrics.evaluate(samples.expand(39, *SHAPE), truth, truth, operator)
    assert found["interval_width"] == pytest.approx(18 + 18)
    inside = (truth >= -18) & (truth <= 18)
    assert found["coverage"] == pytest.approx(float(inside.double().mean()))


def test_the_interval_of_few_samples_is_students():
    """Offsets -1, 1 and 0: mean 0, std 1; t of 2 degrees of freedom is 2.919986 at 0.95."""
    reach = 2.919986 * math.sqrt(1 + 1 / 3)
    truth = torch.zeros(SHAPE, dtype=torch.float64)
    truth[..., :4], truth[..., 4:8] = 0.999 * reach, -1.001 * reach
    operator = ops.Mask(torch.ones(SHAPE), noise=ops.GaussianNoise(1.0))
    samples = torch.tensor([-1.0, 1.0, 0.0], dtype=torch.float64).reshape(3, 1, 1, 1)
    found = metrics.evaluate(samples.expand(3, *SHAPE), truth, truth, operator)
    assert found["interval_width"] == pytest.approx(2 * reach, rel=1e-6)
    assert found["coverage"] == pytest.approx(0.75)


def test_ranks_count_the_samples_below_the_truth():
    truth = torch.tensor([[[0.5, 2.5, 9.0, 8.0, 1.5]]])
    samples = torch.tensor([3.0, 1.0, 2.0]).reshape(3, 1, 1, 1).expand(3, 1, 1, 5)
    assert metrics.rank_histogram(samples, truth).tolist() == [1, 1, 1, 2]
    found = judged([0.1, 0.2, -0.1])
    assert found["rank_histogram"] == [0, 256, 0, 0]


def test_unflatness_is_the_reliability_index():
    """Delle Monache et al. 2006: shares 3/4, 1/4, 0, 0 about 1/4."""
    assert metrics.unflatness(torch.tensor([3, 1, 0, 0])) == pytest.approx(1)
    assert metrics.unflatness(torch.tensor([0, 0, 7])) == pytest.approx(4 / 3)
    assert metrics.unflatness(torch.tensor([5, 5])) == 0


def test_distances_from_exact_draws():
    """Exact values 1 and -3 about a mean of -1, in each of two pixels: variance 4 + 4."""
    exact = torch.tensor([[1.0, 1.0], [-3.0, -3.0]]).reshape(2, 1, 1, 2)
    samples = torch.tensor([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]]).reshape(3, 1, 1, 2)
    found = metrics.against_exact(samples, exact, torch.full((1, 1, 2), -1.0))
    assert found["mean_error"] == pytest.approx((3**2 + 3**2) / 8)  # a mean of 2 in each pixel
    assert found["variance_ratio"] == pytest.approx((4 + 4) / 8)
    # On a line every direction is the same: 1 and -3 become 0, 2 and 4 at thirds and halves.
    line = metrics.against_exact(samples[..., :1], exact[..., :1], torch.full((1, 1, 1), -1.0))
    moved = 3 / 3 + 5 / 6 + 1 / 6 + 3 / 3
    assert line["sliced_wasserstein"] == pytest.approx(moved)


def test_a_point_estimate_has_no_spread():
    found = judged([0.25])
    assert found["crps"] == pytest.approx(0.25)  # its absolute error
    assert found["energy_score"] == pytest.approx(0.25)
    names = ("coverage", "interval_width", "rank_histogram")
    assert [found[name] for name in names] == [None] * 3
