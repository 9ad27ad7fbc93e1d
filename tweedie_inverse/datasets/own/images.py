"""Images of the user's own as a training set: random crops by seed, held-out ones apart."""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.datasets.own.cache import Cache
from tweedie_inverse.datasets.own.facts import Facts
from tweedie_inverse.datasets.own.preparation import (
    Preparation,
    Source,
    channels_of,
    listed,
    too_small,
)
from tweedie_inverse.datasets.own.split import split
from tweedie_inverse.datasets.own.value_range import find_range
from tweedie_inverse.datasets.seeds import generators
from tweedie_inverse.runtime.atomic import replace

_LUMINANCE = (0.299, 0.587, 0.114)
_BYTE = 255.0
# Images of more pixels than this, in crops, were cut from something larger: places are alike.
_LARGER = 1.5
# Crops of an image of so many times their pixels show little but smooth patches.
_MUCH = 100
# Held-out crops of one image, at other places and with other noise.
_REPEATED = 8


class OwnImages:
    """Crops ``(channels, size, size)`` in [0, 1], each fixed by its seed.

    Every image is seen once before one is seen again.  Values outside the range are cut off.

    Attributes:
        shape: of a crop.
        values: the range that became [0, 1].
        larger: whether the images are clearly larger than the crops, which then may lie anywhere.
        checksum: of names and contents of all files that are used, and of the preparation.

    Raises:
        ValueError: no file can be used, colours or values differ, images are smaller than the
            crops, or they are too few.
    """

    def __init__(self, source: Source, preparation: Preparation):
        self.source, self.preparation = source, preparation
        usable = [one for one in source.facts if not one.refused and one.used]
        if not usable:
            raise ValueError(
                f"train: none of the {len(source.facts)} files of {source.name} can be trained on: "
                f"{listed(self._unused())}"
            )
        self.channels = channels_of(usable, preparation.colours)
        crops = [self._crops(one) for one in source.facts]
        if not any(crops):
            raise ValueError(too_small(usable, preparation))
        self._small = [
            one for one, room in zip(source.facts, crops, strict=True)
            if one.used and not one.refused and not room
        ]  # fmt: skip
        usable = [one for one, room in zip(source.facts, crops, strict=True) if room]
        self.values = find_range(usable, preparation.value_range)
        parts = split(source.facts, crops, preparation.held_out_share, preparation.seed)
        self._trained, self._held_out = (
            [(number, image) for number in part for image in source.facts[number].used]
            for part in parts
        )
        self._held_out_files = set(parts.held_out)
        sizes = sorted(self._area(one) for one in usable)
        self.larger = sizes[len(sizes) // 2] >= _LARGER * preparation.size**2
        self.shape = (self.channels, preparation.size, preparation.size)
        self.checksum = self._checksum(usable)
        self._cache = Cache(self._prepared)
        self._order = lru_cache(maxsize=4)(self._order_of)

    # What there is

    def _size(self, one: Facts) -> tuple[int, int]:
        """Height and width of its images when they are resized."""
        shorter = min(one.height, one.width)
        if not self.preparation.resize or not shorter:
            return one.height, one.width
        factor = self.preparation.resize / shorter
        return round(one.height * factor), round(one.width * factor)

    def _crops(self, one: Facts) -> int:
        height, width = self._size(one)
        size = self.preparation.size
        return 0 if one.refused else (height // size) * (width // size) * len(one.used)

    def _area(self, one: Facts) -> int:
        height, width = self._size(one)
        return height * width

    def _checksum(self, usable: Sequence[Facts]) -> str:
        said = [[one.name, one.checksum] for one in usable]
        settings = [*self.preparation, *self.values[:2]]
        return hashlib.sha256(json.dumps([said, settings]).encode()).hexdigest()

    def _unused(self) -> list[tuple[str, str]]:
        """Files that are left out, and why."""
        refused = [(one.name, one.refused) for one in self.source.facts if one.refused]
        blank = [
            (one.name, "one value everywhere")
            for one in self.source.facts
            if not one.refused and not one.used
        ]
        small = [
            (one.name, f"{one.height}x{one.width}, smaller than the crops")
            for one in getattr(self, "_small", [])
        ]
        return [*refused, *blank, *small]

    @property
    def trained(self) -> int:
        """The number of images trained on."""
        return len(self._trained)

    @property
    def held(self) -> int:
        """The number of images held out."""
        return len(self._held_out)

    def statement(self) -> list[str]:
        """What was found, in lines for a terminal and a card."""
        colours = "colour" if self.channels == 3 else "grey"
        usable = [one for one in self.source.facts if self._crops(one)]
        sizes = sorted({self._size(one) for one in usable}, key=lambda pair: pair[0] * pair[1])
        ends = [f"{height}x{width}" for height, width in (sizes[0], sizes[-1])]
        spread = ends[0] if len(sizes) == 1 else f"{ends[0]} to {ends[1]}"
        files = len(usable)
        of_files = f" of {files} files" if files != self.trained + self.held else ""
        size, whole = self.preparation.size, not self.larger
        how = "random crops of nearly the whole image" if whole else "random crops"
        if sizes == [(size, size)]:
            how = "whole images"
        low, high, why = self.values
        lines = [
            f"{self.trained + self.held} {colours} images{of_files} in {self.source.name}, "
            f"{spread} pixels; {how} of {size}x{size}",
            f"{self.held} of them are held out, {self.trained} are trained on",
            f"value {low:g} becomes 0 and {high:g} becomes 1 ({why}); what lies outside is cut off",
        ]
        skipped = self._unused()
        if skipped:
            lines.append(f"left out: {listed(skipped)}")
        blank = sum(len(one.blank) for one in usable)
        if blank:
            lines.append(f"left out: {blank} slices of one value everywhere")
        shown = sizes[len(sizes) // 2][0] * sizes[len(sizes) // 2][1] / size**2
        if shown > _MUCH:
            lines.append(
                f"a crop shows 1/{shown:.0f} of an image; --resize (resize=) lets it show more"
            )
        if self.trained < 100 and whole:
            lines.append(
                f"{self.trained} images are few: the network may learn them by heart; watch the "
                "held-out error"
            )
        return lines

    def record(self) -> dict[str, Any]:
        """What a checkpoint keeps, to know the images again."""
        return {
            "kind": "own",
            "shape": list(self.shape),
            "checksum": self.checksum,
            "larger": self.larger,
            "values": list(self.values),
            "statement": self.statement(),
        }

    def write_index(self, path: Path) -> None:
        """All files with their checksums, and which are held out, as JSON."""
        rows = [
            {
                "name": one.name,
                "held_out": number in self._held_out_files,
                "used": bool(self._crops(one)),
                "facts": one.plain(),
            }
            for number, one in enumerate(self.source.facts)
        ]
        head = json.dumps({"checksum": self.checksum, "statement": self.statement()})[:-1]
        lines = ",\n".join(json.dumps(row) for row in rows)
        replace(path, f'{head}, "files": [\n{lines}\n]}}\n'.encode())

    # The numbers

    def images(self, seeds: Sequence[int]) -> Tensor:
        """Crops of training images, ``(len(seeds), *shape)``, float32."""
        drawn = zip(seeds, generators(self._keyed(seeds)), strict=True)
        return torch.stack([self._crop(*self._place(seed), generator) for seed, generator in drawn])

    def held_out(self, count: int) -> Tensor:
        """Crops of held-out images, ``(count or fewer, *shape)``, the images in turn.

        No more than eight of an image, or those that do not overlap: more would say nothing new.
        """
        room = sum(self._crops(self.source.facts[number]) for number in self._held_out_files)
        total = len(self._held_out)
        many = min(count, max(room, _REPEATED * total))
        draws = generators(self._keyed([-1 - k for k in range(many)]))
        # Evenly over the images, so that a few of them are not the first of one volume.
        stride = max(1, total // max(1, many))
        places = [self._held_out[(k * stride + k * stride // total) % total] for k in range(many)]
        return torch.stack(
            [self._crop(*p, g, still=True) for p, g in zip(places, draws, strict=True)]
        )

    def _keyed(self, seeds: Sequence[int]) -> list[int]:
        """Seeds of generators, far apart from each other and from those of other runs."""
        words = (f"{self.preparation.seed} {seed}".encode() for seed in seeds)
        return [int.from_bytes(hashlib.sha256(word).digest()[:7]) for word in words]

    def _place(self, seed: int) -> tuple[int, int]:
        epoch, index = divmod(int(seed), len(self._trained))
        return self._trained[self._order(epoch)[index]]

    def _order_of(self, epoch: int) -> list[int]:
        (key,) = self._keyed([-(2**62) - epoch])
        generator = torch.Generator().manual_seed(key)
        return torch.randperm(len(self._trained), generator=generator).tolist()

    def _crop(
        self, file: int, image: int, generator: torch.Generator, still: bool = False
    ) -> Tensor:
        whole, size = self._cache[file][image], self.preparation.size
        u = torch.rand(4, generator=generator)
        top = int(u[0] * (whole.shape[1] - size + 1))
        left = int(u[1] * (whole.shape[2] - size + 1))
        crop = whole[:, top : top + size, left : left + size]
        crop = crop.float() / _BYTE if crop.dtype == torch.uint8 else crop
        if self.preparation.flips and not still and u[2] < 0.5:
            crop = crop.flip(2)
        if self.preparation.rotations and not still:
            crop = torch.rot90(crop, int(u[3] * 4), (1, 2))
        return crop

    def _prepared(self, file: int) -> Tensor:
        """The images of a file as they are cropped: bytes where nothing is lost, else in [0, 1]."""
        facts = self.source.facts[file]
        found = self.source.load(file)
        if tuple(found.shape) != (facts.count, facts.channels, facts.height, facts.width):
            raise ValueError(
                f"train: {facts.name} of {self.source.name} has changed while it is trained on: "
                f"its images are {tuple(found.shape)} now"
            )
        low, high = self.values[:2]
        resized = self._size(facts) != (facts.height, facts.width)
        recoloured = self.channels != facts.channels
        if (low, high) == (0.0, _BYTE) and facts.white == _BYTE and not (resized or recoloured):
            return found.to(torch.uint8)
        images = ((found - low) / (high - low)).float()
        if recoloured:
            weights = torch.tensor(_LUMINANCE)[:, None, None]
            grey = (images * weights).sum(1, keepdim=True) if self.channels == 1 else images
            images = grey.expand(-1, self.channels, -1, -1)
        if resized:
            images = F.interpolate(
                images, size=self._size(facts), mode="bicubic", antialias=True, align_corners=False
            )
        return images.clamp(0, 1).contiguous()
