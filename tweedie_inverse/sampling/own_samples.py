"""A denoising error without images: measured on the prior's own samples.

The samples of a perfect network are images, and the two measurements agree.  Those of a real one
lie where the network expects images to be, so that this estimate is on the small side;
docs/denoising-error.md says how much that costs.  Held-out images are better where there are any.
"""

from torch import Tensor

from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.error.denoising_error import DenoisingError, Transform
from tweedie_inverse.priors.error.measure import Form, measure_denoising_error
from tweedie_inverse.sampling.sampling import sample


def estimate_denoising_error(
    prior: Prior,
    num_samples: int = 256,
    *,
    steps: int = 60,
    sigmas: Tensor | None = None,
    levels: int = 24,
    transform: Transform = "cosine",
    form: Form = "full",
    batch_size: int = 64,
    seed: int = 0,
) -> DenoisingError:
    """`measure_denoising_error` on samples drawn from the prior by `walks.Heun`.

    Args:
        prior: any prior on images ``(channels, height, width)``; a correction that it may already
            apply is left out.
        num_samples: how many; see there for how many are needed.
        steps: network evaluations a sample.  Walks with noise need many more for the same
            accuracy: DDPM at 60 has up to a fifth too little variance on a smooth field.
        sigmas, levels, transform, form: as of `measure_denoising_error`.
        batch_size: images that are sampled and denoised together.
        seed: of the samples and of the measurement.

    The samples are drawn and measured on ``prior.device``.

    Cost: `steps` and `levels` network evaluations a sample.
    """
    images = sample(
        prior.uncorrected(),
        num_samples,
        recipe="heun",
        steps=steps,
        seed=seed,
        batch_size=batch_size,
    )
    return measure_denoising_error(
        prior,
        images,
        sigmas=sigmas,
        levels=levels,
        transform=transform,
        form=form,
        batch_size=batch_size,
        seed=seed,
    )
