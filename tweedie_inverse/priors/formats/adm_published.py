"""Published networks with ADM's layers: what their commands say beyond the shapes of their files.

From the flags in the READMEs of guided-diffusion and improved-diffusion, and in the configurations
of DPS and RePaint.  No two networks with different flags have the same shapes.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from tweedie_inverse.priors.formats.networks.adm import Architecture, Resampling

Schedule = Literal["vp-linear", "cosine"]


class Shapes(NamedTuple):
    """All that shapes tell of a network."""

    model_channels: int
    channel_mult: tuple[float, ...]
    blocks: int
    attention_levels: tuple[int, ...]
    classes: int
    resampling: Resampling
    scale_shift_norm: bool
    in_channels: int
    out_channels: int


@dataclass(frozen=True)
class Published:
    """What the published commands say.

    Attributes:
        label_scale: labels are this times the number of the step.
        heads, head_channels: number of attention heads, or channels of one.
    """

    name: str
    image_size: int
    schedule: Schedule = "vp-linear"
    steps: int = 1000
    label_scale: float = 1.0
    heads: int | None = None
    head_channels: int = 64
    new_attention_order: bool = False


def shapes_of(found: Architecture) -> Shapes:
    return Shapes(*(getattr(found, name) for name in Shapes._fields))


_WIDE = (1, 1, 2, 2, 4, 4)


def _guided(*key: object) -> Shapes:
    return Shapes(*key, "block", True, 3, 6)  # type: ignore[call-arg,arg-type]


def _improved(*key: object, scale_shift_norm: bool = True) -> Shapes:
    return Shapes(*key, "convolution", scale_shift_norm, 3, 6)  # type: ignore[call-arg,arg-type]


def _rescaled(name: str, size: int) -> Published:
    """4000 steps, told as 0 to 1000."""
    return Published(name, size, "cosine", 4000, label_scale=0.25, heads=4)


PUBLISHED: dict[Shapes, Published] = {
    _guided(192, (1, 2, 3, 4), 3, (1, 2, 3), 1000): Published(
        "guided-diffusion 64x64_diffusion", 64, "cosine", new_attention_order=True
    ),
    _guided(256, (1, 1, 2, 3, 4), 2, (2, 3, 4), 1000): Published(
        "guided-diffusion 128x128_diffusion", 128, heads=4
    ),
    _guided(256, _WIDE, 2, (3, 4, 5), 1000): Published("guided-diffusion 256x256_diffusion", 256),
    _guided(256, _WIDE, 2, (3, 4, 5), 0): Published(
        "guided-diffusion 256x256_diffusion_uncond or lsun, DPS imagenet256, RePaint", 256
    ),
    _guided(256, (0.5, 1, 1, 2, 2, 4, 4), 2, (4, 5, 6), 1000): Published(
        "guided-diffusion 512x512_diffusion", 512
    ),
    _guided(128, _WIDE, 1, (4,), 0): Published("DPS ffhq_10m", 256),
    _improved(128, (1, 2, 3, 4), 3, (2, 3), 0): _rescaled(
        "improved-diffusion imagenet64_uncond", 64
    ),
    _improved(128, (1, 2, 2, 2), 3, (1, 2), 0): _rescaled("improved-diffusion cifar10_uncond", 32),
    _improved(192, (1, 2, 3, 4), 3, (2, 3), 1000): Published(
        "improved-diffusion imagenet64_cond_270M", 64, "cosine", 4000, heads=4
    ),
    _improved(128, _WIDE, 2, (4,), 0, scale_shift_norm=False): Published(
        "improved-diffusion lsun_uncond_100M", 256, heads=1
    ),
}

# Networks of openai/consistency_models: told log(sigma) / 4 by Karras et al.'s preconditioning.
OF_CONSISTENCY_MODELS = {
    Shapes(192, (1, 2, 3, 4), 3, (1, 2, 3), 1000, "block", True, 3, 3),
    Shapes(256, _WIDE, 2, (3, 4, 5), 0, "block", False, 3, 3),
}

# Multipliers that the training scripts choose for an image size.
SIZES = {
    (0.5, 1, 1, 2, 2, 4, 4): 512,
    (1, 1, 2, 2, 4, 4): 256,
    (1, 1, 2, 3, 4): 128,
    (1, 2, 3, 4): 64,
    (1, 2, 2, 2): 32,
}
