"""Several processes that train one network, each on its share of every batch.

torchrun says who is who.  A batch, its noise and its levels are drawn as one process would draw
them, and process r takes every size-th image from number r on; gradients are averaged in one sum
over all parameters.  The run is that of one process, to rounding, and may be resumed with another
number of processes.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

# The others wait while the first one measures and writes.
_PATIENCE = timedelta(hours=4)


@dataclass(frozen=True)
class Team:
    """This process, `rank` of `size`; the first writes files.

    `founded`: the process group was made here, and not by the caller's program.
    """

    rank: int = 0
    size: int = 1
    founded: bool = False

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def mine(self, values: Tensor) -> Tensor:
        """The share of this process of something with one entry an image."""
        return values[self.rank :: self.size]

    def mine_of(self, seeds: range) -> range:
        return seeds[self.rank :: self.size]

    def average(self, parameters: Iterable[nn.Parameter], values: Tensor) -> Tensor:
        """Average the gradients, in place, and a few `values`, which are returned."""
        if self.size == 1:
            return values
        gradients = [one.grad for one in parameters if one.grad is not None]
        flat = torch.cat([*(one.flatten() for one in gradients), values.to(gradients[0])])
        distributed.all_reduce(flat)
        flat /= self.size
        sizes = [one.numel() for one in gradients]
        *parts, found = flat.split([*sizes, len(values)])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return found

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()


def device_in_team(device: str, environment: Mapping[str, str] | None = None) -> str:
    """``cuda`` under torchrun is the accelerator with this process's number on its machine."""
    said = os.environ if environment is None else environment
    if device != "cuda" or "LOCAL_RANK" not in said:
        return device
    local = int(said["LOCAL_RANK"])
    return f"cuda:{local % (torch.cuda.device_count() or local + 1)}"


def join_team(device: str, environment: Mapping[str, str] | None = None) -> Team:
    """The place of this process among those that torchrun has started; else the only one.

    Raises:
        ValueError: a launcher has started several processes, but not so that they can talk.
    """
    said = os.environ if environment is None else environment
    size = int(said.get("WORLD_SIZE", "1"))
    if size == 1:
        return Team()
    if "MASTER_ADDR" not in said or "RANK" not in said:
        raise ValueError(
            f"train: the environment says WORLD_SIZE={size}, but not how the processes find each "
            "other (RANK, MASTER_ADDR). Start them by torchrun, or unset WORLD_SIZE"
        )
    kind, founded = torch.device(device), not distributed.is_initialized()
    if founded:
        if kind.type == "cuda":
            torch.cuda.set_device(kind)
        name = "nccl" if kind.type == "cuda" else "gloo"
        distributed.init_process_group(name, timeout=_PATIENCE)
    return Team(distributed.get_rank(), distributed.get_world_size(), founded)


def leave_team(team: Team) -> None:
    """Let the process group go, so that nothing waits for it at the end of the program."""
    if team.founded and distributed.is_initialized():
        distributed.destroy_process_group()
