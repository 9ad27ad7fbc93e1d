"""Which share of the work is this process's: static strided shards, no process group.

Under torchrun, SLURM arrays or by hand alike; each process writes files of its own, so that a
merge is reading the folder, and a killed process costs what it was working on.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")
# Launchers say who is who in these pairs of variables: torchrun, srun, a SLURM array.
_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
)


class Place(NamedTuple):
    """This process, `rank` of `world_size`."""

    rank: int
    world_size: int


def find_place(
    environment: Mapping[str, str], rank: int | None = None, world_size: int | None = None
) -> Place:
    """As given, else as a launcher's environment says, else the only process.

    Raises:
        ValueError: only one of the two given, or a rank outside [0, world_size).
    """
    if (rank is None) != (world_size is None):
        raise ValueError("give both --rank and --world-size, or neither")
    place = Place(0, 1)
    if rank is not None and world_size is not None:
        place = Place(rank, world_size)
    else:
        for pair in _VARIABLES:
            if all(name in environment for name in pair) and int(environment[pair[1]]) > 1:
                place = Place(*(int(environment[name]) for name in pair))
                break
    if not 0 <= place.rank < place.world_size:
        raise ValueError(f"rank {place.rank} is not in [0, {place.world_size}); number from 0")
    return place


def shard(items: Sequence[T], place: Place) -> Sequence[T]:
    """Every `world_size`-th item from number `rank` on."""
    return items[place.rank :: place.world_size]
