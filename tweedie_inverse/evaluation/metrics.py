"""How close images are to the truth: PSNR, and structural similarity as scikit-image has it."""

import torch
from torch import Tensor

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
