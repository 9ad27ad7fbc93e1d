"""Everything that decides a training run."""

from dataclasses import dataclass
from typing import Literal

from tweedie_inverse.boundary.arguments import (
    count,
    flag,
    number,
    positive,
    share,
    sizes,
)
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.priors.parameterizations import Parameterization


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a run; stored in its checkpoint and on the card of the prior.

    A `conditional` network sees the class of an image, except for a share `label_dropout` of the
    images: there it learns the unconditional denoiser that classifier-free guidance needs too.

    `noise_levels` "learned" trains the schedule as well, and the network on the variational bound,
    which is the weight "inverse-square".

    `process` names a forward process of a registered kind (`tasks.PROCESSES`), such as "psld",
    "cld" or "vp" in phase space: the network then predicts the noise of position and momentum, by
    `objective` "hsm" or "dsm"; `gamma` and `nu` (0 stands for 4 + gamma) belong to the process.
    `parameterization`, `noise_levels` and `weight` then have no effect.

    `start` names a prior, shipped or a file, whose weights the run starts from; `first_image` is
    the seed of the first image, so that a run can continue with images that another has not seen.

    `steps` may be raised on resuming: the rate is constant after a warm-up and falls to zero over
    the last `cooldown` share of the steps.  A `warmup` of 0 starts at the full rate.
    """

    data: str = "phantoms"
    size: int = 64
    steps: int = 5000
    batch: int = 32
    parameterization: Parameterization = "edm"
    noise_levels: str = "log-normal-wide"
    weight: str = "edm"
    rate: float = 1e-3
    warmup: int = 100
    cooldown: float = 0.3
    average: float = 0.999
    offset: float = 0.5
    scale: float = 0.5
    sigma_data: float = 0.5
    widths: tuple[int, ...] = (32, 64, 128, 160)
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    attention: bool = False
    bfloat16: bool = False
    conditional: bool = False
    label_dropout: float = 0.1
    process: str = ""
    gamma: float = 0.01
    nu: float = 0.0
    objective: Literal["hsm", "dsm"] = "hsm"
    start: str = ""
    first_image: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        me = "TrainingConfig"
        for name in ("size", "steps", "batch"):
            count(me, name, getattr(self, name))
        for name in ("warmup", "first_image"):
            count(me, name, getattr(self, name), least=0)
        number(me, "rate", self.rate, low=0)
        for name in ("scale", "sigma_data"):
            positive(me, name, getattr(self, name))
        for name in ("cooldown", "label_dropout"):
            share(me, name, getattr(self, name))
        number(me, "average", self.average, low=0, high=1 - 1e-9, need="a number in [0, 1)")
        for name in ("offset", "gamma"):
            number(me, name, getattr(self, name))
        number(me, "nu", self.nu, low=0)
        for name in ("attention", "bfloat16", "conditional"):
            flag(me, name, getattr(self, name))
        for name in ("widths", "blocks"):
            sizes(me, name, getattr(self, name), need="positive counts, one a resolution")
        if len(self.widths) != len(self.blocks):
            raise ValueError(
                f"TrainingConfig: widths {self.widths} and blocks {self.blocks} need equally many "
                "entries"
            )
        checked_seed(me, "seed", self.seed)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Warm-up, constant, linear cool-down."""
    remaining = (config.steps - step) / max(1.0, config.cooldown * config.steps)
    return config.rate * min(1.0, (step + 1) / max(1, config.warmup), remaining)
