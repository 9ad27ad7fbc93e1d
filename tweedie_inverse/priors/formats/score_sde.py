"""Checkpoints of score_sde_pytorch (NCSN++, DDPM++) and of PSLD, whose networks are the same.

The file's moving average is a list in the order of the trained parameters; `song.py` says what the
networks are told and return.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tweedie_inverse.priors.formats.base import (
    Format,
    Source,
    Target,
    refuse_size,
    tell,
    tell_unsaid,
)
from tweedie_inverse.priors.formats.ncsnpp_shapes import architecture_of
from tweedie_inverse.priors.formats.networks.ncsnpp import Architecture, NCSNpp
from tweedie_inverse.priors.formats.reading.archives import check_finite
from tweedie_inverse.priors.formats.reading.files import filled, read_checkpoint, ready
from tweedie_inverse.priors.formats.song import subvp_prior, ve_prior, vp_prior
from tweedie_inverse.priors.network import NetworkPrior

Process = Literal["ve", "vp", "subvp"]

# Features, multipliers and levels with attention of the published configurations, which all have
# attention at 16x16: CIFAR-10, CelebA, 256x256 and 1024x1024.
_PUBLISHED = {
    (128, (1, 2, 2, 2), (1,)),
    (128, (1, 2, 2, 2), (2,)),
    (128, (1, 1, 2, 2, 2, 2, 2), (4,)),
    (16, (1, 2, 4, 8, 16, 32, 32, 32), (6,)),
}


@dataclass(frozen=True)
class ScoreSDE(Format):
    """Settings that the file does not hold; None means what the published models use.

    Attributes:
        image_size: side of the images; default is the one whose attention is at 16x16.
        process: ``"ve"``, ``"vp"`` or ``"subvp"``; default ``"ve"`` for a Fourier embedding, else
            ``"vp"`` with a warning, since such a file may as well be sub-VP, or VE with discrete
            noise levels.
        discrete: trained at numbered noise levels rather than in continuous time
            (``training.continuous = False``); default only VE networks without Fourier embedding,
            which are never anything else.
        sigma_min, sigma_max: of a VE process, on [0, 1]; default the file's.
        moving_average: use it (`ema`) rather than the last weights, as ``weights="raw"`` does.
        skip_rescale: sums of two branches are divided by sqrt(2); default those with BigGAN blocks,
            and not the older DDPM network.
    """

    name: ClassVar[str] = "score-sde"
    image_size: int | None = None
    process: Process | None = None
    discrete: bool | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    moving_average: bool = True
    skip_rescale: bool | None = None

    @property
    def asked_weights(self) -> str | None:
        return None if self.moving_average else "raw"

    def recognises(self, source: Source) -> bool:
        return any(name.startswith("all_modules.0.") for name in source.state)

    def describe(self, source: Source) -> dict[str, Any]:
        found = self._architecture(source)
        size = self.image_size or image_size_of(found) or "not in the file: image_size="
        process, discrete = self._process(found, source)
        rows = {**asdict(found), "image_size": size, "process": process, "discrete": discrete}
        unsaid = self._unsaid(found, process, source)
        if self.process is None and not found.fourier:
            unsaid["process"] = "'vp', though 'subvp' and numbered 've' look the same"
        if unsaid:
            rows["not in the file"] = "; ".join(f"{n}= ({read})" for n, read in unsaid.items())
        return rows

    def load(self, source: Source, target: Target) -> NetworkPrior:
        assert source.checkpoint is not None
        found = self._architecture(source)
        size = self.image_size or image_size_of(found)
        if size is None or found.in_channels != found.out_channels:
            raise ValueError(
                f"load_prior({source.name!r}): needs an image size "
                "(format=ScoreSDE(image_size=...)) and as many channels out as in, got "
                f"{found.in_channels} in, {found.out_channels} out; PSLD "
                "networks have two sets of channels (format='psld')"
            )
        refuse_size(size, len(found.channel_mult), source)
        process, discrete = self._process(found, source)
        network = ready(built(found, source.state, source.checkpoint.path), target.device)
        tell_unsaid(
            source, self._unsaid(found, process, source), "ScoreSDE", "this is no published network"
        )
        shape = (found.in_channels, size, size)
        if process == "ve":
            levels = self._levels(source)
            return ve_prior(network, shape, levels, target, source.name, discrete=discrete)
        if self.process is None:
            tell(
                f"load_prior({source.name!r}): read as VP in continuous time. A sub-VP network and "
                "a VE network with discrete noise levels look the same and would come out wrong: "
                "make sure, then say format=ScoreSDE(process='vp'), 'subvp' or 've' (and discrete="
                "True for a VP network that is told numbers)"
            )
        if process == "subvp":
            return subvp_prior(network, shape, target, source.name)
        return vp_prior(network, shape, target, source.name, discrete=discrete)

    def _unsaid(self, found: Architecture, process: str, source: Source) -> dict[str, str]:
        """What neither the file, nor a published network, nor the user says; without the process,
        about which there is a warning of its own."""
        read = {}
        published = (found.features, found.channel_mult, found.attention_levels) in _PUBLISHED
        if self.image_size is None and not published:
            read["image_size"] = f"{image_size_of(found)}, the size with attention at 16x16"
        if self.skip_rescale is None and not found.biggan and not published:
            read["skip_rescale"] = str(found.rescale)
        if process == "ve" and "sigmas" not in source.state:
            levels = self._levels(source)
            for name, level in (("sigma_min", levels[0]), ("sigma_max", levels[-1])):
                if getattr(self, name) is None:
                    read[name] = f"{float(level):g}"
        return read

    def _architecture(self, source: Source) -> Architecture:
        found = architecture_of(source.state)
        rescale = found.rescale if self.skip_rescale is None else self.skip_rescale
        return replace(found, rescale=rescale)

    def _process(self, found: Architecture, source: Source) -> tuple[Process, bool]:
        """The process, and whether its noise levels are numbered."""
        process = self.process or ("ve" if found.fourier else "vp")
        numbered = process == "ve" and not found.fourier
        discrete = numbered if self.discrete is None else self.discrete
        if discrete and (found.fourier or process == "subvp"):
            raise ValueError(
                f"load_prior({source.name!r}): ScoreSDE(discrete=True) does not go with "
                f"{'a Fourier embedding' if found.fourier else 'sub-VP'}, which is trained in "
                "continuous time"
            )
        if numbered and not discrete:
            raise ValueError(
                f"load_prior({source.name!r}): a VE network in continuous time has a Fourier "
                "embedding, and this one has not; leave out ScoreSDE(discrete=False)"
            )
        return process, discrete

    def _levels(self, source: Source) -> Tensor:
        """Noise levels of a VE process on [0, 1], increasing: the file's, or a geometric row."""
        told = {n: v for n, v in source.state.items() if n == "sigmas"}
        check_finite(told, source.name)
        known = told.get("sigmas", torch.tensor([0.01, 50.0])).double().sort().values
        if self.sigma_min is None and self.sigma_max is None and len(known) > 2:
            return known
        low, high = self.sigma_min or float(known[0]), self.sigma_max or float(known[-1])
        count = len(known) if len(known) > 2 else 1000
        return torch.logspace(math.log10(low), math.log10(high), count, dtype=torch.float64)


def psld_network(
    path: str | Path, *, sha256: str | None = None, device: torch.device | str = "cpu"
) -> NCSNpp:
    """The network of a PSLD checkpoint: ``forward(z, t)``, z position and momentum, t in (0, 1].

    Returns the noise of both, or of the momentum alone.  The constants of the process are not in
    the file: they are in the paper's tables, some in the file's name.
    """
    checkpoint = read_checkpoint(Path(path), sha256=sha256)
    state = of_psld(checkpoint.state)
    network = built(architecture_of(state), state, checkpoint.path)
    ready(network, device)
    return network


def image_size_of(found: Architecture) -> int | None:
    """The size whose finest attention is at 16x16, as in every published configuration."""
    return 16 << min(found.attention_levels) if found.attention_levels else None


def built(found: Architecture, state: Mapping[str, Tensor], path: Path) -> NCSNpp:
    """The network, filled."""
    weights = {name: v for name, v in state.items() if name.startswith("all_modules.")}
    return filled(lambda: NCSNpp(found), weights, path)


def of_psld(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The moving average if it is there, without its prefix."""
    for prefix in ("ema_score_fn.", "score_fn."):
        found = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        if found:
            return found
    raise ValueError("load_prior: not a PSLD checkpoint, it has no score_fn")
