"""Where the walkers of a population are: all in this process, or spread over a process group.

Weights, effective sizes and resampling concern all walkers of a population.  The few operations
that involve walkers of other processes are collected here, so that a walk reads the same in both
cases.  Every process weighs and resamples the same numbers and comes to the same parents; only
walkers whose parent lives elsewhere travel.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from tweedie_inverse.runtime.processes import DefaultGroup, OneProcess, Processes


class Communicator(Processes):
    """Processes that share populations, each with equally many walkers of every population."""

    @abstractmethod
    def gather(self, values: Tensor) -> Tensor:
        """``(populations, all walkers, ...)`` of ``(populations, walkers here, ...)``."""

    @abstractmethod
    def fetch(self, rows: Tensor, parents: Tensor) -> Tensor:
        """What each walker here gets from its parent.

        Args:
            rows: ``(populations * walkers here, ...)``, one population after the other.
            parents: ``(populations, all walkers)``, the same in all processes.
        """

    def share(self, walkers: int) -> range:
        """Which walkers of a population of so many are here.

        Raises:
            ValueError: the processes cannot have equally many.
        """
        if walkers % self.size:
            raise ValueError(
                f"a population over {self.size} processes needs a multiple of {self.size} "
                f"walkers, got num_samples={walkers}"
            )
        each = walkers // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def here(self, values: Tensor) -> Tensor:
        """The part of ``(populations, all walkers, ...)`` that belongs to the walkers here."""
        mine = self.share(values.shape[1])
        return values[:, mine.start : mine.stop]

    def _row(self, walkers: Tensor) -> Tensor:
        """Rows of walkers ``(populations, ...)`` in the process that has them."""
        each = walkers.shape[1] // self.size
        first = torch.arange(len(walkers), device=walkers.device) * each
        return first[:, None] + walkers % each


@dataclass(frozen=True)
class SingleProcess(OneProcess, Communicator):
    """All walkers are in this process."""

    def gather(self, values: Tensor) -> Tensor:
        return values

    def fetch(self, rows: Tensor, parents: Tensor) -> Tensor:
        return rows[self._row(parents).flatten()]


@dataclass(frozen=True)
class ProcessGroup(DefaultGroup, Communicator):
    """Walkers are spread over torch's default process group, gloo or nccl.

    Every process calls `solve` with the same arguments and gets the same posterior, that of one
    process up to rounding.
    """

    def gather(self, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts, dim=1)

    def fetch(self, rows: Tensor, parents: Tensor) -> Tensor:
        # A row travels once to each process that wants it; both sides know which do.
        each = parents.shape[1] // self.size
        owner, row = parents // each, self._row(parents)
        mine_owner, mine_row = self.here(owner).flatten(), self.here(row).flatten()
        found = torch.empty_like(rows)
        found[mine_owner == self.rank] = rows[mine_row[mine_owner == self.rank]]
        operations, arriving = [], []
        for other in range(self.size):
            if other == self.rank:
                continue
            theirs = slice(other * each, (other + 1) * each)
            give = row[:, theirs][owner[:, theirs] == self.rank].unique()
            wanted = mine_owner == other
            get = mine_row[wanted].unique()
            if len(give):
                operations.append(dist.P2POp(dist.isend, rows[give].contiguous(), other))
            if len(get):
                buffer = rows.new_empty(len(get), *rows.shape[1:])
                operations.append(dist.P2POp(dist.irecv, buffer, other))
                arriving.append((wanted, torch.searchsorted(get, mine_row[wanted]), buffer))
        for request in dist.batch_isend_irecv(operations) if operations else []:
            request.wait()
        for wanted, places, buffer in arriving:
            found[wanted] = buffer[places]
        return found
