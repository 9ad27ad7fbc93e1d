"""Any network as a prior: six parameterizations, three coordinate systems, one cast.

The only place that knows what a network was trained on.  A network sees images shifted and scaled
to its own range, in its own coordinates, with its own noise label; the prior answers in data units.
"""

import copy
from functools import partial

import torch
from torch import Tensor, nn

from tweedie_inverse.boundary.arguments import (
    choice,
    count,
    flag,
    function,
    number,
    positive,
    sizes,
)
from tweedie_inverse.boundary.contracts import Contract, checked_result
from tweedie_inverse.numerics.covariance import Covariance, isotropic
from tweedie_inverse.priors.base import Prior, sigma_column
from tweedie_inverse.priors.error.denoising_error import DenoisingError, error_or_none
from tweedie_inverse.priors.execution import (
    Autocast,
    Execution,
    FastNetwork,
    checked_execution,
    precision_of,
    roundoff_of,
)
from tweedie_inverse.priors.labels import (
    LabelFunction,
    called_with,
    increasing,
    own_label,
    usual_label,
)
from tweedie_inverse.priors.modules import device_of, floating_weight, refuse_training
from tweedie_inverse.priors.parameterizations import (
    USUAL,
    Coordinates,
    Parameterization,
    denoised_from,
    divisor,
    trained_range,
)
from tweedie_inverse.priors.tiles import TiledNetwork, sides_of
from tweedie_inverse.runtime.ranks import Alone, Ranks, join

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

    _stay = ("timesteps",)  # a table in float64, which not every device has
    # Set where it is not torch's usual way, and then part of what the prior is (`solving.origin`).
    execution: Execution | None = None

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
        choice(me, "parameterization", parameterization, sorted(USUAL))
        if coordinates is not None:
            choice(me, "coordinates", coordinates, ("ve", "vp", "flow", "edm"))
        self.module = module
        self.parameterization = parameterization
        self.shape = sizes(me, "shape", shape)
        self.coordinates = USUAL[parameterization] if coordinates is None else coordinates
        self.timesteps = None if timesteps is None else increasing(timesteps)
        need = "a function of sigma, or None"
        self.label_function = None if label is None else function(me, "label", label, need=need)
        self.label_scale = number(me, "label_scale", label_scale)
        self.label_offset = number(me, "label_offset", label_offset)
        self.integer_labels = flag(me, "integer_labels", integer_labels)
        self.offset, self.scale = number(me, "offset", offset), positive(me, "scale", scale)
        self.sigma_data = positive(me, "sigma_data", sigma_data)
        ends = sigma_min, sigma_max
        self.sigma_min, self.sigma_max = trained_range(
            parameterization, self.timesteps, self.scale, *ends
        )
        self.unit, self.error = self.scale, error_or_none(me, error)
        self.centre = self.offset if centre is None else number(me, "centre", centre)
        floating_weight(module)
        self.fully_convolutional = flag(me, "fully_convolutional", fully_convolutional)
        if not isinstance(name, str):
            raise TypeError(f"NetworkPrior(name={name!r}): needs text")
        self.name = name

    def __repr__(self) -> str:
        return f"NetworkPrior({self.name!r}, shape={self.shape}, {self.parameterization})"

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        weight = floating_weight(self.module, x)
        # Noise labels and the mixing of input and output need float32 even round a half-precision
        # network, whose images are cast once, on the way in and on the way out.
        exact = torch.promote_types(weight.dtype, torch.float32)
        x_exact = x.to(torch.promote_types(x.dtype, torch.float32))
        level = sigma_column(x_exact, sigma).to(weight.device, exact) / self.scale
        state = (x.to(weight.device, exact) - self.offset) / self.scale
        given, label = state / self._divisor(level), self.label(level.flatten())
        output = called_with(self._network, self.module, given.to(weight), label)
        output = checked_result(self._network, output, tuple(x.shape), weight).to(exact)
        clean = denoised_from(
            self.parameterization, state, output, level,
            divisor=self._divisor(level), sigma_data=self.sigma_data,
        )  # fmt: skip
        denoised = self.offset + self.scale * clean
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
        """That of the network itself, in its own units and number type; of tiles, on one."""
        module = self.module
        if isinstance(module, TiledNetwork):
            height, width = module.tile
            module, x = module.network, x[..., :height, :width]
        refuse_training(self._network, module)
        weight = floating_weight(module, x)
        exact = torch.promote_types(weight.dtype, torch.float32)
        level = sigma_column(x.to(weight.device, exact), sigma) / self.scale
        state = (x.to(weight.device, exact) - self.offset) / self.scale
        given = (state / self._divisor(level)).to(weight), self.label(level.flatten())
        call = partial(called_with, self._network, module)
        precision = precision_of(module, weight.dtype)
        shape = tuple(x.shape[1:])
        contract = Contract(self._network, call, given, shape, (1,), precision, _HINT)
        return [(module, contract)]

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
    def rounding(self) -> float:
        weight = floating_weight(self.module)
        return self.scale * roundoff_of(precision_of(self.module, weight.dtype), weight.device)

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
        other.module = TiledNetwork(self.module, sides, shared, pixels)
        other.fully_convolutional = True
        return other

    def over_ranks(self) -> "NetworkPrior":
        """This tiled prior, its tiles evaluated by all processes that torchrun has started.

        Each process has the whole image, evaluates its share of the tiles, and gets the others';
        the denoised image is that of one process.  Weights get no gradients.

        Raises:
            ValueError: a prior without tiles or over ranks already, or no other processes.

        Cost: evaluations over the number of processes, and traffic (docs/several-processes.md).
        """
        tiles = self.module
        if not isinstance(tiles, TiledNetwork) or tiles.ranks.size > 1:
            raise ValueError(f"{self!r}.over_ranks(): needs a prior in tiles, prior.tiled(), once")
        other = copy.copy(self)
        other.module = tiles.of(tiles.network, join("over_ranks", self.device))
        return other

    @property
    def ranks(self) -> Ranks:
        return self.module.ranks if isinstance(self.module, TiledNetwork) else Alone()

    def faster(
        self,
        *,
        autocast: Autocast | None = None,
        channels_last: bool = False,
        compile: bool | str = False,
        graphs: bool = False,
        batch: int | None = None,
    ) -> "NetworkPrior":
        """This prior with its network run otherwise; each option is off unless it is asked for.

        The samples of a seed change by rounding, with autocast by that of half precision, so that
        the settings are part of the new prior's name and of ``posterior.origin``.  The noise label,
        the scaling of input and output and all linear algebra of a walk stay in float32 or better.

        Args:
            autocast: ``"bf16"`` or ``"fp16"``, for matrix products and convolutions.
            channels_last: lay images and weights out so that channels are innermost, in a copy of
                the network's convolutions.
            compile: `torch.compile` the network, once for each size of a batch; a backend's name
                instead of inductor's.
            graphs: capture each size of a batch as a CUDA graph, and replay it.
            batch: images that a compiled or captured network is given at once, the fixed size that
                smaller batches are filled up to and larger ones cut into.  By default that is the
                smallest of the sizes met so far, up to 16 times as large.

        Where a gradient is asked for, the network runs neither compiled nor from a graph, under the
        same autocast.

        Raises:
            ValueError, TypeError: what the network or its device cannot do, or a prior that is
                faster already.
        """
        tiles = self.module if isinstance(self.module, TiledNetwork) else None
        network = self.module if tiles is None else tiles.network
        if isinstance(network, FastNetwork):
            raise ValueError(
                f"{self!r}.faster(): its network is run as {network.how} already; ask the prior "
                "that it was made from"
            )
        how = checked_execution(
            f"{type(self).__name__}.faster", network, self.shape, autocast=autocast,
            channels_last=channels_last, compile=compile, graphs=graphs, batch=batch,
        )  # fmt: skip
        other = copy.copy(self)
        if not str(how):
            return other
        fast = FastNetwork(network, how)
        other.module = fast if tiles is None else tiles.of(fast)
        other.name, other.execution = f"{self.name} ({how})", how
        return other

    def plain(self) -> "NetworkPrior":
        tiles = self.module if isinstance(self.module, TiledNetwork) else None
        fast = self.module if tiles is None else tiles.network
        if not isinstance(fast, FastNetwork):
            return self
        other = copy.copy(self)
        other.module = fast.network if tiles is None else tiles.of(fast.network)
        other.name = self.name.removesuffix(f" ({self.execution})")
        del other.execution  # as it is in a prior that was never run otherwise
        return other

    def _divisor(self, sigma: Tensor) -> Tensor | float:
        """The network sees ``x / divisor``."""
        return divisor(self.coordinates, sigma, self.sigma_data)

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
