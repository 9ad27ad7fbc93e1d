"""What a file claims to hold, held against its size before anything is read or built.

PyTorch stores its numbers as they are, so what unpacks to many times the size of its file was not
written by it; and a tensor is no larger than the memory that its numbers lie in.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

# An archive may unpack to this many times its size, and this many bytes more.
_GROWTH, _SLACK = 4, 2**20


def check_archive(path: Path) -> None:
    """Refuse a zip archive that would unpack to much more than the file.

    Raises:
        ValueError: it would, or its table of contents cannot be read.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise ValueError(
            f"load_prior: {path} is truncated or no PyTorch file ({error}); fetch it again and "
            "compare its checksum (sha256=)"
        ) from None
    size = path.stat().st_size
    if claimed > _GROWTH * size + _SLACK:
        raise ValueError(
            f"load_prior: refused {path}: {size:,} bytes that unpack to {claimed:,}; PyTorch "
            "stores weights as they are, so this file was made to fill the memory"
        )


def check_claims(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that claim more numbers than there are behind them.

    Raises:
        ValueError: with the first one's name.
    """
    for name, value in state.items():
        if value.layout != torch.strided or value.is_meta:
            continue
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(
                f"load_prior: refused {path}: {name} claims {value.numel():,} numbers of shape "
                f"{tuple(value.shape)}, more than the file holds"
            )


def check_finite(state: Mapping[str, Tensor], path: Path | str, advice: str = "") -> None:
    """Refuse NaN and infinite weights.

    Raises:
        ValueError: with how many there are, and the first one's name.
    """
    broken = {name: count for name, value in state.items() if (count := _not_finite(value))}
    if broken:
        first = next(iter(broken))
        raise ValueError(
            f"load_prior: {path}: {sum(broken.values())} numbers in {len(broken)} of {len(state)} "
            f"weights are NaN or infinite, first in {first}; the file is damaged, or its training "
            f"diverged{advice}"
        )


def _not_finite(value: Tensor) -> int:
    """How many NaN and infinite numbers there are; their sum tells at once that there are none."""
    if not value.is_floating_point() or bool(value.sum(dtype=torch.float64).isfinite()):
        return 0
    return int((~value.isfinite()).sum())
