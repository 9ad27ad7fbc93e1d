"""diffusers pipelines: a folder with model_index.json, a U-Net and a scheduler, or a hub id.

`diffusers_schedulers.py` says what its scheduler means for the network.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tweedie_inverse.boundary.arguments import choice
from tweedie_inverse.priors.formats.base import Format, Source, Target, of_one_class
from tweedie_inverse.priors.formats.diffusers_schedulers import PREDICTIONS, diffusers_prior
from tweedie_inverse.priors.formats.files import load_weights, read_checkpoint, ready
from tweedie_inverse.priors.network import NetworkPrior

_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_LATENT = ("vae", "vqvae", "movq")

# Attention layers were called differently before diffusers 0.13.
_RENAMED = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}


@dataclass(frozen=True)
class Diffusers(Format):
    """Settings that the folder does not hold.

    Attributes:
        class_label: which class, for a class-conditional network.
        condition: ``(tokens, features)`` text or image embedding for a cross-attention network;
            default zeros, a null condition.
        prediction: ``"epsilon"``, ``"v_prediction"`` or ``"sample"``, against the scheduler's word.
    """

    name: ClassVar[str] = "diffusers"
    class_label: int | None = None
    condition: Tensor | None = None
    prediction: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prediction is not None:
            choice("Diffusers", "prediction", self.prediction, tuple(PREDICTIONS))

    def recognises(self, source: Source) -> bool:
        folder = source.folder
        return folder is not None and any(
            (folder / name).is_file() for name in ("model_index.json", "config.json")
        )

    def describe(self, source: Source) -> dict[str, Any]:
        network, scheduler, _ = _configurations(source)
        keys = ("_class_name", "sample_size", "in_channels", "out_channels", "block_out_channels")
        rows = {name.strip("_"): network[name] for name in keys if name in network}
        rows["scheduler"] = scheduler["_class_name"]
        rows["prediction"] = self._prediction(scheduler, source)
        rows["classes"] = network.get("num_class_embeds")
        return rows

    def load(self, source: Source, target: Target) -> NetworkPrior:
        network, scheduler, weights = _configurations(source)
        prediction = self._prediction(scheduler, source)
        size = network["sample_size"]
        height, width = (size, size) if isinstance(size, int) else size
        channels = network["in_channels"]
        if network["out_channels"] not in (channels, 2 * channels):
            raise ValueError(
                f"load_prior({source.name!r}): the network takes {channels} channels and returns "
                f"{network['out_channels']}; a prior needs as many, or twice as many with a "
                "learned variance"
            )
        classes = network.get("num_class_embeds") or 0
        label = of_one_class(self.class_label, classes, source)
        unet = _build(network)
        load_weights(unet, _renamed(_state(weights), unet), weights)
        adapter = UNetOutput(
            ready(unet, target.device), channels, label, self._condition(network), target.device
        )
        return diffusers_prior(
            adapter, (channels, height, width), scheduler, prediction, target, source.name
        )

    def _prediction(self, scheduler: dict[str, Any], source: Source) -> str:
        prediction = self.prediction or scheduler.get("prediction_type", "epsilon")
        if prediction not in PREDICTIONS:
            raise ValueError(
                f"load_prior({source.name!r}): prediction {prediction!r} is not known, only "
                f"{', '.join(PREDICTIONS)}"
            )
        return prediction

    def _condition(self, network: dict[str, Any]) -> Tensor | None:
        if network["_class_name"] != "UNet2DConditionModel":
            return None
        if self.condition is not None:
            return self.condition[None]
        features = network.get("cross_attention_dim", 1280)
        if isinstance(features, list):
            features = features[0]
        return torch.zeros(1, 1, features)


class UNetOutput(nn.Module):
    """A diffusers U-Net as ``forward(x, t)``, of one class or condition, without the variance."""

    def __init__(
        self,
        unet: nn.Module,
        channels: int,
        class_label: int | None = None,
        condition: Tensor | None = None,
        device: torch.device | str = "cpu",
    ):
        super().__init__()
        self.unet, self.channels, self.class_label = unet, channels, class_label
        self.condition = None if condition is None else condition.to(device)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        labels = None
        if self.class_label is not None:
            labels = torch.full((len(x),), self.class_label, device=x.device)
        if self.condition is None:
            output = self.unet(x, t, class_labels=labels, return_dict=False)
        else:
            told = self.condition.to(x).expand(len(x), -1, -1)
            output = self.unet(x, t, told, class_labels=labels, return_dict=False)
        return output[0][:, : self.channels]


def fetch(name: str, revision: str | None) -> Path:
    """Download a pipeline's configurations and weights from the hub, or find them in its cache.

    Raises:
        ImportError: huggingface_hub is not installed.
        ValueError: no connection, no such repository or revision.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(
            f"load_prior({name!r}): looks like a hub id, which needs huggingface_hub and diffusers "
            "(pip install diffusers)"
        ) from error
    try:
        patterns = ["*.json", *(f"**/{weights}" for weights in _WEIGHTS), *_WEIGHTS]
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # its own errors derive from many libraries'
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"load_prior({name!r}): no such file or shipped prior here, and the hub did not give "
            f"it ({reason}); download the folder where there is a connection and pass its path"
        ) from error
    if revision is None:
        warnings.warn(
            f"load_prior({name!r}): the hub's newest revision may change under you; pin this one "
            f"with revision={folder.name!r}",
            UserWarning,
            stacklevel=3,
        )
    return folder


def _configurations(source: Source) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Of network and scheduler, and the file of weights."""
    assert source.folder is not None
    index = source.folder / "model_index.json"
    if index.is_file():
        parts = _json(index)
        latent = [part for part in _LATENT if part in parts]
        if latent:
            raise ValueError(
                f"load_prior({source.name!r}): latent priors are not supported yet (the pipeline "
                f"has a {latent[0]}); this package samples pixels"
            )
        inside = source.folder / "unet"  # old pipelines keep everything in one folder
        folder = inside if inside.is_dir() else source.folder
    else:
        folder = source.folder
    network = _json(folder / "config.json")
    if network.get("_class_name") not in ("UNet2DModel", "UNet2DConditionModel"):
        raise ValueError(
            f"load_prior({source.name!r}): network {network.get('_class_name')} is not supported, "
            "only UNet2DModel and UNet2DConditionModel"
        )
    if "sample_size" not in network or network["sample_size"] is None:
        raise ValueError(
            f"load_prior({source.name!r}): {folder / 'config.json'} has no sample_size"
        )
    places = (source.folder / "scheduler", source.folder, source.folder.parent / "scheduler")
    found = [place for place in places if (place / "scheduler_config.json").is_file()]
    if not found:
        raise ValueError(
            f"load_prior({source.name!r}): scheduler/scheduler_config.json is missing; it holds "
            "the noise levels, without which the network's timesteps mean nothing"
        )
    weights = [folder / name for name in _WEIGHTS if (folder / name).is_file()]
    if not weights:
        raise ValueError(
            f"load_prior({source.name!r}): no weights in {folder}, looked for {', '.join(_WEIGHTS)}"
        )
    return network, _json(found[0] / "scheduler_config.json"), weights[0]


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"load_prior: {path} is missing; is this the folder of a pipeline?")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"load_prior: {path} is no JSON ({error})") from None


def _build(configuration: dict[str, Any]) -> nn.Module:
    try:
        import diffusers
    except ImportError as error:
        raise ImportError(
            "load_prior: diffusers networks need diffusers (pip install diffusers)"
        ) from error
    kind = {
        "UNet2DModel": diffusers.UNet2DModel,
        "UNet2DConditionModel": diffusers.UNet2DConditionModel,
    }[configuration["_class_name"]]
    with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten at once
        return kind.from_config(configuration)


def _state(weights: Path) -> dict[str, Tensor]:
    return read_checkpoint(weights).state


def _renamed(state: dict[str, Tensor], unet: nn.Module) -> dict[str, Tensor]:
    known = unet.state_dict()
    renamed = {}
    for name, value in state.items():
        new = name
        if name not in known:
            for old, current in _RENAMED.items():
                new = new.replace(old, current)
        renamed[new] = value.reshape(known[new].shape) if _same_count(value, known, new) else value
    return renamed


def _same_count(value: Tensor, known: dict[str, Tensor], name: str) -> bool:
    """Old attention weights may be 1x1 convolutions."""
    return name in known and value.numel() == known[name].numel()
