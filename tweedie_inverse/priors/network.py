"""Any network as a prior: six parameterizations, three coordinate systems, one cast.

The only place that knows what a network was trained on.  A network sees images shifted and scaled
to its own range, in its own coordinates, with its own noise label; the prior answers in data units.
"""

import copy
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from tweedie_inverse.boundary.arguments import (
    choice,
    count,
    flag,
    function,
    instance,
    number,
    positive,
    sizes,
)
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.boundary.contracts import Contract, checked_result
from tweedie_inverse.boundary.warn import warn_user
from tweedie_inverse.numerics.covariance import Covariance, isotropic
from tweedie_inverse.priors.base import Prior, sigma_column
from tweedie_inverse.priors.error.denoising_error import DenoisingError
from tweedie_inverse.priors.labels import LabelFunction, called_with, own_label, usual_label
from tweedie_inverse.priors.tiles import TiledNetwork, sides_of
from tweedie_inverse.priors.tweedie import (
    denoised_from_epsilon,
    denoised_from_flow,
    denoised_from_score,
    denoised_from_v,
)

Parameterization = Literal["x0", "epsilon", "v", "score", "edm", "flow"]
Coordinates = Literal["ve", "vp", "flow", "edm"]

# What a network of this kind is usually fed with; `coordinates=` overrides.
_COORDINATES: dict[str, Coordinates] = {
    "x0": "ve",
    "epsilon": "vp",
    "v": "vp",
    "score": "ve",
    "edm": "edm",
    "flow": "flow",
}


_OF_THE_MODE = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
_HINT = "A network in training mode does that: call .eval() on it."


class NetworkPrior(Prior):
    """A `torch.nn.Module` as a denoiser ``D(x, sigma)`` in data units.

    Outside the trained range `denoise` extrapolates: it asks the network with that sigma, or with
    the first or last of its `timesteps`, while the input keeps its true scale.  Nothing is
    promised there, so `sample` refuses schedules that leave [sigma_min, sigma_max].

    Args:
        module: called as ``module(input, label)`` with ``input (batch, *shape)`` of the weights'
            number type and ``label (batch,)`` in float32 or better; returns ``(batch, *shape)``.
        parameterization: what it returns: ``"x0"`` the clean image, ``"epsilon"`` the noise,
            ``"v"``, ``"score"`` the gradient of the log density of what it sees, with respect to
            what it sees, ``"edm"`` the raw network of Karras et al. 2022, ``"flow"`` the velocity
            ``n - x0``.
        shape: ``(channels, height, width)``.
        coordinates: what it is fed with: ``"ve"`` x, ``"vp"`` ``x / sqrt(1 + sigma^2)``,
            ``"flow"`` ``x / (1 + sigma)``, ``"edm"`` ``x / sqrt(sigma^2 + sigma_data^2)``.
            Default: ``"vp"`` for epsilon and v, ``"ve"`` for x0 and score, else its own.
        timesteps: noise levels ``(steps,)`` of a discretely trained network, increasing, in
            network units; the label is then the fractional index, interpolated in log sigma.
            Default: the label is ``log(sigma) / 4`` for edm, ``sigma / (1 + sigma)`` for flow,
            else sigma.
        label: the label as a function of sigma ``(batch,)``, in network units, instead of these;
            handed over in the number type that it returns.
        label_scale, label_offset: the network is told ``label_offset + label_scale * label``; 1 /
            steps for t / steps, an offset of 1 for steps that are counted from 1.
        integer_labels: the label is rounded and handed over as a whole number (torch.long), for
            `nn.Embedding`.  The input keeps the scale of the true sigma.
        offset, scale: the network works on ``(x - offset) / scale``; for data in [0, 1] and a
            network on [-1, 1], both are 0.5.
        sigma_data: standard deviation of the data in network units; edm only.
        sigma_min, sigma_max: trained range, in data units.  Default: the ends of `timesteps` where
            they are given, else 0.002 and 80, with a warning unless it is an edm network.
        centre: mean pixel of the data, where a walk starts; default `offset`.
        error: measured denoising error (`measure_denoising_error`), which also corrects the
            denoiser; without it the decoupled walk reads the covariance from the network.
        fully_convolutional: whether images larger than `shape` are welcome.
        name: for messages and cards.

    Raises:
        TypeError, ValueError: a setting that is none of these, or weights of whole numbers.
    """

    def __init__(
        self,
        module: nn.Module,
        parameterization: Parameterization,
        *,
        shape: tuple[int, ...],
        coordinates: Coordinates | None = None,
        timesteps: Tensor | None = None,
        label: LabelFunction | None = None,
        label_scale: float = 1.0,
        label_offset: float = 0.0,
        integer_labels: bool = False,
        offset: float = 0.0,
        scale: float = 1.0,
        sigma_data: float = 0.5,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        centre: float | None = None,
        error: DenoisingError | None = None,
        fully_convolutional: bool = False,
        name: str = "network",
    ):
        me = "NetworkPrior"
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"NetworkPrior(module=): needs a torch.nn.Module, got {type(module).__name__}; a "
                "function becomes one as the forward() of a class that derives from it"
            )
        choice(me, "parameterization", parameterization, sorted(_COORDINATES))
        if coordinates is not None:
            choice(me, "coordinates", coordinates, ("ve", "vp", "flow", "edm"))
        self.module = module
        self.parameterization = parameterization
        self.shape = sizes(me, "shape", shape)
        self.coordinates = _COORDINATES[parameterization] if coordinates is None else coordinates
        self.timesteps = None if timesteps is None else _increasing(timesteps)
        need = "a function of sigma, or None"
        self.label_function = None if label is None else function(me, "label", label, need=need)
        self.label_scale = number(me, "label_scale", label_scale)
        self.label_offset = number(me, "label_offset", label_offset)
        self.integer_labels = flag(me, "integer_labels", integer_labels)
        self.offset, self.scale = number(me, "offset", offset), positive(me, "scale", scale)
        self.sigma_data = positive(me, "sigma_data", sigma_data)
        self.sigma_min, self.sigma_max = self._range(sigma_min, sigma_max)
        self.unit, self.error = self.scale, error_or_none(me, error)
        self.centre = self.offset if centre is None else number(me, "centre", centre)
        _floating_weight(module)
        self.fully_convolutional = flag(me, "fully_convolutional", fully_convolutional)
        if not isinstance(name, str):
            raise TypeError(f"NetworkPrior(name={name!r}): needs text")
        self.name = name

    def __repr__(self) -> str:
        return f"NetworkPrior({self.name!r}, shape={self.shape}, {self.parameterization})"

    def _range(self, low: float | None, high: float | None) -> tuple[float, float]:
        """The trained range in data units, from the table of timesteps where it is not given."""
        ends = (0.002, 80.0)
        if self.timesteps is not None:
            ends = (self.scale * float(self.timesteps[0]), self.scale * float(self.timesteps[-1]))
        if high is None and self.timesteps is None and self.parameterization != "edm":
            warn_user(
                f"NetworkPrior(sigma_max=): not given, so that noise levels up to {ends[1]:g} in "
                "data units are assumed. Beyond its training a network may amplify: say "
                "sigma_max=, and let ti.check_prior(prior, images) measure it"
            )
        low = ends[0] if low is None else number("NetworkPrior", "sigma_min", low)
        high = ends[1] if high is None else number("NetworkPrior", "sigma_max", high)
        if not 0 < low < high:
            raise ValueError(f"NetworkPrior: needs 0 < sigma_min < sigma_max, got {low} and {high}")
        return low, high

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        weight = _floating_weight(self.module, x)
        # Noise labels and the mixing of input and output need float32 even round a half-precision
        # network, whose images are cast once, on the way in and on the way out.
        exact = torch.promote_types(weight.dtype, torch.float32)
        x_exact = x.to(torch.promote_types(x.dtype, torch.float32))
        level = sigma_column(x_exact, sigma).to(weight.device, exact) / self.scale
        state = (x.to(weight.device, exact) - self.offset) / self.scale
        given, label = state / self._divisor(level), self.label(level.flatten())
        output = called_with(self._network, self.module, given.to(weight), label)
        output = checked_result(self._network, output, tuple(x.shape), weight).to(exact)
        denoised = self.offset + self.scale * self._denoised(state, output, level)
        if self.error is not None:
            if isinstance(sigma, float | int):
                # The same arithmetic on the CPU, so that the tables are read without a wait.
                level = torch.tensor([sigma], dtype=x_exact.dtype).to(exact) / self.scale
            sigmas = (level * self.scale).flatten()
            denoised = self.error.correct(x.to(denoised), denoised, sigmas)
        return denoised.to(x)

    @property
    def _network(self) -> str:
        """The network, for messages."""
        return f"the network {type(self.module).__name__} of {self!r}"

    def contracts(self, x: Tensor, sigma: float) -> list[tuple[object, Contract]]:
        """That of the network itself, in its own units and number type."""
        refuse_training(self._network, self.module)
        weight = _floating_weight(self.module, x)
        exact = torch.promote_types(weight.dtype, torch.float32)
        level = sigma_column(x.to(weight.device, exact), sigma) / self.scale
        state = (x.to(weight.device, exact) - self.offset) / self.scale
        given = (state / self._divisor(level)).to(weight), self.label(level.flatten())
        call = partial(called_with, self._network, self.module)
        shape = tuple(self.shape)
        contract = Contract(self._network, call, given, shape, (1,), weight.dtype, _HINT)
        return [(self.module, contract)]

    def denoising_error(self, sigma: float) -> Covariance:
        if self.error is None:
            return isotropic(sigma**2)
        return self.error.at(sigma, self.shape, device=self.device)

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        if self.error is None:
            return self.denoising_error(sigma)
        return self.error.around(denoised, sigma)

    def with_error(self, error: DenoisingError | None) -> "NetworkPrior":
        """The same network with another measured denoising error, or none."""
        other = copy.copy(self)
        other.error = error_or_none("with_error", error)
        return other

    def uncorrected(self) -> "NetworkPrior":
        return self.with_error(None)

    @property
    def device(self) -> torch.device:
        return device_of(self.module)

    @property
    def error_is_measured(self) -> bool:
        return self.error is not None

    def for_shape(self, shape: tuple[int, ...]) -> "NetworkPrior":
        shape = sizes("for_shape", "shape", shape)
        fits = (
            self.fully_convolutional
            and len(shape) == 3
            and shape[0] == self.shape[0]
            and all(new >= old for new, old in zip(shape[1:], self.shape[1:], strict=True))
        )
        if not fits:
            super().for_shape(shape)  # raises, or the shape is the same
            return self
        resized = copy.copy(self)
        resized.shape = shape
        return resized

    def tiled(
        self,
        tile: int | tuple[int, int] | None = None,
        *,
        overlap: int | None = None,
        pixels: int = 2**16,
    ) -> "NetworkPrior":
        """This prior for images of any size from `shape` on, its network seeing only tiles of them.

        The network need not be fully convolutional, and its memory does not grow with the image.
        The measured correction and denoising error are those of the whole image, as they are
        without tiles.

        Args:
            tile: side, or ``(height, width)``, of a tile; default that of `shape`, on which the
                network was trained, and the only choice unless it is fully convolutional.
            overlap: pixels over which neighbours are blended; default a quarter of a tile.
            pixels: of the tiles that the network is given at once, at least one tile.

        Raises:
            ValueError: a tile that the network does not take, an overlap of none or more than half
                a tile, or a prior that is tiled already.

        Cost: ``(tile / (tile - overlap))^2`` times the pixels of the image, 1.8 by default.
        """
        if isinstance(self.module, TiledNetwork) or len(self.shape) != 3:
            raise ValueError(f"{self!r}.tiled(): needs a prior of images that is not tiled yet")
        own = (self.shape[1], self.shape[2])
        sides = own if tile is None else sides_of(tile)
        if sides != own and not self.fully_convolutional:
            raise ValueError(
                f"{self!r}.tiled({tile}): this network is not fully convolutional, so tiles have "
                f"its own shape {own}; leave out tile="
            )
        other = copy.copy(self)
        shared = min(sides) // 4 if overlap is None else count("tiled", "overlap", overlap, least=0)
        pixels = count("tiled", "pixels", pixels)
        tiles = TiledNetwork(self.module, sides, shared, pixels)
        tiles.training = self.module.training  # not by train(), which reaches into the network
        other.module = tiles
        other.fully_convolutional = True
        return other

    def _divisor(self, sigma: Tensor) -> Tensor | float:
        """The network sees ``x / divisor``."""
        if self.coordinates == "vp":
            return (1 + sigma**2).sqrt()
        if self.coordinates == "flow":
            return 1 + sigma
        if self.coordinates == "edm":
            return (sigma**2 + self.sigma_data**2).sqrt()
        return 1.0

    def label(self, sigma: Tensor) -> Tensor:
        """What the network is told, ``(batch,)``, for levels `sigma` ``(batch,)`` in its units."""
        if self.label_function is not None:
            label = own_label(self.label_function, sigma)
        else:
            label = usual_label(sigma, self.coordinates, self.timesteps)
        if self.label_scale != 1 or self.label_offset != 0:
            label = self.label_offset + self.label_scale * label
        return label.round().long() if self.integer_labels else label

    @property
    def has_own_label(self) -> bool:
        """Whether the network is told anything else than the usual label of its coordinates."""
        settings = (self.label_function, self.label_scale, self.label_offset, self.integer_labels)
        return settings != (None, 1.0, 0.0, False)

    def _denoised(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        match self.parameterization:
            case "x0":
                return output
            case "epsilon":
                return denoised_from_epsilon(x, output, sigma)
            case "v":
                return denoised_from_v(x, output, sigma)
            case "score":
                # Of z = x / c the score is c times that of x.
                return denoised_from_score(x, output / self._divisor(sigma), sigma)
            case "flow":
                return denoised_from_flow(x, output, sigma)
        total = sigma**2 + self.sigma_data**2  # edm: Karras et al. 2022, table 1
        skip, out = self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt()
        return skip * x + out * output


def refuse_training(name: str, module: nn.Module) -> None:
    """Raise a `ValueError` where a layer that answers otherwise in training is in training mode.

    Dropout and batch normalization are such layers.  The mode of all others makes no difference,
    and is left as it is: nothing here switches a user's network.
    """
    for path, layer in module.named_modules():
        differs = isinstance(layer, _OF_THE_MODE) or getattr(layer, "track_running_stats", False)
        if layer.training and differs and getattr(layer, "p", 1.0) > 0:
            raise ValueError(
                f"{name}: {path or type(layer).__name__} is in training mode, where it depends on "
                "chance or on the batch; call .eval() first"
            )


def _floating_weight(module: nn.Module, like: Tensor | None = None) -> Tensor:
    """The first weight of floating-point numbers, whose type and device the network works in.

    A network without any works as `like` does.

    Raises:
        TypeError: there are weights, but of whole numbers only.
    """
    first = None
    for weight in module.parameters():
        if weight.is_floating_point():
            return weight
        first = weight if first is None else first
    if first is not None and not first.is_complex():
        raise TypeError(
            f"NetworkPrior(module=): the weights of {type(module).__name__} are {first.dtype}; a "
            "network needs floating-point weights. Convert them first (module.float())"
        )
    return torch.zeros(()) if like is None else like


def device_of(module: nn.Module) -> torch.device:
    """Where a module's weights are; the CPU for a module without any."""
    return next(module.parameters(), torch.zeros(())).device


def error_or_none(caller: str, error: DenoisingError | None) -> DenoisingError | None:
    """A measured denoising error, or none; a `TypeError` for anything else."""
    if error is None:
        return None
    need = "what ti.measure_denoising_error(prior, images) returns, or None"
    return instance(caller, "error", error, DenoisingError, need=need)


def _increasing(table: Tensor) -> Tensor:
    table = real_tensor("NetworkPrior", "timesteps", table, dtype=torch.float64)
    if table.ndim != 1 or len(table) < 2 or not bool((table.diff() > 0).all()) or table[0] <= 0:
        raise ValueError(
            "NetworkPrior(timesteps=): needs the positive noise levels of the training steps in "
            "increasing order, e.g. ((1 - alpha_bar) / alpha_bar).sqrt()"
        )
    return table
