"""How close images are to the truth: PSNR, and structural similarity as scikit-image has it."""

from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import positive
from tweedie_inverse.boundary.arrays import real_tensor, truth_tensor

# Equal images would have an infinite PSNR; this is 200 dB.
_SMALLEST = 1e-20


def psnr(images: Tensor, truth: Tensor, data_range: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio, ``10 log10(data_range^2 / mean squared error)``, in dB.

    Args:
        images: ``(count, *shape)``.
        truth: like `images`, or ``(*shape)``.
        data_range: largest possible value less the smallest one.

    Returns:
        ``(count,)``.
    """
    images, truth = _pair("psnr", images, truth)
    data_range = positive("psnr", "data_range", data_range)
    squares = ((images - truth) / data_range).square().flatten(1).mean(1)
    return -10 * squares.clamp(min=_SMALLEST).log10()


def ssim(images: Tensor, truth: Tensor, data_range: float = 1.0) -> Tensor:
    """Structural similarity (Wang et al. 2004), averaged over channels and pixels.

    With the paper's Gaussian window of 1.5 pixels (11 x 11), where it lies inside the image.

    Args:
        images: ``(count, channels, height, width)``.
        truth: like `images`, or ``(channels, height, width)``.
        data_range: largest possible value less the smallest one.

    Returns:
        ``(count,)``, like `images`.

    Raises:
        ValueError: images smaller than the window.
    """
    from skimage.metrics import structural_similarity

    images, truth = _pair("ssim", images, truth)
    data_range = positive("ssim", "data_range", data_range)
    both = torch.broadcast_tensors(images.detach().double(), truth.detach().double())
    pairs = zip(*(batch.cpu().numpy() for batch in both), strict=True)
    found = [
        structural_similarity(
            a,
            b,
            channel_axis=0,
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in pairs
    ]
    return torch.tensor(found).to(images)


def _pair(caller: str, images: Any, truth: Any) -> tuple[Tensor, Tensor]:
    """Images and their truth as tensors: the same shape, or one truth for all of them."""
    images = real_tensor(caller, "images", images, finite=False)
    truth = truth_tensor(caller, truth, images.shape[1:], finite=False)
    if images.ndim < 2 or truth.shape not in (images.shape, images.shape[1:]):
        raise ValueError(
            f"{caller}: needs images (count, *shape) and a truth like them or (*shape), got "
            f"{tuple(images.shape)} and {tuple(truth.shape)}"
        )
    return images, truth
