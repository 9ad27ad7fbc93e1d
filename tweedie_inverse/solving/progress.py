"""The progress bar of a solve, with an estimate of time from the first tiles on.

A step of a large image takes minutes.  Its network is called for some tiles, or slices of a volume,
at a time, and each call moves the bar by its share of the step; a step counts as done when it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn

from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.priors.slices import Slices
from tweedie_inverse.priors.tiles import TiledNetwork, starts
from tweedie_inverse.priors.wrapped import WrappedPrior
from tweedie_inverse.runtime import notebook
from tweedie_inverse.solving.setup import Run

# The share of a step that its evaluations are at most: a linear solve follows, and secants are
# evaluations of their own.
_NETWORK = 0.9
_FINE = "{l_bar}{bar}| {n:.2f}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class Pieces(NamedTuple):
    """The network behind a prior, and how many of its inputs one image is."""

    network: nn.Module
    inputs: float


class Progress:
    """Where a solve stands, on a bar of tqdm."""

    def __init__(self, bar: Any, pieces: Pieces | None):
        self._bar, self._pieces = bar, pieces
        self._walkers, self._has_begun = 0, False
        self._within: float = 0

    def begin(self, done: int, walkers: int) -> None:
        """A part of so many walkers begins, or is taken up, when so many steps are done."""
        self._walkers, self._within, self._bar.n = walkers, 0, done
        if not self._has_begun:  # what was there before tells nothing of the time
            self._bar.initial, self._has_begun = done, True

    def step(self) -> None:
        """Every walker of the part has made a step."""
        self._bar.update(self._walkers - self._within)
        self._within = 0

    def seen(self, _: nn.Module, inputs: tuple[Any, ...], __: Any) -> None:
        """The network has been called for some pieces: a forward hook."""
        assert self._pieces is not None
        room = _NETWORK * self._walkers - self._within
        share = min(len(inputs[0]) / self._pieces.inputs, max(0.0, room))
        self._within += share
        self._bar.update(share)


@contextmanager
def progress_of(run: Run, *, show: bool) -> Iterator[Progress]:
    """A bar over the steps of all walkers, if it is to be shown; one for all processes."""
    ranks = run.prior.ranks
    show = show and ranks.leads
    steps = run.total * (len(run.sigmas) - 1)  # probes and secants are part of a step
    pieces = pieces_of(run.prior) if show else None
    if pieces is not None:  # the others have their share
        pieces = pieces._replace(inputs=pieces.inputs / ranks.size)
    settings: dict[str, Any] = {} if pieces is None else {"bar_format": _FINE}
    with notebook.progress_bar(
        total=steps, disable=not show, unit="step", desc=run.walk.name, **settings
    ) as bar:
        progress = Progress(bar, pieces)
        hook = None if pieces is None else pieces.network.register_forward_hook(progress.seen)
        try:
            yield progress
        finally:
            if hook is not None:
                hook.remove()


def pieces_of(prior: Prior) -> Pieces | None:
    """None where an image is a single input of the network, or there is no network."""
    while isinstance(prior, WrappedPrior):
        prior = prior.prior
    network, count = None, 0.0
    if isinstance(prior, NetworkPrior) and isinstance(prior.module, TiledNetwork):
        network, count = prior.module.network, _tiles(prior.module, tuple(prior.shape[-2:]))
    elif isinstance(prior, Slices):
        for axis in prior.axes:
            shape = tuple(size for place, size in enumerate(prior.shape) if place != 1 + axis)
            of_slice = pieces_of(prior.prior.for_shape(shape))
            if of_slice is None and isinstance(prior.prior, NetworkPrior):
                of_slice = Pieces(prior.prior.module, 1)
            if of_slice is None:
                return None
            network, count = of_slice.network, count + prior.shape[1 + axis] * of_slice.inputs
    return None if network is None or count == 1 else Pieces(network, count)


def _tiles(network: TiledNetwork, size: tuple[int, ...]) -> int:
    """How many tiles an image is cut into."""
    along = [
        len(starts(length, min(tile, length), network.overlap))
        for length, tile in zip(size, network.tile, strict=True)
    ]
    return along[0] * along[1]
