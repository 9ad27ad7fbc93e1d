"""A network on overlapping tiles of an image that is larger than it was trained on, or fits memory.

Every tile is an image of its own to the network; the outputs are blended by a smooth partition of
unity, so that no border of a tile shows.  In all parameterizations the denoised image is linear in
the output, with coefficients that are the same everywhere, so blending one is blending the other.
"""

import math
from functools import cache

import torch
from torch import Tensor, nn

from tweedie_inverse.boundary.arguments import count, sizes
from tweedie_inverse.priors.shared_work import answers, shared
from tweedie_inverse.runtime.ranks import Alone, Ranks


class TiledNetwork(nn.Module):
    """``forward(x, label)`` of a network, tile by tile.

    Args:
        network: called with ``(count, channels, *tile)`` and ``label (count,)``.
        tile: ``(height, width)``; smaller images, in either direction, are one tile.
        overlap: pixels that neighbours share at least, at most half a tile.
        pixels: of the tiles that are evaluated together, at least one tile; bounds the memory.
        ranks: processes that share the evaluations; each of them has the whole image.
    """

    def __init__(
        self,
        network: nn.Module,
        tile: tuple[int, int],
        overlap: int,
        pixels: int,
        ranks: Ranks | None = None,
    ):
        super().__init__()
        if not 0 < overlap <= min(tile) // 2:
            raise ValueError(
                f"tiled(overlap={overlap}): needs 1 to {min(tile) // 2} pixels, half of the tile "
                f"{tile[0]} x {tile[1]}"
            )
        self.network, self.tile, self.overlap, self.pixels = network, tile, overlap, pixels
        self.ranks = Alone() if ranks is None else ranks
        self.training = network.training  # not by train(), which reaches into the network

    def of(self, network: nn.Module, ranks: Ranks | None = None) -> "TiledNetwork":
        """The same tiles of another network, or over other processes."""
        ranks = self.ranks if ranks is None else ranks
        return TiledNetwork(network, self.tile, self.overlap, self.pixels, ranks)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        size = tuple(x.shape[-2:])
        height, width = (min(t, s) for t, s in zip(self.tile, size, strict=True))
        together = max(1, self.pixels // (height * width))
        if size == (height, width) and len(x) <= together and self.ranks.size == 1:
            return self.network(x, label)
        rows, columns = starts(size[0], height, self.overlap), starts(size[1], width, self.overlap)
        down, across = (
            windows(length, tile, self.overlap).to(x)
            for length, tile in ((size[0], height), (size[1], width))
        )
        places = [
            (image, i, j)
            for image in range(len(x))
            for i in range(len(rows))
            for j in range(len(columns))
        ]
        parts = [places[first : first + together] for first in range(0, len(places), together)]
        x = shared(self.ranks, x)

        def evaluate(part: list[tuple[int, int, int]]) -> Tensor:
            given = torch.stack([x[b, :, rows[i] :, columns[j] :][:, :height, :width]
                                 for b, i, j in part])  # fmt: skip
            return self.network(given, label[[b for b, _, _ in part]])

        out = torch.zeros_like(x)
        found = answers(self.ranks, x, label, parts, [len(part) for part in parts], evaluate)
        for part, seen in zip(parts, found, strict=True):
            for (b, i, j), tile in zip(part, seen, strict=True):
                here = out[b, :, rows[i] : rows[i] + height, columns[j] : columns[j] + width]
                here += tile * (down[i][:, None] * across[j])
        return out


@cache
def starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    """First pixels of tiles that cover `length` pixels, evenly spread."""
    if length <= tile:
        return (0,)
    count = math.ceil((length - overlap) / (tile - overlap))
    return tuple(round(k * (length - tile) / (count - 1)) for k in range(count))


@cache
def windows(length: int, tile: int, overlap: int) -> Tensor:
    """Weights ``(tiles, tile)`` of the tiles of one direction; at every pixel they sum to one.

    A weight rises as a sine squared over `overlap` pixels from the border of a tile, except at the
    border of the image, and is divided by the sum of all.
    """
    places = starts(length, tile, overlap)
    pixel = torch.arange(tile, dtype=torch.float64) + 0.5
    rise = torch.sin(math.pi / 2 * (pixel / overlap).clamp(max=1)) ** 2
    total, raw = torch.zeros(length, dtype=torch.float64), []
    for start in places:
        weight = torch.ones(tile, dtype=torch.float64)
        if start > 0:
            weight = weight * rise
        if start + tile < length:
            weight = weight * rise.flip(0)
        total[start : start + tile] += weight
        raw.append(weight)
    return torch.stack(
        [w / total[start : start + tile] for w, start in zip(raw, places, strict=True)]
    )


def sides_of(tile: int | tuple[int, int]) -> tuple[int, int]:
    """A tile's height and width, given as one side or both."""
    need = "a side, or (height, width)"
    if isinstance(tile, tuple | list):
        found = sizes("tiled", "tile", tile, need=need)
        if len(found) != 2:
            raise ValueError(f"tiled(tile={found}): needs {need}")
        return found[0], found[1]
    side = count("tiled", "tile", tile, need=need)
    return side, side
