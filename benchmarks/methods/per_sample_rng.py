"""A random stream for each sample, in samplers that draw for a whole batch.

Samplers of deepinv draw one tensor for a whole batch, from the global generator or from their
own.  Inside `PerSampleNoise` every row of such a draw comes from a generator of its own, as torch
would draw it for a batch of one: a sample is what the sampler gives for that seed alone, whatever
runs beside it, and the global generator is neither read nor set.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class PerSampleNoise(TorchFunctionMode):
    """Answers `torch.randn`, `torch.randn_like` and `Tensor.normal_` row by row.

    Args:
        seeds: what ``torch.Generator().manual_seed`` gets, one seed for each row of the batch.
    """

    def __init__(self, seeds: Sequence[int]):
        super().__init__()
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.randn_like or function is Tensor.normal_:
            drawn = self._draw(args[0])
            return args[0].copy_(drawn) if function is Tensor.normal_ else drawn
        if function is torch.randn:
            size = args[0] if len(args) == 1 and not isinstance(args[0], int) else args
            known = {key: kwargs[key] for key in ("dtype", "device") if key in kwargs}
            return self._draw(torch.empty(tuple(size), **known))
        return function(*args, **kwargs)

    def _draw(self, like: Tensor) -> Tensor:
        if len(like) != len(self._generators):
            raise ValueError(
                f"PerSampleNoise: a sampler drew {len(like)} rows for "
                f"{len(self._generators)} samples"
            )
        shape, dtype = (1, *like.shape[1:]), like.dtype
        rows = [
            torch.empty(shape, dtype=dtype).normal_(generator=generator)
            for generator in self._generators
        ]
        return torch.cat(rows).to(like.device)
