"""How many processes there are, and which of them this one is."""

from abc import ABC, abstractmethod

import torch.distributed as dist


class Processes(ABC):
    """Processes, numbered from 0."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of processes."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """The number of this process."""


class OneProcess(Processes):
    """This one alone."""

    @property
    def size(self) -> int:
        return 1

    @property
    def rank(self) -> int:
        return 0


class DefaultGroup(Processes):
    """Those of torch's default process group."""

    @property
    def size(self) -> int:
        return dist.get_world_size()

    @property
    def rank(self) -> int:
        return dist.get_rank()
