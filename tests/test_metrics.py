"""PSNR and SSIM against numbers from outside, and their units."""

import pytest
import torch

from tweedie_inverse.evaluation.metrics import psnr, ssim
from tweedie_inverse.numerics.random import normal

TRUTH = normal((1,), (3, 16, 16)).sigmoid()
IMAGES = TRUTH + 0.1 * normal((2,), (4, 3, 16, 16))


def test_psnr_by_hand():
    """An error of a tenth of the range everywhere is 20 dB."""
    assert float(psnr(TRUTH[None] + 0.1, TRUTH)) == pytest.approx(20)
    assert float(psnr(TRUTH[None] + 25.5, TRUTH, 255.0)) == pytest.approx(20)
    assert float(psnr(TRUTH[None], TRUTH)) == pytest.approx(200)


def test_ssim_is_that_of_torchmetrics_inside_the_image():
    from torchmetrics.functional.image import structural_similarity_index_measure

    reference = TRUTH.expand_as(IMAGES).contiguous()
    _, places = structural_similarity_index_measure(
        IMAGES, reference, data_range=1.0, return_full_image=True
    )
    expected = places[..., 5:-5, 5:-5].flatten(1).mean(1)  # without its reflected border
    torch.testing.assert_close(ssim(IMAGES, TRUTH), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_units_do_not_matter(metric):
    found = metric(2000 * IMAGES, 2000 * TRUTH, 2000.0)
    torch.testing.assert_close(found, metric(IMAGES, TRUTH))


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="win_size"):
        ssim(IMAGES[..., :8, :8], TRUTH[:, :8, :8])
