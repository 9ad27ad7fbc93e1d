"""Networks that are in memory already: denoisers of other libraries, and any module.

What differs is the call, the range of the images, and what comes back; the noise level is that of
``x0 + sigma n`` in the network's own range for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from tweedie_inverse.boundary.arguments import number
from tweedie_inverse.boundary.warn import warn_user
from tweedie_inverse.priors.formats.adm import adm_prior
from tweedie_inverse.priors.formats.base import Format, Source, Target
from tweedie_inverse.priors.labels import LabelFunction
from tweedie_inverse.priors.modules import refuse_training
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.one_level import ONE_LEVEL, OneLevelPrior
from tweedie_inverse.priors.parameterizations import Coordinates, Parameterization


@dataclass(frozen=True)
class Deepinv(Format):
    """A deepinv denoiser: ``D(x, sigma)`` on [0, 1], whatever it was trained on inside.

    `DiffUNet` is taken apart instead: its own denoising rounds the timestep and clips.

    Attributes:
        shape: ``(channels, height, width)`` of the images.
        sigma_min, sigma_max: trained range, on the network's own range.  Default: that of the
            published weights of its class; where these differ, or there are none, a warning says
            what was assumed.
        network_range: of the images it takes; [0, 1] is deepinv's convention.
    """

    name: ClassVar[str] = "deepinv"
    shape: tuple[int, ...] | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    network_range: tuple[float, float] = (0.0, 1.0)

    def recognises(self, source: Source) -> bool:
        return any(name == "Denoiser" for name in _bases(source, "deepinv"))

    def describe(self, source: Source) -> dict[str, Any]:
        return {"network": type(source.module).__name__, "network_range": self.network_range}

    def load(self, source: Source, target: Target) -> NetworkPrior:
        module, shape = _module(source), _needed_shape(self.shape, source, self.name)
        if "DiffUNet" in _bases(source, "deepinv"):
            noise = Call(module, _timesteps)
            return adm_prior(noise, shape, target, name="DiffUNet")
        call = Call(module, _plain)
        known = next((base for base in _bases(source, "deepinv") if base in _PUBLISHED), "")
        trained = _PUBLISHED.get(known, Trained(0.002, 40.0, "nothing is known of its training"))
        return _denoiser_prior(call, shape, self, target, trained, type(module).__name__)


@dataclass(frozen=True)
class KDiffusion(Format):
    """A k-diffusion denoiser, or any ``D(x, sigma)`` with ``sigma (batch,)``, on [-1, 1].

    Attributes:
        shape: ``(channels, height, width)`` of the images.
        sigma_min, sigma_max: trained range, on the network's own range; default 0.01 and 80, the
            usual ones of k-diffusion, with a warning.
        network_range: of the images it takes.
    """

    name: ClassVar[str] = "k-diffusion"
    shape: tuple[int, ...] | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    network_range: tuple[float, float] = (-1.0, 1.0)

    def recognises(self, source: Source) -> bool:
        return bool(_bases(source, "k_diffusion"))

    def describe(self, source: Source) -> dict[str, Any]:
        return {"network": type(source.module).__name__, "network_range": self.network_range}

    def load(self, source: Source, target: Target) -> NetworkPrior:
        shape = _needed_shape(self.shape, source, self.name)
        call = Call(_module(source), _plain)
        trained = Trained(0.01, 80.0, "the usual range of k-diffusion")
        return _denoiser_prior(call, shape, self, target, trained, type(source.module).__name__)


@dataclass(frozen=True)
class SmallDiffusion(Format):
    """A smalldiffusion model: ``predict_eps(x, sigma)`` on x itself, whatever it was trained for.

    Attributes:
        shape: of the images; default the model's `input_dims`.
        sigma_min, sigma_max: trained range, on the network's own range; default 0.01 and 35, the
            usual ones of smalldiffusion, with a warning.
        network_range: of the images it takes.
    """

    name: ClassVar[str] = "smalldiffusion"
    shape: tuple[int, ...] | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    network_range: tuple[float, float] = (-1.0, 1.0)

    def recognises(self, source: Source) -> bool:
        return callable(getattr(source.module, "predict_eps", None))

    def describe(self, source: Source) -> dict[str, Any]:
        return {"network": type(source.module).__name__, "network_range": self.network_range}

    def load(self, source: Source, target: Target) -> NetworkPrior:
        module = _module(source)
        own = getattr(module, "input_dims", None)
        shape = _needed_shape(self.shape or own, source, self.name)
        trained = Trained(0.01, 35.0, "the usual range of smalldiffusion")
        call, name = Call(module, _predict_eps), type(module).__name__
        return _denoiser_prior(call, tuple(shape), self, target, trained, name, "epsilon")


@dataclass(frozen=True)
class Module(Format):
    """Any module ``forward(input, label)`` whose parameterization the user states.

    The fields are `NetworkPrior`'s, in the network's units, and have its defaults; `network_range`
    stands for its offset and scale.
    """

    name: ClassVar[str] = "module"
    shape: tuple[int, ...] | None = None
    parameterization: Parameterization | None = None
    coordinates: Coordinates | None = None
    timesteps: Tensor | None = None
    label: LabelFunction | None = None
    label_scale: float = 1.0
    label_offset: float = 0.0
    integer_labels: bool = False
    sigma_data: float = 0.5
    sigma_min: float | None = None
    sigma_max: float | None = None
    network_range: tuple[float, float] = (-1.0, 1.0)

    def recognises(self, source: Source) -> bool:
        return source.module is not None and self.parameterization is not None

    def describe(self, source: Source) -> dict[str, Any]:
        return {"network": type(source.module).__name__, "parameterization": self.parameterization}

    def load(self, source: Source, target: Target) -> NetworkPrior:
        if self.parameterization is None:
            raise ValueError(
                f"load_prior({source.name}): what the module returns is not known; give "
                "format=Module(shape=..., parameterization=...)"
            )
        offset, scale = target.units(self.network_range)
        return NetworkPrior(
            _module(source),
            self.parameterization,
            shape=_needed_shape(self.shape, source, self.name),
            coordinates=self.coordinates,
            timesteps=self.timesteps,
            label=self.label,
            label_scale=self.label_scale,
            label_offset=self.label_offset,
            integer_labels=self.integer_labels,
            offset=offset,
            scale=scale,
            sigma_data=self.sigma_data,
            sigma_min=self._level("sigma_min", scale),
            sigma_max=self._level("sigma_max", scale),
            centre=sum(target.value_range) / 2,
            name=type(source.module).__name__,
        )

    def _level(self, name: str, scale: float) -> float | None:
        """A noise level in data units; None where `NetworkPrior` has a default."""
        level = getattr(self, name)
        return None if level is None else scale * number("Module", name, level)


Convention = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Call(nn.Module):
    """A network under the calling convention of its library."""

    def __init__(self, network: nn.Module, convention: Convention):
        super().__init__()
        self.network, self.convention = network, convention

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.convention(self.network, x, label)


def _plain(network: nn.Module, x: Tensor, sigma: Tensor) -> Tensor:
    # These networks calculate with sigma and the image, of one number type.
    return network(x, sigma.to(x))


def _predict_eps(network: nn.Module, x: Tensor, sigma: Tensor) -> Tensor:
    predict: Callable[[Tensor, Tensor], Tensor] = network.predict_eps  # type: ignore[assignment]
    return predict(x, sigma.to(x).reshape(-1, *[1] * (x.ndim - 1)))


def _timesteps(network: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    return network(x, t, type_t="timestep")


class Trained(NamedTuple):
    """A range of noise levels, on the network's own range of images.

    Attributes:
        doubt: why it may be another one; such a range is not assumed without a warning.
        fully_convolutional: whether larger images are welcome.
        single: the ends are the same, one level of training.
    """

    low: float
    high: float
    doubt: str = ""
    fully_convolutional: bool = False
    single: bool = False


# deepinv's classes, and what their published weights were trained on, on [0, 1].
_PUBLISHED = {
    "DRUNet": Trained(
        1 / 255, 50 / 255, "weights of DPIR reach 50/255, deepinv's own 20/255", True
    ),
    "GSPnP": Trained(1 / 255, 50 / 255, fully_convolutional=True),
    "FFDNet": Trained(1 / 255, 75 / 255, fully_convolutional=True),
    "DnCNN": Trained(2 / 255, 2 / 255, "deepinv's weights are of this one level", True, True),
    "SCUNet": Trained(
        1 / 255, 50 / 255, "there are weights of one level, and of real cameras' noise", True
    ),
    "Restormer": Trained(
        1 / 255, 50 / 255, "its blind weights are, others are of one level or real noise", True
    ),
    "SwinIR": Trained(15 / 255, 15 / 255, "there are weights of 15, 25 and 50/255", True, True),
    "NCSNpp": Trained(0.002, 40.0),
    "ADMUNet": Trained(0.002, 40.0),
}


def _denoiser_prior(
    call: nn.Module,
    shape: tuple[int, ...],
    settings: Deepinv | KDiffusion | SmallDiffusion,
    target: Target,
    trained: Trained,
    name: str,
    parameterization: Parameterization = "x0",
) -> NetworkPrior:
    """A network that is told sigma and sees x, on the range that is said or assumed."""
    low = trained.low if settings.sigma_min is None else settings.sigma_min
    high, single, width = settings.sigma_max, False, 0.0
    if high is None:
        high, single = trained.high, trained.single and settings.sigma_min is None
        width = ONE_LEVEL if single else 0.0
        _say_what_was_assumed(settings, trained, name, low)
    offset, scale = target.units(settings.network_range)
    return (OneLevelPrior if single else NetworkPrior)(
        call,
        parameterization,
        coordinates="ve",
        shape=shape,
        offset=offset,
        scale=scale,
        sigma_min=low * scale * (1 - width),
        sigma_max=high * scale * (1 + width),
        centre=sum(target.value_range) / 2,
        fully_convolutional=trained.fully_convolutional,
        name=name,
    )


def _say_what_was_assumed(
    settings: Deepinv | KDiffusion | SmallDiffusion, trained: Trained, name: str, low: float
) -> None:
    if not trained.doubt:
        return
    level = f"at the noise level {trained.high:.4g}" if trained.single else (
        f"on noise levels from {low:.4g} to {trained.high:.4g}"
    )  # fmt: skip
    warn_user(
        f"load_prior({name}): assumed to be trained {level} of images on "
        f"{list(settings.network_range)} ({trained.doubt}). Beyond its training a denoiser may "
        f"amplify: say format={type(settings).__name__}(sigma_max=...)"
    )


def _module(source: Source) -> nn.Module:
    if source.module is None:
        raise ValueError(
            f"load_prior({source.name!r}): this format wraps a network in memory; build it with "
            "its own library and pass the module"
        )
    refuse_training(f"load_prior({source.name})", source.module)
    half = [n for n, p in source.module.named_parameters() if p.dtype == torch.float16]
    if half and next(source.module.parameters()).device.type == "cpu":
        raise ValueError(
            f"load_prior({source.name}): {half[0]} is in half precision on the CPU, which has no "
            "fast or exact arithmetic for it; convert the module with .float() or move it to a GPU"
        )
    return source.module


def _needed_shape(shape: tuple[int, ...] | None, source: Source, name: str) -> tuple[int, ...]:
    if shape is None:
        raise ValueError(
            f"load_prior({source.name}): a module does not tell the shape of its images; give "
            f"format= with shape=(channels, height, width), e.g. from FORMATS[{name!r}]"
        )
    return tuple(shape)


def _bases(source: Source, package: str) -> list[str]:
    """Names of the module's classes that come from `package`, without importing it."""
    if source.module is None:
        return []
    return [
        base.__name__
        for base in type(source.module).__mro__
        if base.__module__.split(".")[0] == package
    ]
