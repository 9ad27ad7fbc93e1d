"""What is known of one file of images, or of one image of an array, before anything is cropped."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

# Between these shares of its pixels the values of a file are described.
SHARES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.5, 0.9, 0.97, 0.99, 0.997, 0.999, 1.0)
_VALUES = 1001
_MOST = 2_000_000  # pixels that quantiles are taken of; of more, an even part


@dataclass(frozen=True)
class Facts:
    """One file.

    Attributes:
        name: relative to the folder, or the number of the image.
        checksum: SHA-256 of the content.
        group: files of one group are held out together or not at all.
        count, channels, height, width: of its images.
        white: the number that the file says is white, black being 0; None where it does not say.
        units: such as "HU".
        quantiles: of the values, at `SHARES`.
        blank: which of its images are of one value everywhere; they are left out.
        refused: why nothing of it can be used; empty where it can.
    """

    name: str
    checksum: str
    group: str = ""
    count: int = 0
    channels: int = 0
    height: int = 0
    width: int = 0
    white: float | None = None
    units: str = ""
    quantiles: tuple[float, ...] = ()
    blank: tuple[int, ...] = field(default=())
    refused: str = ""

    @property
    def used(self) -> list[int]:
        """The numbers of its images that differ from a blank sheet."""
        return [number for number in range(self.count) if number not in self.blank]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @staticmethod
    def of_plain(plain: dict[str, Any]) -> "Facts":
        return Facts(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}  # type: ignore[arg-type]
        )


def facts_of(images: Tensor, **known: Any) -> Facts:
    """What there is to say of ``(count, channels, height, width)``, real numbers.

    Raises:
        ValueError: NaN or infinite values.
    """
    if not bool(images.isfinite().all()):
        bad = int((~images.isfinite()).sum())
        raise ValueError(f"holds NaN or infinite values ({bad} of {images.numel()})")
    flat = images.flatten(1)
    blank = (flat.amin(1) == flat.amax(1)).nonzero().flatten().tolist()
    count, channels, height, width = images.shape
    return Facts(
        count=count,
        channels=channels,
        height=height,
        width=width,
        quantiles=quantiles_of(images),
        blank=tuple(blank),
        **known,
    )


def quantiles_of(images: Tensor) -> tuple[float, ...]:
    """The quantiles of all values at `SHARES`; the ends are exact."""
    values = images.flatten().double()
    part = values[:: -(-len(values) // _MOST)].sort().values
    places = [round(share * (len(part) - 1)) for share in SHARES]
    return (
        float(values.min()),
        *(float(part[place]) for place in places[1:-1]),
        float(values.max()),
    )


def pooled(facts: Sequence[Facts], shares: Sequence[float], most: int = 5000) -> list[float]:
    """Quantiles of the values of many files, each counted alike; without their last thousandths,
    of which a file says no more than its ends.
    """
    step = -(-len(facts) // most)
    known = torch.tensor([one.quantiles for one in facts[::step]]).double()
    # Files as if they had so many values each, on straight lines between their quantiles.
    at = torch.linspace(0, 1, _VALUES).double().clamp(SHARES[1], SHARES[-2])
    ends = torch.tensor(SHARES).double()
    upper = torch.searchsorted(ends, at).clamp(1, len(ends) - 1)
    part = (at - ends[upper - 1]) / (ends[upper] - ends[upper - 1])
    values = (known[:, upper - 1] + part * (known[:, upper] - known[:, upper - 1])).flatten()
    values = values.sort().values
    return [float(values[round(share * (len(values) - 1))]) for share in shares]
