"""Processes that work on one thing together: who they are, and what they tell each other.

Every process runs the same program with the same arguments.  Where they meet, each first says how
it fares in a row of whole numbers (`Ranks.agree`): an error of one, or a process that is somewhere
else in the program, becomes an error of all instead of a wait without end.
"""

import functools
import os
import zlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from tweedie_inverse.boundary.warn import warn_user
from tweedie_inverse.runtime.processes import DefaultGroup, OneProcess, Processes

T = TypeVar("T")
_FINE, _NO_MEMORY, _FAILED = range(3)
# Numbers of a row beside the state and the place of a process.
_NUMBERS = 20
# The busiest process has this much of an even share at most, or a warning says what to do.
_UNEVEN = 1.5
# One waits for another at most so long, where both live.
_PATIENCE = timedelta(minutes=30)


class RankError(RuntimeError):
    """The processes of a group cannot go on together; the message says which one, and why."""


class _NoMemoryAnywhere(torch.OutOfMemoryError):
    """One process had too little memory, and all know."""


class Ranks(Processes):
    """Processes, numbered from 0, that make one result together; the first one writes and warns."""

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def shares(self, items: int) -> list[range]:
        """Which of so many items each process has: consecutive ones, as even as can be."""
        edges = [items * rank // self.size for rank in range(self.size + 1)]
        return [range(first, last) for first, last in pairwise(edges)]

    @abstractmethod
    def agree(self, place: str, numbers: Sequence[int] = ()) -> list[list[int]]:
        """The numbers of every process, where all have come to the same place.

        Args:
            place: in the program, in words.
            numbers: whole numbers of 64 bits, as many in all processes.

        Raises:
            torch.OutOfMemoryError: a process had too little memory, and nothing else went wrong.
            RankError: a process has failed, has ended, or is somewhere else.
        """

    @abstractmethod
    def tell(self, error: Exception) -> NoReturn:
        """Raise an error of this process, after the others were told at their next meeting."""

    def note(self, done: Sequence[int]) -> None:
        """How much of an evaluation each process has made; `together` tells what is uneven."""
        return None

    @abstractmethod
    def gather(self, values: Tensor, counts: Sequence[int]) -> Tensor:
        """``(sum of counts, ...)`` in all processes of the ``(counts[rank], ...)`` of each."""

    @abstractmethod
    def first(self, values: Tensor) -> Tensor:
        """The values of the first process, of the same shape in all."""

    @abstractmethod
    def together(self, work: Callable[..., T]) -> Callable[..., T]:
        """The same work; where it fails in one process, it fails in all, at their next meeting."""

    def least(self, number: int) -> int:
        """The smallest of a number that the processes have found each for itself."""
        return min(row[0] for row in self.agree("a number that was measured", [number]))


@dataclass(frozen=True)
class Alone(OneProcess, Ranks):
    """This process does everything."""

    def agree(self, place: str, numbers: Sequence[int] = ()) -> list[list[int]]:
        return [list(numbers)]

    def tell(self, error: Exception) -> NoReturn:
        raise error

    def gather(self, values: Tensor, counts: Sequence[int]) -> Tensor:
        return values

    def first(self, values: Tensor) -> Tensor:
        return values

    def together(self, work: Callable[..., T]) -> Callable[..., T]:
        return work


class Team(DefaultGroup, Ranks):
    """The processes of torch's default group, gloo or nccl.

    Args:
        device: where this process works.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._told: BaseException | None = None  # what the others know already
        self._done = [0] * dist.get_world_size()  # evaluations of a part by each

    def __deepcopy__(self, memo: dict[int, object]) -> "Team":
        return self  # there is one group, however many priors use it

    def __repr__(self) -> str:
        return f"Team({self.rank + 1} of {self.size})"

    def agree(self, place: str, numbers: Sequence[int] = ()) -> list[list[int]]:
        everyone = self._met(_FINE, place, numbers)
        self._refuse([row[0] for row in everyone], [row[1] for row in everyone], place)
        return [row[2 : 2 + len(numbers)] for row in everyone]

    def tell(self, error: Exception) -> NoReturn:
        no_memory = isinstance(error, torch.OutOfMemoryError)
        with suppress(RankError):  # the others have ended already
            self._met(_NO_MEMORY if no_memory else _FAILED, "an error", ())
        if no_memory:  # not the error itself: it holds what the failed attempt had allocated
            raise _NoMemoryAnywhere(str(error)) from None
        self._told = error
        raise error

    def _refuse(self, states: list[int], places: list[int], place: str) -> None:
        """Raise what the states of all processes and their places amount to."""
        found: Exception | None = None
        if _FAILED in states:
            who = self._name(states.index(_FAILED))
            found = RankError(f"{who} has failed, so that all stop; its own message says why")
        elif _NO_MEMORY in states:
            who = self._name(states.index(_NO_MEMORY))
            found = _NoMemoryAnywhere(f"out of memory in {who}, so that all stop here")
        elif len(set(places)) > 1:
            other = self._name(next(r for r, one in enumerate(places) if one != places[self.rank]))
            found = RankError(
                f"{self._name(self.rank)} is at {place}, and {other} is not; all must make the "
                "same calls with the same arguments"
            )
        if found is not None:
            raise found

    def _name(self, rank: int) -> str:
        return f"process {rank + 1} of {self.size}"

    def gather(self, values: Tensor, counts: Sequence[int]) -> Tensor:
        rows = (sum(counts), *values.shape[1:])
        everything = values.new_empty(rows, device=self.carrier(values.device))
        row = values.element_size() * values.shape[1:].numel()
        shares = _bytes(everything).split([row * count for count in counts])
        shares[self.rank].copy_(_bytes(values))

        def send() -> None:  # without padding, and into its place: images are large
            under_way = [
                dist.broadcast(share, rank, async_op=True)
                for rank, share in enumerate(shares)
                if len(share)
            ]
            for one in under_way:
                if one is not None:  # it is for processes outside of the group
                    one.wait()

        self._carried(send)
        return everything.to(values.device)

    def first(self, values: Tensor) -> Tensor:
        given = _bytes(values).to(self.carrier(values.device), copy=True)
        self._carried(lambda: dist.broadcast(given, 0))
        return given.to(values.device).view(values.dtype).view(values.shape)

    def together(self, work: Callable[..., T]) -> Callable[..., T]:
        @functools.wraps(work)
        def guarded(*given: object) -> T:
            self._done = [0] * self.size
            try:
                found = work(*given)
            except Exception as error:
                if error is self._told or isinstance(error, RankError | _NoMemoryAnywhere):
                    raise
                self.tell(error)
            self.agree("the end of a part")
            self._tell_of_uneven()
            return found

        return guarded

    def note(self, done: Sequence[int]) -> None:
        self._done = [a + b for a, b in zip(self._done, done, strict=True)]

    def _tell_of_uneven(self) -> None:
        busiest, all_ = max(self._done), sum(self._done)
        if self.leads and busiest * self.size > _UNEVEN * all_:
            warn_user(
                f"over ranks: the busiest of {self.size} processes made {busiest} of {all_} "
                "evaluations of tiles or slices, because many go to the network at once; give it "
                "fewer, by prior.tiled(pixels=) or Slices(together=)"
            )

    def _met(self, state: int, place: str, numbers: Sequence[int]) -> list[list[int]]:
        """The rows of all processes: state, place, and the numbers."""
        said = [state, zlib.crc32(place.encode()), *numbers]
        said += [0] * (2 + _NUMBERS - len(said))
        row = torch.tensor(said, device=self.carrier(torch.device("cpu")))
        parts = [torch.empty_like(row) for _ in range(self.size)]
        self._carried(lambda: dist.all_gather(parts, row))
        return torch.stack(parts).tolist()

    def carrier(self, device: torch.device) -> torch.device:
        """Where something of a device must lie to be sent: gloo carries what is on the CPU."""
        kinds = dict(part.split(":") for part in dist.get_backend_config().split(","))
        if "cpu" in kinds and not (device.type == "cuda" and kinds.get("cuda") == "nccl"):
            return torch.device("cpu")
        return device if device.type == "cuda" else self._device

    def _carried(self, send: Callable[[], object]) -> None:
        """Send and receive; a connection that is lost becomes a `RankError`."""
        try:
            send()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            hint = (
                ". With nccl every process needs a GPU of its own, cuda:LOCAL_RANK"
                if "NCCL" in str(error)
                else ""
            )
            raise RankError(
                f"{self._name(self.rank)} has lost the others: one has ended or does not answer; "
                f"its own message says why ({str(error).splitlines()[0][:200]}){hint}"
            ) from error


def _bytes(values: Tensor) -> Tensor:
    """The same memory as whole numbers: what is sent comes back bit for bit, of any type."""
    return values.detach().contiguous().flatten().view(torch.uint8)


def join(caller: str, device: torch.device, environment: Mapping[str, str] | None = None) -> Ranks:
    """The processes that torchrun has started, or that the caller's program has joined already.

    Args:
        device: of the work: nccl for CUDA where there are GPUs enough, else gloo.

    Raises:
        ValueError: there are no other processes, or no way to find them.
    """
    said = os.environ if environment is None else environment
    if not dist.is_available():
        raise ValueError(f"{caller}: this build of torch has no torch.distributed")
    if not dist.is_initialized():
        missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR") if name not in said]
        if missing:
            raise ValueError(
                f"{caller}: needs several processes that find each other, and the environment "
                f"does not say {missing[0]}. Start the program by `torchrun --nproc-per-node 2 "
                "script.py` (in SLURM by srun torchrun), or call "
                "torch.distributed.init_process_group first"
            )
        # nccl cannot have two processes on one GPU.
        here = int(said.get("LOCAL_WORLD_SIZE", "1"))
        nccl = device.type == "cuda" and here <= torch.cuda.device_count()
        if nccl:
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if nccl else "gloo", timeout=_PATIENCE)
    return Team(device) if dist.get_world_size() > 1 else Alone()
