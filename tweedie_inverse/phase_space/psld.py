"""Checkpoints of PSLD (Pandey and Mandt 2023): a noise prediction of position and momentum.

The network sees position and momentum, 2 C channels with images on [-1, 1], and t, and returns
the noise of both, or for Gamma = 0 that of the momentum alone.  Its training added 1e-9 to both
variances; at the times that samplers visit this is 4e-4 of the smallest of them, or less, and left
out here.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from tweedie_inverse.boundary.arguments import count, number, pair, positive
from tweedie_inverse.phase_space.prior import PhaseSpaceNetwork
from tweedie_inverse.phase_space.processes import Rate, psld
from tweedie_inverse.priors.formats.base import Format, Source, Target
from tweedie_inverse.priors.formats.ncsnpp_shapes import architecture_of
from tweedie_inverse.priors.formats.reading.files import ready
from tweedie_inverse.priors.formats.score_sde import built, image_size_of, of_psld


@dataclass(frozen=True)
class PSLD(Format):
    """Constants of the process, which the file does not hold.

    Attributes:
        gamma: Gamma; must be given.  Published: 0.01 and 0.02 (CIFAR-10), 0.005 (CelebA), 0.01
            (AFHQv2), and 0 for CLD; some files have it in their name.
        nu: default ``4 + gamma``, the paper's.
        beta: its first and last value.
        momentum_share: variance of the momentum at t = 0 over its mass.
        image_size: side of the images; default is the one whose attention is at 16x16.
        time_min: where samplers end.
    """

    name: ClassVar[str] = "psld"
    gamma: float | None = None
    nu: float | None = None
    beta: tuple[float, float] = (8.0, 8.0)
    momentum_share: float = 0.04
    image_size: int | None = None
    time_min: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("gamma", "nu", "momentum_share"):
            if getattr(self, name) is not None:
                number("PSLD", name, getattr(self, name), low=0, need="a number >= 0")
        pair("PSLD", "beta", self.beta, need="two rates >= 0, the first and the last", low=0)
        positive("PSLD", "time_min", self.time_min)
        if self.image_size is not None:
            count("PSLD", "image_size", self.image_size)

    def recognises(self, source: Source) -> bool:
        return any("score_fn.all_modules.0." in name for name in source.state)

    def describe(self, source: Source) -> dict[str, Any]:
        found = architecture_of(of_psld(source.state))
        return {**asdict(found), "image_size": self.image_size or image_size_of(found)}

    def load(self, source: Source, target: Target) -> PhaseSpaceNetwork:
        assert source.checkpoint is not None
        state = of_psld(source.state)
        found = architecture_of(state)
        size = self.image_size or image_size_of(found)
        if self.gamma is None or size is None:
            missing = "gamma=" if self.gamma is None else "image_size="
            raise ValueError(
                f"load_prior({source.name!r}): the constants of a PSLD process are not in the "
                f"file, {missing} is missing. Give format=ti.phase_space.PSLD(gamma=0.01), "
                "with those it was trained with"
            )
        if found.in_channels % 2 or found.out_channels not in (
            found.in_channels,
            found.in_channels // 2,
        ):
            raise ValueError(
                f"load_prior({source.name!r}): a network of position and momentum sees twice the "
                f"channels of an image and returns both or one, this one sees {found.in_channels} "
                f"and returns {found.out_channels}; a VP network of that repository loads with "
                "format='score-sde' once its prefix is removed"
            )
        if found.out_channels < found.in_channels and self.gamma != 0:
            raise ValueError(
                f"load_prior({source.name!r}): the network returns the noise of the momentum "
                f"alone, as for gamma=0; got gamma={self.gamma}"
            )
        process = psld(
            self.gamma, self.nu, momentum_share=self.momentum_share, rate=Rate(*self.beta)
        )
        network = built(found, state, source.checkpoint.path)
        ready(network, target.device)
        offset, scale = target.units((-1.0, 1.0))
        return PhaseSpaceNetwork(
            network,
            process,
            shape=(found.in_channels // 2, size, size),
            label="time",
            offset=offset,
            scale=scale,
            time_min=self.time_min,
            name="psld",
        )
