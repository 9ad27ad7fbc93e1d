"""EDM and EDM2 networks (Karras et al. 2022, 2024) and the baselines published with them.

Published as pickles that run code when read; `edm_convert` makes safetensors files of them.  The
networks of EDM are DDPM++, NCSN++ and ADM; deepinv's files have the same names, and its networks of
equal shape run them here.  `edm_preconditioning.py` says what they are told and return.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tweedie_inverse.priors.formats.base import Format, Source, Target, of_one_class
from tweedie_inverse.priors.formats.edm_preconditioning import (
    KINDS,
    Constants,
    Preconditioning,
    RawNetwork,
    constants_of,
    edm_prior,
)
from tweedie_inverse.priors.formats.files import load_weights, ready
from tweedie_inverse.priors.formats.networks.edm import (
    DeepinvCall,
    EDMArchitecture,
    deepinv_network,
    edm_architecture_of,
)
from tweedie_inverse.priors.formats.networks.edm2 import (
    EDM2Architecture,
    EDM2UNet,
    edm2_architecture_of,
)
from tweedie_inverse.priors.network import NetworkPrior

# The class that wraps the network, as `edm_convert` found it; EDM2's is just called Precond.
_KIND_OF: dict[str, Preconditioning] = {
    "EDMPrecond": "edm",
    "Precond": "edm",
    "VPPrecond": "vp",
    "VEPrecond": "ve",
    "iDDPMPrecond": "iddpm",
}
# Settings of EDM2's network that have no weights.
_EDM2_SETTINGS = (
    "channels_per_head",
    "label_balance",
    "concat_balance",
    "res_balance",
    "attn_balance",
    "clip_act",
)


@dataclass(frozen=True)
class EDM(Format):
    """Settings of the preconditioning; None means the file's, or the published models'.

    Attributes:
        class_label: which class, for a class-conditional network.
        preconditioning: ``"edm"`` (also EDM2), ``"vp"``, ``"ve"`` or ``"iddpm"``; a converted file
            says, others are taken for edm.
        sigma_data, sigma_min, sigma_max: on the network's range.
    """

    name: ClassVar[str] = "edm"
    class_label: int | None = None
    preconditioning: Preconditioning | None = None
    sigma_data: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None

    def recognises(self, source: Source) -> bool:
        state = _state(source)
        return "map_layer0.weight" in state or "emb_fourier.freqs" in state

    def describe(self, source: Source) -> dict[str, Any]:
        rows = asdict(_architecture(source))
        kind = self._kind(source)
        low, high = self._constants(source).trained_range(kind)
        return {**rows, "preconditioning": kind, "sigma_min": low, "sigma_max": high}

    def load(self, source: Source, target: Target) -> NetworkPrior:
        assert source.checkpoint is not None
        found = _architecture(source)
        kind, constants = self._kind(source), self._constants(source)
        channels, size, classes = _sizes(found)
        label = of_one_class(self.class_label, classes, source)
        with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten at once
            if isinstance(found, EDM2Architecture):
                inner: nn.Module = EDM2UNet(found)
                network = inner
            else:
                inner = deepinv_network(found)
                network = DeepinvCall(inner)
        load_weights(inner, _state(source), source.checkpoint.path)
        return edm_prior(
            RawNetwork(ready(network, target.device), channels, classes, label),
            (channels, size, size),
            target,
            kind,
            constants,
            source.name,
        )

    def _kind(self, source: Source) -> Preconditioning:
        told = _header(source).get("class", "EDMPrecond")
        kind = self.preconditioning or _KIND_OF.get(told)
        if kind not in KINDS:
            raise ValueError(
                f"load_prior({source.name!r}): preconditioning {kind or told} is not known, only "
                f"{', '.join(_KIND_OF)}; give format=EDM(preconditioning=...), one of "
                f"{', '.join(KINDS)}"
            )
        return kind

    def _constants(self, source: Source) -> Constants:
        """The file's, except for what the user says."""
        found = constants_of(_header(source).get("settings", {}))
        return replace(
            found,
            sigma_data=self.sigma_data or found.sigma_data,
            sigma_min=self.sigma_min or found.sigma_min,
            sigma_max=self.sigma_max or found.sigma_max,
        )


def _state(source: Source) -> dict[str, Tensor]:
    """Weights of the raw network, without the preconditioning's prefix and its own tensors."""
    state = source.state
    for prefix in ("model.", "unet."):
        inner = {
            name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)
        }
        if inner and all(n.startswith((prefix, "logvar_")) or n == "u" for n in state):
            return inner
    return state


def _header(source: Source) -> dict[str, Any]:
    """What `edm_convert` noted: the class and settings of the preconditioning."""
    assert source.checkpoint is not None
    return json.loads(source.checkpoint.metadata.get("edm", "{}"))


def _architecture(source: Source) -> EDMArchitecture | EDM2Architecture:
    state = _state(source)
    if "emb_fourier.freqs" not in state:
        return edm_architecture_of(state)
    if state["out_conv.weight"].shape[0] == 4:
        raise ValueError(
            f"load_prior({source.name!r}): latent priors are not supported yet; this package "
            "samples pixels"
        )
    settings = _header(source).get("settings", {})
    if tuple(settings.get("resample_filter", (1, 1))) != (1, 1):
        raise ValueError(
            f"load_prior({source.name!r}): resample_filter {settings['resample_filter']} is not "
            "supported, only (1, 1) as in the published EDM2 networks"
        )
    known = {name: settings[name] for name in _EDM2_SETTINGS if name in settings}
    return replace(edm2_architecture_of(state), **known)


def _sizes(found: EDMArchitecture | EDM2Architecture) -> tuple[int, int, int]:
    """Channels of an image, its side, and the number of classes."""
    if isinstance(found, EDM2Architecture):
        return found.channels, found.image_size, found.classes
    return found.in_channels, found.img_resolution, found.label_dim
