"""Priors by name: those shipped inside the package, and files in the package's own format.

A prior file is one safetensors file: half-precision weights under ``network.``, the measured
denoising error under ``error.``, and the settings as JSON in the header.  Nothing in it is code.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .denoising_error import DenoisingError
from .network import NetworkPrior
from .networks import UNet

WEIGHTS_FOLDER = Path(__file__).parent.parent / "weights"
_FORMAT = "tweedie-inverse-prior-1"


@dataclass(frozen=True)
class PriorCard:
    """What a user must know before trusting a prior; the `.md` beside the weights says more.

    Sigmas and the value range are in data units, sizes in bytes.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    size: int
    sigma_min: float
    sigma_max: float
    value_range: tuple[float, float]
    fully_convolutional: bool
    data: str
    licence: str


def list_priors() -> list[PriorCard]:
    """The shipped priors, by name."""
    return [_card(path) for path in sorted(WEIGHTS_FOLDER.glob("*.safetensors"))]


def load_prior(name_or_path: str | Path, *, device: torch.device | str = "cpu") -> NetworkPrior:
    """A shipped prior by name, or a prior file by path.

    Raises:
        ValueError: no such name or file, or a file in another format.
    """
    path = WEIGHTS_FOLDER / f"{name_or_path}.safetensors"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        names = ", ".join(card.name for card in list_priors())
        raise ValueError(
            f"load_prior({str(name_or_path)!r}): neither a shipped prior ({names}) nor a file. "
            "Wrap a network of your own in ti.priors.NetworkPrior"
        )
    settings, tensors = _read(path)
    with torch.random.fork_rng(devices=[]):  # initial weights, which are overwritten at once
        network = UNet(
            settings["shape"][0],
            tuple(settings["widths"]),
            tuple(settings["blocks"]),
            classes=settings.get("classes", 0),
        )
    network.load_state_dict(
        {
            name.removeprefix("network."): value.float()
            for name, value in tensors.items()
            if name.startswith("network.")
        }
    )
    network.eval().to(device).requires_grad_(False).to(memory_format=torch.channels_last)
    timesteps = tensors.get("timesteps")
    return NetworkPrior(
        network,
        settings["parameterization"],
        shape=tuple(settings["shape"]),
        timesteps=timesteps,
        offset=settings["offset"],
        scale=settings["scale"],
        sigma_data=settings["sigma_data"],
        sigma_min=settings["sigma_min"],
        sigma_max=settings["sigma_max"],
        centre=settings["centre"],
        error=DenoisingError(
            tensors["error.sigmas"],
            tensors["error.log_variance"].double().exp(),
            tensors["error.gain"].double(),
            tensors["error.kurtosis"].double(),
            tensors["error.mixing"],
        ),
        fully_convolutional=settings["fully_convolutional"],
        name=settings["name"],
    )


def save_prior(path: str | Path, prior: NetworkPrior, settings: dict[str, Any]) -> None:
    """Write a trained prior with its denoising error; `settings` completes the header.

    Needs `widths`, `blocks` of the `UNet`, `data`, `licence` and `value_range` in `settings`, and
    `classes` where it has any.
    """
    from safetensors.torch import save_file

    if prior.error is None:
        raise ValueError("save_prior: measure the denoising error first (measure_denoising_error)")
    state = prior.module.state_dict()
    tensors = {f"network.{name}": value.half().contiguous() for name, value in state.items()}
    tensors["error.sigmas"] = prior.error.sigmas.double()
    tensors["error.log_variance"] = prior.error.variance.log().half()
    tensors["error.gain"] = prior.error.gain.half()
    tensors["error.kurtosis"] = prior.error.kurtosis
    tensors["error.mixing"] = prior.error.mixing.double()
    if prior.timesteps is not None:
        tensors["timesteps"] = prior.timesteps
    header = {
        "format": _FORMAT,
        "shape": prior.shape,
        "parameterization": prior.parameterization,
        "offset": prior.offset,
        "scale": prior.scale,
        "sigma_data": prior.sigma_data,
        "sigma_min": prior.sigma_min,
        "sigma_max": prior.sigma_max,
        "centre": prior.centre,
        "fully_convolutional": prior.fully_convolutional,
        "name": prior.name,
        "parameters": sum(value.numel() for value in state.values()),
        **settings,
    }
    save_file(tensors, path, metadata={"prior": json.dumps(header)})


def _header(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"load_prior: {path} is not a safetensors file ({error}); wrap other networks in "
            "ti.priors.NetworkPrior"
        ) from error
    header = json.loads(metadata.get("prior", "{}"))
    if header.get("format") != _FORMAT:
        raise ValueError(
            f"load_prior: {path} is not a prior file of this package (format "
            f"{header.get('format')!r}, needs {_FORMAT!r}). Wrap its network in "
            "ti.priors.NetworkPrior"
        )
    return header


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors.torch import load_file

    return _header(path), load_file(path)


def _card(path: Path) -> PriorCard:
    header = _header(path)
    fields = PriorCard.__dataclass_fields__
    known = {name: header[name] for name in fields if name in header}
    known["shape"], known["value_range"] = tuple(header["shape"]), tuple(header["value_range"])
    return PriorCard(**known, size=path.stat().st_size)


def describe(card: PriorCard) -> str:
    """One paragraph for a terminal."""
    lines = (f"  {name}: {value}" for name, value in asdict(card).items() if name != "name")
    return "\n".join([card.name, *lines])
