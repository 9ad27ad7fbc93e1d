"""A denoiser's work in parts, such as tiles or slices, spread over processes.

The image is whole in every process, and the same.  Each evaluates its share of the parts, the very
calls that one process makes, and all get all of the answers: the same numbers, bit for bit, where
the processes run on machines of one kind with equally many threads.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tweedie_inverse.runtime.ranks import RankError, Ranks

P = TypeVar("P")
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Rounding makes images of different processes differ by this share of their largest number at
# most, where sums have no fixed order; more is another image.
_ROUNDING = 1e-3
_AXES = 6


def shared(ranks: Ranks, x: Tensor) -> Tensor:
    """x, for `answers` to parts of it; its gradient is the sum over the processes."""
    if ranks.size == 1 or not _is_differentiated(x):
        return x
    given: Tensor = _Given.apply(x, ranks)
    return given


def answers(
    ranks: Ranks,
    x: Tensor,
    told: Tensor,
    parts: Sequence[P],
    counts: Sequence[int],
    evaluate: Callable[[P], Tensor],
    *,
    draws: Callable[[], int] | None = None,
) -> Iterable[Tensor]:
    """``evaluate(part)`` for every part, in order, each evaluated by one of the processes.

    Args:
        x: `shared`, the images that the parts are of, the same in all processes.
        told: the noise labels or levels that go with them.
        counts: rows of each answer.
        draws: how often random numbers were taken so far; what one process takes, all must take.

    Raises:
        RankError: the processes ask for different things, or one of them has failed.
        torch.OutOfMemoryError: one of them, in all.
        NotImplementedError: a transform of `torch.func`, or a forward derivative.
    """
    if ranks.size == 1:
        return map(evaluate, parts)
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        raise NotImplementedError(
            "a prior over ranks takes backward derivatives (torch.autograd.grad) and no transforms "
            "of torch.func; ask the prior without over_ranks()"
        )
    shares = ranks.shares(len(parts))
    mine = shares[ranks.rank]
    try:
        found = (_checked(evaluate(parts[index]), counts[index]) for index in mine)
        own = torch.cat([*found]) if len(mine) else None
    except Exception as error:
        ranks.tell(error)
    row = [0] * (2 + _AXES) if own is None else [1, _DTYPES.index(own.dtype), *_shape(own[0])]
    taken = 0 if draws is None else draws()
    marks = [*_shape(x), _sum_of_bits(x), _sum_of_bits(told)]
    everyone = ranks.agree("a network evaluation", [taken, *marks, *row])
    of_images = len(marks)
    _refuse_others(ranks, x, [one[1 : 1 + of_images] for one in everyone])
    if max(one[0] for one in everyone) > taken:
        evaluate(parts[0])
    _, dtype, *shape = next(one[1 + of_images :] for one in everyone if one[1 + of_images])
    if own is None:  # of x, so that the answer has a gradient here, too
        size = [n for n in shape if n]
        own = x.flatten()[:0].to(_DTYPES[dtype]).reshape(0, *size)
    each = [sum(counts[share.start : share.stop]) for share in shares]
    ranks.note(each)
    if _is_differentiated(x):
        everything: Tensor = _Gathered.apply(own, ranks, each)
    else:
        everything = ranks.gather(own, each)
    return everything.split(list(counts))


def _is_differentiated(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad


def _checked(answer: Any, count: int) -> Tensor:
    """The answer to one part, before others wait for it."""
    if not isinstance(answer, Tensor) or answer.dtype not in _DTYPES or answer.ndim > _AXES - 2:
        what = f"{answer.dtype}" if isinstance(answer, Tensor) else type(answer).__name__
        raise TypeError(f"the network returned {what}; it must return images of real numbers")
    if len(answer) != count:
        raise ValueError(f"the network returned {len(answer)} images for {count}")
    return answer


def _shape(values: Tensor) -> list[int]:
    return [*values.shape, *[0] * (_AXES - values.ndim)]


def _sum_of_bits(values: Tensor) -> int:
    """Equal for equal numbers, and for hardly any others."""
    words = values.detach().contiguous().flatten().view(_WORDS[values.element_size()])
    return int(words.sum(dtype=torch.int64))


def _refuse_others(ranks: Ranks, x: Tensor, marks: list[list[int]]) -> None:
    """Raise a `RankError` where the processes ask for different images or noise levels."""
    shapes = [tuple(n for n in one[:_AXES] if n) for one in marks]
    if len(set(shapes)) > 1:
        raise RankError(
            f"the processes ask the network for images of different shapes, {shapes}; give all the "
            "same arguments: measurement, prior, num_samples, batch_size"
        )
    if len({one[-1] for one in marks}) > 1:
        raise RankError(
            "the processes ask the network at different noise levels; give all the same arguments: "
            "method, steps, noise"
        )
    if len({one[-2] for one in marks}) == 1:
        return
    theirs = ranks.first(x)
    share = float((x.detach() - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))
    millionths = 10**9 if not share <= 1e3 else int(1e6 * share)
    most = max(row[0] for row in ranks.agree("how far images differ", [millionths])) / 1e6
    if most > _ROUNDING:
        raise RankError(
            f"the processes ask the network for different images (they differ by {most:.2g} of the "
            "largest number, beyond rounding); give all the same measurement, operator and seed"
        )


class _Given(torch.autograd.Function):
    """The identity; the gradients of all processes are summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        ctx.ranks.agree("a gradient", [gradient.numel()])
        each = ctx.ranks.gather(gradient[None], [1] * ctx.ranks.size)
        total = each[0]
        for one in each[1:]:
            total = total + one
        return total, None


class _Gathered(torch.autograd.Function):
    """The answers of all processes; the gradient of this one's goes back here."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks, each: list[int]) -> Tensor:
        first = sum(each[: ranks.rank])
        ctx.own = slice(first, first + each[ranks.rank])
        return ranks.gather(own, each)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return gradient[ctx.own], None, None
