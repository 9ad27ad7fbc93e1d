"""What a torch module is asked before it serves as a network: its mode, its weights, its device."""

import torch
from torch import Tensor, nn

_OF_THE_MODE = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


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


def floating_weight(module: nn.Module, like: Tensor | None = None) -> Tensor:
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
