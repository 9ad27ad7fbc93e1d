"""Numbers of one measurement's samples against the truth: quality, calibration, distance.

Perceptual: HaarPSI (Reisenhofer et al. 2018) as deepinv has it; of the metrics close to human
judgement it is one that needs no network weights, so it works offline.  LPIPS (Zhang et al. 2018)
beside it where torch's hub folder holds the AlexNet that it is defined with; nothing is downloaded.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from tweedie_inverse import operators as ops
from tweedie_inverse.conditional.problem import residual_chi_square
from tweedie_inverse.evaluation.calibration import crps, sliced_wasserstein
from tweedie_inverse.evaluation.metrics import psnr, ssim
from tweedie_inverse.solving.diagnostics import Diagnostics
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.stats import Stats

LEVEL = 0.9
# AlexNet halves the image five times, so that smaller images vanish in it.
_LPIPS_SMALLEST = 32


def evaluate(
    samples: Tensor, truth: Tensor, y: Tensor, operator: ops.Operator
) -> dict[str, float | list[int] | None]:
    """All metrics of ``(count, *shape)`` samples; None where one sample cannot have them."""
    assert operator.noise is not None
    count, mean = len(samples), samples.mean(0, keepdim=True)
    single, perceived = psnr(samples, truth), haarpsi(samples, truth)
    chi_square = residual_chi_square(samples, y.expand(count, *y.shape), operator, operator.noise)
    posterior = as_posterior(samples)
    found: dict[str, float | list[int] | None] = {
        "psnr_sample": float(single.mean()),
        "psnr_mean": float(psnr(mean, truth)),
        "psnr_best": float(single.max()),
        "ssim_sample": float(ssim(samples, truth).mean()),
        "ssim_mean": float(ssim(mean, truth)),
        "ssim_best": float(ssim(samples, truth).max()),
        "haarpsi_sample": float(perceived.mean()),
        "haarpsi_mean": float(haarpsi(mean, truth)),
        "crps": float(crps(posterior, truth)),
        "energy_score": float(energy_score(samples, truth)),
        "chi_square": float(chi_square.mean()),
        "coverage": None,
        "interval_width": None,
        "rank_histogram": None,
    }
    if (learned := lpips(torch.cat([samples, mean]), truth)) is not None:
        found["lpips_sample"], found["lpips_mean"] = float(learned[:-1].mean()), float(learned[-1])
    if count > 1:
        lower, upper = posterior.interval(LEVEL)
        found["coverage"] = float(((truth >= lower) & (truth <= upper)).double().mean())
        found["interval_width"] = float((upper - lower).mean())
        found["rank_histogram"] = rank_histogram(samples, truth).tolist()
    return found


def against_exact(samples: Tensor, exact: Tensor, exact_mean: Tensor) -> dict[str, float]:
    """Distances from exact draws ``(draws, *shape)`` of the posterior, whose mean is known.

    ``mean_error``: squared error of the mean over the posterior's variance, 1 / count for exact
    samples; ``variance_ratio``: of the summed variances; ``sliced_wasserstein`` in data units.
    """
    variance = float((exact - exact_mean).square().mean(0).sum())
    return {
        "mean_error": float((samples.mean(0) - exact_mean).square().sum()) / variance,
        "variance_ratio": float(samples.var(0).sum()) / variance if len(samples) > 1 else 0.0,
        "sliced_wasserstein": sliced_wasserstein(samples, exact),
    }


def packages() -> tuple[str, ...]:
    """The third-party packages that `evaluate` imports on this machine."""
    return ("deepinv", "torchmetrics") if _alexnet().is_file() else ("deepinv",)


def haarpsi(x: Tensor, truth: Tensor) -> Tensor:
    """Haar wavelet perceptual similarity, ``(count,)``; C = 30, alpha = 4.2; clipped to [0, 1]."""
    from deepinv.loss.metric import HaarPSI

    metric = HaarPSI(C=30.0, alpha=4.2)
    clipped = x.float().clamp(0, 1)
    return metric(clipped, truth.float().clamp(0, 1).expand_as(clipped).contiguous())


def lpips(x: Tensor, truth: Tensor) -> Tensor | None:
    """Learned perceptual distance with AlexNet, ``(count,)``; clipped to [0, 1], grey as RGB.

    None where its weights are missing, or the images are too small for it or have no colour to it.
    """
    small = min(x.shape[-2:]) < _LPIPS_SMALLEST
    if small or x.shape[1] not in (1, 3) or not _alexnet().is_file():
        return None
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

    shape = (len(x), 3, *x.shape[2:])
    clipped = x.float().clamp(0, 1).expand(shape)
    reference = truth.float().clamp(0, 1).expand(shape)
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # the network is built anew
        return learned_perceptual_image_patch_similarity(
            clipped, reference, net_type="alex", normalize=True, reduction="none"
        ).reshape(len(x))


def _alexnet() -> Path:
    """The file in which torchvision keeps the weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / "alexnet-owt-7be5be79.pth"


def energy_score(samples: Tensor, truth: Tensor) -> Tensor:
    """``(E|X - x| - E|X - X'| / 2) / sqrt(pixels)`` (Gneiting and Raftery 2007), fair estimate."""
    flat, count = samples.flatten(1).double(), len(samples)
    accuracy = (flat - truth.flatten().double()).norm(dim=1).mean()
    spread = torch.cdist(flat, flat).sum() / (2 * count * max(count - 1, 1))
    return (accuracy - spread) / math.sqrt(flat.shape[1])


def rank_histogram(samples: Tensor, truth: Tensor) -> Tensor:
    """How often the truth has each rank among the samples, ``(count + 1,)``, over the pixels."""
    rank = (samples < truth).sum(0)
    return rank.flatten().bincount(minlength=len(samples) + 1)


def unflatness(histogram: Tensor) -> float:
    """``sum |f_k - 1 / bins|`` (reliability index, Delle Monache et al. 2006): 0 flat, 2 worst."""
    share = histogram.double() / histogram.sum()
    return float((share - 1 / len(share)).abs().sum())


def as_posterior(samples: Tensor) -> Posterior:
    """Equally weighted samples ``(count, *shape)`` of one measurement."""
    nothing = samples.new_full((len(samples),), math.nan)
    count = samples.new_tensor(float(len(samples)))
    return Posterior(samples, Diagnostics(nothing, count), Stats("", "", 0, 0.0, 0.0, 0.0))
