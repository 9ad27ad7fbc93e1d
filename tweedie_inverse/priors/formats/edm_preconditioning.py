"""What an EDM network is told, and what its output F means (Karras et al. 2022, table 1).

========  ====================================  ======================  ========================
          sees                                  is told                 denoised
========  ====================================  ======================  ========================
edm       ``x / sqrt(sigma^2 + sigma_data^2)``  ``log(sigma) / 4``      ``c_skip x + c_out F``
vp        ``x / sqrt(sigma^2 + 1)``             ``(M - 1) t(sigma)``    ``x - sigma F``
ve        ``x``                                 ``log(sigma / 2)``      ``x + sigma F``
iddpm     ``x / sqrt(sigma^2 + 1)``             number of the level     ``x - sigma F``
========  ====================================  ======================  ========================

EDM2 has edm.  t is the time of Song et al. 2021, the levels are those of a cosine schedule, and of
iddpm's output, twice as wide as the image, the first half is F (Nichol and Dhariwal 2021).  Images
are on [-1, 1].
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from tweedie_inverse.numerics.timesteps import cosine_table
from tweedie_inverse.priors.formats.base import Target
from tweedie_inverse.priors.formats.song import VPTime, total_of
from tweedie_inverse.priors.network import NetworkPrior

Preconditioning = Literal["edm", "vp", "ve", "iddpm"]
KINDS: tuple[str, ...] = get_args(Preconditioning)


@dataclass(frozen=True)
class Constants:
    """Of the preconditioning, under the names of the files; None where it depends on the kind.

    Attributes:
        sigma_data: standard deviation of the data, edm.
        sigma_min, sigma_max: trained range.
        beta_d, beta_min, M, epsilon_t: of vp: beta is ``beta_min + beta_d t``, from epsilon_t on;
            M steps, also those of iddpm.
        C_1, C_2: of iddpm: smallest ratio of two steps, and the schedule's offset.
    """

    sigma_data: float = 0.5
    sigma_min: float | None = None
    sigma_max: float | None = None
    beta_d: float = 19.9
    beta_min: float = 0.1
    M: int = 1000
    epsilon_t: float = 1e-5
    C_1: float = 0.001
    C_2: float = 0.008

    def levels(self) -> Tensor:
        """Noise levels ``(M,)`` of iddpm, increasing."""
        return cosine_table(self.M, beta_max=1 - self.C_1, offset=self.C_2)

    def trained_range(self, kind: str) -> tuple[float, float]:
        """Smallest and largest sigma, on [-1, 1]."""
        match kind:
            case "vp":
                beta = (self.beta_min, self.beta_min + self.beta_d)
                low, high = (
                    math.sqrt(math.expm1(total_of(t, beta))) for t in (self.epsilon_t, 1.0)
                )
            case "ve":
                low, high = 0.02, 100.0
            case "iddpm":
                low, high = float(self.levels()[0]), float(self.levels()[-1])
            case _:
                low, high = 0.002, 80.0
        return self.sigma_min or low, self.sigma_max or high


class RawNetwork(nn.Module):
    """The network inside the preconditioning, of one class, without a learned variance."""

    def __init__(self, network: nn.Module, channels: int, classes: int, class_label: int | None):
        super().__init__()
        self.network, self.channels = network, channels
        self.classes, self.class_label = classes, class_label

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        labels = None
        if self.class_label is not None:
            labels = x.new_zeros(len(x), self.classes)
            labels[:, self.class_label] = 1
        return self.network(x, label, class_labels=labels)[:, : self.channels]


class HalfLog(nn.Module):
    """Tells a network ``log(sigma / 2)`` where the prior tells sigma; its output is minus noise."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return -self.network(x, torch.log(sigma / 2))


def edm_prior(
    network: nn.Module,
    shape: tuple[int, ...],
    target: Target,
    kind: str = "edm",
    constants: Constants = Constants(),
    name: str = "edm",
) -> NetworkPrior:
    """A raw network inside one of the preconditionings as a prior."""
    offset, scale = target.units((-1.0, 1.0))
    low, high = constants.trained_range(kind)
    beta = (constants.beta_min, constants.beta_min + constants.beta_d)
    inside = {
        "vp": lambda: VPTime(network, beta, constants.M),
        "ve": lambda: HalfLog(network),
    }
    return NetworkPrior(
        inside[kind]() if kind in inside else network,
        "edm" if kind == "edm" else "epsilon",
        coordinates="ve" if kind == "ve" else None,
        shape=shape,
        timesteps=constants.levels() if kind == "iddpm" else None,
        offset=offset,
        scale=scale,
        sigma_data=constants.sigma_data,
        sigma_min=low * scale,
        sigma_max=high * scale,
        name=name,
    )


def constants_of(settings: Mapping[str, Any]) -> Constants:
    """The constants among the settings of a file; the rest are the network's."""
    known = {n: v for n, v in settings.items() if n in Constants.__dataclass_fields__}
    for name in ("sigma_min", "sigma_max"):  # from 0 to infinity means not said
        if known.get(name) in (0, math.inf):
            del known[name]
    return Constants(**known)
