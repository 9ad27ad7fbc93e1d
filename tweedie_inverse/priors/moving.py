"""Another device for a prior: the same numbers, held elsewhere."""

import copy
from typing import Any, Self

import torch
from torch import Tensor, nn

from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.spectral import Basis
from tweedie_inverse.runtime.devices import usable


class Movable:
    """Something that holds tensors, networks and others of its kind as attributes."""

    # Attributes that stay on the CPU, because they are looked up there.
    _stay: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> Self:
        """This prior on a device, where it then computes; the prior itself stays where it is.

        Networks are copied with their weights, once where two priors share one.  Tables of a
        denoising error need no move, because they follow the images.  Numbers inside a function,
        such as a classifier that is no `torch.nn.Module`, cannot be seen and are not moved.

        Raises:
            ValueError: torch sees no such device, or a network cannot be copied.
        """
        place = torch.zeros((), device=usable(device, f"{type(self).__name__}.to")).device
        return _moved(self, place, {})


def _moved(value: Any, device: torch.device, memo: dict[int, Any]) -> Any:
    """`value` on the device; what is there already, or holds no tensors, as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, nn.Module):
        return _network(value, device, memo)
    if isinstance(value, Movable | Covariance | Basis):
        return _attributes(value, device, memo)
    if type(value) in (list, tuple):
        return type(value)(_moved(one, device, memo) for one in value)
    if type(value) is dict:
        return {key: _moved(one, device, memo) for key, one in value.items()}
    return value


def _attributes(value: Any, device: torch.device, memo: dict[int, Any]) -> Any:
    """A shallow copy with everything in it moved; the same copy for the same object."""
    if id(value) in memo:
        return memo[id(value)]
    other = memo[id(value)] = copy.copy(value)
    staying = value._stay if isinstance(value, Movable) else ()
    for name, one in vars(value).items():
        if name not in staying:
            # Not setattr: covariances are frozen, but nobody has seen this copy yet.
            object.__setattr__(other, name, _moved(one, device, memo))
    return other


def _network(network: nn.Module, device: torch.device, memo: dict[int, Any]) -> nn.Module:
    weights = (*network.parameters(), *network.buffers())
    if all(weight.device == device for weight in weights):
        return network
    try:
        return copy.deepcopy(network, memo).to(device)
    except (TypeError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(
            f"to(device={str(device)!r}): the network {type(network).__name__} cannot be moved "
            f"({str(error).splitlines()[0]}); load it there, or move the module itself before it "
            "is wrapped"
        ) from error
