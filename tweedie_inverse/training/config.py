"""Everything that decides a training run."""

from dataclasses import dataclass
from typing import Literal

from tweedie_inverse.boundary.arguments import (
    choice,
    count,
    flag,
    number,
    pair,
    positive,
    share,
    sizes,
)
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.priors.parameterizations import Parameterization
from tweedie_inverse.training.precision import PRECISIONS

COLOURS = ("as-found", "grey", "colour")
HELD_OUT_BY = ("file", "folder")


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
    the last `cooldown` share of the steps.  A `warmup` of 0 starts at the full rate.  With
    `minutes` above 0 the run ends by the clock, earlier parts of it included, and `steps` has no
    effect; such a run cannot be repeated bit by bit.

    `average` is the largest decay of the exponential average of the weights: at step n it is
    ``min(average, (1 + n) / (10 + n))``, so that a short run ends without its beginning.

    `data` is a data set of this package, or the folder of the user's own images.  For the latter
    only: `resize` scales the shorter side of every image to so many pixels before crops of `size`
    are taken (0: as it is); `colours` "grey" or "colour" makes all images one or the other;
    `value_range` is what becomes 0 and 1, found from the files where it is empty; `flips` and
    `rotations` turn crops at random, and are off because most instruments know up from down, left
    from right; `held_out_share` of the images are held out, by "file" or by "folder"
    (`held_out_by`), where a folder has what belongs together.

    `precision` is that of the network's passes: "fp32", "bf16", or "fp16" with a scaled loss.
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
    precision: str = "fp32"
    conditional: bool = False
    label_dropout: float = 0.1
    process: str = ""
    gamma: float = 0.01
    nu: float = 0.0
    objective: Literal["hsm", "dsm"] = "hsm"
    start: str = ""
    first_image: int = 0
    minutes: float = 0.0
    resize: int = 0
    colours: str = "as-found"
    value_range: tuple[float, ...] = ()
    flips: bool = False
    rotations: bool = False
    held_out_share: float = 0.1
    held_out_by: str = "file"
    seed: int = 0

    def __post_init__(self) -> None:
        me = "TrainingConfig"
        for name in ("size", "steps", "batch"):
            count(me, name, getattr(self, name))
        for name in ("warmup", "first_image", "resize"):
            count(me, name, getattr(self, name), least=0)
        for name in ("rate", "minutes"):
            number(me, name, getattr(self, name), low=0)
        for name in ("scale", "sigma_data"):
            positive(me, name, getattr(self, name))
        for name in ("cooldown", "label_dropout", "held_out_share"):
            share(me, name, getattr(self, name))
        number(me, "average", self.average, low=0, high=1 - 1e-9, need="a number in [0, 1)")
        for name in ("offset", "gamma"):
            number(me, name, getattr(self, name))
        number(me, "nu", self.nu, low=0)
        for name in ("attention", "conditional", "flips", "rotations"):
            flag(me, name, getattr(self, name))
        choice(me, "precision", self.precision, PRECISIONS)
        choice(me, "colours", self.colours, COLOURS)
        choice(me, "held_out_by", self.held_out_by, HELD_OUT_BY)
        _check_range(me, self.value_range)
        for name in ("widths", "blocks"):
            sizes(me, name, getattr(self, name), need="positive counts, one a resolution")
        if len(self.widths) != len(self.blocks):
            raise ValueError(
                f"TrainingConfig: widths {self.widths} and blocks {self.blocks} need equally many "
                "entries"
            )
        checked_seed(me, "seed", self.seed)


def _check_range(me: str, values: tuple[float, ...]) -> None:
    if len(values) == 0:
        return
    low, high = pair(me, "value_range", values, need="two numbers, what becomes 0 and what 1")
    if not low < high:
        raise ValueError(f"{me}(value_range=({low:g}, {high:g})): needs low < high")


def learning_rate(config: TrainingConfig, step: int, done: float | None = None) -> float:
    """Warm-up, constant, linear cool-down.

    Args:
        done: the share of the run that is over, where a clock says it; default by the step.
    """
    if done is None:
        remaining = (config.steps - step) / max(1.0, config.cooldown * config.steps)
    else:
        remaining = max(0.0, 1 - done) / max(1e-9, config.cooldown)
    return config.rate * min(1.0, (step + 1) / max(1, config.warmup), remaining)
