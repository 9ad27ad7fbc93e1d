"""Changes of a covariance V that make it right along one direction: ``V' s = t``.

A secant pair (s, t) says what the covariance does to s.  With ``w = V s``,

    V' = E V E^T,    E = I + p s^T,    p = t / sqrt((t.s) (w.s)) - w / (w.s)

has ``V' s = t`` and is positive definite wherever V is and ``t.s > 0`` (the update of Broyden,
Fletcher, Goldfarb and Shanno in product form, Brodlie, Gourlay and Greenstadt 1973).  A draw of
``N(0, V')`` is E times a draw of ``N(0, V)``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# A pair is taken if t.s is at least this share of w.s: below it is noise, or the Jacobian of a
# network that is far from symmetric and positive.
_LEAST = 1e-2


class Secant(NamedTuple):
    """``E = I + p s^T``, one for each image of a batch; ``(batch, *shape)`` both."""

    p: Tensor
    s: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """``E x``."""
        return x + _column(_dot(self.s, x), x) * self.p.to(x)

    def transposed(self, x: Tensor) -> Tensor:
        """``E^T x``."""
        return x + _column(_dot(self.p, x), x) * self.s.to(x)

    def inverse(self, x: Tensor) -> Tensor:
        """``E^-1 x``."""
        share = _dot(self.s, x) / (1 + _dot(self.s, self.p))
        return x - _column(share, x) * self.p.to(x)


class Pair(NamedTuple):
    """A secant, and for which images it was taken: ``(batch,)``; for the others ``E = I``."""

    secant: Secant
    taken: Tensor


def secant(s: Tensor, t: Tensor, w: Tensor, most: float | Tensor) -> Pair:
    """The change that turns ``V s = w`` into ``V' s = t``.

    Args:
        s, t, w: ``(batch, *shape)``.
        most: the largest variance that a direction can have, a number or ``(batch,)``; pairs
            beyond it are not taken.
    """
    ts, ws = _dot(t, s), _dot(w, s)
    taken = (ws > 0) & (ts > _LEAST * ws) & (ts < most * _dot(s, s))
    safe_ts, safe_ws = (torch.where(taken, value, torch.ones_like(value)) for value in (ts, ws))
    p = _column((safe_ts * safe_ws).rsqrt(), t) * t - _column(1 / safe_ws, w) * w
    return Pair(Secant(torch.where(_column(taken, p), p, torch.zeros_like(p)), s), taken)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a.to(b) * b).flatten(1).sum(1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
