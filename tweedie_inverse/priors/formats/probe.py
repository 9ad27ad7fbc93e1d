"""A network of the user's, tried at loading without computing anything: do its channels fit?

On torch's meta device tensors have shapes and no numbers, so a pass costs milliseconds at any size
(and a second once, for torch to get ready).  What does not run there is left to the guarded first
call of a walk (`priors/contract.py`).
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.formats.base import Source
from tweedie_inverse.priors.network import NetworkPrior


def probe(prior: Prior, source: Source) -> None:
    """Refuse a network that does not take images of the prior's channels, or returns others.

    Raises:
        ValueError: both shapes, and the setting that may be wrong.
    """
    if not isinstance(prior, NetworkPrior) or prior.module.training:
        return
    shape = tuple(prior.shape)
    try:
        output = _shape_of_output(prior.module, shape)
    except Exception as error:  # whatever a network does without numbers
        if isinstance(error, RuntimeError) and "channel" in str(error):
            reason = str(error).strip().splitlines()[0][:160]
            raise ValueError(
                f"load_prior({source.name!r}): the network does not take {shape[0]} channels, as "
                f"images of shape {shape} have ({reason}); give the shape "
                "that it was trained on by format="
            ) from None
        return
    if output is not None and output != (1, *shape):
        raise ValueError(
            f"load_prior({source.name!r}): the network returns {output[1:]} for an image of shape "
            f"{shape}; a prior needs as many channels out as in, and the same size"
        )


def _shape_of_output(module: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Of one image, ``(1, ...)``; None where the network returns something else than a tensor."""
    numbers = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    without = {name: value.to("meta") for name, value in numbers.items()}
    first = next((v for v in without.values() if v.is_floating_point()), torch.zeros(()))
    x = torch.empty((1, *shape), device="meta", dtype=first.dtype)
    label = torch.empty(1, device="meta", dtype=first.dtype)
    with torch.no_grad():
        output = functional_call(module, without, (x, label))
    return tuple(output.shape) if isinstance(output, Tensor) else None
