"""What a sampler costs, counted at the prior and not by the sampler."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from tweedie_inverse.priors.base import Prior
from tweedie_inverse.priors.wrapped import WrappedPrior
from tweedie_inverse.runtime.memory import in_parts


class Count:
    """Network evaluations and vector-Jacobian products, one an image.

    Attributes:
        calls: evaluations that succeeded; one that runs out of memory is not counted.
        vjps: products of a vector with the network's transposed Jacobian (backward passes).
    """

    def __init__(self) -> None:
        self.calls = self.vjps = 0

    def watch(self, output: Tensor) -> Tensor:
        """Count an evaluation ``(batch, ...)``; the returned view counts its backward passes."""
        self.calls += len(output)
        watched: Tensor = _Watched.apply(output, self)
        return watched


class CountedPrior(WrappedPrior):
    """A prior that counts its evaluations.

    Args:
        prior: the prior that answers.
        chunk: images that are evaluated together; where an accelerator's memory is too small for
            them, fewer, from then on.  None evaluates all of them together.

    Attributes:
        count: the cost so far.
    """

    def __init__(self, prior: Prior, *, chunk: int | None = None):
        super().__init__(prior)
        self.count, self.chunk = Count(), chunk

    @property
    def calls(self) -> int:
        """Network evaluations so far."""
        return self.count.calls

    @property
    def vjps(self) -> int:
        """Vector-Jacobian products so far."""
        return self.count.vjps

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self._in_parts(x, sigma, lambda x, sigma, part: self.prior.denoise(x, sigma))

    def denoise_drawing(
        self, x: Tensor, sigma: float | Tensor, noise: Callable[[tuple[int, ...]], Tensor]
    ) -> Tensor:
        drawn = cache(noise)  # for the whole batch, whatever its parts

        def evaluate(x: Tensor, sigma: float | Tensor, part: slice) -> Tensor:
            return self.prior.denoise_drawing(x, sigma, lambda shape: drawn(shape)[part])

        return self._in_parts(x, sigma, evaluate)

    def _in_parts(
        self,
        x: Tensor,
        sigma: float | Tensor,
        evaluate: Callable[[Tensor, float | Tensor, slice], Tensor],
    ) -> Tensor:
        if self.chunk is None or len(x) == 0:
            return self.count.watch(evaluate(x, sigma, slice(None)))
        each = isinstance(sigma, Tensor) and sigma.numel() > 1

        def work(first: int, last: int) -> Tensor:
            part = slice(first, last)
            try:
                return evaluate(x[part], sigma[part] if each else sigma, part)  # type: ignore[index]
            except torch.OutOfMemoryError:
                self.chunk = max(1, (last - first) // 2)  # of the later evaluations, too
                raise

        parts = list(in_parts(len(x), self.chunk, work))
        return self.count.watch(parts[0] if len(parts) == 1 else torch.cat(parts))


class _Watched(torch.autograd.Function):
    """The identity; its backward pass counts."""

    @staticmethod
    def forward(output: Tensor, count: Count) -> Tensor:
        return output.view_as(output)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.count = inputs[1]

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        ctx.count.vjps += len(gradient)
        return gradient, None

    @staticmethod
    def jvp(ctx, tangent: Tensor, _: None):  # type: ignore[override]
        return tangent.view_as(tangent)
