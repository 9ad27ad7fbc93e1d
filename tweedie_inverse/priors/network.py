"""Any network as a prior: six parameterizations, three coordinate systems, one cast.

The only place that knows what a network was trained on.  A network sees images shifted and scaled
to its own range, in its own coordinates, with its own noise label; the prior answers in data units.
"""

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from tweedie_inverse.numerics.covariance import Covariance, isotropic
from tweedie_inverse.numerics.timesteps import sigma_to_timestep
from tweedie_inverse.priors.base import Prior, sigma_column
from tweedie_inverse.priors.error.denoising_error import DenoisingError
from tweedie_inverse.priors.tiles import TiledNetwork
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


class NetworkPrior(Prior):
    """A `torch.nn.Module` as a denoiser ``D(x, sigma)`` in data units.

    Outside the trained range `denoise` extrapolates: it asks the network with that sigma, or with
    the first or last of its `timesteps`, while the input keeps its true scale.  Nothing is
    promised there, so `sample` refuses schedules that leave [sigma_min, sigma_max].

    Args:
        module: called as ``module(input, label)`` with ``input (batch, *shape)`` and
            ``label (batch,)``; returns ``(batch, *shape)``.
        parameterization: what it returns: ``"x0"`` the clean image, ``"epsilon"`` the noise,
            ``"v"``, ``"score"``, ``"edm"`` the raw network of Karras et al. 2022,
            ``"flow"`` the velocity ``n - x0``.
        shape: ``(channels, height, width)``.
        coordinates: what it is fed with: ``"ve"`` x, ``"vp"`` ``x / sqrt(1 + sigma^2)``,
            ``"flow"`` ``x / (1 + sigma)``, ``"edm"`` ``x / sqrt(sigma^2 + sigma_data^2)``.
            Default: ``"vp"`` for epsilon and v, ``"ve"`` for x0 and score, else its own.
        timesteps: noise levels ``(steps,)`` of a discretely trained network, increasing, in
            network units; the label is then the fractional index, interpolated in log sigma.
            Default: the label is ``log(sigma) / 4`` for edm, ``sigma / (1 + sigma)`` for flow,
            else sigma.
        offset, scale: the network works on ``(x - offset) / scale``; for data in [0, 1] and a
            network on [-1, 1], both are 0.5.
        sigma_data: standard deviation of the data in network units; edm only.
        sigma_min, sigma_max: trained range, in data units.
        centre: mean pixel of the data, where a walk starts; default `offset`.
        error: measured denoising error (`measure_denoising_error`), which also corrects the
            denoiser; without it the decoupled walk reads the covariance from the network.
        fully_convolutional: whether images larger than `shape` are welcome.
        name: for messages and cards.
    """

    def __init__(
        self,
        module: nn.Module,
        parameterization: Parameterization,
        *,
        shape: tuple[int, ...],
        coordinates: Coordinates | None = None,
        timesteps: Tensor | None = None,
        offset: float = 0.0,
        scale: float = 1.0,
        sigma_data: float = 0.5,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        centre: float | None = None,
        error: DenoisingError | None = None,
        fully_convolutional: bool = False,
        name: str = "network",
    ):
        if parameterization not in _COORDINATES:
            raise ValueError(
                f"NetworkPrior(parameterization={parameterization!r}): must be one of "
                f"{', '.join(sorted(_COORDINATES))}"
            )
        if not 0 < sigma_min < sigma_max:
            raise ValueError(
                f"NetworkPrior: needs 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}"
            )
        self.module = module
        self.parameterization = parameterization
        self.shape = tuple(shape)
        self.coordinates = coordinates or _COORDINATES[parameterization]
        self.timesteps = None if timesteps is None else _increasing(timesteps)
        self.offset, self.scale, self.sigma_data = offset, scale, sigma_data
        self.sigma_min, self.sigma_max, self.unit = sigma_min, sigma_max, scale
        self.error = error
        self.centre = offset if centre is None else centre
        self.fully_convolutional = fully_convolutional
        self.name = name

    def __repr__(self) -> str:
        return f"NetworkPrior({self.name!r}, shape={self.shape}, {self.parameterization})"

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        weight = next(self.module.parameters(), x)  # a module without any works as x does
        # Noise labels and the mixing of input and output need float32 even round a half-precision
        # network, whose own numbers are cast once, on the way in and on the way out.
        exact = torch.promote_types(weight.dtype, torch.float32)
        x_exact = x.to(torch.promote_types(x.dtype, torch.float32))
        level = sigma_column(x_exact, sigma).to(weight.device, exact) / self.scale
        state = (x.to(weight.device, exact) - self.offset) / self.scale
        given, label = self._input(state, level), self.label(level.flatten())
        output = self.module(given.to(weight), label.to(weight)).to(exact)
        denoised = self.offset + self.scale * self._denoised(state, output, level)
        if self.error is not None:
            sigmas = (level * self.scale).flatten()
            denoised = self.error.correct(x.to(denoised), denoised, sigmas)
        return denoised.to(x)

    def denoising_error(self, sigma: float) -> Covariance:
        if self.error is None:
            return isotropic(sigma**2)
        return self.error.at(sigma, self.shape)

    def conditional_covariance(self, sigma: float, denoised: Tensor) -> Covariance:
        if self.error is None:
            return self.denoising_error(sigma)
        return self.error.around(denoised, sigma)

    def with_error(self, error: DenoisingError | None) -> "NetworkPrior":
        """The same network with another measured denoising error, or none."""
        other = copy.copy(self)
        other.error = error
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
        shape = tuple(shape)
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
        sides = own if tile is None else (tile, tile) if isinstance(tile, int) else tile
        if sides != own and not self.fully_convolutional:
            raise ValueError(
                f"{self!r}.tiled({tile}): this network is not fully convolutional, so tiles have "
                f"its own shape {own}; leave out tile="
            )
        other = copy.copy(self)
        shared = min(sides) // 4 if overlap is None else overlap
        tiles = TiledNetwork(self.module, sides, shared, pixels)
        other.module = tiles.train(self.module.training)
        other.fully_convolutional = True
        return other

    def _input(self, x: Tensor, sigma: Tensor) -> Tensor:
        if self.coordinates == "vp":
            return x / (1 + sigma**2).sqrt()
        if self.coordinates == "flow":
            return x / (1 + sigma)
        if self.coordinates == "edm":
            return x / (sigma**2 + self.sigma_data**2).sqrt()
        return x

    def label(self, sigma: Tensor) -> Tensor:
        """The network's noise label for levels `sigma` ``(batch,)`` in its own units."""
        if self.timesteps is not None:
            return sigma_to_timestep(sigma, self.timesteps.to(sigma))
        if self.coordinates == "edm":
            return sigma.log() / 4
        if self.coordinates == "flow":
            return sigma / (1 + sigma)
        return sigma

    def _denoised(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        match self.parameterization:
            case "x0":
                return output
            case "epsilon":
                return denoised_from_epsilon(x, output, sigma)
            case "v":
                return denoised_from_v(x, output, sigma)
            case "score":
                return denoised_from_score(x, output, sigma)
            case "flow":
                return denoised_from_flow(x, output, sigma)
        total = sigma**2 + self.sigma_data**2  # edm: Karras et al. 2022, table 1
        skip, out = self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt()
        return skip * x + out * output


def device_of(module: nn.Module) -> torch.device:
    """Where a module's weights are; the CPU for a module without any."""
    return next(module.parameters(), torch.zeros(())).device


def _increasing(table: Tensor) -> Tensor:
    table = torch.as_tensor(table, dtype=torch.float64)
    if table.ndim != 1 or len(table) < 2 or not bool((table.diff() > 0).all()) or table[0] <= 0:
        raise ValueError(
            "NetworkPrior(timesteps=): needs the positive noise levels of the training steps in "
            "increasing order, e.g. ((1 - alpha_bar) / alpha_bar).sqrt()"
        )
    return table
