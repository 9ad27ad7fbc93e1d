"""Which share of the work is this process's: static strided shards, no process group.

The same under torchrun, srun, in SLURM arrays and by hand.  Each process writes files of its own,
so that the folder is the merged result, and a killed process loses the file it was working on.

One measurement of several processes (``--over-ranks``) is another matter: they are a process group
(`runtime.ranks`), and the first one speaks and writes.
"""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import NamedTuple, TypeVar

import torch

from tweedie_inverse.runtime.devices import usable

T = TypeVar("T")
# Launchers say who is who in these pairs of variables: torchrun, srun, a SLURM array.  The second
# one of srun is set in its job steps only: sbatch sets SLURM_PROCID and SLURM_NTASKS for the batch
# script, too, which is one process however many tasks the job may start.
_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
)


class Place(NamedTuple):
    """This process, `rank` of `world_size`."""

    rank: int
    world_size: int


def find_place(
    environment: Mapping[str, str], rank: int | None = None, world_size: int | None = None
) -> Place:
    """The place that is given, else that of a launcher's environment, else the only process.

    The first of torchrun, srun and a SLURM array that has more than one process counts; an array
    may be numbered from any first number, without gaps.  A batch script without srun is one
    process.

    Raises:
        ValueError: only one of the two given, a rank outside [0, world_size), or a variable that is
            no number.
    """
    if (rank is None) != (world_size is None):
        raise ValueError("give both --rank and --world-size, or neither")
    if rank is not None and world_size is not None:
        return _checked(Place(rank, world_size))
    for mine, all_ in _VARIABLES:
        if mine in environment and (size := _number(environment, all_, 1)) > 1:
            first = _number(environment, "SLURM_ARRAY_TASK_MIN", 0) if "ARRAY" in mine else 0
            return _checked(Place(_number(environment, mine, 0) - first, size))
    return Place(0, 1)


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f"the environment variable {name} should be a whole number, is {text!r}; unset it, or "
            "give --rank and --world-size"
        ) from None


def _checked(place: Place) -> Place:
    if not 0 <= place.rank < place.world_size:
        raise ValueError(f"rank {place.rank} is not in [0, {place.world_size}); number from 0")
    return place


def shard(items: Sequence[T], place: Place) -> Sequence[T]:
    """Every `world_size`-th item from number `rank` on."""
    return items[place.rank :: place.world_size]


def device_of(name: str, environment: Mapping[str, str]) -> str:
    """``cuda`` under a launcher is the accelerator with this process's number on its machine.

    Modulo their number: there may be fewer accelerators than processes, and a scheduler may show
    each process only its own.  `ready_device` tries it, too.
    """
    for variable in ("LOCAL_RANK", "SLURM_LOCALID"):
        if name == "cuda" and variable in environment:
            local = _number(environment, variable, 0)
            return f"cuda:{local % (torch.cuda.device_count() or local + 1)}"
    return name


def ready_device(name: str, environment: Mapping[str, str]) -> str:
    """`device_of`, tried before any work.

    Raises:
        ValueError: this machine has no such device.
    """
    return usable(device_of(name, environment) if torch.cuda.is_available() else name)


def in_words(place: Place, environment: Mapping[str, str]) -> str:
    """This process's share, for the terminal, and why others may not have theirs."""
    text = f"process {place.rank + 1} of {place.world_size}"
    if place.world_size > 1:
        return f"{text}, which does its own share only"
    tasks = environment.get("SLURM_NTASKS", "1")
    if "SLURM_JOB_ID" in environment and tasks not in ("", "1"):
        return f"{text}, which does all of the work: the job has {tasks} tasks, which srun starts"
    return text


def refuse_over_ranks(options: argparse.Namespace, several: bool) -> None:
    """Raise a `ValueError` where ``--over-ranks`` does not go with the other options."""
    if several:
        raise ValueError(
            "solve: --over-ranks solves one measurement in all processes, to one file; several "
            "are shared out without it"
        )
    if not options.tiled:
        raise ValueError("solve: --over-ranks spreads the tiles of --tiled; add it")
    if options.dry_run:
        raise ValueError("solve: --dry-run tries one process; leave --over-ranks out")


@contextmanager
def said_by_the_first(is_one: bool, environment: Mapping[str, str]) -> Iterator[None]:
    """Let the processes of one measurement speak once; errors are said by each that has one."""
    if not is_one or find_place(environment).rank == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def under_torchrun(environment: Mapping[str, str]) -> bool:
    """Whether a launcher stops all processes when one of them ends with an error."""
    return "TORCHELASTIC_RUN_ID" in environment
