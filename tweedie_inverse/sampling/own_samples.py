"""A denoising error without images: measured on the prior's own samples.

The samples of a perfect network are images, and the two measurements agree.  Those of a real one
lie where the network expects images to be, so that this estimate is on the small side;
docs/denoising-error.md says how much that costs.  Held-out images are better where there are any.
"""

import warnings

from torch import Tensor

from tweedie_inverse.boundary.arguments import count
from tweedie_inverse.priors.error.credible import doubts_about_samples
from tweedie_inverse.priors.error.denoising_error import DenoisingError, Transform
from tweedie_inverse.priors.error.forms import Form
from tweedie_inverse.priors.error.measure import Settings, measured, noise_levels
from tweedie_inverse.priors.named import PriorLike, prior_of
from tweedie_inverse.sampling.sampling import sample


def estimate_denoising_error(
    prior: PriorLike,
    num_samples: int = 256,
    *,
    steps: int = 60,
    sigmas: Tensor | None = None,
    levels: int = 24,
    transform: Transform = "cosine",
    form: Form = "full",
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> DenoisingError:
    """`measure_denoising_error` on samples drawn from the prior by `walks.Heun`.

    Args:
        prior: any prior, on images, volumes or vectors; a correction that it may already apply is
            left out.
        num_samples: how many; see there for how many are needed.
        steps: network evaluations a sample.  Walks with noise need many more for the same
            accuracy: DDPM at 60 has up to a fifth too little variance on a smooth field.
        sigmas, levels, transform, form: as of `measure_denoising_error`.
        batch_size: images that are sampled and denoised together.
        seed: of the samples and of the measurement.
        progress: show progress bars.

    The samples are drawn and measured on ``prior.device``.

    Warns (`RuntimeWarning`) where the samples are not like the prior's data, which makes the error
    worthless: they lie far outside ``prior.value_range`` or are all alike (or, where no range is
    known, lie further than ten times ``prior.unit`` from ``prior.centre``), the denoiser changes
    them by more than the noise at the smallest level, or its error is larger than they differ.

    Raises:
        TypeError, ValueError: wrong arguments, before any evaluation; a denoiser that answers NaN.
        WalkDivergedError: the samples became NaN or infinite.

    Cost: `steps` and `levels` network evaluations a sample.
    """
    caller = "estimate_denoising_error"
    prior = prior_of(caller, prior)
    sigmas = noise_levels(caller, prior, sigmas, levels)
    settings = Settings.of(caller, sigmas, transform, form, batch_size, seed, progress)
    num_samples = count(caller, "num_samples", num_samples)
    images = sample(
        prior.uncorrected(),
        num_samples,
        recipe="heun",
        steps=steps,
        seed=settings.seed,
        batch_size=settings.batch_size,
        progress=settings.progress,
    )
    found = measured(prior, images, settings)
    doubts = [*doubts_about_samples(prior, images), *found.doubts]
    if doubts:
        advice = (
            "The error measured on these samples misleads: take more steps if they are few, "
            "measure on images (ti.measure_denoising_error), or leave it to the walk (prior.error "
            "= None)"
        )
        warnings.warn(f"{caller}: {'; '.join(doubts)}. {advice}", RuntimeWarning, stacklevel=2)
    return found.error
