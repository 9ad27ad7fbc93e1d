"""Principal directions of a posterior: in which images its samples differ most.

A few samples of many pixels vary most along directions that are partly chance, and the variance
along them is partly chance, too: of 20 draws of white noise in 1000 pixels, the first direction
seems to hold 67 times the variance that it has.  The variances here are therefore those of samples
that were held out while the directions were found.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count as whole_number
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.solving.panels import Panel, draw, plane

# Parts that are held out one after the other; up to so many samples each one alone.  Of many
# samples fewer parts, because each costs the eigenvectors of a matrix of their number.
_FOLDS, _FEW_FOLDS, _MANY = 32, 8, 256
_SHOWN = 4


@dataclass(frozen=True, eq=False, repr=False)
class PrincipalDirections:
    """Directions of largest posterior variance, the largest first; without `batch` like y.

    Attributes:
        directions: ``(batch, count, *shape)``, orthonormal: the squares of each add up to 1; the
            sign makes the largest value positive.
        std: ``(batch, count)``, standard deviation of held-out samples along each direction, found
            from the others: what the posterior has there.  Need not decrease.  NaN for the last
            directions where the samples without the held-out ones have fewer.
        share: ``(batch, count)``, ``std^2`` as a share of the variance of all values together.
        sample_std: ``(batch, count)``, of the samples that the directions were found from, which is
            too large where samples are few.
        mean: ``(batch, *shape)``.
        num_samples: that the directions were found from.
        units, value_range: of the images, where they are known.
    """

    directions: Tensor
    std: Tensor
    share: Tensor
    sample_std: Tensor
    mean: Tensor
    num_samples: int
    units: str = ""
    value_range: tuple[float, float] | None = None

    def __repr__(self) -> str:
        first = f"; the first has {float(self.share[0]):.1%} of the variance"
        return (
            f"PrincipalDirections({self.share.shape[-1]} of {self.num_samples} samples"
            f"{first if self.share.ndim == 1 else ''})"
        )

    def plot(self, path: str | Path | None = None, *, index: int = 0):
        """The mean, less and plus two standard deviations along each direction; the figure.

        Args:
            path: where to save the picture; its suffix says the format.
            index: which measurement of a batch.

        Raises:
            IndexError: there is no such measurement.
        """
        path = None if path is None else checked_path("plot", "path", path)
        mean, found, std, share = self.mean, self.directions, self.std, self.share
        if share.ndim == 2:
            if not -len(mean) <= index < len(mean):
                raise IndexError(f"plot(index={index}): it holds {len(mean)} measurement(s)")
            mean, found, std, share = mean[index], found[index], std[index], share[index]
        is_complex, part_shown = mean.ndim > 2 and mean.shape[0] == 2, plane(mean)[1]

        def shown(name: str, image: Tensor) -> Panel:
            if not is_complex:
                return Panel(name + part_shown, image, "image", self.units)
            return Panel(name, image.square().sum(0).sqrt(), "image", f"magnitude {self.units}")

        rows = []
        for k, (direction, size, part) in enumerate(zip(found, std, share, strict=True)):
            if k == _SHOWN or not bool(size.isfinite()):
                break
            move = 2 * size * direction
            rows.append(
                [
                    shown("mean - 2 std", mean - move),
                    shown("mean", mean),
                    shown("mean + 2 std", mean + move),
                    Panel(
                        f"direction {k + 1}: {float(part):.1%}{part_shown or ' of variance'}",
                        move / 2,
                        "signed",
                        self.units,
                    ),
                ]
            )
        return draw(rows or [[shown("mean", mean)]], path, value_range=self.value_range)


def principal_directions_of(
    samples: Tensor,
    sources: Tensor,
    count: int,
    *,
    units: str = "",
    value_range: tuple[float, float] | None = None,
) -> PrincipalDirections:
    """Directions of largest variance of ``(batch, num_samples, *shape)``, or without batch.

    Args:
        sources: ``(batch, num_samples, k)``; samples that share one are held out together.

    Raises:
        ValueError: more directions than samples less one, or than values of an image.
    """
    axis = sources.ndim - 2
    shape, size = samples.shape[axis + 1 :], samples.shape[axis]
    most = min(size - 1, shape.numel())
    if size < 3:
        raise ValueError(f"principal_directions: needs three samples or more, got {size}")
    need = f"from 1 to {most} directions, which {size} samples of {shape.numel()} values have"
    count = whole_number("principal_directions", "count", count, most=most, need=need)
    flat = samples.detach().cpu().double().reshape(-1, size, shape.numel())
    names = sources.cpu().reshape(-1, size, sources.shape[-1])
    found = [_of_one(one, name, count) for one, name in zip(flat, names, strict=True)]
    lead = samples.shape[:axis]
    directions, std, share, own = (
        torch.stack(parts).reshape(*lead, *parts[0].shape).to(samples)
        for parts in zip(*found, strict=True)
    )
    return PrincipalDirections(
        directions.reshape(*lead, count, *shape),
        std,
        share,
        own,
        samples.mean(axis),
        size,
        units,
        value_range,
    )


def _of_one(values: Tensor, names: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Directions ``(count, values)``, held-out deviations, shares and own deviations."""
    centred = values - values.mean(0)
    size = len(values)
    left, sizes, vectors = torch.linalg.svd(centred, full_matrices=False)
    directions = vectors[:count]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    directions = directions * torch.where(largest < 0, -1.0, 1.0)
    own = sizes[:count] / (size - 1) ** 0.5
    total = sizes.square().sum() / (size - 1)
    std = _held_out(left * sizes, names, count).sqrt()
    share = torch.where(total > 0, std.square() / total, torch.nan)
    return directions, std, share, own


def _held_out(places: Tensor, names: Tensor, count: int) -> Tensor:
    """Variance of held-out samples along the directions of the others, ``(count,)``.

    Args:
        places: ``(n, rank)``, coordinates of the samples in an orthonormal basis of their own.
    """
    size = len(places)
    fold = torch.arange(size) % (min(size, _FOLDS) if size <= _MANY else _FEW_FOLDS)
    found = torch.zeros(count, dtype=places.dtype)
    weight = torch.zeros(count, dtype=places.dtype)
    for k in range(int(fold.max()) + 1):
        held = fold == k
        related = (names[:, None, :, None] == names[held][None, :, None, :]).flatten(1).any(-1)
        rest = places[~related]
        if len(rest) < 2:
            continue
        centre = rest.mean(0)
        values, vectors = torch.linalg.eigh((rest - centre).T @ (rest - centre))
        usable = min(count, len(rest) - 1, len(values))
        values, vectors = values.flip(0)[:usable], vectors.flip(1)[:, :usable]
        along = (places[held] - centre) @ vectors
        there = (values > 1e-12 * values[0]).double()
        # A sample scatters about the mean of the others by its own variance and that mean's.
        found[:usable] += there * along.square().sum(0) / (1 + 1 / len(rest))
        weight[:usable] += there * int(held.sum())
    return torch.where(weight > 0, found / weight, torch.nan)
